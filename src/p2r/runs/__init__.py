"""What evaluation, training and data sets share about run folders.

files        files that are replaced in one step, the lock of a folder, and whether it holds the same run
journal      append-only JSON lines
provenance   versions, commit, machine, revision of a model
failures     when a run stops because too much fails
progress     a bar, or a line now and then
"""
