"""Training data of the paper: the released set, its three sources, and a builder that mixes them.

What is written is the format of `p2r.samples`, so that training, evaluation and everybody else read it alike.
No torch anywhere.
"""
