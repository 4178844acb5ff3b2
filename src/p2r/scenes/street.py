"""The world `street`: shop fronts with numbered doors, and parked cars with license plates.

A car or a door is found by its color; the plate of the car and the number over the door are small.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.scenes import readings
from p2r.scenes import street_looks as looks
from p2r.scenes.canvas import COLORS, Canvas
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
    "compare": 14,
    "arithmetic": 14,
    "position": 12,
    "which": 12,
    "count": 10,
    "exists": 8,
    "whole": 4,
}
# Letters and digits that stay apart when they are small.
_LETTERS, _DIGITS = "ACEFHKLPTX", "2345679"
_ENAMELS: tuple[Color, ...] = ((28, 44, 96), (244, 242, 234), (28, 30, 32), (24, 66, 48))
# Width / height of a number plate, of a license plate, and height / width of a car.
_NUMBER_RATIO, _PLATE_RATIO, _CAR_RATIO = 1.3, 3.4, 0.76


@dataclass(frozen=True, slots=True)
class _Shop:
    left: float
    right: float
    top: float
    color: str
    number: str
    sign: str
    look: int
    enamel: Color
    door: Rect
    plate: Rect


@dataclass(frozen=True, slots=True)
class _Car:
    color: str
    number: str
    kind: int
    body: Rect
    plate: Rect


@dataclass(frozen=True, slots=True)
class Street:
    """A street, seen from across it; all places and lengths in units.

    Attributes:
        aspect: width / height.
        shops, cars: from left to right.
        base: the y of the houses' feet.
        front: the height of the ground floors.
        walk: the height of the pavement.
        sky: a name in `street_looks.SKIES`.
        lamps, planters: their places on the pavement.
        fonts: of signs, of numbers, of plates.
        contrast, seed: of the writing; of the light.
    """

    aspect: float
    shops: tuple[_Shop, ...]
    cars: tuple[_Car, ...]
    base: float
    front: float
    walk: float
    sky: str
    lamps: tuple[float, ...]
    planters: tuple[float, ...]
    fonts: tuple[Font, Font, Font]
    contrast: float
    seed: int

    def render(self, size: tuple[int, int], rect: Rect = WHOLE) -> np.ndarray:
        """Draw `rect`, as every scene does."""
        canvas, lit, top = Canvas(size, rect, self.aspect), self.sky == "dark", self.base - self.front
        signs, numbers, plates = self.fonts
        looks.draw_ground(canvas, self.base, self.walk, self.sky)
        for shop in self.shops:
            looks.draw_house(canvas, shop.left, shop.right, shop.top, top, shop.look, lit=lit)
            front = (shop.left, top, shop.right, self.base)
            looks.draw_front(canvas, front, shop.look, shop.sign, signs, min(shop.door[0], shop.plate[0]))
        if lit:
            canvas.rectangle(0, 0, canvas.across, canvas.down, (10, 14, 50, 90))
        for shop in self.shops:
            looks.draw_door(canvas, shop.door, shop.color)
            looks.draw_sign(canvas, shop.plate, shop.number, numbers, shop.enamel, self.contrast)
        for x in self.planters:
            looks.draw_planter(canvas, x, self.base + self.walk * 0.4)
        for x in self.lamps:
            looks.draw_lamp(canvas, x, self.base + self.walk * 0.5, self.front * 1.1, lit=lit)
        self._draw_road(canvas)
        for car in self.cars:
            looks.draw_car(canvas, car.body, car.color, car.kind)
            ground = (244, 244, 238) if car.kind % 2 else (246, 214, 84)
            looks.draw_sign(canvas, car.plate, car.number, plates, ground, self.contrast)
        return canvas.pixels(self.seed)

    def _draw_road(self, canvas: Canvas) -> None:
        wheels = self.cars[0].body[3]
        for left, right in itertools.pairwise(car.body for car in self.cars):
            x, width = (left[0] + right[2]) / 2, left[2] - left[0]
            canvas.line([(x, wheels - width * 0.4), (x - 0.004, wheels + 0.02)], 0.006, (206, 206, 200, 210))
        lane = (wheels + 0.03 + canvas.down) / 2
        for k in range(math.ceil(canvas.across / 0.16)):
            canvas.rectangle(k * 0.16 + 0.02, lane, k * 0.16 + 0.1, lane + 0.007, (214, 212, 204, 200))


def _lay_out(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]
) -> Street:
    across, down = math.sqrt(aspect), 1 / math.sqrt(aspect)
    scale = min(1.0, down / 0.75)  # a flat image has less room for everything
    number, plate = difficulty.side(rng, 0.034, 0.042), difficulty.side(rng, 0.038, 0.046)
    width, walk = max(0.205 * scale, plate * math.sqrt(_PLATE_RATIO) * 1.35), 0.05 * scale
    front = 0.056 + number / math.sqrt(_NUMBER_RATIO) + 0.024 + 0.17 * scale
    below = walk + 0.03 * scale + 0.024 + width * _CAR_RATIO
    spare = max(0.0, down - front - below - 0.1 * scale)
    base = down - below - spare * rng.uniform(0.2, 0.4)
    count = max(2, round(across / 0.28))
    edges = [k * across / count for k in range(count + 1)]
    doors, numbers = rng.sample(sorted(COLORS), count), rng.sample(range(2, 20), count)
    signs, walls = rng.sample(looks.SIGNS, count), rng.sample(range(len(looks.WALLS)), count)
    lintel = base - front + 0.056 + number / math.sqrt(_NUMBER_RATIO) + 0.016
    wide = number * math.sqrt(_NUMBER_RATIO)
    door_width = max(0.074 * scale, wide * 0.9)
    shops = []
    for k, (left, right) in enumerate(itertools.pairwise(edges)):
        top = max(0.05 * scale, (base - front) * rng.uniform(0.12, 0.45))
        look = walls[k] + len(looks.WALLS) * rng.randrange(100)
        end = right - 0.018 - max(0.0, (wide - door_width) / 2)
        door = (end - door_width, lintel + 0.008, end, base)
        over = _around(end - door_width / 2, lintel - 0.008 - wide / _NUMBER_RATIO / 2, number, _NUMBER_RATIO)
        text, enamel = str(numbers[k]), rng.choice(_ENAMELS)
        shops.append(_Shop(left, right, top, doors[k], text, signs[k], look, enamel, door, over))
    cars = _park(rng, family, across, width, base + walk + 0.024 + width * _CAR_RATIO, plate)
    room = (across / count) * 0.32
    planters = [edge + room for edge in edges[:-1] if rng.random() < difficulty.clutter * 0.8]
    lamps = [edge for edge in edges[1:-1] if rng.random() < difficulty.clutter * 0.8]
    return Street(
        aspect,
        tuple(shops),
        cars,
        base,
        front,
        walk,
        rng.choice(sorted(looks.SKIES)),
        tuple(lamps),
        tuple(planters),
        (pick(rng, fonts, "sans"), pick(rng, fonts, "sans"), pick(rng, fonts, "plate")),
        difficulty.contrast,
        rng.getrandbits(31),
    )


def _park(
    rng: random.Random, family: str, across: float, width: float, wheels: float, plate: float
) -> tuple[_Car, ...]:
    count = min(len(COLORS) - 1, max(2, int(across / (width * 1.16))))
    slot, height = across / count, width * _CAR_RATIO
    colors = rng.sample(sorted(COLORS), count)
    if family == "count":
        # One color comes up to three times.
        again = rng.sample(range(count), min(rng.randint(1, 3), count))
        for k in again:
            colors[k] = colors[again[0]]
    cars = []
    for k, color in enumerate(colors):
        number = "".join([*rng.sample(_LETTERS, 2), *rng.sample(_DIGITS, 2)])
        x = (k + 0.5) * slot + (slot - width) * rng.uniform(-0.25, 0.25)
        body = (x - width / 2, wheels - height, x + width / 2, wheels)
        cars.append(
            _Car(
                color, number, rng.randrange(6), body, _around(x, wheels - height * 0.31, plate, _PLATE_RATIO)
            )
        )
    return tuple(cars)


def _around(x: float, y: float, side: float, ratio: float) -> Rect:
    half, high = side * math.sqrt(ratio) / 2, side / math.sqrt(ratio) / 2
    return x - half, y - high, x + half, y + high


def draw(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]
) -> tuple[Street, Task]:
    """A street with a question of `family`."""
    street = _lay_out(rng, family, aspect, difficulty, fonts)
    return street, _ask(rng, family, street)


def _ask(rng: random.Random, family: str, street: Street) -> Task:
    bodies = [Target(f"{car.color} car", share_rect(street.aspect, *car.body)) for car in street.cars]
    if family == "count":
        names = Counter(body.name for body in bodies)
        name = rng.choice([name for name in names if names[name] == max(names.values())])
        return readings.count(name, [body.rect for body in bodies if body.name == name])
    if family == "exists":
        there = {car.color for car in street.cars}
        return readings.exists(rng, bodies, [f"{color} car" for color in COLORS if color not in there])
    if family == "whole":
        question = "What does the sky look like?"
        return readings.whole(rng, question, "The sky is", sorted(looks.SKIES), street.sky)
    named: Sequence[_Shop | _Car] = street.shops
    noun, kind = "number", "door"
    if family not in ("compare", "arithmetic") and rng.random() < 0.5:
        named, noun, kind = street.cars, "plate", "car"
    things = [
        Reading(f"{one.color} {kind}", one.number, share_rect(street.aspect, *one.plate)) for one in named
    ]
    return readings.ask(rng, family, things, noun, aspect=street.aspect)


STREET = World("street", "a street of shop fronts and parked cars", _FAMILIES, draw)
