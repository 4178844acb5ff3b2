"""PRA-GRPO on TRL: rounds of a perceiver phase and a reasoner phase, each in processes of its own.

- `recipe`: a run as data, and its YAML file; `data`: its samples and the rows of TRL's dataset.
- `run`: rounds of phases; `launch`: the processes of a phase; `phase`, `session`: what they run.
- `rewards`, `frozen`: the rewards, and the role that is not trained with its boxes.
- `trl`, `callback`: the stock trainer, and what a phase writes while it runs.
- `run_folder`: the files of a run and their records; `export`: the final model; `progress`: for people.
- `preflight`: `p2r train --check`.

Only this package imports TRL and accelerate, and only where a phase runs.
"""
