"""Seeded samples of three splits, from any world.

`train`, `validation` and `test` never overlap: the random stream of a sample is seeded by the number
`(seed · 2³² + index) · 4 + split`, which no two splits share, and each split has its own fonts.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2r.errors import InputError
from p2r.scenes.chart import CHART
from p2r.scenes.fonts import FONTS, SPLITS, Split
from p2r.scenes.form import FORM
from p2r.scenes.map import MAP
from p2r.scenes.panel import PANEL
from p2r.scenes.shelf import SHELF
from p2r.scenes.street import STREET
from p2r.scenes.tag_questions import TAGS
from p2r.scenes.world import Difficulty, Scene, Task, World
from p2r.types import Box, Question, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

WORLDS: dict[str, World] = {world.name: world for world in (TAGS, STREET, SHELF, FORM, MAP, PANEL, CHART)}
# Of all worlds.
FAMILIES: tuple[str, ...] = tuple(
    dict.fromkeys(family for world in WORLDS.values() for family in world.families)
)
# The size of a 16:9 image; other aspects keep its area.
SIZES: dict[str, tuple[int, int]] = {
    "2k": (2560, 1440),
    "4k": (3840, 2160),
    "8k": (7680, 4320),
    "16k": (15360, 8640),
}
ASPECTS: tuple[float, ...] = (16 / 9, 16 / 9, 3 / 2, 4 / 3, 1.0, 3 / 4, 2 / 3)
# Larger images are drawn in strips of about this many pixels, and from the second number on written as TIFF.
_STRIP_PIXELS, JPEG_PIXELS = 9_000_000, 150_000_000
_MAX_COUNT = 2**32
USUAL = Difficulty()


@dataclass(frozen=True, slots=True)
class SceneSample:
    """A scene with a question about it.

    Attributes:
        id: `SPLIT-SEED-INDEX`, behind the world's name and a hyphen unless it is `tags`.
        scene, task: the scene and the question.
        size: (width, height) of the image in pixels.
        world: the name of its world.
        difficulty: of its evidence.
    """

    id: str
    scene: Scene
    task: Task
    size: tuple[int, int]
    world: str = "tags"
    difficulty: Difficulty = USUAL

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The gold boxes, 0–1000, in the order in which the question names the objects."""
        return tuple(target.box for target in self.task.targets)

    def render(self) -> np.ndarray:
        """The image at full size: RGB, uint8, (height, width, 3)."""
        strips = list(self.strips())
        return strips[0] if len(strips) == 1 else np.concatenate(strips)

    def strips(self, rows: int | None = None) -> Iterator[np.ndarray]:
        """The image from top to bottom, in strips of its full width and some rows; most images are one."""
        width, height = self.size
        rows = rows or math.ceil(height / math.ceil(width * height / _STRIP_PIXELS))
        for top, bottom in itertools.pairwise((*range(0, height, rows), height)):
            yield self.scene.render((width, bottom - top), (0.0, top / height, 1.0, bottom / height))

    @property
    def file(self) -> str:
        """The path of the image in a folder of scenes."""
        width, height = self.size
        return f"images/{self.id}-{width}x{height}.{'jpg' if width * height <= JPEG_PIXELS else 'tif'}"

    def row(self) -> dict[str, Any]:
        """A line of `samples.jsonl`.

        `id, image, question, choices, answer_type, answer, boxes, family`; `world` unless it is `tags`, and
        `difficulty` unless it is the usual one.
        """
        row = {"id": self.id, "image": self.file, **self.task.row()}
        if self.world != "tags":
            row["world"] = self.world
        if self.difficulty != USUAL:
            row["difficulty"] = asdict(self.difficulty)
        return row

    def sample(self, image: str | np.ndarray | None = None) -> Sample:
        """The question with its gold answer, about `image` (a fresh rendering by default)."""
        task = self.task
        image = self.render() if image is None else image
        question = Question(image, task.text, task.choices, task.answer_type, self.id)
        return Sample(question, task.answer, self.boxes, task.family)


def make_sample(
    split: Split,
    index: int,
    *,
    seed: int = 0,
    size: str = "4k",
    family: str | None = None,
    world: str = "tags",
    difficulty: Difficulty = USUAL,
) -> SceneSample:
    """Make sample `index` of a split; the same arguments always give the same sample.

    Args:
        split: `train`, `validation` or `test`.
        index: 0 to 2³² − 1.
        seed: picks another series of the same split.
        size: `2k`, `4k`, `8k`, `16k` (several aspect ratios of that area) or `WIDTHxHEIGHT`.
        family: draw this family instead of the usual mixture.
        world: a name in `WORLDS`.
        difficulty: of the evidence.

    Raises:
        InputError: an unknown split, family, size or world, or an index out of range.
    """
    rng = random.Random(stream(split, index, seed))
    exact = parse_size(size)
    aspect = rng.choice(ASPECTS)
    if exact:
        aspect = exact[0] / exact[1]
        if not 0.25 <= aspect <= 4:
            raise InputError(f"size {size!r}: scenes need an aspect ratio between 1:4 and 4:1")
    if world not in WORLDS:
        raise InputError(f"world {world!r}: one of {', '.join(WORLDS)}")
    families = WORLDS[world].families
    drawn = rng.choices(list(families), list(families.values()))[0]
    if family is not None:
        if family not in families:
            raise InputError(f"family {family!r}: one of {', '.join(families)}")
        drawn = family
    scene, task = WORLDS[world].draw(rng, drawn, aspect, difficulty, FONTS[split])
    if exact is None:
        area = math.prod(SIZES[size.lower()])
        exact = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    name = f"{split}-{seed}-{index}" if world == "tags" else f"{world}-{split}-{seed}-{index}"
    return SceneSample(name, scene, task, exact, world, difficulty)


def make_samples(
    split: Split,
    count: int,
    *,
    seed: int = 0,
    size: str = "4k",
    world: str = "tags",
    difficulty: Difficulty = USUAL,
) -> list[SceneSample]:
    """Samples 0 to `count` − 1; see `make_sample`. Several worlds, separated by commas, take turns."""
    names = world.split(",")
    return [
        make_sample(
            split, index, seed=seed, size=size, world=names[index % len(names)], difficulty=difficulty
        )
        for index in range(count)
    ]


def parse_size(text: str) -> tuple[int, int] | None:
    """An exact size such as `1920x1080` as (width, height); None for a name such as `4k`.

    Raises:
        InputError: neither.
    """
    if text.lower() in SIZES:
        return None
    sides = text.lower().split("x")
    if len(sides) == 2 and all(
        side.isdecimal() and len(side) < 6 and 256 <= int(side) <= 32768 for side in sides
    ):
        return int(sides[0]), int(sides[1])
    raise InputError(f"size {text!r}: give {', '.join(SIZES)}, or WIDTHxHEIGHT with sides of 256 to 32768")


def stream(split: Split, index: int, seed: int) -> int:
    """The number that seeds the random stream of a sample; injective, and disjoint between splits."""
    if split not in SPLITS:
        raise InputError(f"split {split!r}: one of {', '.join(SPLITS)}")
    if not 0 <= index < _MAX_COUNT or not 0 <= seed < _MAX_COUNT:
        raise InputError(f"index {index} or seed {seed} is outside 0–{_MAX_COUNT - 1}")
    return (seed * _MAX_COUNT + index) * 4 + SPLITS.index(split)
