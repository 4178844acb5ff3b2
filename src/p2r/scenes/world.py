"""What a world of scenes is: it draws scenes of one kind, with questions, answers and evidence.

Positions are shares of the image's width and height; lengths are in *units*, the square root of its area, so
that an object of 0.04 units has 4 % of the side. A scene has no resolution: it is drawn at 8K or at a model's
own size, whole or in part, and asks the same of a model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from p2r.errors import InputError
from p2r.types import LETTERS, AnswerType, Box

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from p2r.scenes.fonts import Font

Rect = tuple[float, float, float, float]
"""`(x0, y0, x1, y1)` as shares of width and height."""
WHOLE: Rect = (0.0, 0.0, 1.0, 1.0)


class Scene(Protocol):
    """A scene without resolution; `aspect` is width / height."""

    @property
    def aspect(self) -> float:
        """Width / height."""

    def render(self, size: tuple[int, int], rect: Rect = WHOLE) -> np.ndarray:
        """Draw a part of it: RGB, uint8, (height, width, 3) for `size` = (width, height) in pixels."""


@dataclass(frozen=True, slots=True)
class Target:
    """A piece of evidence: its name, as in the question, and where it is."""

    name: str
    rect: Rect

    @property
    def box(self) -> Box:
        """Its gold box, 0–1000."""
        x0, y0, x1, y1 = (round(1000 * min(1.0, max(0.0, value)), 1) for value in self.rect)
        return Box(x0, y0, x1, y1, self.name)


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard the evidence is to find and to read.

    Attributes:
        size: the side (√area) of what carries the writing, in % of the image's side (√area), 1 to 7;
            None: the world's own sizes.
        contrast: of the writing to what it is written on, 0.1 to 1.
        clutter: how much there is without meaning for the question, 0 to 1.

    Raises:
        InputError: a value out of range.
    """

    size: float | None = None
    contrast: float = 1.0
    clutter: float = 0.5

    def __post_init__(self) -> None:
        sizes = (self.size if self.size is not None else 1.0, 1, 7)
        ranges = {"object size": sizes, "contrast": (self.contrast, 0.1, 1), "clutter": (self.clutter, 0, 1)}
        for name, (value, low, high) in ranges.items():
            if not low <= value <= high:
                raise InputError(f"{name} {value:g}: give a number between {low} and {high}")

    def side(self, rng: random.Random, low: float, high: float) -> float:
        """The side of a carrier in units: as asked for, else between `low` and `high`."""
        drawn = rng.uniform(low, high)  # in both cases, so that the rest of a scene does not depend on it
        return drawn if self.size is None else self.size / 100


@dataclass(frozen=True, slots=True)
class Task:
    """A question about a scene.

    Attributes:
        family: what it takes; one of its world's families.
        text, choices, answer_type: as in `p2r.types.Question`.
        answer: the option's letter, the number or the text.
        targets: the evidence, in the order in which the question names it; empty for the whole image.
        facts: one sentence for each step of the solution; the thinking that nano is taught.
    """

    family: str
    text: str
    choices: tuple[str, ...]
    answer_type: AnswerType
    answer: str
    targets: tuple[Target, ...]
    facts: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """What a line of `samples.jsonl` says of it, behind `id` and `image`."""
        return {
            "question": self.text,
            "choices": list(self.choices),
            "answer_type": self.answer_type,
            "answer": self.answer,
            "boxes": [list(target.box.as_tuple()) for target in self.targets],
            "family": self.family,
        }


@dataclass(frozen=True, slots=True)
class World:
    """A kind of scenes.

    Attributes:
        name, title: for commands, and for documents.
        families: how often each family of questions is drawn, in percent.
        draw: makes a scene with a question from a random stream, a family, an aspect ratio, the
            difficulty and the fonts of a split.
    """

    name: str
    title: str
    families: Mapping[str, int]
    draw: Callable[[random.Random, str, float, Difficulty, Sequence[Font]], tuple[Scene, Task]]


def choice_task(
    rng: random.Random,
    family: str,
    text: str,
    options: Sequence[str],
    targets: Sequence[Target],
    facts: Sequence[str],
) -> Task:
    """A multiple-choice question; the first of `options` is the right one, and they are shuffled."""
    shuffled = list(options)
    rng.shuffle(shuffled)
    letter = LETTERS[shuffled.index(options[0])]
    return Task(family, text, tuple(shuffled), "choice", letter, tuple(targets), tuple(facts))


def share_rect(aspect: float, x0: float, y0: float, x1: float, y1: float) -> Rect:
    """A rectangle given in units, from the top left corner, as shares of width and height."""
    across, down = math.sqrt(aspect), 1 / math.sqrt(aspect)
    return x0 / across, y0 / down, x1 / across, y1 / down
