"""Data on disk and on the hub.

- `samples`: questions with gold answers, one JSON object a line; what training and evaluation read.
- `tables`: rows of parquet, TSV, CSV and JSON files, and of data sets on the hub.
- `cells`: reading one cell of a row.
- `p2r10k`: the training data of the paper, built from its sources.
"""
