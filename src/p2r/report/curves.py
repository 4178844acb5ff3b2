"""Curves of a training as SVG: each metric over the steps of all phases, one after the other.

As the other plots, they take their colors from the page and their width from the window. What is drawn is
the running mean; the values themselves stand behind it, pale. A description says where each curve begins and
ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from p2r.report.html import legend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEIGHT_PX = 150
TOP_PX = 8
AXIS_PX = 40
WIDTH = 1000  # of the drawing, in its own units
MOST_POINTS = 300  # of one line; more are averaged
SMOOTH_SHARE = 1 / 15  # of a phase's steps, on either side together
LONG_PHASE = 24  # a phase with fewer steps is drawn as it is


@dataclass(frozen=True, slots=True)
class Band:
    """A phase on the axis of steps.

    Attributes:
        label, short: how it is called, where there is room and where there is little.
        start, end: its steps, counted through all phases: from `start + 1` to `end`.
        series: the color of its role.
    """

    label: str
    short: str
    start: int
    end: int
    series: int


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot.

    Attributes:
        label: what it shows.
        series: its color; None for that of the phase's role.
        points: for each band its `(step, value)`, counted through all phases.
    """

    label: str
    series: int | None
    points: tuple[tuple[tuple[int, float], ...], ...]


def curve_plot(title: str, curves: Sequence[Curve], bands: Sequence[Band], *, share: bool) -> str:
    """A plot of one or more curves over all phases.

    Args:
        title: what is shown.
        curves: with the same number of bands each.
        bands: the phases in order.
        share: values are shares: 0 to 1, shown as percent.
    """
    values = [value for curve in curves for points in curve.points for _, value in points]
    low, high = _range(values, share=share)
    total = max(1, bands[-1].end)
    parts = [*_ground(bands, total), *_lines_across()]
    drawn, said = [], []
    for curve in curves:
        for band, points in zip(bands, curve.points, strict=True):
            if not points:
                continue
            color = band.series if curve.series is None else curve.series
            smooth = running_mean(points)
            if smooth != list(points):
                drawn.append(_line(thinned(points), total, low, high, f"raw series-{color}"))
            drawn.append(_line(thinned(smooth), total, low, high, f"series-{color}"))
            ends = ends_of(smooth[0][1], smooth[-1][1], share=share)
            said.append(f"{curve.label}, {band.label}: {ends}")
    keys = [(f"series-{curve.series}", curve.label) for curve in curves if curve.series is not None]
    return (
        f'<figure class="curve"><figcaption>{escape(title)}</figcaption>{legend(keys)}'
        '<p class="readout" aria-hidden="true">&nbsp;</p>'
        f'<div class="chart">{_scale(low, high, share=share)}'
        f'<svg class="plot" height="{HEIGHT_PX + AXIS_PX}" role="img" aria-label="{escape("; ".join(said))}">'
        f'{"".join(parts)}<svg x="0" y="{TOP_PX}" width="100%" height="{HEIGHT_PX - TOP_PX}" '
        f'viewBox="0 0 {WIDTH} 100" preserveAspectRatio="none">{"".join(drawn)}</svg>'
        f'<line class="cursor" y1="{TOP_PX}" y2="{HEIGHT_PX}" x1="0" x2="0" visibility="hidden"/>'
        "</svg></div></figure>"
    )


def running_mean(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The mean around each point; of few points, themselves."""
    reach = int(len(points) * SMOOTH_SHARE / 2) if len(points) >= LONG_PHASE else 0
    means = []
    for index, (step, _) in enumerate(points):
        near = points[max(0, index - reach) : index + reach + 1]
        means.append((step, sum(value for _, value in near) / len(near)))
    return means


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `MOST_POINTS` points: means of neighbors."""
    size = math.ceil(len(points) / MOST_POINTS)
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [(group[len(group) // 2][0], sum(value for _, value in group) / len(group)) for group in groups]


def ends_of(first: float, last: float, *, share: bool) -> str:
    """Where a curve begins and ends, as people write it."""
    if share:
        return f"{100 * first:.1f} → {100 * last:.1f} %"
    return f"{figure(first, share=False)} → {figure(last, share=False)}"


def figure(value: float, *, share: bool) -> str:
    """A value as people write it."""
    if share:
        return f"{100 * value:.1f} %"
    if value and not 0.001 <= abs(value) < 100_000:
        return f"{value:.1e}".replace("-", "−")
    return (f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}").replace("-", "−")


def _range(values: Sequence[float], *, share: bool) -> tuple[float, float]:
    high = max(values)
    low = min(0.0, *values)
    if share:
        steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
        return low, next((step for step in steps if high <= step), 1.0)
    span = (high - low) or 1.0
    unit = 10 ** math.floor(math.log10(span))
    nice = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= span * 0.999)
    return (low, low + nice) if low == 0 else (low - 0.05 * span, high + 0.05 * span)


def _ground(bands: Sequence[Band], total: int) -> Iterator[str]:
    for band in bands:
        left, width = 100 * band.start / total, 100 * (band.end - band.start) / total
        told = f"{band.label}, {band.end - band.start} steps"
        yield (
            f'<g class="series-{band.series}"><title>{escape(told)}</title><rect class="band" '
            f'x="{left:.3f}%" y="{TOP_PX}" width="{width:.3f}%" height="{HEIGHT_PX - TOP_PX}"/>'
        )
        label = band.label if len(bands) <= 3 else band.short
        if width >= 4:
            yield (
                f'<text class="phase" x="{left + width / 2:.3f}%" y="{HEIGHT_PX + 34}" '
                f'text-anchor="middle">{escape(label)}</text>'
            )
        yield "</g>"
    yield f'<text class="tick" x="0" y="{HEIGHT_PX + 16}">0</text>'
    ends = [band.end for band in bands]
    for end in ends if len(ends) <= 6 else ends[-1:]:
        place = f'x="{100 * end / total:.3f}%" y="{HEIGHT_PX + 16}"'
        anchor = "end" if end == total else "middle"
        yield f'<text class="tick" {place} text-anchor="{anchor}">{end}</text>'


def _scale(low: float, high: float, *, share: bool) -> str:
    # Beside the drawing and not in it, where it would lie over the curves.
    labels, marks = [], []
    for part in (1.0, 0.5, 0.0):
        value = low + part * (high - low)
        y = HEIGHT_PX - part * (HEIGHT_PX - TOP_PX)
        labels.append(f"{100 * value:g} %" if share else figure(value, share=False))
        marks.append(f'<span style="top: {y:.0f}px">{escape(labels[-1])}</span>')
    width = max(map(len, labels))
    return f'<div class="scale" style="width: {width}ch" aria-hidden="true">{"".join(marks)}</div>'


def _lines_across() -> Iterator[str]:
    for part in (0.0, 0.5, 1.0):
        y = HEIGHT_PX - part * (HEIGHT_PX - TOP_PX)
        yield f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>'


def _line(points: Sequence[tuple[int, float]], total: int, low: float, high: float, kind: str) -> str:
    places = [
        (WIDTH * step / total, 100 - 100 * (min(max(value, low), high) - low) / (high - low))
        for step, value in points
    ]
    if len(places) == 1:
        # A line of one point has no length; its round ends make it a dot.
        places.append(places[0])
    path = " ".join(f"{x:.1f},{y:.2f}" for x, y in places)
    return f'<polyline class="{kind}" points="{path}"/>'
