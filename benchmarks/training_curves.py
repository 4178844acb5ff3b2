"""Curves of several training runs in one image, as docs/results.md shows those of nano.

python benchmarks/training_curves.py docs/images/nano-training.png "seed 0=runs/nano" "seed 1=runs/nano-1"

For one run, `p2r report RUN` shows more.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

from p2r.report.plots import running_mean
from p2r.training.run_folder import PhaseFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = {
    "reward": "reward of a step's rollouts",
    "recall": "evidence recall",
    "frac_reward_zero_std": "groups without spread",
    "kl": "KL to the phase's first weights",
    "completions/mean_length": "tokens of a completion",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the PNG")
    parser.add_argument("runs", nargs="+", metavar="LABEL=RUN")
    options = parser.parse_args()
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(2, 3, figsize=(13, 7), constrained_layout=True)
    *axes, key = grid.flat
    for number, run in enumerate(options.runs):
        label, _, folder = run.partition("=")
        for axis, metric in zip(axes, PANELS, strict=True):
            draw(axis, Path(folder), metric, f"C{number}")
        key.plot([], [], color=f"C{number}", label=label)
    for axis, title in zip(axes, PANELS.values(), strict=True):
        axis.set(title=title, xlabel="step, all phases")
        axis.grid(alpha=0.3)
    key.legend(frameon=False, loc="center")
    key.axis("off")
    figure.savefig(options.out, dpi=100)


def draw(axis: Axes, run: Path, metric: str, color: str) -> None:
    """A metric of all phases, a dotted line between two: the running mean, as `p2r report` draws it."""
    before = 0
    for folder in sorted((run / "phases").iterdir()):
        rows = PhaseFolder(folder).metrics()
        points = [(before + row.step, row.values[metric]) for row in rows if metric in row.values]
        if before:
            axis.axvline(before + 0.5, color="gray", linewidth=0.8, linestyle=":")
        if points:
            axis.plot(*zip(*running_mean(points), strict=True), color=color, linewidth=1.4)
        before += max(row.step for row in rows)


if __name__ == "__main__":
    main()
