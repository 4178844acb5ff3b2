"""The world `form`: an order or invoice on a desk, whose rows have colored signs, marks and amounts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from p2r.scenes.canvas import mix
from p2r.scenes.flat import WEIGHTS, Flat, Pen, Sheet, arc, around, turned
from p2r.scenes.fonts import pick
from p2r.scenes.readings import Reading, ask, choose, targets, whole
from p2r.scenes.tags import COLORS
from p2r.scenes.world import Target, Task, World

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from p2r.scenes.canvas import Color, Point
    from p2r.scenes.flat import Ground
    from p2r.scenes.fonts import Font
    from p2r.scenes.world import Difficulty, Rect, Scene

# Each desk: dark and light color, and the octaves of its grain.
_DESKS: dict[str, Ground] = {
    "wood": ((104, 66, 38), (182, 130, 84), (((2, 26), 0.4), ((5, 140), 0.4), ((9, 420), 0.2))),
    "stone": ((142, 142, 150), (226, 224, 222), (((5, 5), 0.35), ((26, 26), 0.3), ((160, 160), 0.35))),
    "cloth": ((18, 62, 48), (46, 104, 82), (((3, 3), 0.2), ((260, 260), 0.4), ((500, 500), 0.4))),
    "steel": ((70, 76, 86), (128, 136, 146), (((1, 40), 0.3), ((6, 500), 0.7))),
}
_PAPERS: tuple[Color, ...] = ((252, 251, 247), (246, 242, 230), (240, 244, 248))
_ITEMS = (
    "apple",
    "bread",
    "chair",
    "clock",
    "glass",
    "lamp",
    "paint",
    "plate",
    "rope",
    "shelf",
    "soap",
    "vase",
)
_FIRMS = ("Alder", "Birch", "Cedar", "Ember", "Fjord", "Harbor", "Lumen", "Maple", "Quartz", "Sable")
_MARGIN, _DARK = 0.055, (26, 28, 38)
# What is in a tick box: strokes in shares of its height.
_MARKS: dict[str, tuple[tuple[Point, ...], ...]] = {
    "a tick": (((-0.22, 0.0), (-0.05, 0.2), (0.26, -0.24)),),
    "a cross": (((-0.2, -0.2), (0.2, 0.2)), ((-0.2, 0.2), (0.2, -0.2))),
    "no mark": (),
}


class _Row(NamedTuple):
    item: Reading
    pieces: Reading
    amount: Reading
    mark: Reading


class _Style(NamedTuple):
    font: Font
    ink: Color
    fill: Color
    accent: Color
    high: float  # the height of a field; it is twice as long


def _draw(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]
) -> tuple[Scene, Task]:
    under, shape, fill = Pen(aspect), rng.uniform(0.74, 0.86), rng.choice(_PAPERS)
    corners = _corners(rng, under, shape)
    page = Pen(shape, corners, aspect)
    for _ in range(round(8 * difficulty.clutter)):
        _desk_thing(rng, under, page.rect(0, 0, page.width, page.height))
    under.shadow(corners, 0.025)
    side = difficulty.side(rng, 0.034, 0.046) / math.dist(corners[0], corners[1]) * page.width
    style = _Style(
        pick(rng, fonts, rng.choice(("sans", "sans", "mono"))),
        mix(_DARK, fill, 0.8 * (1 - difficulty.contrast)),
        fill,
        COLORS[rng.choice(("red", "blue", "green", "purple", "black", "orange"))],
        min(side / math.sqrt(2), 0.088),
    )
    top, date = _head(rng, page, style)
    room, least = 0.78 * page.height - top, max(0.055, 1.25 * style.high)
    count = max(3, min(int(room / least) - 1, 4 + round(4 * difficulty.clutter)))
    rows = _table(rng, page, style, top, min(room / (count + 1), 1.5 * least), count)
    desk = rng.choice(sorted(_DESKS))
    sheet = Sheet(shape, tuple(page.marks), tuple(corners), fill)
    scene = Flat(aspect, rng.getrandbits(31), _DESKS[desk], tuple(under.marks), sheet)
    return scene, _task(rng, family, rows, date, desk, aspect)


def _corners(rng: random.Random, under: Pen, shape: float) -> list[Point]:
    """The corners of a page that lies slightly turned and is seen slightly from the side."""
    height = min(0.97 * under.height, 0.97 * under.width / shape)
    turn, place = rng.uniform(-6, 6), rng.uniform(-1, 1)
    while True:
        height *= 0.98
        x = under.width / 2 + place * max(0.0, under.width / 2 - 0.02 - 0.62 * shape * height)
        y = under.height / 2 + place * max(0.0, under.height / 2 - 0.02 - 0.56 * height)
        ends = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        bent = [(a * rng.uniform(0.97, 1), b * rng.uniform(0.98, 1)) for a, b in ends]
        corners = turned(x, y, turn, [(a * height * shape / 2, b * height / 2) for a, b in bent])
        if all(0.01 < u < under.width - 0.01 and 0.01 < v < under.height - 0.01 for u, v in corners):
            return corners


def _desk_thing(rng: random.Random, pen: Pen, page: Rect) -> None:
    """A cup, a coin or a pencil beside the page, if the place is free."""
    x, y = rng.uniform(0.02, 0.98) * pen.width, rng.uniform(0.02, 0.98) * pen.height
    kind, angle = rng.choice(("cup", "coin", "pencil", "pencil")), rng.uniform(0, 360)
    reach = {"cup": 0.07, "coin": 0.02, "pencil": 0.1}[kind]
    near = pen.rect(x - reach, y - reach, x + reach, y + reach)
    if near[0] < page[2] and page[0] < near[2] and near[1] < page[3] and page[1] < near[3]:
        return
    if kind == "pencil":
        fill = rng.choice(((222, 172, 40), (36, 66, 140), (60, 60, 66)))
        pen.shadow(turned(x, y, angle, [(-0.1, -0.006), (0.1, 0), (-0.1, 0.006)]), 0.008)
        pen.polygon(turned(x, y, angle, [(0.075, -0.006), (0.1, 0), (0.075, 0.006)]), (226, 196, 150))
        pen.line(turned(x, y, angle, [(-0.1, 0), (0.077, 0)]), 0.012, fill)
        pen.line(
            turned(x, y, angle, [(-0.1, -0.002), (0.077, -0.002)]), 0.003, mix(fill, (255, 255, 255), 0.4)
        )
        return
    size, fill = (0.05, (238, 236, 230)) if kind == "cup" else (0.016, (188, 164, 108))
    pen.shadow(arc(x, y, size, 0, 360), 0.02)
    inside = (58, 34, 20) if kind == "cup" else fill
    for share, color in ((1, fill), (0.86, mix(fill, (0, 0, 0), 0.18)), (0.8, inside)):
        pen.disc(x, y, size * share, color)


def _head(rng: random.Random, page: Pen, style: _Style) -> tuple[float, Reading]:
    """The firm's sign, the title and the date; the y where the table begins, and the date's field."""
    right, band, font, high = page.width - _MARGIN, 0.1 * page.height, style.font, style.high
    firm, white = rng.choice(_FIRMS), (255, 255, 255)
    front, back = rng.choice(((white, style.accent), (style.accent, white)))
    page.box(0, 0 if front == white else 0.96 * band, page.width, band, style.accent)
    page.disc(_MARGIN + 0.28 * band, 0.5 * band, 0.28 * band, front)
    page.text(_MARGIN + 0.28 * band, 0.5 * band, firm[0], font, 0.28 * band, back)
    page.text(_MARGIN + 0.7 * band, 0.5 * band, firm, font, 0.3 * band, front, align="l", width=0.36)
    title = rng.choice(("INVOICE", "RECEIPT", "ORDER", "BILL"))
    page.text(right, 0.5 * band, title, font, 0.25 * band, front, align="r", width=0.3)
    gray = mix(_DARK, style.fill, 0.4)
    for k, line in enumerate((f"{firm} Trading Ltd", f"{rng.randint(1, 99)} Mill Street", "Phone 204177")):
        page.text(_MARGIN, band * (1.25 + 0.2 * k), line, font, 0.09 * band, gray, align="l")
    y, date = band * 1.15 + high / 2, f"{rng.randint(10, 28)}.{rng.randint(1, 9)}"
    page.text(right - 2 * high - 0.015, y, "Date", font, 0.35 * high, gray, align="r")
    field = page.field(right - high, y, 2 * high, high, date, font, style.ink)
    return max(y + 0.7 * high, 1.8 * band), Reading("date", date, field)


def _table(rng: random.Random, page: Pen, style: _Style, top: float, step: float, count: int) -> list[_Row]:
    font, ink, high, right = style.font, style.ink, style.high, page.width - _MARGIN
    radius = 0.36 * min(step, 0.09)  # of a sign
    start = _MARGIN + 2.2 * radius + 0.02
    # The middles of the columns of amounts, pieces and marks.
    amounts_at, pieces_at, marks_at = right - high, right - 3.2 * high, right - 4.9 * high
    prices, banded, shape = rng.random() < 0.5, rng.random() < 0.6, rng.choice((0.0, 0.3, 1.0))
    amounts = rng.sample(range(101, 999) if prices else range(11, 99), count)
    page.box(_MARGIN, top + 0.15 * step, right, top + 0.85 * step, mix(style.accent, style.fill, 0.75))
    for x, word in ((start + 0.05, "Item"), (pieces_at, "Pieces"), (amounts_at, "Amount")):
        page.text(x, top + step / 2, word, font, min(0.3 * step, 0.4 * high), _DARK, width=1.8 * high)
    rows = []
    named = zip(rng.sample(sorted(COLORS), count), rng.sample(_ITEMS, count), amounts, strict=True)
    for k, (color, item, cents) in enumerate(named):
        y, fill = top + step * (1.5 + k), COLORS[color]
        if banded:
            page.box(_MARGIN, y - 0.46 * step, right, y + 0.46 * step, mix(fill, style.fill, 0.7))
        page.line([(_MARGIN, y + step / 2), (right, y + step / 2)], 0.0015, (176, 176, 180))
        x = _MARGIN + 1.1 * radius + 0.005
        page.box(x - radius, y - radius, x + radius, y + radius, fill, shape * radius)
        page.text(start + 0.1 * high, y, item, font, 0.42 * high, ink, align="l", width=1.8 * high)
        page.field(marks_at, y, 0.8 * high, 0.8 * high, "", font, ink)
        mark = rng.choice(("a tick", "a tick", "a cross", "a cross", "no mark"))
        for stroke in _MARKS[mark]:
            page.line([(marks_at + u * high, y + v * high) for u, v in stroke], 0.08 * high, ink)
        amount, pieces, half = (
            f"{cents / 100:.2f}" if prices else str(cents),
            str(rng.randint(1, 9)),
            high / 2,
        )
        places = (
            (item, page.rect(start, y - half, start + 2 * high, y + half)),
            (pieces, page.field(pieces_at, y, 2 * high, high, pieces, font, ink)),
            (amount, page.field(amounts_at, y, 2 * high, high, amount, font, ink)),
            (mark, page.rect(marks_at - half, y - half, marks_at + half, y + half)),
        )
        rows.append(_Row(*(Reading(f"{color} row", value, place) for value, place in places)))
    total = f"{sum(amounts) / 100:.2f}" if prices else str(sum(amounts))
    _foot(rng, page, style, top + step * (1.1 + count), total)
    return rows


def _foot(rng: random.Random, page: Pen, style: _Style, y: float, total: str) -> None:
    """The total, bars, a signature and a stamp, and the folds of the paper."""
    width, height, font = page.width, page.height, style.font
    page.line([(0.5 * width, y), (width - _MARGIN, y)], 0.003, _DARK)
    page.text(width - _MARGIN, y + 0.04, f"Total   {total}", font, 0.026, _DARK, align="r")
    x, low = _MARGIN, 0.95 * height
    while x < 0.27 * width:
        bar = rng.choice((0.003, 0.005, 0.008))
        page.box(x, low - 0.05 * height, x + bar, low, _DARK)
        x += bar + rng.choice((0.003, 0.005, 0.007))
    waves = [(width * (0.63 + 0.018 * k), low - 0.025 * (1 + rng.uniform(-1, 1))) for k in range(16)]
    page.line(waves, 0.003, (30, 50, 140))
    page.line([(0.6 * width, low), (width - _MARGIN, low)], 0.0015, _DARK)
    fill, angle = (*rng.choice(((176, 30, 40), (36, 60, 150), (30, 110, 70))), 170), rng.uniform(-20, 20)
    x, y = rng.uniform(0.36, 0.5) * width, rng.uniform(0.88, 0.91) * height
    ring = [(a * 0.11, b * 0.045) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1), (1, -1))]
    page.line(turned(x, y, -angle, ring), 0.006, fill)
    page.text(x, y, rng.choice(("PAID", "SENT", "COPY", "OK")), font, 0.05, fill, angle=angle, width=0.19)
    for fold in (height / 3, 2 * height / 3):
        page.box(0, fold, width, fold + 0.003, (0, 0, 0, 16))
        page.box(0, fold + 0.003, width, fold + 0.03, (0, 0, 0, 5))


def _task(rng: random.Random, family: str, rows: list[_Row], date: Reading, desk: str, aspect: float) -> Task:
    mark = rng.choice(rows).mark
    if family == "whole":
        return whole(rng, "What is the paper lying on?", "The paper lies on", sorted(_DESKS), desk)
    if family == "exists":
        options = ["yes", "no"] if mark.value == "a tick" else ["no", "yes"]
        return choose(rng, family, f"Is there a tick in the {mark.name}?", options, [mark])
    if family == "count":
        column = Target("rows", around([row.mark.rect for row in rows]))
        ticked = [row.mark.fact for row in rows if row.mark.value == "a tick"]
        facts = (*ticked, f"That makes {len(ticked)}.")
        return Task(family, "How many rows have a tick?", (), "number", str(len(ticked)), (column,), facts)
    if family == "read" and rng.random() < 0.15:
        text = "What is the date on the paper?"
        return Task(family, text, (), "number", date.value, targets(date), (date.fact,))
    if family == "read" and rng.random() < 0.3:
        return ask(rng, family, [row.item for row in rows], "item", "in")
    if family == "arithmetic":
        return ask(rng, family, [row.pieces for row in rows], "piece", "in")
    return ask(rng, family, [row.amount for row in rows], "amount", "in", aspect)


FORM = World("form", "an order or invoice on a desk", WEIGHTS, _draw)
