"""The world `tags`: colored tags and plates on noise, each with a digit or a code.

The simplest world, and the one that the bundled model was first measured on: its samples at default
difficulty never change (tests/scenes/test_tags.py).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyvips
from PIL import Image, ImageDraw, ImageFont

from p2r.scenes.canvas import ink_on, mix, sensor
from p2r.scenes.world import WHOLE, Difficulty, Rect, Target

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
# Each ground: dark and light color, and the weight of each octave of its texture, coarse to fine.
_GROUND_LOOKS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[float, ...]]] = {
    "sand": ((166, 136, 92), (226, 200, 154), (0.30, 0.35, 0.20, 0.15)),
    "grass": ((46, 78, 34), (104, 132, 70), (0.25, 0.20, 0.25, 0.30)),
    "asphalt": ((58, 58, 63), (112, 112, 117), (0.20, 0.15, 0.25, 0.40)),
    "snow": ((198, 208, 222), (246, 249, 253), (0.45, 0.35, 0.12, 0.08)),
    "soil": ((66, 46, 34), (128, 96, 70), (0.25, 0.25, 0.25, 0.25)),
}
_OCTAVES = (5, 18, 70, 280)
_GRAIN = 5.0
# A patch spans this many times an object's longer side in each direction: room for rim and shadow.
_PATCH_REACH = 0.62


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

    def target(self, aspect: float) -> Target:
        """It as evidence."""
        dx, dy = self.extent(aspect)
        return Target(self.name, (self.x - dx, self.y - dy, self.x + dx, self.y + dy))


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
        contrast: of the writing, as in `Difficulty`.
    """

    aspect: float
    ground: str
    objects: tuple[SceneObject, ...]
    stones: tuple[Stone, ...]
    texture_seed: int
    contrast: float = 1.0

    def render(
        self, size: tuple[int, int], rect: Rect = WHOLE, *, ground: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw `rect`, as every scene does; on the pixels of `ground` (height, width, 3) if given."""
        canvas = Image.fromarray(ground_pixels(self, size, rect) if ground is None else ground)
        view = _View(canvas, self.aspect, rect)
        for stone in self.stones:
            view.paste(_stone_patch(stone.shade), stone.x, stone.y, stone.size, stone.angle)
        for thing in self.objects:
            reach = max(thing.width, thing.height) * _PATCH_REACH
            if view.shows(thing.x, thing.y, reach):
                patch = _object_patch(thing, view.patch_side(reach), self.contrast)
                view.paste(patch, thing.x, thing.y, reach, thing.angle)
        return np.array(canvas)


def lay_out(
    rng: random.Random, kinds: list[Kind], aspect: float, difficulty: Difficulty = Difficulty()
) -> Scene:
    """Place one object of each of `kinds`, then clutter; nothing overlaps an object."""
    colors = rng.sample(sorted(COLORS), len(kinds))
    objects: list[SceneObject] = []
    for kind, color in zip(kinds, colors, strict=True):
        objects.append(_place(rng, kind, color, aspect, objects, difficulty))
    stones = []
    for _ in range(rng.randint(round(12 * difficulty.clutter), round(28 * difficulty.clutter))):
        stone = Stone(
            rng.random(), rng.random(), rng.uniform(0.008, 0.03), rng.randint(70, 190), rng.uniform(0, 180)
        )
        if all(_apart(stone.x, stone.y, stone.size, other, aspect) for other in objects):
            stones.append(stone)
    ground, seed = rng.choice(GROUNDS), rng.getrandbits(32)
    return Scene(aspect, ground, tuple(objects), tuple(stones), seed, difficulty.contrast)


def _place(
    rng: random.Random,
    kind: Kind,
    color: str,
    aspect: float,
    others: list[SceneObject],
    difficulty: Difficulty,
) -> SceneObject:
    if kind == "tag":
        width = height = difficulty.side(rng, *TAG_SIDE)
        shape: Shape = rng.choice(("disc", "square", "hexagon"))
        text = rng.choice(DIGITS)
    else:
        height = rng.uniform(*PLATE_HEIGHT)
        if difficulty.size:
            height = difficulty.size / 100 / math.sqrt(PLATE_ASPECT)
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


class _View:
    """Maps a scene's coordinates to the pixels of one image."""

    def __init__(self, canvas: Image.Image, aspect: float, rect: Rect) -> None:
        self.canvas = canvas
        self.rect = rect
        # Pixels for one unit (√area) along each axis; they differ if the size does not keep the aspect.
        self.unit_x = canvas.width / (rect[2] - rect[0]) / math.sqrt(aspect)
        self.unit_y = canvas.height / (rect[3] - rect[1]) * math.sqrt(aspect)

    def _center(self, x: float, y: float) -> tuple[float, float]:
        x0, y0, x1, y1 = self.rect
        return (x - x0) / (x1 - x0) * self.canvas.width, (y - y0) / (y1 - y0) * self.canvas.height

    def _frame(self, x: float, y: float, reach: float) -> tuple[int, int, int, int]:
        center_x, center_y = self._center(x, y)
        dx, dy = reach * self.unit_x * 1.2, reach * self.unit_y * 1.2
        left, top = math.floor(center_x - dx), math.floor(center_y - dy)
        return left, top, math.ceil(center_x + dx), math.ceil(center_y + dy)

    def shows(self, x: float, y: float, reach: float) -> bool:
        """Whether anything within `reach` units of (x, y) is visible."""
        left, top, right, bottom = self._frame(x, y, reach)
        return right > 0 and bottom > 0 and left < self.canvas.width and top < self.canvas.height

    def patch_side(self, reach: float) -> int:
        """Pixels of a patch that is sharp enough for this view, in steps that keep the font cache small."""
        return min(4096, max(128, math.ceil(2.4 * reach * max(self.unit_x, self.unit_y) / 128) * 128))

    def paste(self, patch: Image.Image, x: float, y: float, reach: float, angle: float) -> None:
        """Put a square patch that spans ±`reach` units at its sub-pixel place, turned and antialiased."""
        if not self.shows(x, y, reach):
            return
        left, top, right, bottom = self._frame(x, y, reach)
        # Drawn larger by a whole number, then reduced by an exact box filter.
        over = max(1, min(12, round(patch.width / (right - left))))
        left, top = max(0, left), max(0, top)
        right, bottom = min(self.canvas.width, right), min(self.canvas.height, bottom)
        center_x, center_y = self._center(x, y)
        turn = math.radians(angle)
        scale = patch.width / (2 * reach)
        a, b = scale * math.cos(turn) / (self.unit_x * over), -scale * math.sin(turn) / (self.unit_y * over)
        d, e = scale * math.sin(turn) / (self.unit_x * over), scale * math.cos(turn) / (self.unit_y * over)
        mid_x, mid_y = (center_x - left) * over, (center_y - top) * over
        half = patch.width / 2
        layer = patch.transform(
            ((right - left) * over, (bottom - top) * over),
            Image.Transform.AFFINE,
            (a, b, half - a * mid_x - b * mid_y, d, e, half - d * mid_x - e * mid_y),
            Image.Resampling.BILINEAR,
        )
        small = layer.reduce(over) if over > 1 else layer
        self.canvas.paste(small, (left, top), small)


# --- objects and stones ----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType, which scenes need to write text")
    return font


def _object_patch(thing: SceneObject, side: int, contrast: float) -> Image.Image:
    patch = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(patch)
    scale = side / (2 * _PATCH_REACH * max(thing.width, thing.height))
    half = (thing.width * scale / 2, thing.height * scale / 2)
    middle, shadow, rim = side / 2, side * 0.03, min(half) * 0.11
    fill = COLORS[thing.color]
    _outline(draw, thing.shape, middle + shadow, half, (0, 0, 0, 90))
    _outline(draw, thing.shape, middle, half, (250, 250, 246, 255))
    _outline(draw, thing.shape, middle, (half[0] - rim, half[1] - rim), (*fill, 255))
    ink = (*mix(fill, ink_on(fill), contrast), 255)
    # Capital height is about 0.72 of the font size; the glyphs fill two thirds of the object.
    size = max(4, round(half[1] * 2 * 0.92))
    at, stroke = (middle, middle), size / 36
    draw.text(at, thing.text, ink, _font(size), "mm", stroke_width=stroke, stroke_fill=ink)
    return patch


def _outline(
    draw: ImageDraw.ImageDraw,
    shape: str,
    center: float,
    half: tuple[float, float],
    fill: tuple[int, int, int, int],
) -> None:
    half_w, half_h = half
    frame = (center - half_w, center - half_h, center + half_w, center + half_h)
    if shape == "disc":
        draw.ellipse(frame, fill=fill)
    elif shape == "hexagon":
        turns = [k * math.pi / 3 for k in range(6)]
        corners = [(math.cos(turn), math.sin(turn) / math.sin(math.pi / 3)) for turn in turns]
        draw.polygon([(center + half_w * x, center + half_h * y) for x, y in corners], fill=fill)
    else:
        draw.rounded_rectangle(frame, radius=min(half) * 0.25, fill=fill)


@functools.lru_cache(maxsize=256)
def _stone_patch(shade: int) -> Image.Image:
    patch = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(patch)
    draw.ellipse((6, 18, 62, 54), fill=(0, 0, 0, 80))
    draw.ellipse((2, 12, 58, 48), fill=(shade, shade, max(0, shade - 6), 255))
    light = min(255, shade + 28)
    draw.ellipse((10, 15, 40, 32), fill=(light, light, light - 6, 255))
    return patch


# --- ground ----------------------------------------------------------------------------------------------


def ground_pixels(scene: Scene, size: tuple[int, int], rect: Rect = WHOLE) -> np.ndarray:
    """The textured ground: smooth noise of several octaves between a dark and a light color, plus grain."""
    dark, light, weights = _GROUND_LOOKS[scene.ground]
    parts = [
        _noise(scene, octave, cells, size, rect) * weight
        for octave, (cells, weight) in enumerate(zip(_OCTAVES, weights, strict=True))
    ]
    level = parts[0] + parts[1] + parts[2] + parts[3]
    spread = [high - low for low, high in zip(dark, light, strict=True)]
    # Averaging octaves pulls values to the middle: stretch them again.
    image = ((level - 0.5) * 1.9 + 0.5).linear(spread, list(dark))
    return sensor(image, scene.texture_seed, rect, _GRAIN)


def _noise(scene: Scene, octave: int, cells: int, size: tuple[int, int], rect: Rect) -> pyvips.Image:
    rng = np.random.default_rng((scene.texture_seed, octave))
    shape = (
        max(2, round(cells / math.sqrt(scene.aspect))),
        max(2, round(cells * math.sqrt(scene.aspect))),
    )
    lattice = pyvips.Image.new_from_array(rng.random(shape, dtype=np.float32))
    x0, y0, x1, y1 = rect
    across, down = size[0] / (x1 - x0), size[1] / (y1 - y0)
    whole = lattice.resize(across / lattice.width, vscale=down / lattice.height, kernel="cubic")
    left = min(max(0, round(x0 * across)), max(0, whole.width - size[0]))
    top = min(max(0, round(y0 * down)), max(0, whole.height - size[1]))
    return whole.embed(-left, -top, size[0], size[1], extend="copy")
