"""The layout of a synthetic scene: ground, objects with something written on them, clutter.

A layout is resolution-free: positions are shares of the image's width and height, lengths are shares of
the *unit*, the square root of its area. The same layout can therefore be rendered at 2K, 4K or 8K, or at a
model's own size, and asks the same thing of a model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from p2r.types import Box

if TYPE_CHECKING:
    import random

Kind = Literal["tag", "plate"]
Shape = Literal["disc", "square", "hexagon", "plate"]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (204, 36, 44),
    "orange": (246, 132, 18),
    "yellow": (246, 216, 40),
    "green": (24, 148, 66),
    "blue": (34, 84, 206),
    "purple": (128, 50, 166),
    "pink": (248, 134, 192),
    "black": (24, 24, 28),
}
GROUNDS: tuple[str, ...] = ("sand", "grass", "asphalt", "snow", "soil")
DIGITS = "123456789"
# Letters that stay apart at 20 px: no pairs such as I/J, O/Q, U/V or B/R.
CODE_LETTERS = "ACEFHKLPTX"

TAG_SIDE = (0.040, 0.048)
PLATE_ASPECT = 1.8
PLATE_HEIGHT = (0.040, 0.046)
_GAP = 0.02


@dataclass(frozen=True, slots=True)
class SceneObject:
    """A tag (one digit) or a plate (a code of two letters).

    Attributes:
        kind: its word in the questions.
        color: a name in `COLORS`; unique within a scene.
        text: what is written on it.
        shape: its outline.
        x, y: its center, as shares of width and height.
        width, height: its sides, in units (√area).
        angle: its rotation in degrees, counter-clockwise.
    """

    kind: Kind
    color: str
    text: str
    shape: Shape
    x: float
    y: float
    width: float
    height: float
    angle: float

    @property
    def name(self) -> str:
        """Its name in the questions, for example `red tag`."""
        return f"{self.color} {self.kind}"

    def extent(self, aspect: float) -> tuple[float, float]:
        """Half its bounding box, as shares of width and height, in an image of `aspect` = width / height."""
        turn = math.radians(abs(self.angle))
        width = self.width * math.cos(turn) + self.height * math.sin(turn)
        height = self.height * math.cos(turn) + self.width * math.sin(turn)
        return width / math.sqrt(aspect) / 2, height * math.sqrt(aspect) / 2

    def box(self, aspect: float) -> Box:
        """Its gold box, 0–1000."""
        dx, dy = self.extent(aspect)
        x0, y0 = max(0.0, self.x - dx), max(0.0, self.y - dy)
        x1, y1 = min(1.0, self.x + dx), min(1.0, self.y + dy)
        corners = [round(1000 * value, 1) for value in (x0, y0, x1, y1)]
        return Box(corners[0], corners[1], corners[2], corners[3], self.name)


@dataclass(frozen=True, slots=True)
class Stone:
    """Clutter without meaning; `size` in units, `shade` 0–255."""

    x: float
    y: float
    size: float
    shade: int
    angle: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole scene.

    Attributes:
        aspect: width / height.
        ground: a name in `GROUNDS`.
        objects: things with something written on them, no two of one color.
        stones: clutter.
        texture_seed: seeds the ground's texture.
    """

    aspect: float
    ground: str
    objects: tuple[SceneObject, ...]
    stones: tuple[Stone, ...]
    texture_seed: int


def lay_out(rng: random.Random, kinds: list[Kind], aspect: float) -> Scene:
    """Place one object of each of `kinds`, then clutter; nothing overlaps an object."""
    colors = rng.sample(sorted(COLORS), len(kinds))
    objects: list[SceneObject] = []
    for kind, color in zip(kinds, colors, strict=True):
        objects.append(_place(rng, kind, color, aspect, objects))
    stones = []
    for _ in range(rng.randint(6, 14)):
        stone = Stone(
            rng.random(), rng.random(), rng.uniform(0.008, 0.03), rng.randint(70, 190), rng.uniform(0, 180)
        )
        if all(_apart(stone.x, stone.y, stone.size, other, aspect) for other in objects):
            stones.append(stone)
    return Scene(aspect, rng.choice(GROUNDS), tuple(objects), tuple(stones), rng.getrandbits(32))


def _place(
    rng: random.Random, kind: Kind, color: str, aspect: float, others: list[SceneObject]
) -> SceneObject:
    if kind == "tag":
        width = height = rng.uniform(*TAG_SIDE)
        shape: Shape = rng.choice(("disc", "square", "hexagon"))
        text = rng.choice(DIGITS)
    else:
        height = rng.uniform(*PLATE_HEIGHT)
        width, shape = height * PLATE_ASPECT, "plate"
        text = "".join(rng.sample(CODE_LETTERS, 2))
    angle = rng.uniform(-8, 8)
    while True:
        candidate = SceneObject(kind, color, text, shape, rng.random(), rng.random(), width, height, angle)
        dx, dy = candidate.extent(aspect)
        inside = dx + 0.01 <= candidate.x <= 0.99 - dx and dy + 0.01 <= candidate.y <= 0.99 - dy
        reach = max(width, height)
        if inside and all(_apart(candidate.x, candidate.y, reach, other, aspect) for other in others):
            return candidate


def _apart(x: float, y: float, size: float, other: SceneObject, aspect: float) -> bool:
    across = (x - other.x) * math.sqrt(aspect)
    down = (y - other.y) / math.sqrt(aspect)
    return math.hypot(across, down) > (size + max(other.width, other.height)) / 2 * 1.2 + _GAP
