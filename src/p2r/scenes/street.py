"""The world `street`: shop fronts with numbered doors, and parked cars with license plates.

A car or a door is found by its color; the plate of the car and the number over the door are small.
"""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class _Shop:
    left: float
    right: float
    top: float
    door: str
    number: str
    sign: str
    look: int
    enamel: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Car:
    x: float
    color: str
    plate: str
    kind: int


@dataclass(frozen=True, slots=True)
class Street:
    """A street, seen from across it.

    Attributes:
        aspect: width / height.
        shops, cars: from left to right.
        base: where the houses stand; y in units, like all lengths.
        front: height of the ground floors.
        number, plate: sides (√area) of what carries numbers and plates.
        sky: a name in `street_looks.SKIES`.
        lamps, planters: where they stand on the pavement.
        fonts: of signs, of numbers, of plates.
        contrast, seed: of the writing; of the light.
    """

    aspect: float
    shops: tuple[_Shop, ...]
    cars: tuple[_Car, ...]
    base: float
    front: float
    number: float
    plate: float
    sky: str
    lamps: tuple[float, ...]
    planters: tuple[float, ...]
    fonts: tuple[Font, Font, Font]
    contrast: float
    seed: int

    @property
    def _scale(self) -> float:
        return min(1.0, 1 / math.sqrt(self.aspect) / 0.75)

    @property
    def _car_width(self) -> float:
        return max(0.205 * self._scale, self.plate * math.sqrt(looks.PLATE_RATIO) * 1.35)

    def _door(self, shop: _Shop) -> Rect:
        wide = self.number * math.sqrt(looks.NUMBER_RATIO)
        width = max(0.074 * self._scale, wide * 0.9)
        right = shop.right - 0.018 - max(0.0, (wide - width) / 2)
        return right - width, self._lintel + 0.008, right, self.base

    @property
    def _lintel(self) -> float:
        return self.base - self.front + 0.056 + self.number / math.sqrt(looks.NUMBER_RATIO) + 0.016

    def _number_rect(self, shop: _Shop) -> Rect:
        x0, _, x1, _ = self._door(shop)
        wide, high = (self.number * ratio for ratio in (looks.NUMBER_RATIO**0.5, looks.NUMBER_RATIO**-0.5))
        x, bottom = (x0 + x1) / 2, self._lintel - 0.008
        return x - wide / 2, bottom - high, x + wide / 2, bottom

    @property
    def _wheels(self) -> float:
        return self.base + 0.05 * self._scale + 0.012 + self._car_width * looks.CAR_RATIO + 0.012

    def _plate_rect(self, car: _Car) -> Rect:
        wide, high = (self.plate * ratio for ratio in (looks.PLATE_RATIO**0.5, looks.PLATE_RATIO**-0.5))
        y = self._wheels - self._car_width * looks.CAR_RATIO * 0.31
        return car.x - wide / 2, y - high / 2, car.x + wide / 2, y + high / 2

    def doors(self) -> list[Reading]:
        """The doors with their numbers."""
        return [
            Reading(f"{shop.door} door", shop.number, self._share(self._number_rect(shop)))
            for shop in self.shops
        ]

    def parked(self) -> list[Reading]:
        """The cars with their plates."""
        return [
            Reading(f"{car.color} car", car.plate, self._share(self._plate_rect(car))) for car in self.cars
        ]

    def bodies(self) -> list[Target]:
        """The cars, each as a whole."""
        half, bottom = self._car_width / 2, self._wheels
        top = bottom - 2 * half * looks.CAR_RATIO
        return [
            Target(f"{car.color} car", self._share((car.x - half, top, car.x + half, bottom)))
            for car in self.cars
        ]

    def _share(self, rect: Rect) -> Rect:
        return share_rect(self.aspect, *rect)

    def render(self, size: tuple[int, int], rect: Rect = WHOLE) -> np.ndarray:
        """Draw `rect`, as every scene does."""
        canvas, walk, lit = Canvas(size, rect, self.aspect), 0.05 * self._scale, self.sky == "dark"
        looks.draw_ground(canvas, self.base, walk, self.sky)
        for shop in self.shops:
            top = self.base - self.front
            looks.draw_house(canvas, shop.left, shop.right, shop.top, top, shop.look, lit=lit)
            door = self._door(shop)
            font = self.fonts[0]
            looks.draw_front(
                canvas,
                shop.left,
                shop.right,
                top,
                self.base,
                shop.look,
                shop.sign,
                font,
                min(door[0], self._number_rect(shop)[0]),
            )
        if lit:
            canvas.rectangle(0, 0, canvas.across, canvas.down, (10, 14, 50, 90))
        for shop in self.shops:
            looks.draw_door(canvas, *self._door(shop), shop.door)
            looks.draw_sign(
                canvas, self._number_rect(shop), shop.number, self.fonts[1], shop.enamel, self.contrast
            )
        for x in self.planters:
            looks.draw_planter(canvas, x, self.base + walk * 0.4)
        for x in self.lamps:
            looks.draw_lamp(canvas, x, self.base + walk * 0.5, self.front * 1.1, lit=lit)
        width = self._car_width
        for left, right in zip(self.cars, self.cars[1:], strict=False):
            x, y = (left.x + right.x) / 2, self._wheels
            canvas.line([(x, y - width * 0.4), (x - 0.004, y + 0.02)], 0.006, (206, 206, 200, 210))
        for car in self.cars:
            looks.draw_car(canvas, car.x, self._wheels, width, car.color, car.kind)
            ground = (244, 244, 238) if car.kind % 2 else (246, 214, 84)
            looks.draw_sign(canvas, self._plate_rect(car), car.plate, self.fonts[2], ground, self.contrast)
        lane = (self._wheels + 0.03 + canvas.down) / 2
        for k in range(math.ceil(canvas.across / 0.16)):
            canvas.rectangle(k * 0.16 + 0.02, lane, k * 0.16 + 0.1, lane + 0.007, (214, 212, 204, 200))
        return canvas.pixels(self.seed)


def _lay_out(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]
) -> Street:
    across, down = math.sqrt(aspect), 1 / math.sqrt(aspect)
    scale = min(1.0, down / 0.75)
    number, plate = difficulty.side(rng, 0.034, 0.042), difficulty.side(rng, 0.038, 0.046)
    width = max(0.205 * scale, plate * math.sqrt(looks.PLATE_RATIO) * 1.35)
    front = 0.056 + number / math.sqrt(looks.NUMBER_RATIO) + 0.024 + 0.17 * scale
    below = (0.05 + 0.03) * scale + 0.024 + width * looks.CAR_RATIO
    spare = max(0.0, down - front - below - 0.1 * scale)
    base = down - below - spare * rng.uniform(0.2, 0.4)
    count = max(2, round(across / 0.28))
    edges = [k * across / count for k in range(count + 1)]
    doors, numbers = rng.sample(sorted(COLORS), count), rng.sample(range(2, 20), count)
    signs, walls = rng.sample(looks.SIGNS, count), rng.sample(range(len(looks.WALLS)), count)
    shops = []
    for k in range(count):
        top = max(0.05 * scale, (base - front) * rng.uniform(0.12, 0.45))
        look = walls[k] + len(looks.WALLS) * rng.randrange(100)
        enamel = rng.choice(((28, 44, 96), (244, 242, 234), (28, 30, 32), (24, 66, 48)))
        shops.append(_Shop(edges[k], edges[k + 1], top, doors[k], str(numbers[k]), signs[k], look, enamel))
    cars = _park(rng, family, across, width)
    room = (across / count) * 0.32
    planters = [edge + room for edge in edges[:-1] if rng.random() < difficulty.clutter * 0.8]
    lamps = [edge for edge in edges[1:-1] if rng.random() < difficulty.clutter * 0.8]
    return Street(
        aspect,
        tuple(shops),
        cars,
        base,
        front,
        number,
        plate,
        rng.choice(sorted(looks.SKIES)),
        tuple(lamps),
        tuple(planters),
        (pick(rng, fonts, "sans"), pick(rng, fonts, "sans"), pick(rng, fonts, "plate")),
        difficulty.contrast,
        rng.getrandbits(31),
    )


def _park(rng: random.Random, family: str, across: float, width: float) -> tuple[_Car, ...]:
    count = min(len(COLORS) - 1, max(2, int(across / (width * 1.16))))
    slot = across / count
    colors = rng.sample(sorted(COLORS), count)
    if family == "count":
        # One color comes up to three times.
        again = rng.sample(range(count), min(rng.randint(1, 3), count))
        for k in again:
            colors[k] = colors[again[0]]
    cars = []
    for k, color in enumerate(colors):
        plate = "".join([*rng.sample(_LETTERS, 2), *rng.sample(_DIGITS, 2)])
        shift = (slot - width) * rng.uniform(-0.25, 0.25)
        cars.append(_Car((k + 0.5) * slot + shift, color, plate, rng.randrange(6)))
    return tuple(cars)


def draw(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]
) -> tuple[Street, Task]:
    """A street with a question of `family`."""
    street = _lay_out(rng, family, aspect, difficulty, fonts)
    return street, _ask(rng, family, street)


def _ask(rng: random.Random, family: str, street: Street) -> Task:
    bodies = street.bodies()
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
    things, noun = street.doors(), "number"
    if family not in ("compare", "arithmetic") and rng.random() < 0.5:
        things, noun = street.parked(), "plate"
    return readings.ask(rng, family, things, noun, aspect=street.aspect)


STREET = World("street", "a street of shop fronts and parked cars", _FAMILIES, draw)
