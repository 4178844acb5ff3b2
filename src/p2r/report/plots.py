"""Plots as SVG that takes its colors from the page and its width from the window.

Positions along the width are percentages and text has the size of the page's, so that a plot is legible on a
telephone too. Every plot has a description for screen readers; the figures are in the tables beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LABEL_PX = 22
ROW_PX = 16
GAP_PX = 8
AXIS_PX = 24
BAR_PX = 28
LEGIBLE_SHARE = 0.06  # a part of a bar shows its number from this share on


@dataclass(frozen=True, slots=True)
class Point:
    """An accuracy with its interval."""

    series: int  # its color: the position of its column in the report
    share: float  # 0–1
    low: float
    high: float
    n: int  # the number of questions


def accuracy_plot(title: str, groups: Sequence[tuple[str, Sequence[Point]]], names: Sequence[str]) -> str:
    """Dots with their 95 % intervals: for each group its label, and below it a row for each series."""
    top, parts, texts = 0, [], []
    for label, points in groups:
        asked = " and ".join(f"{n}" for n in dict.fromkeys(point.n for point in points))
        parts.append(_text(0, top + 15, label, "label") + _text(100, top + 15, f"n = {asked}", "tick", "end"))
        top += LABEL_PX
        for point in points:
            interval = f"{100 * point.low:.1f}–{100 * point.high:.1f}"
            text = f"{label}, {names[point.series]}: {100 * point.share:.1f} % ({interval}), n = {point.n}"
            y = top + ROW_PX / 2
            parts.append(
                f'<g class="series-{point.series}"><title>{escape(text)}</title>'
                f'<line class="whisker" x1="{_at(point.low)}" x2="{_at(point.high)}" y1="{y}" y2="{y}"/>'
                f'<circle class="dot" cx="{_at(point.share)}" cy="{y}" r="5"/></g>'
            )
            texts.append(text)
            top += ROW_PX
        top += GAP_PX
    series = dict.fromkeys(point.series for _, points in groups for point in points)
    keys = [(f"series-{one}", names[one]) for one in series] if len(names) > 1 else []
    return _shares(title, texts, top, "".join(parts), keys)


def split_plot(title: str, rows: Sequence[tuple[str, Mapping[str, int]]], meaning: Mapping[str, str]) -> str:
    """Stacked bars of outcomes, in the order of `meaning`: one bar for each column of the report."""
    top, parts, texts = 0, [], []
    for label, counts in rows:
        parts.append(_text(0, top + 15, label, "label"))
        top += LABEL_PX
        start, total = 0, sum(counts.values())
        for name in (name for name in meaning if counts.get(name)):
            share = counts[name] / total
            text = f"{label}: {counts[name]} of {total} {meaning[name]}"
            number = _text(100 * (start / total + share / 2), top + 19, str(counts[name]), "on-bar", "middle")
            parts.append(
                f'<g><title>{escape(text)}</title><rect class="outcome-{name}" x="{_at(start / total)}" '
                f'y="{top}" width="{_at(share)}" height="{BAR_PX}"/>'
                f"{number if share >= LEGIBLE_SHARE else ''}</g>"
            )
            texts.append(text)
            start += counts[name]
        top += BAR_PX + GAP_PX
    keys = [(f"outcome-{name}", meaning[name]) for name in meaning if any(row.get(name) for _, row in rows)]
    return _shares(title, texts, top, "".join(parts), keys)


def _shares(title: str, texts: Sequence[str], height: int, body: str, keys: Sequence[tuple[str, str]]) -> str:
    """A figure whose axis runs from 0 to 100 %."""
    axis = ""
    for tick in range(0, 101, 20):
        anchor = {0: "start", 100: "end"}.get(tick, "middle")
        axis += f'<line class="grid" x1="{tick}%" x2="{tick}%" y1="0" y2="{height}"/>'
        axis += _text(tick, height + 17, f"{tick} %", "tick", anchor)
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{_legend(keys)}"
        f'<svg class="plot" height="{height + AXIS_PX}" role="img" aria-label="{escape("; ".join(texts))}">'
        f"{axis}{body}</svg></figure>"
    )


def _at(share: float) -> str:
    return f"{100 * share:.2f}%"


def _text(percent: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{percent:.2f}%" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(keys: Sequence[tuple[str, str]]) -> str:
    """The colors of a plot, each the class of its swatch and a text; empty without any."""
    items = "".join(f'<li><span class="swatch {kind}"></span>{escape(text)}</li>' for kind, text in keys)
    return f'<ul class="legend">{items}</ul>' if items else ""


# Curves over the steps of a training: the running mean, and the values themselves, pale.

HEIGHT_PX = 150
TOP_PX = 8
STEPS_PX = 40  # below the curves, for steps and phases
WIDTH = 1000  # of the drawing, in its own units
MOST_POINTS = 300  # of one line; more are averaged
SMOOTH_SHARE = 1 / 15  # of a phase's steps, on either side together
LONG_PHASE = 24  # a phase with fewer steps is drawn as it is


@dataclass(frozen=True, slots=True)
class Band:
    """A phase on the axis of steps, which counts through all phases."""

    label: str
    short: str  # the label where there is little room
    start: int  # the step before the first
    end: int
    series: int  # the color of its role


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot."""

    label: str
    series: int | None  # its color; None for that of the phase's role
    points: tuple[tuple[tuple[int, float], ...], ...]  # for each band its `(step, value)`


def curve_plot(title: str, curves: Sequence[Curve], bands: Sequence[Band], *, share: bool) -> str:
    """A plot of one or more curves over all phases; `share` for values of 0 to 1, shown as percent."""
    values = [value for curve in curves for points in curve.points for _, value in points]
    low, high = _range(values, share=share)
    total = max(1, bands[-1].end)
    drawn, texts = [], []
    for curve in curves:
        for band, points in zip(bands, curve.points, strict=True):
            if not points:
                continue
            color = band.series if curve.series is None else curve.series
            smooth = running_mean(points)
            if smooth != list(points):
                drawn.append(_line(thinned(points), total, low, high, f"raw series-{color}"))
            drawn.append(_line(thinned(smooth), total, low, high, f"series-{color}"))
            texts.append(f"{curve.label}, {band.label}: {ends_of(points, share=share)}")
    keys = [(f"series-{curve.series}", curve.label) for curve in curves if curve.series is not None]
    return (
        f'<figure class="curve"><figcaption>{escape(title)}</figcaption>{_legend(keys)}'
        '<p class="readout" aria-hidden="true">&nbsp;</p>'
        f'<div class="chart">{_scale(low, high, share=share)}'
        f'<svg class="plot" height="{HEIGHT_PX + STEPS_PX}" role="img" '
        f'aria-label="{escape("; ".join(texts))}">{"".join(_ground(bands, total))}'
        f'<svg x="0" y="{TOP_PX}" width="100%" height="{HEIGHT_PX - TOP_PX}" '
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


def ends_of(points: Sequence[tuple[int, float]], *, share: bool) -> str:
    """The running mean at the first and the last point, for people."""
    smooth = running_mean(points)
    first, last = (figure(value, share=share) for _, value in (smooth[0], smooth[-1]))
    return f"{first.removesuffix(' %')} → {last}"


def figure(value: float, *, share: bool) -> str:
    """A value for people."""
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
    """Phases, steps and lines across."""
    for band in bands:
        left, width = 100 * band.start / total, 100 * (band.end - band.start) / total
        text = escape(f"{band.label}, {band.end - band.start} steps")
        label = band.label if len(bands) <= 3 else band.short
        named = _text(left + width / 2, HEIGHT_PX + 34, label, "phase", "middle") if width >= 4 else ""
        yield (
            f'<g class="series-{band.series}"><title>{text}</title><rect class="band" x="{left:.3f}%" '
            f'y="{TOP_PX}" width="{width:.3f}%" height="{HEIGHT_PX - TOP_PX}"/>{named}</g>'
        )
    yield _text(0, HEIGHT_PX + 16, "0", "tick")
    for band in bands if len(bands) <= 6 else bands[-1:]:
        anchor = "end" if band.end == total else "middle"
        yield _text(100 * band.end / total, HEIGHT_PX + 16, str(band.end), "tick", anchor)
    for part in (0.0, 0.5, 1.0):
        y = HEIGHT_PX - part * (HEIGHT_PX - TOP_PX)
        yield f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>'


def _scale(low: float, high: float, *, share: bool) -> str:
    # Beside the drawing and not in it, where it would cover the curves.
    labels, marks = [], []
    for part in (1.0, 0.5, 0.0):
        value = low + part * (high - low)
        y = HEIGHT_PX - part * (HEIGHT_PX - TOP_PX)
        labels.append(f"{100 * value:g} %" if share else figure(value, share=False))
        marks.append(f'<span style="top: {y:.0f}px">{escape(labels[-1])}</span>')
    width = max(map(len, labels))
    return f'<div class="scale" style="width: {width}ch" aria-hidden="true">{"".join(marks)}</div>'


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
