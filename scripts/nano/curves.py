"""Draws the learning curves of a pretraining run.

python -m scripts.nano.curves runs/nano-base docs/images/nano-base-curves.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from p2r.errors import MissingExtraError

# Panel title, and the means that are drawn in it, one line for each world.
_PANELS: tuple[tuple[str, str], ...] = (
    ("writing in crops: read completely (share)", "near value"),
    ("perceive: all tokens right (share)", "perceive exact"),
    ("reason: all tokens right (share)", "reason exact"),
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
    means = [(row["seconds"], row["means"]) for row in rows if "means" in row]
    figure, axes = plt.subplots(1, len(_PANELS), figsize=(15, 4), constrained_layout=True)
    for axis, (title, name) in zip(axes, _PANELS, strict=True):
        worlds = dict.fromkeys(world for _, row in means for world in row.get(name, {}))
        for world in worlds:
            points = [(seconds, row[name][world]) for seconds, row in means if world in row.get(name, {})]
            axis.plot(*zip(*points, strict=True), label=world, linewidth=2.2 if world == "all" else 1.1)
        axis.set(title=title, xlabel="seconds", ylim=(0, 1))
        axis.grid(alpha=0.3)
        if worlds:
            axis.legend(frameon=False, fontsize=8)
    figure.savefig(out, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw_curves(Path(sys.argv[1]) / "log.jsonl", Path(sys.argv[2]))
