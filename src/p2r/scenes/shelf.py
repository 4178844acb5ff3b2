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
    """Some equal products side by side in one slot, with a price."""

    color: str
    kind: str
    price: str
    facings: int
    brand: str
    look: int

    @property
    def name(self) -> str:
        return f"{self.color} {self.kind}"


@dataclass(frozen=True, slots=True)
class Shelf:
    """A shelf, seen from the front.

    Attributes:
        aspect: width / height.
        rows: the products from top to bottom, each row from left to right.
        label: the side (√area) of the price labels, in units.
        label_color: of the labels.
        back: a name in `_BACKS`.
        flags: the slots whose shelf edge has a flag at its right end.
        fonts: of brands, and of prices.
        contrast, seed: of the writing on the labels; of the light.
    """

    aspect: float
    rows: tuple[tuple[_Product, ...], ...]
    label: float
    label_color: Color
    back: str
    flags: tuple[int, ...]
    fonts: tuple[Font, Font]
    contrast: float
    seed: int

    @property
    def _slot(self) -> tuple[float, float]:
        return math.sqrt(self.aspect) / len(self.rows[0]), 1 / math.sqrt(self.aspect) / len(self.rows)

    @property
    def _edge(self) -> float:
        """The height of the strip with the labels."""
        return max(0.042, self.label / math.sqrt(_LABEL_RATIO) + 0.01)

    def _label_rect(self, row: int, column: int) -> Rect:
        width, height = self._slot
        x, y = (column + 0.5) * width, (row + 1) * height - self._edge / 2
        half, high = self.label * math.sqrt(_LABEL_RATIO) / 2, self.label / math.sqrt(_LABEL_RATIO) / 2
        return x - half, y - high, x + half, y + high

    def _bodies(self, row: int, column: int) -> list[Rect]:
        product, (width, height) = self.rows[row][column], self._slot
        wide, tall = _KINDS[product.kind]
        # Small enough for the slot, and the tallest kind for the row.
        room = width * 0.92 / (product.facings * (wide + _GAP))
        scale = min(1.0, (height - self._edge - 0.02) / _KINDS["bottle"][1], room)
        pitch, floor = wide * scale + _GAP, (row + 1) * height - self._edge - 0.004
        left = (column + 0.5) * width - (product.facings * pitch - _GAP) / 2
        return [
            (left + k * pitch, floor - tall * scale, left + (k + 1) * pitch - _GAP, floor)
            for k in range(product.facings)
        ]

    def _places(self) -> list[tuple[int, int, _Product]]:
        return [(r, c, product) for r, row in enumerate(self.rows) for c, product in enumerate(row)]

    def prices(self) -> list[Reading]:
        """The products with the prices under them."""
        return [
            Reading(product.name, product.price, share_rect(self.aspect, *self._label_rect(r, c)), "costs")
            for r, c, product in self._places()
        ]

    def bodies(self) -> list[Target]:
        """Every single product."""
        return [
            Target(product.name, share_rect(self.aspect, *body))
            for r, c, product in self._places()
            for body in self._bodies(r, c)
        ]

    def render(self, size: tuple[int, int], rect: Rect = WHOLE) -> np.ndarray:
        """Draw `rect`, as every scene does."""
        back = _BACKS[self.back]
        dark = mix(back, (0, 0, 0), 0.4)
        canvas = Canvas(size, rect, self.aspect, back)
        (width, height), edge, across = self._slot, self._edge, canvas.across
        for r in range(len(self.rows)):
            floor = (r + 1) * height - edge
            canvas.gradient(0, r * height, across, floor, dark, back)
            for k in range(1, math.ceil(across / 0.04)):
                canvas.line([(k * 0.04, r * height), (k * 0.04, floor)], 0.0016, (0, 0, 0, 26))
            canvas.gradient(0, floor - 0.016, across, floor, dark, mix(back, (0, 0, 0), 0.12))
        for r, c, product in self._places():
            for body in self._bodies(r, c):
                _draw_product(canvas, body, product, self.fonts[0])
        for r in range(len(self.rows)):
            floor = (r + 1) * height - edge
            canvas.rectangle(0, floor, across, floor + edge, (196, 198, 200))
            canvas.rectangle(0, floor, across, floor + 0.004, (238, 238, 236))
            canvas.gradient(0, floor + edge - 0.008, across, floor + edge, (196, 198, 200), (92, 94, 98))
        for number in self.flags:
            row, column = divmod(number, len(self.rows[0]))
            x, y = (column + 1) * width - 0.022, (row + 1) * height
            canvas.ellipse(x - 0.016, y - edge - 0.014, x + 0.016, y - edge + 0.018, (150, 70, 62))
            canvas.text(x, y - edge + 0.002, "%", self.fonts[0], 0.014, _CREAM)
        for r, c, product in self._places():
            self._draw_label(canvas, self._label_rect(r, c), product.price)
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
    width, height, fill = right - left, low - high, COLORS[product.color]
    dark, light = mix(fill, (0, 0, 0), 0.45), mix(fill, _CREAM, 0.5)
    clear, shade = (0, 0, 0, 0), (0, 0, 0, 120)

    def at(across: float, down: float) -> tuple[float, float]:
        return left + across * width, high + down * height

    def part(x0: float, y0: float, x1: float, y1: float) -> Rect:
        return *at(x0, y0), *at(x1, y1)

    canvas.gradient(*part(-0.06, 0.99, 1.12, 1.02), shade, clear)
    canvas.gradient(*part(1.0, 0.2, 1.12, 1.0), shade, clear, down=False)
    top, curve = 0.0, 0.12
    if product.kind == "bottle":
        top = 0.36
        canvas.rectangle(*part(0.33, 0.05, 0.67, 0.5), fill)
        canvas.rectangle(*part(0.29, 0.0, 0.71, 0.09), dark)
        canvas.polygon([at(0.33, 0.22), at(0.67, 0.22), at(1.0, 0.4), at(0.0, 0.4)], fill)
    elif product.kind == "can":
        top = 0.06
        canvas.ellipse(*part(0.0, 0.0, 1.0, 0.14), (176, 178, 182))
    elif product.kind == "jar":
        top = 0.16
        canvas.rectangle(*part(0.06, 0.0, 0.94, 0.2), dark, radius=width * 0.05)
    else:
        curve = 0.0
    if product.kind == "bag":
        left_side, right_side = [at(0.04, 1.0), at(0.0, 0.3)], [at(1.0, 0.3), at(0.96, 1.0)]
        canvas.polygon([at(0.06, 0.0), at(0.94, 0.0), *right_side, *left_side], fill)
        canvas.rectangle(*part(0.06, 0.0, 0.94, 0.06), dark)
    else:
        canvas.rectangle(*part(0.0, top, 1.0, 1.0), fill, radius=width * curve)
    _draw_brand(canvas, part(0.0, top, 1.0, 1.0), product, font)
    if curve:
        canvas.gradient(*part(0.0, top, 0.25, 1.0), shade, clear, down=False)
        canvas.gradient(*part(0.6, top, 1.0, 1.0), clear, (0, 0, 0, 140), down=False)
        canvas.rectangle(*part(0.28, top + 0.04, 0.35, 0.96), (255, 255, 255, 70))
    elif product.kind == "box":
        canvas.gradient(*part(0.88, 0.0, 1.0, 1.0), (0, 0, 0, 60), (0, 0, 0, 90), down=False)
        canvas.rectangle(*part(0.0, 0.0, 1.0, 0.02), light)
    else:
        canvas.gradient(*part(0.0, 0.06, 0.5, 1.0), (255, 255, 255, 50), (0, 0, 0, 30), down=False)


def _draw_brand(canvas: Canvas, front: Rect, product: _Product, font: Font) -> None:
    """A paler field with the brand's shape and name."""
    x0, y0, x1, y1 = front
    width, height = x1 - x0, y1 - y0
    middle, field, ink = (x0 + x1) / 2, mix(COLORS[product.color], _CREAM, 0.75), (58, 52, 50)
    top, bottom = y0 + height * 0.24, y0 + height * 0.8
    canvas.rectangle(x0 + width * 0.08, top, x1 - width * 0.08, bottom, field)
    canvas.text(middle, top + height * 0.12, product.brand, font, height * 0.13, ink, width=width * 0.68)
    y, r = top + height * 0.38, min(width * 0.24, height * 0.13)
    tone = mix(COLORS[product.color], (0, 0, 0), 0.25)
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


def draw(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]
) -> tuple[Shelf, Task]:
    """A shelf with a question of `family`."""
    columns = max(2, round(math.sqrt(aspect) / _SLOT))
    rows = max(2, round(1 / math.sqrt(aspect) / _ROW))
    count = columns * rows
    names = rng.sample([(color, kind) for color in COLORS for kind in _KINDS], count)
    prices = rng.sample(range(11, 99), count)
    products = [
        _Product(
            color,
            kind,
            f"{price / 10:.1f}0",
            min(rng.randint(1, 4), 4 if kind in ("bottle", "can") else 2),
            rng.choice(_BRANDS),
            rng.randrange(4),
        )
        for (color, kind), price in zip(names, prices, strict=True)
    ]
    shelf = Shelf(
        aspect,
        tuple(tuple(products[k : k + columns]) for k in range(0, count, columns)),
        difficulty.side(rng, 0.036, 0.044),
        rng.choice(((250, 250, 246), (252, 226, 90), (244, 240, 214))),
        rng.choice(sorted(_BACKS)),
        tuple(k for k in range(count) if rng.random() < difficulty.clutter * 0.4),
        (pick(rng, fonts, "sans"), pick(rng, fonts, "sans")),
        difficulty.contrast,
        rng.getrandbits(31),
    )
    return shelf, _ask(rng, family, shelf)


def _ask(rng: random.Random, family: str, shelf: Shelf) -> Task:
    if family == "count":
        names = [product.name for row in shelf.rows for product in row]
        narrow = [name for name in names if name.endswith(("bottle", "can"))]
        name = rng.choice(narrow or names)
        return readings.count(name, [body.rect for body in shelf.bodies() if body.name == name])
    if family == "exists":
        there = {body.name for body in shelf.bodies()}
        absent = [f"{color} {kind}" for color in COLORS for kind in _KINDS if f"{color} {kind}" not in there]
        return readings.exists(rng, shelf.bodies(), absent)
    if family == "whole":
        question = "What color is the back of the shelf?"
        return readings.whole(rng, question, "The back of the shelf is", sorted(_BACKS), shelf.back)
    return readings.ask(rng, family, shelf.prices(), "price", "under", shelf.aspect)


SHELF = World("shelf", "a shop shelf with price labels", _FAMILIES, draw)
