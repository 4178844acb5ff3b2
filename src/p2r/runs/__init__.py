"""What evaluation, training and data sets share about run folders.

files        JSON files that are replaced in one step, and the lock of a folder
journal      append-only JSON lines
identity     whether a folder holds the same run
provenance   versions, commit, machine, revision of a model
failures     when a run stops because too much fails
"""
