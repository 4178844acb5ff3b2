"""The bundled small models: real Qwen3-VLs of a few million parameters, trained on the synthetic scenes.

`nano-base` comes from `scripts.nano.pretrain`: supervised warm-up only, the part that Qwen3-VL-Instruct plays
in the paper. `nano` is what `p2r train nano` makes of it. They load through the same code as any
checkpoint, and never pretend to understand photographs.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
NAMES = ("nano", "nano-base")


def bundled() -> dict[str, Path]:
    """The bundled checkpoints that are present: name → folder."""
    return {name: WEIGHTS / name for name in NAMES if (WEIGHTS / name / "config.json").is_file()}
