"""The world `shelf`: a shop shelf with boxes, bottles, cans, jars and bags, and price labels under them.

A product is found by its color and kind; its price is small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.scenes import readings
from p2r.scenes.canvas import COLORS, Canvas, ink_on, mix
from p2r.scenes.fonts import Font, pick
from p2r.scenes.readings import Reading
from p2r.scenes.world import WHOLE, Difficulty, Rect, Target, Task, World, share_rect

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    import numpy as np

    from p2r.scenes.canvas import Color

_FAMILIES = {
    "read": 26,
    "compare": 16,
    "arithmetic": 14,
    "position": 10,
    "which": 12,
    "count": 10,
    "exists": 8,
    "whole": 4,
}
# Width and height of each kind, in units.
_KINDS = {
    "box": (0.110, 0.178),
    "bottle": (0.055, 0.200),
    "can": (0.064, 0.110),
    "jar": (0.078, 0.122),
    "bag": (0.116, 0.160),
}
_NARROW = ("bottle", "can")
_BACKS: dict[str, Color] = {
    "white": (226, 224, 218),
    "gray": (138, 142, 146),
    "brown": (146, 108, 76),
    "blue": (58, 78, 108),
}
_BRANDS = ("OAT", "SUN", "MILA", "PURE", "NORD", "FIG", "ALMA", "KIWI", "TERRA", "LUX", "ROYAL", "BON")
_LABEL_RATIO, _SLOT, _ROW, _GAP = 1.7, 0.26, 0.3, 0.006
_CREAM = (246, 240, 226)


@dataclass(frozen=True, slots=True)
class _Product:
    """Some equal products side by side, and their price label; places in units."""

    name: str
    price: str
    brand: str
    look: int
    bodies: tuple[Rect, ...]
    label: Rect


@dataclass(frozen=True, slots=True)
class Shelf:
    """A shelf, seen from the front; all places and lengths in units.

    Attributes:
        aspect: width / height.
        rows: how many boards there are, at equal distances.
        edge: the height of the front of a board.
        products: from left to right, row by row.
        flags: where a flag sticks out from a board.
        label_color: of the price labels.
        back: a name in `_BACKS`.
        fonts: of brands, and of prices.
        contrast, seed: of the writing on the labels; of the light.
    """

    aspect: float
    rows: int
    edge: float
    products: tuple[_Product, ...]
    flags: tuple[tuple[float, float], ...]
    label_color: Color
    back: str
    fonts: tuple[Font, Font]
    contrast: float
    seed: int

    def render(self, size: tuple[int, int], rect: Rect = WHOLE) -> np.ndarray:
        """Draw `rect`, as every scene does."""
        back = _BACKS[self.back]
        dark = mix(back, (0, 0, 0), 0.4)
        canvas = Canvas(size, rect, self.aspect, back)
        height, edge, across = canvas.down / self.rows, self.edge, canvas.across
        for r in range(self.rows):
            floor = (r + 1) * height - edge
            canvas.gradient(0, r * height, across, floor, dark, back)
            for k in range(1, math.ceil(across / 0.04)):
                canvas.line([(k * 0.04, r * height), (k * 0.04, floor)], 0.0016, (0, 0, 0, 26))
            canvas.gradient(0, floor - 0.016, across, floor, dark, mix(back, (0, 0, 0), 0.12))
        for product in self.products:
            for body in product.bodies:
                _draw_product(canvas, body, product, self.fonts[0])
        for r in range(self.rows):
            floor = (r + 1) * height - edge
            canvas.rectangle(0, floor, across, floor + edge, (196, 198, 200))
            canvas.rectangle(0, floor, across, floor + 0.004, (238, 238, 236))
            canvas.gradient(0, floor + edge - 0.008, across, floor + edge, (196, 198, 200), (92, 94, 98))
        for x, y in self.flags:
            canvas.ellipse(x - 0.016, y - edge - 0.014, x + 0.016, y - edge + 0.018, (150, 70, 62))
            canvas.text(x, y - edge + 0.002, "%", self.fonts[0], 0.014, _CREAM)
        for product in self.products:
            self._draw_label(canvas, product.label, product.price)
        return canvas.pixels(self.seed)

    def _draw_label(self, canvas: Canvas, rect: Rect, price: str) -> None:
        x0, y0, x1, y1 = rect
        ground, high = self.label_color, y1 - y0
        rim, ink = high * 0.03, mix(ground, ink_on(ground), self.contrast)
        canvas.rectangle(x0, y0, x1, y1, mix(ground, (0, 0, 0), 0.35))
        canvas.rectangle(x0 + rim, y0 + rim, x1 - rim, y1 - rim, ground)
        room = (x1 - x0) * 0.86
        canvas.text((x0 + x1) / 2, (y0 + y1) / 2, price, self.fonts[1], high * 0.56, ink, width=room)


def _draw_product(canvas: Canvas, body: Rect, product: _Product, font: Font) -> None:
    left, high, right, low = body
    color, kind = product.name.split()
    width, height, fill = right - left, low - high, COLORS[color]
    dark, light = mix(fill, (0, 0, 0), 0.45), mix(fill, _CREAM, 0.5)
    clear, shade = (0, 0, 0, 0), (0, 0, 0, 120)

    def at(across: float, down: float) -> tuple[float, float]:
        return left + across * width, high + down * height

    def part(x0: float, y0: float, x1: float, y1: float) -> Rect:
        return *at(x0, y0), *at(x1, y1)

    canvas.gradient(*part(-0.06, 0.99, 1.12, 1.02), shade, clear)
    canvas.gradient(*part(1.0, 0.2, 1.12, 1.0), shade, clear, down=False)
    top, curve = 0.0, 0.07
    if kind == "bottle":
        top = 0.36
        canvas.rectangle(*part(0.33, 0.05, 0.67, 0.5), fill)
        canvas.rectangle(*part(0.29, 0.0, 0.71, 0.09), dark)
        canvas.polygon([at(0.33, 0.22), at(0.67, 0.22), at(1.0, 0.4), at(0.0, 0.4)], fill)
    elif kind == "can":
        top = 0.06
        canvas.ellipse(*part(0.0, 0.0, 1.0, 0.14), (176, 178, 182))
    elif kind == "jar":
        top = 0.16
        canvas.rectangle(*part(0.06, 0.0, 0.94, 0.2), dark, radius=width * 0.05)
    else:
        curve = 0.0
    if kind == "bag":
        left_side, right_side = [at(0.04, 1.0), at(0.0, 0.3)], [at(1.0, 0.3), at(0.96, 1.0)]
        canvas.polygon([at(0.06, 0.0), at(0.94, 0.0), *right_side, *left_side], fill)
        canvas.rectangle(*part(0.06, 0.0, 0.94, 0.06), dark)
    else:
        canvas.rectangle(*part(0.0, top, 1.0, 1.0), fill, radius=width * curve)
    _draw_brand(canvas, part(0.0, top, 1.0, 1.0), product, fill, font)
    if curve:
        canvas.gradient(*part(0.0, top + 0.03, 0.25, 0.99), shade, clear, down=False)
        canvas.gradient(*part(0.6, top + 0.03, 1.0, 0.99), clear, (0, 0, 0, 140), down=False)
        canvas.rectangle(*part(0.28, top + 0.04, 0.35, 0.96), (255, 255, 255, 70))
    elif kind == "box":
        canvas.gradient(*part(0.88, 0.0, 1.0, 1.0), (0, 0, 0, 60), (0, 0, 0, 90), down=False)
        canvas.rectangle(*part(0.0, 0.0, 1.0, 0.02), light)
    else:
        canvas.gradient(*part(0.05, 0.06, 0.5, 1.0), (255, 255, 255, 50), (0, 0, 0, 30), down=False)


def _draw_brand(canvas: Canvas, front: Rect, product: _Product, color: Color, font: Font) -> None:
    """A paler field with the brand's shape and name."""
    x0, y0, x1, y1 = front
    width, height = x1 - x0, y1 - y0
    middle, field, ink = (x0 + x1) / 2, mix(color, _CREAM, 0.75), (58, 52, 50)
    top, bottom = y0 + height * 0.24, y0 + height * 0.8
    canvas.rectangle(x0 + width * 0.08, top, x1 - width * 0.08, bottom, field)
    canvas.text(middle, top + height * 0.12, product.brand, font, height * 0.13, ink, width=width * 0.68)
    y, r = top + height * 0.38, min(width * 0.24, height * 0.13)
    tone = mix(color, (0, 0, 0), 0.25)
    if product.look == 0:
        canvas.ellipse(middle - r, y - r, middle + r, y + r, tone)
    elif product.look == 1:
        canvas.polygon([(middle, y - r), (middle + r, y), (middle, y + r), (middle - r, y)], tone)
    elif product.look == 2:
        turns = [(k * math.pi / 5, r * (1.0, 0.45)[k % 2]) for k in range(10)]
        star = [(middle + far * math.sin(turn), y - far * math.cos(turn)) for turn, far in turns]
        canvas.polygon(star, tone)
    else:
        for k in range(3):
            canvas.rectangle(middle - r, y - r + k * r * 0.75, middle + r, y - r * 0.6 + k * r * 0.75, tone)


def _lay_out(rng: random.Random, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]) -> Shelf:
    across, down = math.sqrt(aspect), 1 / math.sqrt(aspect)
    columns, rows = max(2, round(across / _SLOT)), max(2, round(down / _ROW))
    count, width, height = columns * rows, across / columns, down / rows
    names = rng.sample([f"{color} {kind}" for color in COLORS for kind in _KINDS], count)
    prices = rng.sample(range(11, 99), count)
    looks = [(rng.randint(1, 4), rng.choice(_BRANDS), rng.randrange(4)) for _ in names]
    side = difficulty.side(rng, 0.036, 0.044)
    half, high = side * math.sqrt(_LABEL_RATIO) / 2, side / math.sqrt(_LABEL_RATIO) / 2
    edge = max(0.042, 2 * high + 0.01)
    products = []
    for k, (name, price, (facings, brand, look)) in enumerate(zip(names, prices, looks, strict=True)):
        x, y = (k % columns + 0.5) * width, (k // columns + 1) * height
        kind = name.split()[1]
        bodies = _place(kind, min(facings, 4 if kind in _NARROW else 2), x, y - edge, width, height - edge)
        label = (x - half, y - edge / 2 - high, x + half, y - edge / 2 + high)
        products.append(_Product(name, f"{price / 10:.1f}0", brand, look, bodies, label))
    label_color = rng.choice(((250, 250, 246), (252, 226, 90), (244, 240, 214)))
    back = rng.choice(sorted(_BACKS))
    flags = [
        ((k % columns + 1) * width - 0.022, (k // columns + 1) * height)
        for k in range(count)
        if rng.random() < difficulty.clutter * 0.4
    ]
    return Shelf(
        aspect,
        rows,
        edge,
        tuple(products),
        tuple(flags),
        label_color,
        back,
        (pick(rng, fonts, "sans"), pick(rng, fonts, "sans")),
        difficulty.contrast,
        rng.getrandbits(31),
    )


def _place(
    kind: str, facings: int, middle: float, floor: float, width: float, height: float
) -> tuple[Rect, ...]:
    wide, tall = _KINDS[kind]
    # Small enough for the slot, and the tallest kind for the row.
    room = width * 0.92 / (facings * (wide + _GAP))
    scale = min(1.0, (height - 0.02) / _KINDS["bottle"][1], room)
    pitch, floor = wide * scale + _GAP, floor - 0.004
    left = middle - (facings * pitch - _GAP) / 2
    return tuple(
        (left + k * pitch, floor - tall * scale, left + (k + 1) * pitch - _GAP, floor) for k in range(facings)
    )


def draw(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]
) -> tuple[Shelf, Task]:
    """A shelf with a question of `family`."""
    shelf = _lay_out(rng, aspect, difficulty, fonts)
    return shelf, _ask(rng, family, shelf)


def _ask(rng: random.Random, family: str, shelf: Shelf) -> Task:
    names = [product.name for product in shelf.products]
    bodies = [
        Target(product.name, share_rect(shelf.aspect, *body))
        for product in shelf.products
        for body in product.bodies
    ]
    if family == "count":
        name = rng.choice([name for name in names if name.split()[1] in _NARROW] or names)
        return readings.count(name, [body.rect for body in bodies if body.name == name])
    if family == "exists":
        every = [f"{color} {kind}" for color in COLORS for kind in _KINDS]
        return readings.exists(rng, bodies, [name for name in every if name not in names])
    if family == "whole":
        question = "What color is the back of the shelf?"
        return readings.whole(rng, question, "The back of the shelf is", sorted(_BACKS), shelf.back)
    prices = [
        Reading(product.name, product.price, share_rect(shelf.aspect, *product.label), "costs")
        for product in shelf.products
    ]
    return readings.ask(rng, family, prices, "price", "under", shelf.aspect)


SHELF = World("shelf", "a shop shelf with price labels", _FAMILIES, draw)
