"""Drawing of a scene, or of a part of one, at any size.

Everything is computed from the layout for the wanted rectangle and size, so a 192 px overview costs a few
milliseconds and an 8K image a few seconds, and both show the same scene (tests/scenes/test_scenes.py proves
that shrinking the large one gives the small one).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
import pyvips
from PIL import Image, ImageDraw, ImageFont

from p2r.scenes.layout import COLORS

if TYPE_CHECKING:
    from p2r.scenes.layout import Scene, SceneObject

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

Rect = tuple[float, float, float, float]
WHOLE: Rect = (0.0, 0.0, 1.0, 1.0)


def render(
    scene: Scene, size: tuple[int, int], rect: Rect = WHOLE, *, ground: np.ndarray | None = None
) -> np.ndarray:
    """Draw `rect` of a scene.

    Args:
        scene: the scene.
        size: the result's (width, height) in pixels.
        rect: the part to draw, `(x0, y0, x1, y1)` as shares of the image's width and height.
        ground: draw on these pixels (height, width, 3) instead of the scene's own ground; training does,
            because the texture takes most of the time.

    Returns:
        RGB pixels, uint8, (height, width, 3).
    """
    canvas = Image.fromarray(ground_pixels(scene, size, rect) if ground is None else ground)
    view = _View(canvas, scene.aspect, rect)
    for stone in scene.stones:
        view.paste(_stone_patch(stone.shade), stone.x, stone.y, stone.size, stone.angle)
    for thing in scene.objects:
        reach = max(thing.width, thing.height) * _PATCH_REACH
        if view.shows(thing.x, thing.y, reach):
            view.paste(_object_patch(thing, view.patch_side(reach)), thing.x, thing.y, reach, thing.angle)
    return np.array(canvas)


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
        return min(1024, max(128, math.ceil(2.4 * reach * max(self.unit_x, self.unit_y) / 128) * 128))

    def paste(self, patch: Image.Image, x: float, y: float, reach: float, angle: float) -> None:
        """Put a square patch that spans ±`reach` units at its sub-pixel place, turned and antialiased."""
        if not self.shows(x, y, reach):
            return
        left, top, right, bottom = self._frame(x, y, reach)
        # Drawn larger by a whole number, then reduced by an exact box filter.
        over = max(1, min(12, round(patch.width / (right - left))))
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


def _object_patch(thing: SceneObject, side: int) -> Image.Image:
    patch = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(patch)
    scale = side / (2 * _PATCH_REACH * max(thing.width, thing.height))
    half = (thing.width * scale / 2, thing.height * scale / 2)
    middle, shadow, rim = side / 2, side * 0.03, min(half) * 0.11
    fill = COLORS[thing.color]
    _outline(draw, thing.shape, middle + shadow, half, (0, 0, 0, 90))
    _outline(draw, thing.shape, middle, half, (250, 250, 246, 255))
    _outline(draw, thing.shape, middle, (half[0] - rim, half[1] - rim), (*fill, 255))
    bright = 0.3 * fill[0] + 0.59 * fill[1] + 0.11 * fill[2] > 130
    ink = (16, 16, 18, 255) if bright else (252, 252, 252, 255)
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
    if size[0] * size[1] > 500_000 and rect == WHOLE:
        # At a model's size the grain averages out; at full size it is what a sensor would add.
        image = image + pyvips.Image.gaussnoise(*size, sigma=_GRAIN, mean=0, seed=scene.texture_seed & 0x7FFF)
    return np.asarray(image.cast("uchar").numpy())


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
