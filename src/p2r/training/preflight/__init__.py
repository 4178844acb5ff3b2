"""`p2r train RECIPE --check`: what would go wrong in a training, found before it starts.

`checks` runs all checks, `resources` compares memory and disk, `construction` builds what a phase builds
without its weights, `dry_run` calls the models and takes one step.
"""
