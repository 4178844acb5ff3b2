"""Data on disk and on the hub.

- `samples`: questions with gold answers, one JSON object a line; training and evaluation read them.
- `tables`: rows of parquet, TSV, CSV and JSON files, and of data sets on the hub.
- `cells`: readers of one cell of a row.
- `hub`: the files of a data set on the hub.
- `p2r10k`: the training data of the paper, built from its sources.
"""
