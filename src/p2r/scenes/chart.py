"""The world `chart`: a page of a report with a bar, a pie and a line chart, their values and legends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from p2r.scenes.canvas import ink_on, mix
from p2r.scenes.flat import WEIGHTS, Flat, Pen, arc, ask_legend, corners_of, legend
from p2r.scenes.fonts import pick
from p2r.scenes.readings import Reading, ask, whole
from p2r.scenes.tags import COLORS
from p2r.scenes.world import Target, Task, World

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from p2r.scenes.canvas import Color
    from p2r.scenes.fonts import Font
    from p2r.scenes.world import Difficulty, Rect, Scene

_PRODUCTS = ("coal", "corn", "fish", "gold", "iron", "milk", "rice", "salt", "soap", "tea", "wood", "wool")
_TITLES = ("Annual report", "Sales 2031", "Market review", "Trade figures", "Harvest survey")
_PAPERS: tuple[Color, ...] = ((244, 245, 248), (250, 247, 240), (228, 233, 240), (40, 46, 58))
_GRAY, _WHITE, _BAND, _GAP = (60, 64, 74), (255, 255, 255), 0.055, 0.011


class _Style(NamedTuple):
    font: Font
    side: float  # of a value's tag
    ink: Color
    small: bool  # values of one digit


class _Chart(NamedTuple):
    kind: str
    card: Rect
    plot: Rect
    values: list[Reading]
    products: list[Reading]
    counts: dict[str, int]  # dots on each line, or bars


def _draw(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]
) -> tuple[Scene, Task]:
    pen, paper, band = Pen(aspect), rng.choice(_PAPERS), rng.choice(sorted(COLORS))
    ink = mix((30, 34, 44), _WHITE, 0.8 * (1 - difficulty.contrast))
    style = _Style(pick(rng, fonts, "sans"), difficulty.side(rng, 0.034, 0.044), ink, family == "arithmetic")
    pen.box(0, 0, pen.width, _BAND, COLORS[band])
    front = ink_on(COLORS[band])
    pen.text(0.03, _BAND / 2, rng.choice(_TITLES), style.font, 0.02, front, align="l")
    pen.text(pen.width - 0.03, _BAND / 2, f"Page {rng.randint(2, 40)}", style.font, 0.01, front, align="r")
    notes = round(3 * difficulty.clutter * rng.random()) if style.side < 0.05 else 0
    kinds = ["bar", "pie", "line", *["note"] * notes]
    rng.shuffle(kinds)
    tall = pen.height - _BAND
    most = max(1, int(pen.width / (5 * style.side + 0.11)))  # a card holds two bars and a legend
    columns = min(
        range(1, min(most, len(kinds)) + 1),
        key=lambda k: abs(math.log(pen.width / k / (tall / math.ceil(len(kinds) / k)) / 1.5)),
    )
    high = tall / math.ceil(len(kinds) / columns)
    charts = []
    for k, kind in enumerate(kinds):
        row, column = divmod(k, columns)
        wide = pen.width / min(columns, len(kinds) - row * columns)  # few cards share the last row
        x, y = column * wide, _BAND + row * high
        card = (x + _GAP, y + _GAP, x + wide - _GAP, y + high - _GAP)
        pen.shadow(corners_of(*card), 0.006, 0.15)
        pen.box(*card, _WHITE, 0.007)
        if kind == "note":
            _note(rng, pen, card, style.font)
        else:
            charts.append(_chart(rng, pen, kind, card, style))
    ground = (mix(paper, (0, 0, 0), 0.03), paper, (((40, 40), 0.5), ((200, 200), 0.5)))
    scene = Flat(aspect, rng.getrandbits(31), ground, tuple(pen.marks))
    return scene, _task(rng, family, charts, band, aspect)


def _note(rng: random.Random, pen: Pen, card: Rect, font: Font) -> None:
    """A card of text that has no meaning."""
    x, y, right, bottom = card[0] + 0.02, card[1] + 0.06, card[2] - 0.02, card[3] - 0.02
    pen.text(x, card[1] + 0.03, rng.choice(("Summary", "Method", "Outlook")), font, 0.014, _GRAY, align="l")
    while y < bottom:
        length = rng.uniform(0.012, 0.04)
        pen.box(x, y, min(right, x + length), y + 0.007, (150, 154, 162), 0.002)
        x += length + 0.006
        if x > right - rng.uniform(0.02, 0.06):
            x, y = card[0] + 0.02, y + 0.018


def _chart(rng: random.Random, pen: Pen, kind: str, card: Rect, style: _Style) -> _Chart:
    x0, y0, x1, y1 = card
    side, words, row = style.side, 2 * style.side + 0.05, max(0.6 * style.side, 0.024)
    title, noun = {"bar": ("Sales", "bar"), "pie": ("Trade", "slice"), "line": ("Stock", "line")}[kind]
    pen.text(x0 + 0.02, y0 + 0.024, f"{title} by product", style.font, 0.012, _GRAY, align="l", width=0.3)
    plot = (x0 + 0.035, y0 + 0.045, x1 - words - 0.025, y1 - 0.025)
    width, height = plot[2] - plot[0], plot[3] - plot[1]
    most = {"bar": int(width / (1.45 * side)), "pie": 5, "line": int(height / (1.25 * side))}[kind]
    while kind == "pie" and most > 2 and _chord(min(width, height) / 2, most) < 1.6 * side:
        most -= 1
    most = max(2, min(most, int(height / row), {"bar": 7, "pie": 5, "line": 4}[kind]))
    colors = rng.sample(sorted(COLORS), rng.randint(min(3, most), most))
    entries = dict(zip(colors, rng.sample(_PRODUCTS, len(colors)), strict=True))
    values, counts = {"bar": _bars, "pie": _pie, "line": _lines}[kind](rng, pen, plot, colors, style)
    top = (plot[1] + plot[3] - row * len(colors)) / 2
    products = legend(pen, x1 - words, top, row, side, entries, style.font, style.ink, noun)
    return _Chart(kind, pen.rect(*card), pen.rect(*plot), values, products, counts)


def _chord(radius: float, slices: int) -> float:
    """How far apart the tags of two neighboring slices are at least."""
    return 2 * 0.68 * radius * math.sin(0.7 * math.pi / slices)


def _values(rng: random.Random, count: int, style: _Style, low: int = 10) -> list[int]:
    return rng.sample(range(1, 10) if style.small else range(low, 99), count)


def _tag(pen: Pen, x: float, y: float, value: int, name: str, style: _Style) -> Reading:
    """A value on a white tag around (x, y)."""
    wide, high = 1.3 * style.side, style.side / 1.3
    place = pen.field(x, y, wide, high, str(value), style.font, style.ink, 0.12 * high)
    return Reading(name, str(value), place)


def _axes(pen: Pen, plot: Rect, top: float, most: int, font: Font) -> None:
    """Grid lines, with numbers if there is a `most`, at y = `top`."""
    for k in range(5):
        y = plot[3] + (top - plot[3]) * k / 4
        pen.line([(plot[0], y), (plot[2], y)], 0.0012, (206, 209, 216))
        if most:
            pen.text(plot[0] - 0.006, y, f"{most * k / 4:g}", font, 0.0065, (130, 134, 142), align="r")
    pen.line([(plot[0], top), (plot[0], plot[3]), (plot[2], plot[3])], 0.002, (110, 114, 124))


def _bars(
    rng: random.Random, pen: Pen, plot: Rect, colors: list[str], style: _Style
) -> tuple[list[Reading], dict[str, int]]:
    values = _values(rng, len(colors), style)
    top, most = plot[1] + 0.9 * style.side, math.ceil(max(values) / 4) * 4
    _axes(pen, plot, top, most, style.font)
    step, found = (plot[2] - plot[0]) / len(colors), []
    half = rng.uniform(0.26, 0.36) * step
    for k, (color, value) in enumerate(zip(colors, values, strict=True)):
        x, y = plot[0] + step * (k + 0.5), plot[3] - (plot[3] - top) * value / most
        pen.box(x - half, y, x + half, plot[3], COLORS[color])
        pen.box(x + 0.7 * half, y, x + half, plot[3], (0, 0, 0, 30))
        found.append(_tag(pen, x, y - 0.45 * style.side, value, f"{color} bar", style))
    return found, {"bar": len(colors)}


def _pie(
    rng: random.Random, pen: Pen, plot: Rect, colors: list[str], style: _Style
) -> tuple[list[Reading], dict[str, int]]:
    x, y = (plot[0] + plot[2]) / 2, (plot[1] + plot[3]) / 2
    radius = min(plot[2] - plot[0], plot[3] - plot[1]) / 2
    values = _values(rng, len(colors), style, 20)
    while min(values) < 0.7 / len(values) * sum(values):
        values = _values(rng, len(colors), style, 20)
    pen.shadow(arc(x, y, radius, 0, 360), 0.008, 0.2)
    start, tags, cuts = rng.uniform(0, 360), [], []
    for color, value in zip(colors, values, strict=True):
        edge = arc(x, y, radius, start, start + 360 * value / sum(values))
        pen.polygon([(x, y), *edge], COLORS[color])
        u, v = edge[len(edge) // 2]
        tags.append((x + 0.68 * (u - x), y + 0.68 * (v - y), value, f"{color} slice"))
        cuts.append([(x, y), edge[0]])
        start += 360 * value / sum(values)
    for cut in cuts:
        pen.line(cut, 0.003, _WHITE)
    if rng.random() < 0.5:
        pen.disc(x, y, 0.4 * radius, _WHITE)
    return [_tag(pen, *tag, style) for tag in tags], {}


def _lines(
    rng: random.Random, pen: Pen, plot: Rect, colors: list[str], style: _Style
) -> tuple[list[Reading], dict[str, int]]:
    x0, y0, x1, y1 = plot
    values = sorted(_values(rng, len(colors), style), reverse=True)
    _axes(pen, plot, y0, 0, style.font)
    # Each line has a band of its own; its last value is at its end.
    tall, end, found, counts = (y1 - y0) / len(colors), x1 - 1.5 * style.side, [], {}
    for k, (color, value) in enumerate(zip(colors, values, strict=True)):
        name, dots, middle = f"{color} line", rng.randint(3, 9), y0 + tall * (k + 0.5)
        across = [x0 + (end - x0) * j / (dots - 1) for j in range(dots)]
        points = [(x, middle + rng.uniform(-0.36, 0.36) * tall) for x in across[:-1]] + [(end, middle)]
        pen.line(points, 0.004, COLORS[color])
        for point in points:
            pen.disc(*point, 0.0065, COLORS[color])
            pen.disc(*point, 0.0035, _WHITE)
        counts[name] = dots
        found.append(_tag(pen, end + 0.85 * style.side, middle, value, name, style))
    return found, counts


def _task(rng: random.Random, family: str, charts: list[_Chart], band: str, aspect: float) -> Task:
    chart = rng.choice(charts)
    if family == "whole":
        return whole(rng, "What color is the band at the top?", "The band is", sorted(COLORS), band)
    if family == "position":
        cards = [Reading(f"{one.kind} chart", "", one.card) for one in charts]
        return ask(rng, family, cards, "value", "on", aspect)
    if family == "exists":
        return ask_legend(rng, f"legend of the {chart.kind} chart", chart.products, _PRODUCTS)
    if family == "count":
        chart = rng.choice([one for one in charts if one.counts])
        name, count = rng.choice(sorted(chart.counts.items()))
        text, fact = f"How many dots are on the {name}?", f"The {name} has {count} dots."
        if name == "bar":
            text, fact = "How many bars are in the bar chart?", f"The bar chart has {count} bars."
        target = Target("bar chart" if name == "bar" else name, chart.plot)
        return Task(family, text, (), "number", str(count), (target,), (fact,))
    if family == "read" and rng.random() < 0.3:
        return ask(rng, family, chart.products, "product", "shown by")
    values = [value for one in charts for value in one.values]
    if family == "compare":
        # Of two charts: within one, the drawing itself would show it.
        values = [rng.choice(one.values) for one in rng.sample(charts, 2)]
        if values[0].value == values[1].value:
            return _task(rng, family, charts, band, aspect)
    return ask(rng, family, values, "value")


CHART = World("chart", "a page of bar, pie and line charts", WEIGHTS, _draw)
