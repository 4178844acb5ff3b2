"""The world `panel`: dials, displays, switches and bars of lamps, each on a colored plate."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from p2r.scenes.canvas import mix
from p2r.scenes.flat import WEIGHTS, Flat, Pen, arc, corners_of, turned
from p2r.scenes.fonts import pick
from p2r.scenes.readings import Reading, ask, choose, targets, whole
from p2r.scenes.tags import COLORS
from p2r.scenes.world import Task, World

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from p2r.scenes.canvas import Color
    from p2r.scenes.fonts import Font
    from p2r.scenes.world import Difficulty, Scene

_METALS = {
    "gray": (150, 154, 160),
    "green": (112, 142, 122),
    "blue": (96, 122, 152),
    "cream": (216, 206, 178),
}
# Brushed metal and paint: the octaves of their grain.
_FINISHES = ((((2, 300), 0.7), ((8, 700), 0.3)), (((60, 60), 0.4), ((300, 300), 0.6)))
_LABELS = ("FUEL", "OIL", "AIR", "TEMP", "FLOW", "MAIN", "AUX", "PUMP", "FAN", "GRID", "LOAD", "VENT")
_CELL, _HEAD = 0.15, 0.06
_BLACK, _WHITE = (30, 32, 36), (255, 255, 255)


class _Style(NamedTuple):
    font: Font
    segments: Font
    side: float
    fade: float  # how far the writing fades into what it is written on
    small: bool  # numbers of one digit


def _draw(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]
) -> tuple[Scene, Task]:
    pen, metal, side = Pen(aspect), rng.choice(sorted(_METALS)), difficulty.side(rng, 0.04, 0.05)
    fade = 0.8 * (1 - difficulty.contrast)
    style = _Style(pick(rng, fonts, "sans"), pick(rng, fonts, "segment"), side, fade, family == "arithmetic")
    base = _METALS[metal]
    columns, rows = int((pen.width - 0.04) / _CELL), int((pen.height - _HEAD - 0.02) / _CELL)
    _case(rng, pen, base, style.font, columns)
    kinds = ["display", "dial"] * 3 + ["switch", "bar"] * 2
    kinds += rng.choices(("display", "dial", "switch", "bar"), k=round(14 * difficulty.clutter))
    free = {kind: rng.sample(sorted(COLORS), len(COLORS)) for kind in _INSTRUMENTS}
    found: dict[str, list[Reading]] = {kind: [] for kind in _INSTRUMENTS}
    for k, cell in enumerate(rng.sample(range(columns * rows), columns * rows)):
        x = 0.02 + (pen.width - 0.04) * (cell % columns + 0.5) / columns
        y = _HEAD + (pen.height - _HEAD - 0.02) * (cell // columns + 0.45) / rows
        kind = kinds[k] if k < len(kinds) else ""
        if not kind or not free[kind]:
            if rng.random() < 0.3 + difficulty.clutter:
                _filler(rng, pen, x, y, base, style.font)
            continue
        color = free[kind].pop()
        _plate(rng, pen, x, y, COLORS[color], style)
        value, wide, high = _INSTRUMENTS[kind](rng, pen, x, y, style)
        place = pen.rect(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
        verb = {"switch": "is", "bar": "has"}.get(kind, "shows")
        found[kind].append(Reading(f"{color} {kind}", value, place, verb))
    ground = (mix(base, (0, 0, 0), 0.1), mix(base, _WHITE, 0.1), rng.choice(_FINISHES))
    scene = Flat(aspect, rng.getrandbits(31), ground, tuple(pen.marks))
    return scene, _task(rng, family, found, metal, aspect)


def _case(rng: random.Random, pen: Pen, base: Color, font: Font, columns: int) -> None:
    """The edge of the panel, its head with a name, grooves, and a screw in each corner."""
    width, height, dark, light = pen.width, pen.height, mix(base, (0, 0, 0), 0.5), mix(base, _WHITE, 0.5)
    pen.box(0, 0, width, 0.008, light)
    pen.box(0, 0, 0.008, height, light)
    pen.box(0, height - 0.008, width, height, dark)
    pen.box(width - 0.008, 0, width, height, dark)
    name = f"{rng.choice(('BOILER', 'STATION', 'ENGINE', 'PLANT'))} {rng.randint(1, 9)}"
    pen.box(0.06, 0.016, 0.06 + 0.019 * len(name), 0.048, _BLACK, 0.004)
    pen.text(0.06 + 0.0095 * len(name), 0.032, name, font, 0.015, (230, 230, 226), width=0.017 * len(name))
    grooves = [(0.02, _HEAD, width - 0.02, _HEAD + 0.002)]
    splits = range(3, columns - 1, 3)
    grooves += [
        (x, _HEAD, x + 0.002, height - 0.02) for x in (0.02 + (width - 0.04) * k / columns for k in splits)
    ]
    for x0, y0, x1, y1 in grooves:
        pen.box(x0, y0, x1, y1, dark)
        pen.box(x0 + 0.002, y0 + 0.002, x1 + 0.001, y1 + 0.001, light)
    for x, y in corners_of(0.026, 0.03, width - 0.026, height - 0.026):
        _screw(pen, x, y, 0.009)


def _screw(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.disc(x + 0.1 * radius, y + 0.15 * radius, 1.1 * radius, (0, 0, 0, 90))
    pen.disc(x, y, radius, (206, 208, 212))
    pen.line(
        turned(x, y, (x + y) * 999, [(-0.7 * radius, 0), (0.7 * radius, 0)]), 0.25 * radius, (80, 82, 86)
    )


def _filler(rng: random.Random, pen: Pen, x: float, y: float, base: Color, font: Font) -> None:
    """What has no meaning: a vent, a blank plate or a knob."""
    kind, dark = rng.choice(("vent", "blank", "knob")), mix(base, (0, 0, 0), 0.6)
    if kind == "vent":
        for top in (y - 0.04 + 0.018 * k for k in range(5)):
            pen.box(x - 0.045, top, x + 0.045, top + 0.008, dark, 0.004)
    elif kind == "blank":
        pen.box(x - 0.05, y - 0.03, x + 0.05, y + 0.03, dark)
        pen.box(x - 0.049, y - 0.029, x + 0.049, y + 0.029, mix(base, _WHITE, 0.12))
        pen.text(x, y, rng.choice(_LABELS), font, 0.011, dark)
    else:
        pen.shadow(arc(x, y, 0.03, 0, 360, 24), 0.016)
        pen.disc(x, y, 0.03, (44, 46, 50))
        pen.disc(x, y, 0.023, (70, 72, 78))
        pen.line(turned(x, y, rng.uniform(0, 360), [(0.008, 0), (0.024, 0)]), 0.004, (240, 240, 240))


def _plate(rng: random.Random, pen: Pen, x: float, y: float, fill: Color, style: _Style) -> None:
    """The colored plate behind an instrument, its screws and its label."""
    half = max(0.046, 0.8 * style.side)
    pen.shadow(corners_of(x - half, y - half, x + half, y + half), 0.012)
    pen.box(x - half, y - half, x + half, y + half, mix(fill, (0, 0, 0), 0.4), 0.007)
    pen.box(x - half, y - half, x + half - 0.0025, y + half - 0.0025, fill, 0.006)
    for u, v in corners_of(x - 0.86 * half, y - 0.86 * half, x + 0.86 * half, y + 0.86 * half):
        _screw(pen, u, v, 0.0045)
    pen.box(x - 0.026, y + half + 0.004, x + 0.026, y + half + 0.02, _BLACK, 0.002)
    pen.text(x, y + half + 0.012, rng.choice(_LABELS), style.font, 0.008, (235, 235, 235))


def _display(rng: random.Random, pen: Pen, x: float, y: float, style: _Style) -> tuple[str, float, float]:
    wide, high, font = 1.3 * style.side, style.side / 1.3, style.segments
    red, green, gray = (
        ((20, 22, 20), (255, 70, 50)),
        ((14, 24, 18), (90, 255, 130)),
        ((164, 178, 146), (24, 30, 24)),
    )
    back, light = rng.choice((red, green, gray))
    value, edge = str(rng.randint(1, 9) if style.small else rng.randint(10, 99)), 0.1 * high
    pen.box(x - wide / 2 - edge, y - high / 2 - edge, x + wide / 2 + edge, y + high / 2 + edge, _BLACK, edge)
    pen.box(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2, back)
    right = x + 0.22 * high * font.width("888")
    pen.text(right, y, "888", font, 0.44 * high, mix(back, light, 0.1), align="r")
    pen.text(right, y, value, font, 0.44 * high, mix(light, back, style.fade), align="r")
    return value, wide, high


def _dial(rng: random.Random, pen: Pen, x: float, y: float, style: _Style) -> tuple[str, float, float]:
    radius, step = style.side / 2, 1 if style.small else rng.choice((1, 1, 5, 10, 20))
    last, white, black = 8 if step == 1 else 5, (248, 248, 244), (26, 28, 32)
    face, ink, needle = rng.choice(((white, black, (206, 36, 30)), (black, white, (255, 120, 40))))
    soft, at = mix(ink, face, style.fade), rng.randint(0, last)
    for grow, fill in ((1.16, _BLACK), (1.1, (176, 178, 182)), (1.0, face)):
        pen.disc(x, y, radius * grow, fill)
    pen.line(arc(x, y, 0.93 * radius, 330, 390, 8), 0.08 * radius, (214, 50, 44))
    for k in range(last * 2 + 1):
        angle, inner = 150 + 120 * k / last, 0.88 if k % 2 else 0.8
        pen.line(turned(x, y, angle, [(inner * radius, 0), (0.97 * radius, 0)]), 0.035 * radius, soft)
        if k % 2 == 0:
            spot = turned(x, y, angle, [(0.62 * radius, 0)])[0]
            pen.text(*spot, str(k // 2 * step), style.font, 0.16 * radius, soft)
    hand = [(-0.2 * radius, 0.05 * radius), (0.5 * radius, 0), (-0.2 * radius, -0.05 * radius)]
    pen.polygon(turned(x, y, 150 + 240 * at / last, hand), needle)
    pen.disc(x, y, 0.11 * radius, (50, 52, 56))
    return str(at * step), 2 * radius, 2 * radius


def _switch(rng: random.Random, pen: Pen, x: float, y: float, style: _Style) -> tuple[str, float, float]:
    """A lever that points to ON or OFF; which of them is at the top differs."""
    wide, high, up = 0.8 * style.side, 1.25 * style.side, rng.random() < 0.5
    words, ground = rng.sample(("ON", "OFF"), 2), (222, 224, 226)
    pen.box(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2, ground, 0.06 * high)
    for word, at in zip(words, (-0.4, 0.4), strict=True):
        pen.text(x, y + at * high, word, style.font, 0.105 * high, mix((20, 20, 24), ground, style.fade))
    pen.box(x - 0.2 * wide, y - 0.26 * high, x + 0.2 * wide, y + 0.26 * high, _BLACK, 0.15 * wide)
    end = y + (-0.13 if up else 0.13) * high
    pen.line([(x, y), (x, end)], 0.2 * wide, (150, 152, 156))
    pen.disc(x, end, 0.22 * wide, (90, 92, 96))
    pen.disc(x - 0.03 * wide, end - 0.03 * wide, 0.16 * wide, (214, 216, 220))
    return words[not up].lower(), wide, high


def _bar(rng: random.Random, pen: Pen, x: float, y: float, style: _Style) -> tuple[str, float, float]:
    """Six lamps in a row, some of which are lit."""
    wide, high, lit = 1.6 * style.side, style.side / 1.6, rng.randint(1, 6)
    pen.box(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2, (40, 42, 46), 0.1 * high)
    light = rng.choice(((255, 76, 60), (90, 255, 120), (255, 206, 70)))
    on, off = set(rng.sample(range(6), lit)), mix(light, (20, 20, 22), 0.8)
    for k in range(6):
        at, fill = x + wide * (k - 2.5) / 6.6, mix(light, off, style.fade) if k in on else off
        pen.disc(at, y, (0.27 if k in on else 0.2) * high, (*light, 70) if k in on else (14, 14, 16))
        pen.disc(at, y, 0.165 * high, fill)
        pen.disc(at - 0.05 * high, y - 0.05 * high, 0.05 * high, mix(fill, _WHITE, 0.7 if k in on else 0.25))
    return f"{lit} lamp{'s' if lit > 1 else ''} lit", wide, high


# Each draws itself around a place, and returns what it shows and the size of what shows it.
_INSTRUMENTS: dict[str, Callable[[random.Random, Pen, float, float, _Style], tuple[str, float, float]]]
_INSTRUMENTS = {"display": _display, "dial": _dial, "switch": _switch, "bar": _bar}


def _task(
    rng: random.Random, family: str, found: dict[str, list[Reading]], metal: str, aspect: float
) -> Task:
    if family == "whole":
        return whole(rng, "What color is the panel?", "The panel is", sorted(_METALS), metal)
    if family == "exists":
        switch = rng.choice(found["switch"])
        options = ["yes", "no"] if switch.value == "on" else ["no", "yes"]
        return choose(rng, family, f"Is the {switch.name} on?", options, [switch])
    if family == "count":
        bar = rng.choice(found["bar"])
        text = f"How many lamps are lit on the {bar.name}?"
        return Task(family, text, (), "number", bar.value.split()[0], targets(bar), (bar.fact,))
    if family == "position":
        return ask(
            rng, family, [thing for things in found.values() for thing in things], "number", "on", aspect
        )
    if family == "arithmetic" or (family == "read" and rng.random() < 0.5):
        return ask(rng, family, rng.choice((found["dial"], found["display"])), "number")
    return ask(rng, family, found["display"], "number")


PANEL = World("panel", "a control panel of dials and displays", WEIGHTS, _draw)
