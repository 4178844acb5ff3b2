"""Plots as SVG that takes its colours from the page, so that one file is right in light and dark.

Every plot has a title and a description for those who do not see it; the figures are in the tables beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 640
LEFT = 170
RIGHT = 20
ROW = 17


@dataclass(frozen=True, slots=True)
class Point:
    """An accuracy with its interval.

    Attributes:
        series: which colour it takes: the position of its column in the report.
        share, low, high: 0–1.
        n: how many questions are behind it.
    """

    series: int
    share: float
    low: float
    high: float
    n: int


def accuracy_plot(title: str, groups: Sequence[tuple[str, Sequence[Point]]], names: Sequence[str]) -> str:
    """Dots with their 95 % intervals, one row for each group and series.

    Args:
        title: what is shown.
        groups: label → points, one below the other.
        names: of the series, for the description.
    """
    height = 34 + sum(ROW * len(points) + 12 for _, points in groups) + 22
    top, parts, said = 30, [], []
    for label, points in groups:
        middle = top + ROW * len(points) / 2 + 4
        parts.append(_text(LEFT - 12, middle, label, "label", "end"))
        for point in points:
            y = top + ROW / 2
            interval = f"{100 * point.low:.1f}–{100 * point.high:.1f}"
            parts.append(
                f'<g class="series-{point.series}"><title>{escape(names[point.series])}, {escape(label)}: '
                f"{100 * point.share:.1f} % ({interval}), n = {point.n}</title>"
                f'<line class="whisker" x1="{_x(point.low)}" x2="{_x(point.high)}" y1="{y}" y2="{y}"/>'
                f'<circle class="dot" cx="{_x(point.share)}" cy="{y}" r="4.5"/></g>'
            )
            said.append(f"{label}, {names[point.series]}: {100 * point.share:.1f} %")
            top += ROW
        top += 12
    return _svg(title, "; ".join(said), height, _axis(height) + "".join(parts))


def split_plot(title: str, rows: Sequence[tuple[str, Mapping[str, int]]], outcomes: Sequence[str]) -> str:
    """Stacked bars: what became of the questions, one bar for each column of the report."""
    height = 34 + 38 * len(rows) + 22
    parts, said = [], []
    for position, (label, counts) in enumerate(rows):
        y, total = 30 + 38 * position, sum(counts.values())
        parts.append(_text(LEFT - 12, y + 18, label, "label", "end"))
        start = 0
        for name in outcomes:
            count = counts.get(name, 0)
            if not count:
                continue
            x0, x1 = _x(start / total), _x((start + count) / total)
            parts.append(
                f"<g><title>{escape(label)}: {escape(name.replace('_', ' '))}, {count} of {total}</title>"
                f'<rect class="outcome-{name}" x="{x0}" y="{y}" rx="3" '
                f'width="{max(0.8, x1 - x0 - 1):.1f}" height="26"/>'
            )
            if x1 - x0 > 30:
                parts.append(_text((x0 + x1) / 2, y + 17.5, str(count), "on-bar", "middle"))
            parts.append("</g>")
            said.append(f"{label}, {name.replace('_', ' ')}: {count}")
            start += count
    return _svg(title, "; ".join(said), height, _axis(height) + "".join(parts))


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _axis(height: float) -> str:
    lines = []
    for tick in range(0, 101, 20):
        x = _x(tick / 100)
        lines.append(f'<line class="grid" x1="{x}" x2="{x}" y1="22" y2="{height - 22}"/>')
        lines.append(_text(x, height - 6, f"{tick} %", "tick", "middle"))
    return "".join(lines)


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    shown = text if len(text) <= 26 else text[:25] + "…"
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(shown)}</text>'


def _svg(title: str, description: str, height: float, body: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}. {escape(description)}">'
        f"{_text(0, 14, title, 'title', 'start')}{body}</svg>"
    )
