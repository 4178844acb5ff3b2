"""Evaluation: benchmarks, a run that can be stopped and continued, and figures with their uncertainty.

The pipeline answers and `p2r.scoring` scores; nothing here words a prompt, reads an answer or cuts a crop.
"""
