"""What evaluation, training and data sets share about run folders: files, identity, failures."""
