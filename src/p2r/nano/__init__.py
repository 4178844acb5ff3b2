"""The bundled small model: a real Qwen3-VL of a few million parameters that knows the synthetic scenes.

`nano-base` is what `p2r.nano.pretrain` makes: supervised warm-up only, the part that Qwen3-VL-Instruct plays
in the paper. It loads through the same code as any checkpoint, and it never pretends to understand
photographs.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
NAMES = ("nano", "nano-base")


def bundled() -> dict[str, Path]:
    """The bundled checkpoints that are present: name → folder."""
    return {name: WEIGHTS / name for name in NAMES if (WEIGHTS / name / "config.json").is_file()}
