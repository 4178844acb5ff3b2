"""Flat scenes: paper, maps, panels and charts, kept as lists of marks.

A world draws a scene once, with a `Pen`; what it drew is then repeated on the canvas of any part at any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import numpy as np
from PIL import Image, ImageDraw

from p2r.scenes.canvas import Canvas, noise, perspective
from p2r.scenes.readings import Reading, choose
from p2r.scenes.tags import COLORS
from p2r.scenes.world import WHOLE, Rect, share_rect

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from p2r.scenes.canvas import Color, Point
    from p2r.scenes.fonts import Font
    from p2r.scenes.world import Task

_Args = ParamSpec("_Args")
Ground = tuple["Color", "Color", tuple[tuple[tuple[int, int], float], ...]]
Mark = tuple["Callable[..., None]", tuple[Any, ...], tuple[tuple[str, Any], ...]]
# How often these worlds draw each family, in percent.
WEIGHTS = {
    "read": 25,
    "compare": 15,
    "count": 12,
    "arithmetic": 14,
    "position": 7,
    "which": 11,
    "exists": 11,
    "whole": 5,
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet of paper in a scene.

    Attributes:
        aspect: its width / height; its marks are in units of its own, √area of the sheet.
        marks: what is on it.
        corners: where its corners lie, in units of the scene, clockwise from the top left.
        fill: its color.
    """

    aspect: float
    marks: tuple[Mark, ...]
    corners: tuple[Point, ...]
    fill: Color


@dataclass(frozen=True, slots=True)
class Flat:
    """A scene of marks on a ground, and perhaps a sheet on top.

    Attributes:
        aspect: width / height.
        seed: of the ground's noise and the light.
        ground: two colors, and the octaves of the noise between them, as of `canvas.noise`.
        marks, sheet: what is on it.
    """

    aspect: float
    seed: int
    ground: Ground
    marks: tuple[Mark, ...]
    sheet: Sheet | None = None

    def render(self, size: tuple[int, int], rect: Rect = WHOLE) -> np.ndarray:
        """Draw `rect` at `size` = (width, height): RGB, uint8, (height, width, 3)."""
        # Three times the size where much is small, if that costs little.
        fine = rect == WHOLE and max(size) <= 600 and not self.sheet
        canvas = Canvas(size, rect, self.aspect, over=3 if fine else 2)
        dark, light = (np.array(color, np.float32) for color in self.ground[:2])
        level = noise(self.seed, self.ground[2], size, rect, self.aspect)
        # Averaging octaves pulls values to the middle: stretch them again.
        ground = dark + ((level - 0.5) * 1.6 + 0.5).clip(0, 1) * (light - dark)
        pixels = Image.fromarray(ground.astype(np.uint8))
        canvas.image.paste(pixels.resize(canvas.image.size, Image.Resampling.NEAREST))
        _repeat(canvas, self.marks)
        if self.sheet:
            _draw_sheet(canvas, self.sheet)
        return canvas.pixels(self.seed + 1, light=0.07)


class Pen:
    """Draws on an image of an aspect ratio, or on a sheet in it; places and lengths in units.

    Args:
        aspect: width / height of what it draws on.
        corners: of a sheet, in units of the scene around it.
        around: the aspect ratio of that scene.
    """

    def __init__(self, aspect: float, corners: Sequence[Point] = (), around: float = 1.0) -> None:
        self.width, self.height = math.sqrt(aspect), 1 / math.sqrt(aspect)
        self.marks: list[Mark] = []
        self._around = around if corners else aspect
        self._matrix = np.linalg.inv(_into(corners, self.width, self.height)) if corners else np.eye(3)

    def rect(self, x0: float, y0: float, x1: float, y1: float) -> Rect:
        """A rectangle as shares of the image: the box around its four corners."""
        x, y = zip(*(_apply(self._matrix, p) for p in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))), strict=True)
        return share_rect(self._around, min(x), min(y), max(x), max(y))

    def _mark(
        self, how: Callable[Concatenate[Canvas, _Args], None], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> None:
        self.marks.append((how, args, tuple(kwargs.items())))

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Color, radius: float = 0.0) -> None:
        """A rectangle, with round corners of `radius`."""
        self._mark(Canvas.rectangle, x0, y0, x1, y1, fill, radius=radius)

    def disc(self, x: float, y: float, radius: float, fill: Color) -> None:
        """A circle filled with a color."""
        self._mark(Canvas.ellipse, x - radius, y - radius, x + radius, y + radius, fill)

    def polygon(self, points: Sequence[Point], fill: Color) -> None:
        """A filled polygon."""
        self._mark(Canvas.polygon, tuple(points), fill)

    def line(self, points: Sequence[Point], width: float, fill: Color) -> None:
        """A line through points."""
        self._mark(Canvas.line, tuple(points), width, fill)

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
        angle: float = 0.0,
    ) -> None:
        """Write as `Canvas.text`, or turned by `angle` degrees counter-clockwise."""
        if text and angle:
            self._mark(_turned_text, x, y, text, font, min(height, width / font.width(text)), fill, angle)
        elif text:
            self._mark(Canvas.text, x, y, text, font, height, fill, width=width, align=align)

    def field(
        self,
        x: float,
        y: float,
        wide: float,
        high: float,
        text: str,
        font: Font,
        ink: Color,
        radius: float = 0.0,
    ) -> Rect:
        """A white field around (x, y) with a text in it; returns its place in the image."""
        place, edge = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), 0.03 * high
        self.box(*place, (140, 143, 150), radius)
        self.box(place[0] + edge, place[1] + edge, place[2] - edge, place[3] - edge, (255, 255, 255), radius)
        self.text(x, y, text, font, 0.44 * high, ink, width=0.86 * wide)
        return self.rect(*place)

    def shadow(self, points: Sequence[Point], reach: float, dark: float = 0.25) -> None:
        """A soft shadow of a convex shape, `reach` units wide; `dark`: 0 to 1."""
        self._mark(_shadow, tuple(points), reach, dark)


def arc(x: float, y: float, radius: float, start: float, end: float, steps: int = 48) -> list[Point]:
    """Points on a circle, from `start` to `end` degrees, clockwise from the right."""
    turns = [math.radians(start + (end - start) * k / steps) for k in range(steps + 1)]
    return [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]


def turned(x: float, y: float, angle: float, points: Sequence[Point]) -> list[Point]:
    """Points around (0, 0), turned by `angle` degrees clockwise and moved to (x, y)."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return [(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in points]


def corners_of(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    """The corners of a rectangle, clockwise from the top left."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def around(rects: Sequence[Rect]) -> Rect:
    """The smallest rectangle that holds all of them."""
    x0, y0, x1, y1 = zip(*rects, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def legend(
    pen: Pen,
    x: float,
    y: float,
    row: float,
    side: float,
    entries: dict[str, str],
    font: Font,
    ink: Color,
    noun: str,
) -> list[Reading]:
    """Rows of a colored square and a word, from (x, y) on; `entries`: words by color."""
    half, found = min(0.3 * row, 0.012), []
    for k, (color, word) in enumerate(entries.items()):
        middle, left = y + row * (k + 0.5), x + 2.5 * half
        pen.box(x, middle - half, x + 2 * half, middle + half, COLORS[color], 0.3 * half)
        pen.text(left + 0.1 * side, middle, word, font, 0.29 * side, ink, align="l", width=1.8 * side)
        there = pen.rect(left, middle - side / 4, left + 2 * side, middle + side / 4)
        found.append(Reading(f"{color} {noun}", word, there, "stands for"))
    return found


def ask_legend(rng: random.Random, name: str, rows: Sequence[Reading], words: Sequence[str]) -> Task:
    """Whether a word is in a legend."""
    listed = [row.value for row in rows]
    word = rng.choice(listed if rng.random() < 0.5 else sorted(set(words) - set(listed)))
    options = ["yes", "no"] if word in listed else ["no", "yes"]
    shown = Reading(name, ", ".join(listed), around([row.rect for row in rows]))
    return choose(rng, "exists", f"Is {word} in the {name}?", options, [shown])


# --- marks to pixels -------------------------------------------------------------------------------------


def _repeat(canvas: Canvas, marks: tuple[Mark, ...]) -> None:
    for how, args, kwargs in marks:
        how(canvas, *args, **dict(kwargs))


def _shadow(canvas: Canvas, points: Sequence[Point], reach: float, dark: float) -> None:
    # Growing copies: one for each few pixels, more for a darker shadow.
    steps = max(2, min(round(30 * dark), round(reach * canvas.scale / 5)))
    shade = (0, 0, 0, round(255 * (1 - (1 - dark) ** (1 / steps))))
    x, y = (sum(p[k] for p in points) / len(points) for k in (0, 1))
    size = max(math.dist((x, y), p) for p in points)
    for step in range(steps):
        grow, by = 1 + (1.6 * (step + 0.5) / steps - 0.6) * reach / size, reach / 2
        canvas.polygon([(x + (u - x) * grow + by, y + (v - y) * grow + by) for u, v in points], shade)


def _turned_text(
    canvas: Canvas, x: float, y: float, text: str, font: Font, height: float, fill: Color, angle: float
) -> None:
    high, reach = height * canvas.scale, height * (font.width(text) / 2 + 1)
    if not canvas.shows(x - reach, y - reach, x + reach, y + reach):
        return
    side = 2 * math.ceil(reach * canvas.scale)
    patch = Image.new("L", (side, side))
    share = fill[3] if len(fill) > 3 else 255
    face = font.at(high / font.cap_height())
    ImageDraw.Draw(patch).text((side / 2, (side + high) / 2), text, share, face, "ms")
    left, top = canvas.at(x, y)
    mask = patch.rotate(angle, Image.Resampling.BICUBIC)
    canvas.image.paste(fill[:3], (round(left - side / 2), round(top - side / 2)), mask)


def _draw_sheet(canvas: Canvas, sheet: Sheet) -> None:
    # Only the part that the canvas shows is drawn, at the canvas's scale, and put in perspective.
    width, height = math.sqrt(sheet.aspect), 1 / math.sqrt(sheet.aspect)
    back = _into(sheet.corners, width, height)
    image, scale = canvas.image, canvas.scale
    ends = [(x / scale, y / scale) for x in (0, image.width) for y in (0, image.height)]
    places = [_apply(back, (x + canvas.left / scale, y + canvas.top / scale)) for x, y in ends]
    left, top = (max(0.0, min(place[k] for place in places)) for k in (0, 1))
    right, bottom = (min(side, max(p[k] for p in places)) for k, side in ((0, width), (1, height)))
    if right <= left or bottom <= top:
        return
    # On whole pixels of the sheet, so that strips of one image join.
    fine = scale * math.dist(*sheet.corners[:2]) / width
    (x0, y0), (x1, y1) = (
        (math.floor(left * fine), math.floor(top * fine)),
        (math.ceil(right * fine), math.ceil(bottom * fine)),
    )
    left, top, size = x0 / fine, y0 / fine, (x1 - x0, y1 - y0)
    part = (left / width, top / height, x1 / fine / width, y1 / fine / height)
    page = Canvas(size, part, sheet.aspect, sheet.fill, over=1)
    _repeat(page, sheet.marks)
    outline = [canvas.at(*corner) for corner in sheet.corners]
    x0, y0 = (max(0, math.floor(min(p[k] for p in outline))) for k in (0, 1))
    x1, y1 = (min(image.size[k], math.ceil(max(p[k] for p in outline))) for k in (0, 1))
    # Pixel of the frame → units of the scene → units of the sheet → pixel of the sheet's part.
    enter = np.array([[1, 0, x0 + canvas.left], [0, 1, y0 + canvas.top], [0, 0, scale]])
    leave = np.array([[fine, 0, -left * fine], [0, fine, -top * fine], [0, 0, 1]])
    way = leave @ back @ enter
    data = tuple((way / way[2, 2]).ravel()[:8])
    frame = (x1 - x0, y1 - y0)
    turned_page = page.image.transform(frame, Image.Transform.PERSPECTIVE, data, Image.Resampling.BILINEAR)
    mask = Image.new("L", frame)
    ImageDraw.Draw(mask).polygon([(x - x0, y - y0) for x, y in outline], fill=255)
    image.paste(turned_page, (x0, y0), mask)


def _apply(matrix: np.ndarray, point: Point) -> Point:
    x, y, depth = matrix @ (*point, 1.0)
    return float(x / depth), float(y / depth)


def _into(corners: Sequence[Point], width: float, height: float) -> np.ndarray:
    """The 3 × 3 matrix from units of a scene to those of a sheet with these corners."""
    return np.append(perspective(corners, width, height), 1.0).reshape(3, 3)
