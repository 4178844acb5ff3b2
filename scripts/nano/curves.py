"""Draws the learning curves of a pretraining run.

python -m scripts.nano.curves runs/nano-base docs/images/nano-base-curves.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from p2r.errors import MissingExtraError

# Panel title, stage, and what is drawn in it: metric → legend.
_PANELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "see: what a visual token tells (share right)",
        "see",
        {"color": "color", "digit": "digit", "letter1": "first letter", "letter2": "second letter"},
    ),
    (
        "speak: loss on the target's tokens",
        "speak",
        {
            "loss_perceive": "perceive",
            "loss_reason": "reason",
            "loss_think": "think",
            "loss_direct": "direct",
        },
    ),
    (
        "speak: attention of the supervised head on the right place",
        "speak",
        {"attention_finding": "writing boxes", "attention_reading": "answering"},
    ),
)


def draw_curves(log: Path, out: Path) -> None:
    """Draw `log.jsonl` of a run as three panels.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("eval", "matplotlib") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows: list[dict[str, Any]] = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure, axes = plt.subplots(1, len(_PANELS), figsize=(15, 4), constrained_layout=True)
    for axis, (title, stage, lines) in zip(axes, _PANELS, strict=True):
        # A continued run repeats the steps after its last checkpoint: the later row counts.
        by_step = {row["step"]: row for row in rows if row["stage"] == stage}
        for metric, name in lines.items():
            points = sorted((step, row[metric]) for step, row in by_step.items() if metric in row)
            axis.plot(*zip(*points, strict=True), label=name, linewidth=1.4)
        axis.set(title=title, xlabel="optimizer step")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(out, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw_curves(Path(sys.argv[1]) / "log.jsonl", Path(sys.argv[2]))
