"""How the weights of nano-base are made: supervised warm-up on synthetic scenes. Not part of the wheel.

- `pretrain`: the command. `training`: its stages, which end by the clock.
- `drawing`: processes that draw scenes and sheets. `rows`: a scene → arrays of tokens. `lessons`: texts.
- `pool`: what was drawn, on the training device. `tower`: the fast forward of the vision tower.
- `seeing`, `speaking`: the losses of the tower and of the language model.
- `build`, `tally`, `validate`, `curves`: the untrained model, means by world, figures, plots.
"""
