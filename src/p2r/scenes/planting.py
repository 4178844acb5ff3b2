"""Things with writing on them, planted into a photograph so that they look as if they had been there.

A thing is drawn flat, turned in space, and laid over pixels of the photograph. It takes on what can be
measured around it: brightness, color cast and shading, the darkest tone of the haze, the focus, and the grain
of the sensor. It throws a soft shadow where it touches.

Lengths are in pixels of the photograph unless a name says otherwise. Light is linear, 0–1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from p2r.scenes.canvas import ink_on, mix, perspective
from p2r.scenes.tags import COLORS

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from p2r.scenes.canvas import Point
    from p2r.scenes.fonts import Font
    from p2r.scenes.world import Difficulty, Rect

# Width / height of the face of each kind.
KINDS: dict[str, float] = {"sticker": 1.0, "label": 1.5, "plate": 1.8, "sign": 1.35}
SIDES = (0.032, 0.055)  # √(area of a face), in units
_SURVEY = 512  # longer side of the copy in which places are looked for
_TRIES = 40  # places that are looked at for one thing
_OVER = 2  # a thing is drawn this many times larger
_MOST_HAZE = 0.06
_LUMA = np.array((0.2126, 0.7152, 0.0722), np.float32)
_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
_SHADOWS = ((0.02, 0.01, 0.45), (0.06, 0.05, 0.35))  # blur and shift in sides, and strength


@dataclass(frozen=True, slots=True)
class Spot:
    """A place for a thing.

    Attributes:
        x, y: its center.
        side: √(area of the face).
        clutter: how busy the photograph is there, 0 (even) to 1 (nothing could be seen).
        void: how much of the usual detail is missing, as in the sky and out of focus, 0–1.
        angle: the direction of the lines there in radians, where they agree and are nearly level; else 0.
        color: the mean color there, RGB, 0–255.
    """

    x: float
    y: float
    side: float
    clutter: float
    void: float
    angle: float
    color: tuple[float, ...]


class Planted(NamedTuple):
    """Where the face of a thing is, in shares, and the contrast of its writing in the end, 0–1."""

    rect: Rect
    contrast: float


class Photo:
    """A photograph, and what is measured once for all of it.

    Args:
        pixels: RGB, uint8, (height, width, 3); things are planted into them.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.height, self.width = pixels.shape[:2]
        self.side = math.sqrt(self.width * self.height)
        self.shrink = max(1.0, max(pixels.shape) / _SURVEY)
        small = (round(self.width / self.shrink), round(self.height / self.shrink))
        self._survey = np.asarray(Image.fromarray(pixels).resize(small, Image.Resampling.BOX))
        light = _LINEAR[self._survey]
        black, self._white = (float(level) for level in np.percentile(light.max(2), (1, 98)))
        self._black = min(black, _MOST_HAZE)
        self._cast = _cast(light)
        # Detail finer than the survey has.
        green = Image.fromarray(np.ascontiguousarray(pixels[..., 1])).reduce(max(1, round(self.shrink / 4)))
        fine = np.abs(np.diff(np.asarray(green, np.int16), axis=1)).astype(np.float32)
        self._detail = np.asarray(Image.fromarray(fine).resize(small, Image.Resampling.BOX))
        self._usual_detail = max(0.5, float(np.percentile(self._detail, 60)))

    def find(self, rng: random.Random, count: int, difficulty: Difficulty) -> list[Spot]:
        """Places for `count` things, none near another; fewer where the photograph has no room."""
        found: list[Spot] = []
        for _ in range(count):
            side = difficulty.side(rng, *SIDES) * self.side
            tries = [self._spot(rng, side, deep=difficulty.size is None) for _ in range(_TRIES)]
            free = [
                spot
                for spot in tries
                if spot.clutter <= 0.25 + difficulty.clutter / 2
                and all(
                    math.dist((spot.x, spot.y), (one.x, one.y)) > 1.2 * (spot.side + one.side)
                    for one in found
                )
            ]
            if free:
                # Even ground rather than busy ground, and a surface in focus rather than the sky.
                found.append(min(free, key=lambda spot: spot.clutter + spot.void))
        return found

    def _spot(self, rng: random.Random, side: float, *, deep: bool) -> Spot:
        x, y = rng.uniform(side, self.width - side), rng.uniform(side, self.height - side)
        if deep:  # what lies farther down is usually nearer
            side *= 0.85 + 0.3 * y / self.height
        top, bottom = (max(0, round((y + shift) / self.shrink)) for shift in (-0.8 * side, 0.8 * side))
        left, right = (max(0, round((x + shift) / self.shrink)) for shift in (-0.8 * side, 0.8 * side))
        part = slice(top, bottom + 1), slice(left, right + 1)
        luma = self._survey[part] @ _LUMA
        # Too dark and too bright places count as busy.
        extreme = max(0.0, 12 - float(luma.mean()), float(luma.mean()) - 240) / 10
        void = max(0.0, 1 - float(self._detail[part].mean()) / self._usual_detail)
        color = tuple(float(level) for level in self._survey[part].mean((0, 1)))
        return Spot(x, y, side, min(1.0, float(luma.std()) / 60 + extreme), void, _direction(luma), color)

    def plant(self, rng: random.Random, spot: Spot, thing: Image.Image, kind: str) -> Planted:
        """Lay a thing over the photograph.

        Args:
            rng: draws its turn in space.
            spot: where, and how large.
            thing: of `draw_thing`, in any size.
            kind: the same.
        """
        turn = _Turn(rng, kind == "sign", spot)
        scale = spot.side / thing.width * math.sqrt(KINDS[kind])
        half, face = thing.width / 2, thing.width / 2 / KINDS[kind]
        around = [math.tau * k / 16 for k in range(16)]
        circle = [(half + half * math.cos(angle), face + face * math.sin(angle)) for angle in around]
        edges = circle if kind == "sticker" else _corners(2 * half, 2 * face)
        corners, outline = (
            [turn((x - half) * scale, (y - face) * scale) for x, y in points]
            for points in (_corners(*thing.size), edges)
        )
        (x0, y0), (x1, y1) = (np.min(corners, 0) - spot.side * 0.3, np.max(corners, 0) + spot.side * 0.3)
        left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
        under = self.pixels[top : math.ceil(y1), left : math.ceil(x1)]
        places = [((x - left) * _OVER, (y - top) * _OVER) for x, y in corners]
        layer = thing.transform(
            (under.shape[1] * _OVER, under.shape[0] * _OVER),
            Image.Transform.PERSPECTIVE,
            perspective(places, *thing.size),
            Image.Resampling.BICUBIC,
        )
        under[...] = self._composed(rng, under, layer.reduce(_OVER), spot)
        (x0, y0), (x1, y1) = np.min(outline, 0), np.max(outline, 0)
        # The middle of the face, which holds the writing.
        across, down = (x1 - x0) / 6, (y1 - y0) / 6
        middle = (
            self.pixels[round(y0 + down) : round(y1 - down), round(x0 + across) : round(x1 - across)] @ _LUMA
        )
        low, high = np.percentile(middle, (4, 96))
        rect = (
            float(x0 / self.width),
            float(y0 / self.height),
            float(x1 / self.width),
            float(y1 / self.height),
        )
        return Planted(rect, float(high - low) / 255)

    def _composed(self, rng: random.Random, under: np.ndarray, layer: Image.Image, spot: Spot) -> np.ndarray:
        image = Image.fromarray(under)
        blur = ImageFilter.GaussianBlur(_softness(under, spot.side))
        over = np.asarray(layer.convert("RGBa").filter(blur).convert("RGBA"))
        alpha = over[..., 3:].astype(np.float32) / 255
        # The light of the place, without its texture.
        broad = image.resize((5, 5), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
        field = _LINEAR[np.asarray(broad)]
        value = field.max(2, keepdims=True)
        mean = max(1e-3, float((value * alpha).sum() / max(1.0, float(alpha.sum()))))
        level = min(1.0, self._white) * min(1.05, 1.25 * (mean / max(1e-3, self._white)) ** 0.4)
        shading = np.clip((value / mean) ** 0.6, 0.6, 1.5)
        cast = _cast(field) ** 0.25 * self._cast**0.3
        slope = rng.uniform(-0.1, 0.1)
        gloss = 1 + slope * np.linspace(-1, 1, under.shape[0], dtype=np.float32)[:, None, None]
        lit = _LINEAR[over[..., :3]] * (max(0.2, level) * cast / float(cast @ _LUMA)) * shading * gloss
        lit = self._black + lit * (1 - self._black)
        ground, mask = _LINEAR[under], Image.fromarray(over[..., 3])
        for radius, shift, strength in _SHADOWS:
            moved = (1, 0, -spot.side * shift / 2, 0, 1, -spot.side * shift)
            soft = mask.filter(ImageFilter.GaussianBlur(spot.side * radius))
            dark = soft.transform(soft.size, Image.Transform.AFFINE, moved)
            ground = ground * (1 - strength / 255 * np.asarray(dark, np.float32)[..., None])
        mixed = 255 * np.clip(ground * (1 - alpha) + lit * alpha, 0, 1) ** (1 / 2.2)
        grain = under.astype(np.float32) - np.asarray(image.filter(ImageFilter.GaussianBlur(1.5)))
        pixels: np.ndarray = np.clip(mixed + alpha * np.clip(grain, -6, 6) + 0.5, 0, 255)
        return pixels.astype(np.uint8)


class _Turn:
    """A turn in space around a spot, seen in perspective from five sides away."""

    def __init__(self, rng: random.Random, upright: bool, spot: Spot) -> None:
        self.spot = spot
        roll = math.radians(rng.gauss(0, 2)) + (0.0 if upright else spot.angle)
        self.cos, self.sin = math.cos(roll), math.sin(roll)
        self.yaw = math.radians(rng.uniform(-26, 26))
        self.pitch = math.radians(rng.uniform(-6, 6) if upright else rng.uniform(-22, 22))

    def __call__(self, x: float, y: float) -> Point:
        x, y = x * self.cos - y * self.sin, x * self.sin + y * self.cos
        depth = 1 + (x * math.sin(self.yaw) + y * math.sin(self.pitch)) / (5 * self.spot.side)
        return self.spot.x + x * math.cos(self.yaw) / depth, self.spot.y + y * math.cos(self.pitch) / depth


def _corners(width: float, height: float) -> Sequence[Point]:
    return (0, 0), (width, 0), (width, height), (0, height)


def _cast(light: np.ndarray) -> np.ndarray:
    """The mean color as a factor for each channel."""
    mean = light.mean((0, 1))
    return np.asarray(np.clip(mean / max(1e-3, float(mean @ _LUMA)), 0.5, 2))


def _direction(luma: np.ndarray) -> float:
    """See `Spot.angle`: from the structure tensor."""
    down, across = np.gradient(luma)
    even, mixed = float((across**2 - down**2).sum()), float((2 * across * down).sum())
    angle = (math.atan2(mixed, even) / 2 + math.pi / 4) % (math.pi / 2) - math.pi / 4
    agree = math.hypot(even, mixed) > 0.3 * float((across**2 + down**2).sum())
    return angle if agree and abs(angle) < 0.5 else 0.0


def _softness(under: np.ndarray, side: float) -> float:
    """The radius of the blur that edges have there, bounded so that writing stays plain."""
    luma = under @ _LUMA
    height, width = (length // 4 * 4 for length in luma.shape)
    coarse = luma[:height, :width].reshape(height // 4, 4, width // 4, 4).mean((1, 3))
    fine, steps = (float(np.percentile(np.abs(np.diff(each, axis=1)), 98)) for each in (luma, coarse))
    # At a sharp edge the two are equal; where it is spread over many pixels, a coarse step is four fine ones.
    return min(0.014 * side, max(0.6, 1.1 * (steps / max(1.0, fine) - 0.6)))


def draw_thing(
    rng: random.Random, kind: str, color: str, text: str, font: Font, side: float, contrast: float
) -> Image.Image:
    """A thing seen from the front, RGBA; its face has the area `side`² and the aspect `KINDS[kind]`."""
    width, height = round(side * math.sqrt(KINDS[kind])), round(side / math.sqrt(KINDS[kind]))
    post = round(height * rng.uniform(0.7, 1.1)) if kind == "sign" else 0
    fill, white = (*COLORS[color], 255), (248, 248, 244, 255)
    image = Image.new("RGBA", (width, height + post), (*fill[:3], 0))
    draw = ImageDraw.Draw(image)
    if post:
        stake, half = rng.choice(((96, 70, 48), (122, 122, 124), (66, 60, 56))), width * 0.035
        draw.rectangle((width / 2 - half, height * 0.9, width / 2 + half, height + post), stake)
    rim = height * rng.uniform(0.05, 0.08)
    frame, inner = (0, 0, width - 1, height - 1), (rim, rim, width - 1 - rim, height - 1 - rim)
    ink = mix(fill[:3], ink_on(fill), contrast)
    if kind == "sticker":
        draw.ellipse(frame, white)
        draw.ellipse(inner, fill)
    elif kind == "label":
        draw.rounded_rectangle(frame, height * 0.08, fill)
        hole = height * 0.07
        draw.ellipse((2 * hole, height / 2 - hole, 4 * hole, height / 2 + hole), white, (120, 110, 100))
    elif kind == "plate":
        draw.rounded_rectangle(frame, height * 0.1, fill)
        draw.rounded_rectangle(inner, height * 0.07, None, (*ink, 255), max(1, round(height * 0.025)))
    else:
        draw.rounded_rectangle(frame, height * 0.12, white)
        draw.rounded_rectangle(inner, height * 0.09, fill)
    left = 0.2 if kind == "label" else 0.0
    room = width * (0.9 - left) - 2 * rim
    tall = min(height * 0.56, room / font.width(text))
    middle = (width * (1 + left) / 2, height / 2 + tall / 2)
    draw.text(middle, text, (*ink, 255), font.at(tall / font.cap_height()), "ms")
    return image
