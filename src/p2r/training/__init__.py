"""PRA-GRPO on TRL: rounds of a perceiver phase and a reasoner phase, each in a process of its own.

Only this package knows TRL and accelerate, and it imports them where a phase runs.
"""
