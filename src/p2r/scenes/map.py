"""The world `map`: a town plan with streets, water, parks, flags, colored pins with numbers, and a legend."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

from p2r.scenes.canvas import mix
from p2r.scenes.flat import WEIGHTS, Flat, Pen, arc, ask_legend, corners_of, legend, turned
from p2r.scenes.fonts import pick
from p2r.scenes.readings import Reading, ask, count, targets, whole
from p2r.scenes.tags import COLORS
from p2r.scenes.world import Task, World

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from p2r.scenes.canvas import Color, Point
    from p2r.scenes.fonts import Font
    from p2r.scenes.world import Difficulty, Rect, Scene


class _Look(NamedTuple):
    land: Color
    house: Color
    park: Color
    water: Color
    edge: Color  # of a street
    main: Color  # a main street


_LOOKS = (
    _Look(
        (240, 236, 224), (214, 206, 194), (200, 226, 176), (168, 206, 230), (206, 198, 184), (250, 226, 150)
    ),
    _Look(
        (232, 232, 236), (196, 198, 208), (190, 218, 184), (150, 190, 222), (180, 182, 192), (252, 206, 140)
    ),
    _Look(
        (246, 242, 210), (222, 184, 154), (178, 212, 140), (140, 196, 216), (190, 160, 120), (240, 190, 110)
    ),
)
_WATERS = ("river", "lake", "sea", "none")
_PLACES = ("bank", "bus", "church", "hotel", "museum", "park", "port", "school", "shop", "zoo")
_STREETS = ("Mill St", "Oak St", "High St", "Lake Rd", "Park Rd", "Bell St", "Elm St", "King St", "Rose Rd")
_EDGE, _DARK = 0.022, (70, 70, 80)


class _Spots:
    """Free places: `take` finds one, or the best of many tries."""

    def __init__(self, rng: random.Random, pen: Pen) -> None:
        self._rng, self._pen = rng, pen
        self.taken: list[tuple[float, float, float]] = []

    def take(self, reach: float) -> Point:
        """The middle of a free disc of a radius."""
        best, most, edge = (0.0, 0.0), -math.inf, reach + _EDGE
        for _ in range(60):
            x = self._rng.uniform(edge, self._pen.width - edge)
            y = self._rng.uniform(edge, self._pen.height - edge)
            room = min((math.dist((x, y), (u, v)) - near for u, v, near in self.taken), default=1.0) - reach
            if room > most:
                best, most = (x, y), room
            if room > 0.01:
                break
        self.taken.append((*best, reach))
        return best


def _draw(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]
) -> tuple[Scene, Task]:
    pen, look, font, water = Pen(aspect), rng.choice(_LOOKS), pick(rng, fonts, "sans"), rng.choice(_WATERS)
    _town(rng, pen, look, water, difficulty.clutter, font)
    pen.box(0, 0, pen.width, _EDGE, (250, 250, 248))
    pen.box(0, pen.height - _EDGE, pen.width, pen.height, (250, 250, 248))
    pen.box(0, 0, _EDGE, pen.height, (250, 250, 248))
    pen.box(pen.width - _EDGE, 0, pen.width, pen.height, (250, 250, 248))
    inner = corners_of(_EDGE, _EDGE, pen.width - _EDGE, pen.height - _EDGE)
    pen.line([*inner, inner[0]], 0.0015, _DARK)
    side, spots = difficulty.side(rng, 0.034, 0.044), _Spots(rng, pen)
    ink = mix((24, 24, 30), (255, 255, 255), 0.8 * (1 - difficulty.contrast))
    colors = rng.sample(sorted(COLORS), 4 + round(4 * difficulty.clutter * rng.random()))
    places = _legend(rng, pen, font, side, colors, ink, spots)
    scale = _compass_and_scale(rng, pen, font, side, ink, spots)
    small = family == "arithmetic" or rng.random() < 0.4
    numbers = rng.sample(range(1, 10) if small else range(10, 99), len(colors))
    pins = [
        _pin(pen, font, *spots.take(0.045 + 0.3 * side), side, color, str(number), ink)
        for color, number in zip(colors, numbers, strict=True)
    ]
    flags = {
        color: [_flag(pen, *spots.take(0.04), color) for _ in range(rng.randint(1, 4))]
        for color in rng.sample(sorted(COLORS), 2)
    }
    ground = (mix(look.land, (0, 0, 0), 0.03), look.land, (((40, 40), 0.5), ((200, 200), 0.5)))
    scene = Flat(aspect, rng.getrandbits(31), ground, tuple(pen.marks))
    return scene, _task(rng, family, pins, places, flags, scale, water, aspect)


def _town(rng: random.Random, pen: Pen, look: _Look, water: str, clutter: float, font: Font) -> None:
    """Blocks of houses and parks, the water, and the streets with their names."""
    angle, reach = rng.uniform(-30, 30), math.hypot(pen.width, pen.height) / 2 + 0.1
    frame = (pen.width / 2, pen.height / 2, angle)
    cuts = [list(itertools.accumulate([-reach] + [rng.uniform(0.11, 0.24) for _ in range(22)])) for _ in "xy"]
    columns, rows = ([cut for cut in some if cut < reach + 0.2] for some in cuts)
    for left, right in itertools.pairwise(columns):
        for top, bottom in itertools.pairwise(rows):
            _block(rng, pen, look, clutter, frame, (left + 0.012, top + 0.012, right - 0.012, bottom - 0.012))
    if water == "river":
        _water(rng, pen, look, water)  # below the streets, which cross it on bridges
    streets = [(u, -reach, u, reach) for u in columns] + [(-reach, v, reach, v) for v in rows]
    main = {rng.randrange(len(columns)), len(columns) + rng.randrange(len(rows))}
    for extra, colors in ((0.002, (look.edge, look.edge)), (0, ((255, 255, 255), look.main))):
        for k, (u, v, p, q) in enumerate(streets):
            half = (0.011 if k in main else 0.0065) + extra
            corners = corners_of(u - half, v - half, p + half, q + half)
            pen.polygon(turned(*frame, corners), colors[k in main])
    for k, (u, v, p, q) in enumerate(streets):
        along, share = -angle if k >= len(columns) else 90 - angle, rng.uniform(0.35, 0.65)
        at = turned(*frame, [(u + (p - u) * share, v + (q - v) * share)])[0]
        pen.text(*at, rng.choice(_STREETS), font, 0.0065, (120, 112, 104), angle=along)
    if water != "river":
        _water(rng, pen, look, water)


def _block(
    rng: random.Random, pen: Pen, look: _Look, clutter: float, frame: tuple[float, float, float], place: Rect
) -> None:
    left, top, right, bottom = place
    corners = turned(*frame, corners_of(*place))
    if not any(-0.05 < x < pen.width + 0.05 and -0.05 < y < pen.height + 0.05 for x, y in corners):
        return
    if rng.random() < 0.22:
        pen.polygon(corners, look.park)
        for _ in range(round(12 * clutter)):
            spot = turned(*frame, [(rng.uniform(left, right), rng.uniform(top, bottom))])[0]
            pen.disc(*spot, rng.uniform(0.004, 0.008), mix(look.park, (40, 110, 40), rng.uniform(0.2, 0.5)))
        return
    across = max(1, round((right - left) / 0.055))
    wide, high = (right - left) / across, (bottom - top) / 2
    for k in range(2 * across):
        w, h = wide * rng.uniform(0.6, 0.88), high * rng.uniform(0.5, 0.85)
        u, v = left + k // 2 * wide, bottom - h if k % 2 else top
        if rng.random() < 0.75:
            fill = mix(look.house, (120, 110, 100), rng.uniform(0, 0.25))
            pen.polygon(turned(*frame, corners_of(u, v, u + w, v + h)), fill)


def _water(rng: random.Random, pen: Pen, look: _Look, water: str) -> None:
    waves = [(rng.uniform(0.01, 0.05), rng.uniform(2, 7), rng.uniform(0, 6)) for _ in range(3)]

    def bend(t: float) -> float:
        return sum(high * math.sin(often * t + start) for high, often, start in waves)

    shore, width, height = mix(look.water, (60, 100, 140), 0.3), pen.width, pen.height
    for grow, fill in ((0.005, shore), (0.0, look.water)):
        if water == "river" and width > height:
            course = [
                (0.5 * width + 1.6 * bend(0.03 * k), 0.03 * k) for k in range(-2, int(height / 0.03) + 3)
            ]
            pen.line(course, 0.08 + 2 * grow, fill)
        elif water == "river":
            course = [
                (0.03 * k, 0.5 * height + 1.6 * bend(0.03 * k)) for k in range(-2, int(width / 0.03) + 3)
            ]
            pen.line(course, 0.08 + 2 * grow, fill)
        elif water == "lake":
            ring = [
                (k * math.tau / 60, (0.16 + grow) * (1 + 2 * bend(math.sin(k * math.tau / 60))))
                for k in range(60)
            ]
            x, y = (0.3 + waves[0][0] * 8) * width, (0.3 + waves[1][0] * 8) * height
            pen.polygon([(x + 1.3 * r * math.cos(t), y + r * math.sin(t)) for t, r in ring], fill)
        elif water == "sea":
            coast = [(0.2 * width + grow + bend(height * k / 40), height * k / 40) for k in range(41)]
            pen.polygon([(-0.1, 0.0), *coast, (-0.1, height)], fill)


def _pin(
    pen: Pen, font: Font, x: float, y: float, side: float, color: str, number: str, ink: Color
) -> Reading:
    radius, half = max(0.68 * side, 0.026), side / 2
    tip = y + 1.75 * radius
    pen.shadow(arc(x + 0.4 * radius, tip, 0.3 * radius, 0, 360, 12), 0.01, 0.35)
    for grow, fill in ((1.08, mix(COLORS[color], (0, 0, 0), 0.45)), (1.0, COLORS[color])):
        wide = 0.8 * radius * grow
        pen.disc(x, y, radius * grow, fill)
        pen.polygon([(x - wide, y + 0.6 * radius), (x + wide, y + 0.6 * radius), (x, tip)], fill)
    pen.disc(x, y, half, (255, 255, 255))
    pen.text(x, y, number, font, 0.37 * side, ink, width=0.72 * side)
    return Reading(f"{color} pin", number, pen.rect(x - half, y - half, x + half, y + half))


def _flag(pen: Pen, x: float, y: float, color: str) -> Rect:
    pen.line([(x - 0.015, y - 0.024), (x - 0.015, y + 0.03)], 0.004, _DARK)
    pen.polygon([(x - 0.015, y - 0.025), (x + 0.025, y - 0.012), (x - 0.015, y + 0.002)], COLORS[color])
    return pen.rect(x - 0.02, y - 0.03, x + 0.03, y + 0.032)


def _legend(
    rng: random.Random, pen: Pen, font: Font, side: float, colors: list[str], ink: Color, spots: _Spots
) -> list[Reading]:
    """The box that says what each pin means, in a corner."""
    row, wide = max(0.6 * side, 0.024), 2 * side + 0.05
    high, gap = row * (len(colors) + 1.4), _EDGE + 0.012
    left, top = rng.choice((gap, pen.width - gap - wide)), rng.choice((gap, pen.height - gap - high))
    pen.shadow(corners_of(left, top, left + wide, top + high), 0.01)
    pen.box(left, top, left + wide, top + high, _DARK)
    pen.box(left + 0.0015, top + 0.0015, left + wide - 0.0015, top + high - 0.0015, (255, 255, 255))
    pen.text(left + 0.012, top + 0.65 * row, "LEGEND", font, 0.42 * row, _DARK, align="l")
    steps = [k / math.ceil(high / 0.06) for k in range(math.ceil(high / 0.06) + 1)]
    spots.taken += [
        (left + wide * across, top + high * down, 0.05) for across in (0, 0.5, 1) for down in steps
    ]
    entries = dict(zip(colors, rng.sample(_PLACES, len(colors)), strict=True))
    return legend(pen, left + 0.012, top + 1.2 * row, row, side, entries, font, ink, "pin")


def _compass_and_scale(
    rng: random.Random, pen: Pen, font: Font, side: float, ink: Color, spots: _Spots
) -> Reading:
    x, y = spots.take(0.055)
    pen.disc(x, y, 0.04, (255, 255, 255, 200))
    for turn in range(4):
        fill = _DARK if turn else (190, 40, 40)
        pen.polygon(turned(x, y, 90 * turn, [(0, -0.036), (0.008, -0.008), (-0.008, -0.008)]), fill)
    pen.text(x, y, "N", font, 0.011, _DARK)
    (x, y), number = spots.take(0.09), str(rng.choice((20, 25, 40, 50, 75, 80)))
    wide, high = 1.4 * side, side / 1.4
    pen.box(x - 0.085, y - high, x + 0.085, y + 0.022, (255, 255, 255, 215), 0.005)
    for k in range(4):
        pen.box(x - 0.07 + 0.035 * k, y + 0.004, x - 0.035 + 0.035 * k, y + 0.014, (30 + k % 2 * 190,) * 3)
    pen.text(x, y - high / 2, f"{number} m", font, 0.45 * high, ink, width=0.9 * wide)
    return Reading("scale bar", number, pen.rect(x - wide / 2, y - high, x + wide / 2, y))


def _task(
    rng: random.Random,
    family: str,
    pins: list[Reading],
    places: list[Reading],
    flags: dict[str, list[Rect]],
    scale: Reading,
    water: str,
    aspect: float,
) -> Task:
    if family == "whole":
        return whole(rng, "What water is on the map?", "The water on the map:", _WATERS, water)
    if family == "exists":
        return ask_legend(rng, "legend", places, _PLACES)
    if family == "count":
        color = rng.choice(sorted(flags))
        return count(f"{color} flag", flags[color])
    if family == "read" and rng.random() < 0.1:
        text = "What number is on the scale bar?"
        return Task(family, text, (), "number", scale.value, targets(scale), (scale.fact,))
    if family == "read" and rng.random() < 0.3:
        return ask(rng, family, places, "place", "at")
    return ask(rng, family, pins, "number", "on", aspect)


MAP = World("map", "a town plan with numbered pins", WEIGHTS, _draw)
