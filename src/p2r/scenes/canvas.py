"""Drawing with the coordinates of a scene: shapes, text, noise and light.

A canvas holds one rectangle of a scene at a few times the wanted size; it is reduced at the end, which
antialiases whatever was drawn. Small and large renderings, the whole and a part thus show the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyvips
from PIL import Image, ImageDraw

from p2r.scenes.world import WHOLE, Rect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.scenes.fonts import Font

Color = tuple[int, ...]
"""RGB, or RGBA."""
Point = tuple[float, float]

# What things are named by.
COLORS: dict[str, Color] = {
    "red": (196, 30, 38),
    "orange": (240, 126, 20),
    "yellow": (242, 206, 40),
    "green": (22, 140, 64),
    "blue": (30, 80, 200),
    "purple": (122, 48, 160),
    "pink": (244, 136, 188),
    "black": (30, 30, 34),
    "white": (240, 240, 238),
}

# A canvas is drawn at this many pixels in its longer direction, by whole multiples of the wanted size.
_DRAWN_SIDE, _MOST_OVER = 640, 6
# From this many pixels on, an image has the grain that a sensor would add; below, it averages out.
_GRAINY_PIXELS, _GRAIN = 500_000, 4.0


class Canvas:
    """One rectangle of a scene, to be drawn on.

    Places and lengths are in units (the square root of the image's area) from the image's top left corner.

    Args:
        size: the result's (width, height) in pixels.
        rect: the part of the image, as shares.
        aspect: width / height of the whole image.
        fill: the color to start with.
        over: pixels to draw for one of the result along each axis; 2 to 6, by the size, if not given.
    """

    def __init__(
        self,
        size: tuple[int, int],
        rect: Rect,
        aspect: float,
        fill: Color = (255, 255, 255),
        over: int | None = None,
    ) -> None:
        self.size, self.rect, self.aspect = size, rect, aspect
        self.across, self.down = math.sqrt(aspect), 1 / math.sqrt(aspect)
        over = over or min(_MOST_OVER, max(2, round(_DRAWN_SIDE / max(size))))
        x0, y0, x1, y1 = rect
        width = size[0] * over
        # Drawn with equal scales; only a size that does not keep the aspect is stretched at the end.
        self.scale = width / ((x1 - x0) * self.across)
        height = round(self.scale * (y1 - y0) * self.down)
        if abs(height / (size[1] * over) - 1) < 0.02:
            height = size[1] * over
        self.left, self.top = x0 * self.across * self.scale, y0 * self.down * self.scale
        self.image = Image.new("RGB", (width, height), fill)
        self.pen = ImageDraw.Draw(self.image, "RGBA")

    def at(self, x: float, y: float) -> Point:
        """The drawn pixel of a place."""
        return x * self.scale - self.left, y * self.scale - self.top

    def _pixels_of(self, points: Sequence[Point]) -> list[Point]:
        # Pillow cuts off decimals, which would move what lies at negative pixels: strips would not join.
        places = (self.at(*point) for point in points)
        return [(math.floor(x), math.floor(y)) for x, y in places]

    def shows(self, x0: float, y0: float, x1: float, y1: float) -> bool:
        """Whether any part of a rectangle is on this canvas."""
        (left, top), (right, bottom) = self.at(x0, y0), self.at(x1, y1)
        return right > 0 and bottom > 0 and left < self.image.width and top < self.image.height

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, fill: Color, *, radius: float = 0.0
    ) -> None:
        """A filled rectangle, with round corners of a radius; less than a pixel thick, it is drawn paler."""
        if not self.shows(x0, y0, x1, y1):
            return
        (left, top), (right, bottom) = self.at(x0, y0), self.at(x1, y1)
        share = min(1.0, right - left) * min(1.0, bottom - top)
        box = (
            round(left),
            round(top),
            max(round(left), round(right) - 1),
            max(round(top), round(bottom) - 1),
        )
        color = fill if share >= 1 else _paler(fill, share)
        if radius * self.scale < 1:
            self.pen.rectangle(box, color)
        else:
            self.pen.rounded_rectangle(box, radius * self.scale, color)

    def polygon(self, points: Sequence[Point], fill: Color) -> None:
        """A filled polygon."""
        if self.shows(*_bounds(points)):
            self.pen.polygon(self._pixels_of(points), fill)

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, fill: Color) -> None:
        """A filled ellipse in a rectangle."""
        if self.shows(x0, y0, x1, y1):
            (left, top), (right, bottom) = self.at(x0, y0), self.at(x1, y1)
            self.pen.ellipse((left, top, max(left, right - 1), max(top, bottom - 1)), fill)

    def line(self, points: Sequence[Point], width: float, fill: Color) -> None:
        """A line through points; thinner than a pixel, it is drawn paler."""
        x0, y0, x1, y1 = _bounds(points)
        if self.shows(x0 - width, y0 - width, x1 + width, y1 + width):
            pixels = width * self.scale
            color = fill if pixels >= 1 else _paler(fill, pixels)
            self.pen.line(self._pixels_of(points), color, max(1, round(pixels)), "curve")

    def gradient(
        self, x0: float, y0: float, x1: float, y1: float, start: Color, end: Color, *, down: bool = True
    ) -> None:
        """A rectangle whose color goes from `start` to `end`, downward or to the right."""
        (left, top, right, bottom), across, along = self._cut(x0, y0, x1, y1)
        if right > left and bottom > top:
            share = (along if down else across)[:, None]
            ramp = (np.asarray(start) * (1 - share) + np.asarray(end) * share + 0.5).astype(np.uint8)
            line = Image.fromarray(ramp[:, None] if down else ramp[None])
            patch = line.resize((right - left, bottom - top), Image.Resampling.NEAREST)
            self.image.paste(patch, (left, top), patch if patch.mode == "RGBA" else None)

    def shadow(self, x0: float, y0: float, x1: float, y1: float, strength: float = 0.5) -> None:
        """A soft dark spot that fades out at the edges of a rectangle; `strength` 0–1."""
        (left, top, right, bottom), across, along = self._cut(x0, y0, x1, y1)
        if right > left and bottom > top:
            fade = [np.sin(np.pi / 2 * np.minimum(1, 3 * np.minimum(t, 1 - t))) for t in (along, across)]
            mask = Image.fromarray((255 * strength * np.outer(*fade)).astype(np.uint8))
            self.image.paste((0, 0, 0), (left, top), mask)

    def _cut(
        self, x0: float, y0: float, x1: float, y1: float
    ) -> tuple[tuple[int, int, int, int], np.ndarray, np.ndarray]:
        # The pixels of a rectangle that are on the canvas; where their columns and rows lie in it, 0–1.
        (left, top), (right, bottom) = self.at(x0, y0), self.at(x1, y1)
        frame = (
            *(max(0, round(value)) for value in (left, top)),
            *(min(side, round(value)) for side, value in zip(self.image.size, (right, bottom), strict=True)),
        )
        across = (np.arange(frame[0], frame[2]) + 0.5 - left) / (right - left)
        along = (np.arange(frame[1], frame[3]) + 0.5 - top) / (bottom - top)
        return (frame[0], frame[1], frame[2], frame[3]), across.clip(0, 1), along.clip(0, 1)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        font: Font,
        height: float,
        fill: Color,
        *,
        width: float = math.inf,
        align: str = "m",
    ) -> None:
        """Text on one line.

        Args:
            x: of its left (`align` "l"), middle ("m") or right ("r").
            y: the middle of its capitals.
            text: what to write.
            font: of the split.
            height: of its capitals, in units.
            fill: its color.
            width: it is made smaller to fit into this.
            align: see `x`.
        """
        height = min(height, width / font.width(text))
        length = font.width(text) * height
        left = x - length * {"l": 0.0, "m": 0.5, "r": 1.0}[align]
        if self.shows(left, y - height, left + length, y + height):
            spot = self.at(x, y + height / 2)
            self.pen.text(spot, text, fill, font.at(height * self.scale / font.cap_height()), f"{align}s")

    def pixels(self, seed: int, *, light: float = 0.12) -> np.ndarray:
        """The result: RGB, uint8, (height, width, 3), in uneven light that varies by ±`light`, with grain."""
        width, height = self.size
        over = self.image.width // width
        if self.image.height == height * over:
            small = self.image.reduce(over)
        else:
            small = self.image.resize(self.size, Image.Resampling.BOX)
        level = noise(seed, (((3, 3), 0.7), ((9, 9), 0.3)), self.size, self.rect, self.aspect)
        lit = np.asarray(small, np.float32) * (1 + (level - 0.5) * (4 * light))
        return sensor(pyvips.Image.new_from_array(lit), seed, self.rect)


def mix(start: Color, end: Color, share: float) -> Color:
    """A color between two: `start` at 0, `end` at 1."""
    return tuple(round(a + (b - a) * share) for a, b in zip(start, end, strict=False))


def ink_on(ground: Color) -> Color:
    """Near black or near white, whichever can be read on a color."""
    bright = 0.3 * ground[0] + 0.59 * ground[1] + 0.11 * ground[2] > 130
    return (16, 16, 18) if bright else (252, 252, 252)


def perspective(places: Sequence[Point], width: float, height: float) -> tuple[float, ...]:
    """The eight numbers of Pillow that put the corners of a patch of this size at four places."""
    rows, values = [], []
    ends = ((0, 0), (width, 0), (width, height), (0, height))
    for (x, y), (u, v) in zip(places, ends, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return tuple(np.linalg.solve(np.array(rows), np.array(values)).tolist())


def noise(
    seed: int,
    octaves: Sequence[tuple[tuple[int, int], float]],
    size: tuple[int, int],
    rect: Rect,
    aspect: float,
) -> np.ndarray:
    """Smooth noise around 0.5, float32, (height, width, 1), for a rectangle of an image.

    Each octave has a number of cells across and down a square of the image's area, and a weight.
    """
    level = np.zeros((size[1], size[0], 1), np.float32)
    for octave, ((across, down), weight) in enumerate(octaves):
        columns, rows = max(2, round(across * math.sqrt(aspect))), max(2, round(down / math.sqrt(aspect)))
        lattice = np.random.default_rng((seed, octave)).random((rows, columns), dtype=np.float32)
        part = (rect[0] * columns, rect[1] * rows, rect[2] * columns, rect[3] * rows)
        smooth = Image.fromarray(lattice).resize(size, Image.Resampling.BICUBIC, part)
        level += weight * np.asarray(smooth)[:, :, None]
    return level


def sensor(image: pyvips.Image, seed: int, rect: Rect = WHOLE, sigma: float = _GRAIN) -> np.ndarray:
    """The pixels of an image, uint8; a large one gets the grain that a sensor would add."""
    if image.width * image.height > _GRAINY_PIXELS:
        # Strips of one image differ in their grain.
        here = seed + round(rect[1] * 1_000_003)
        image = image + pyvips.Image.gaussnoise(
            image.width, image.height, sigma=sigma, mean=0, seed=here & 0x7FFF
        )
    return np.asarray(image.cast("uchar").numpy())


def _paler(fill: Color, share: float) -> Color:
    return (*fill[:3], round((fill[3] if len(fill) > 3 else 255) * share))


def _bounds(points: Sequence[Point]) -> Rect:
    across, down = zip(*points, strict=True)
    return min(across), min(down), max(across), max(down)
