"""How the weights of nano-base were made: supervised warm-up on synthetic scenes. Not part of the wheel.

- `pretrain`: the command; runs the two stages.
- `vision_stage`, `glyph_data`: the vision tower learns to read from images of glyphs.
- `language_stage`, `sft_data`, `lessons`: the language model learns both roles on the frozen tower.
- `attention_targets`, `attention_loss`: where two heads look while they write, and the loss.
- `scenepack`: rendered scenes. `tower`: the fast forward of the vision tower, and its tokens of a pack.
- `build`, `loop`, `curves`: the model, the optimizer loop, plots.
"""
