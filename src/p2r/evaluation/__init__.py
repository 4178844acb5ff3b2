"""Evaluation: benchmarks, a run that can be interrupted and continued, and figures with their uncertainty.

run            one evaluation from beginning to end; progress shows it
benchmarks     the questions
records        the files of a run folder, and why a question came out as it did
summary        the figures; statistics their uncertainty
tables         the figures as tables; paper_results beside those of the paper

The pipeline answers and `p2r.scoring` scores: no prompt is written and no answer read here.
"""
