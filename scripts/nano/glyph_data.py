"""Glyph images: small images full of tags and plates, each with a label: what the vision tower learns from.

A scene's crop shows one or two glyphs, a glyph image eight, so that it learns to read sooner. `near` images
show things as large as crops do, `far` images as small as overviews do (there only color, kind and
place are taught). A random window of the size that the model uses is cut at each use, so that they meet the
patch grid at every offset.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Literal

import numpy as np

from p2r.evidence import draw_boxes
from p2r.images import EncodedImage
from p2r.scenes.tags import (
    CODE_LETTERS,
    COLORS,
    DIGITS,
    GROUNDS,
    PLATE_ASPECT,
    Scene,
    SceneObject,
    Stone,
    ground_pixels,
)
from p2r.settings import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from p2r.scenes.tags import Kind, Shape
    from p2r.types import Box

Distance = Literal["near", "far"]

SIDE = 288
PLACES = 8
# The sizes in which the planner shows images at nano's budget, (width, height), and how often it does.
SIZES: dict[Distance, dict[tuple[int, int], float]] = {
    "near": {(256, 160): 0.34, (224, 192): 0.25, (192, 224): 0.2, (160, 256): 0.13, (224, 224): 0.08},
    "far": {
        (192, 96): 0.28,
        (128, 160): 0.16,
        (160, 160): 0.14,
        (160, 128): 0.14,
        (128, 192): 0.14,
        (192, 128): 0.14,
    },
}
# Sides in pixels; a plate is lower than a tag may be, because it is wider.
_NEAR_SIDE, _FAR_SIDE, _PLATE_SIDE = (28.0, 52.0), (5.0, 11.0), 44.0
# Side of the textures that windows are cut from, in pixels: near, far.
_LOOK_SIDES = (448, 288)
_COLOR_NAMES, _GROUND_NAMES = tuple(COLORS), tuple(GROUNDS)


@dataclass(frozen=True, slots=True)
class GlyphImages:
    """GlyphImages and what is on them.

    Attributes:
        pixels: uint8, (n, 288, 288, 3).
        boxes: float32, (n, 8, 4), pixels; NaN where a glyph image has fewer than eight things.
        names: int16, (n, 8, 4): color, kind (tag 0, plate 1), digit or first letter, second letter;
            −1 for none.
        grounds: int16, (n,).
        near: bool, (n,).
    """

    pixels: np.ndarray
    boxes: np.ndarray
    names: np.ndarray
    grounds: np.ndarray
    near: np.ndarray


def draw_glyphs(count: int, *, seed: int, processes: int = 2) -> GlyphImages:
    """Draw `count` glyphs, half of them near."""
    jobs = [(seed, index) for index in range(count)]
    with get_context("fork").Pool(processes) as pool:
        return _stack(pool.imap(_chart, jobs, chunksize=32))


def _stack(rows: Iterable[tuple[np.ndarray, ...]]) -> GlyphImages:
    return GlyphImages(*(np.stack(column) for column in zip(*rows, strict=True)))


def _chart(job: tuple[int, int]) -> tuple[np.ndarray, ...]:
    rng = random.Random(f"glyph image-{job[0]}-{job[1]}")
    near = job[1] % 2 == 0
    ground = rng.choice(_GROUND_NAMES)
    things = _things(rng, "near" if near else "far")
    stones = tuple(
        Stone(
            rng.random(), rng.random(), rng.uniform(0.01, 0.12 if near else 0.03), rng.randint(70, 190), 0.0
        )
        for _ in range(3)
    )
    scene = Scene(1.0, ground, tuple(things), stones if rng.random() < 0.5 else (), rng.getrandbits(32))
    pixels = scene.render((SIDE, SIDE), ground=ground_window(ground, near=near, rng=rng))
    boxes = np.full((PLACES, 4), np.nan, np.float32)
    names = np.full((PLACES, 4), -1, np.int16)
    for place, thing in enumerate(things):
        boxes[place] = np.array(thing.target(1.0).box.as_tuple()) * SIDE / 1000
        names[place] = describe(thing)
    if not near and rng.random() < 0.4:
        pixels = _annotate(rng, pixels, things)
    return pixels, boxes, names, np.array(_GROUND_NAMES.index(ground), np.int16), np.array(near)


def describe(thing: SceneObject) -> tuple[int, int, int, int]:
    """Color, kind, digit or first letter, second letter (−1 for a tag), as class indices."""
    color = _COLOR_NAMES.index(thing.color)
    if thing.kind == "tag":
        return color, 0, DIGITS.index(thing.text), -1
    return color, 1, CODE_LETTERS.index(thing.text[0]), CODE_LETTERS.index(thing.text[1])


def _things(rng: random.Random, distance: Distance) -> list[SceneObject]:
    cells = 3 if distance == "near" else 4
    spots = rng.sample([(row, column) for row in range(cells) for column in range(cells)], PLACES)
    colors = rng.sample(_COLOR_NAMES, PLACES)
    low, high = _NEAR_SIDE if distance == "near" else _FAR_SIDE
    things = []
    for (row, column), color in zip(spots, colors, strict=True):
        x = (column + 0.5 + rng.uniform(-0.2, 0.2)) / cells
        y = (row + 0.5 + rng.uniform(-0.2, 0.2)) / cells
        things.append(_thing(rng, color, x, y, rng.uniform(low, high)))
    return things


def _thing(rng: random.Random, color: str, x: float, y: float, side: float) -> SceneObject:
    # The planner rarely keeps the aspect exactly: things come a little stretched.
    stretch, angle = rng.uniform(0.85, 1.18), rng.uniform(-8, 8)
    if rng.random() < 0.45:
        width = height = side
        kind: Kind = "tag"
        shape: Shape = rng.choice(("disc", "square", "hexagon"))
        text = rng.choice(DIGITS)
    else:
        height = min(side, _PLATE_SIDE)
        width = height * PLATE_ASPECT
        kind, shape, text = "plate", "plate", "".join(rng.sample(CODE_LETTERS, 2))
    size = (width * stretch / SIDE, height / stretch / SIDE)
    return SceneObject(kind, color, text, shape, x, y, size[0], size[1], angle)


def _annotate(rng: random.Random, pixels: np.ndarray, things: list[SceneObject]) -> np.ndarray:
    """Outline one to three things as evidence is outlined on an overview."""
    chosen = rng.sample(things, rng.randint(1, 3))
    boxes: list[Box] = [thing.target(1.0).box for thing in chosen]
    return draw_boxes(EncodedImage(pixels), boxes, Geometry()).pixels


@functools.lru_cache(maxsize=4)
def _ground_pool(near: bool, per_ground: int = 24) -> dict[str, list[np.ndarray]]:
    """Textures to draw on: whole grounds as overviews show them, or half of one, to cut crops from."""
    pool: dict[str, list[np.ndarray]] = {}
    side = _LOOK_SIDES[0] if near else _LOOK_SIDES[1]
    for ground in _GROUND_NAMES:
        looks = []
        for number in range(per_ground):
            rng = random.Random(f"ground-{ground}-{number}")
            scene = Scene(rng.choice((1.0, 1.5, 0.67)), ground, (), (), rng.getrandbits(32))
            x, y, part = rng.uniform(0, 0.4), rng.uniform(0, 0.4), rng.uniform(0.4, 0.6)
            rect = (x, y, x + part, y + part) if near else (0.0, 0.0, 1.0, 1.0)
            looks.append(ground_pixels(scene, (side, side), rect))
        pool[ground] = looks
    return pool


def ground_window(
    ground: str, *, near: bool, rng: random.Random, size: tuple[int, int] = (SIDE, SIDE)
) -> np.ndarray:
    """A random window, perhaps mirrored, of a texture of `ground`: uint8, (height, width, 3)."""
    lookup = rng.choice(_ground_pool(near)[ground])
    side = lookup.shape[0]
    left, top = rng.randint(0, side - size[0]), rng.randint(0, side - size[1])
    window = lookup[top : top + size[1], left : left + size[0]]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    return np.ascontiguousarray(window)
