"""Training data of the paper: the released set, its three sources, and a builder that mixes them.

The result has the format of `p2r.datasets.samples`. Nothing here needs torch.
"""
