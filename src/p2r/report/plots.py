"""Plots as SVG that takes its colors from the page and its width from the window.

Places along the width are percentages and text has the size of the page's, so that a plot reads the same on a
telephone. Every plot has a description for those who do not see it; the figures are in the tables beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from p2r.report.html import legend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LABEL_PX = 22
ROW_PX = 16
GAP_PX = 8
AXIS_PX = 24
BAR_PX = 28
# A number stands on its part of a bar from this share on; in narrower parts it is in the description only.
LEGIBLE_SHARE = 0.06


@dataclass(frozen=True, slots=True)
class Point:
    """An accuracy with its interval.

    Attributes:
        series: which color it takes: the position of its column in the report.
        share, low, high: 0–1.
        n: how many questions are behind it.
    """

    series: int
    share: float
    low: float
    high: float
    n: int


def accuracy_plot(title: str, groups: Sequence[tuple[str, Sequence[Point]]], names: Sequence[str]) -> str:
    """Dots with their 95 % intervals: for each group a label, and below it a row for each series.

    Args:
        title: what is shown.
        groups: label → points, from top to bottom.
        names: of the series.
    """
    top, parts, said = 0, [], []
    for label, points in groups:
        asked = " and ".join(f"{n}" for n in dict.fromkeys(point.n for point in points))
        parts.append(_text(0, top + 15, label, "label") + _text(100, top + 15, f"n = {asked}", "tick", "end"))
        top += LABEL_PX
        for point in points:
            interval = f"{100 * point.low:.1f}–{100 * point.high:.1f}"
            told = f"{label}, {names[point.series]}: {100 * point.share:.1f} % ({interval}), n = {point.n}"
            y = top + ROW_PX / 2
            parts.append(
                f'<g class="series-{point.series}"><title>{escape(told)}</title>'
                f'<line class="whisker" x1="{_at(point.low)}" x2="{_at(point.high)}" y1="{y}" y2="{y}"/>'
                f'<circle class="dot" cx="{_at(point.share)}" cy="{y}" r="5"/></g>'
            )
            said.append(told)
            top += ROW_PX
        top += GAP_PX
    keys = dict.fromkeys(point.series for _, points in groups for point in points)
    swatches = [(f"series-{series}", names[series]) for series in keys]
    return _figure(title, said, top, "".join(parts), swatches if len(names) > 1 else [])


def split_plot(title: str, rows: Sequence[tuple[str, Mapping[str, int]]], meaning: Mapping[str, str]) -> str:
    """Stacked bars: what became of the questions, one bar for each column of the report.

    Args:
        title: what is shown.
        rows: label → outcome → how many questions.
        meaning: outcome → what it means, in the order of the bars.
    """
    top, parts, said = 0, [], []
    for label, counts in rows:
        parts.append(_text(0, top + 15, label, "label"))
        top += LABEL_PX
        start, total = 0, sum(counts.values())
        for name in (name for name in meaning if counts.get(name)):
            share = counts[name] / total
            told = f"{label}: {counts[name]} of {total} {meaning[name]}"
            number = _text(100 * (start / total + share / 2), top + 19, str(counts[name]), "on-bar", "middle")
            parts.append(
                f'<g><title>{escape(told)}</title><rect class="outcome-{name}" x="{_at(start / total)}" '
                f'y="{top}" width="{_at(share)}" height="{BAR_PX}"/>'
                f"{number if share >= LEGIBLE_SHARE else ''}</g>"
            )
            said.append(told)
            start += counts[name]
        top += BAR_PX + GAP_PX
    found = [name for name in meaning if any(counts.get(name) for _, counts in rows)]
    swatches = [(f"outcome-{name}", meaning[name]) for name in found]
    return _figure(title, said, top, "".join(parts), swatches)


def _figure(title: str, said: Sequence[str], height: int, body: str, keys: Sequence[tuple[str, str]]) -> str:
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{legend(keys)}"
        f'<svg class="plot" height="{height + AXIS_PX}" role="img" aria-label="{escape("; ".join(said))}">'
        f"{''.join(_axis(height))}{body}</svg></figure>"
    )


def _axis(height: int) -> Iterator[str]:
    for tick in range(0, 101, 20):
        anchor = {0: "start", 100: "end"}.get(tick, "middle")
        yield f'<line class="grid" x1="{tick}%" x2="{tick}%" y1="0" y2="{height}"/>'
        yield _text(tick, height + 17, f"{tick} %", "tick", anchor)


def _at(share: float) -> str:
    return f"{100 * share:.2f}%"


def _text(percent: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{percent:.2f}%" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
