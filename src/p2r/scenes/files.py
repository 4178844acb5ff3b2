"""Seeded samples of three splits, and folders of scenes.

`train`, `validation` and `test` never overlap: the random stream of a sample is seeded by the number
`(seed · 2³² + index) · 4 + split`, which no two splits share.
"""

from __future__ import annotations

import json
import math
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyvips

from p2r.errors import InputError, file_problem
from p2r.runs.files import claim, folder_lock, replacing
from p2r.scenes.drawing import render
from p2r.scenes.questions import FAMILIES, WEIGHTS, Task, draw_scene, draw_task
from p2r.types import Box, Question, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np

    from p2r.scenes.layout import Scene

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
# The size of a 16:9 image; other aspects keep its area.
SIZES: dict[str, tuple[int, int]] = {"2k": (2560, 1440), "4k": (3840, 2160), "8k": (7680, 4320)}
ASPECTS: tuple[float, ...] = (16 / 9, 16 / 9, 3 / 2, 4 / 3, 1.0, 3 / 4, 2 / 3)
QUALITY = 92  # of the JPEG files
_MAX_COUNT = 2**32


@dataclass(frozen=True, slots=True)
class SceneSample:
    """A scene with a question about it.

    Attributes:
        id: `SPLIT-SEED-INDEX`.
        scene, task: the scene and the question.
        size: (width, height) of the image in pixels.
    """

    id: str
    scene: Scene
    task: Task
    size: tuple[int, int]

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The gold boxes, 0–1000, in the order in which the question names the objects."""
        return tuple(target.box(self.scene.aspect) for target in self.task.targets)

    def render(self) -> np.ndarray:
        """The image at full size: RGB, uint8, (height, width, 3)."""
        return render(self.scene, self.size)

    @property
    def file(self) -> str:
        """The path of the image in a folder of scenes."""
        return f"images/{self.id}-{self.size[0]}x{self.size[1]}.jpg"

    def row(self) -> dict[str, Any]:
        """A line of `samples.jsonl`: `id, image, question, choices, answer_type, answer, boxes, family`."""
        return {
            "id": self.id,
            "image": self.file,
            "question": self.task.text,
            "choices": list(self.task.choices),
            "answer_type": self.task.answer_type,
            "answer": self.task.answer,
            "boxes": [list(box.as_tuple()) for box in self.boxes],
            "family": self.task.family,
        }

    def sample(self, image: str | np.ndarray | None = None) -> Sample:
        """The question with its gold answer, about `image` (a fresh rendering by default)."""
        task = self.task
        image = self.render() if image is None else image
        question = Question(image, task.text, task.choices, task.answer_type, self.id)
        return Sample(question, task.answer, self.boxes, task.family)


def parse_size(text: str) -> tuple[int, int] | None:
    """An exact size such as `1920x1080` as (width, height); None for `2k`, `4k` and `8k`.

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


def make_sample(
    split: Split, index: int, *, seed: int = 0, size: str = "4k", family: str | None = None
) -> SceneSample:
    """Make sample `index` of a split; the same arguments always give the same sample.

    Args:
        split: `train`, `validation` or `test`.
        index: 0 to 2³² − 1.
        seed: picks another series of the same split.
        size: `2k`, `4k`, `8k` (several aspect ratios of that area) or `WIDTHxHEIGHT`.
        family: draw this family instead of the usual mixture.

    Raises:
        InputError: an unknown split, family or size, or an index out of range.
    """
    rng = random.Random(stream(split, index, seed))
    exact = parse_size(size)
    aspect = rng.choice(ASPECTS)
    if exact:
        aspect = exact[0] / exact[1]
        if not 0.25 <= aspect <= 4:
            raise InputError(f"size {size!r}: scenes need an aspect ratio between 1:4 and 4:1")
    drawn = rng.choices(FAMILIES, WEIGHTS)[0]
    if family is not None:
        if family not in FAMILIES:
            raise InputError(f"family {family!r}: one of {', '.join(FAMILIES)}")
        drawn = FAMILIES[FAMILIES.index(family)]
    scene = draw_scene(rng, drawn, aspect)
    task = draw_task(rng, drawn, scene)
    if exact is None:
        area = math.prod(SIZES[size.lower()])
        exact = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return SceneSample(f"{split}-{seed}-{index}", scene, task, exact)


def stream(split: Split, index: int, seed: int) -> int:
    """The number that seeds the random stream of a sample; injective, and disjoint between splits."""
    if split not in SPLITS:
        raise InputError(f"split {split!r}: one of {', '.join(SPLITS)}")
    if not 0 <= index < _MAX_COUNT or not 0 <= seed < _MAX_COUNT:
        raise InputError(f"index {index} or seed {seed} is outside 0–{_MAX_COUNT - 1}")
    return (seed * _MAX_COUNT + index) * 4 + SPLITS.index(split)


def draw_files(jobs: Sequence[tuple[SceneSample, Path]], *, workers: int = 1) -> Iterator[None]:
    """Draw each scene into its file, unless it exists. Yields after each, in order; no file is half written.

    Raises:
        OSError, pyvips.Error: a file cannot be written.
    """
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(_draw, jobs)


def _draw(job: tuple[SceneSample, Path]) -> None:
    made, path = job
    if not path.exists():
        with replacing(path) as partial:
            pyvips.Image.new_from_array(made.render()).write_to_file(str(partial), Q=QUALITY)


def write_scenes(
    out: Path, *, split: Split, size: str, count: int, seed: int = 0, workers: int = 1
) -> Iterator[SceneSample]:
    """Write `images/*.jpg` and `samples.jsonl`, yielding each sample when it is on disk.

    Existing files are kept, so an interrupted call continues, and so does one with a larger `count`.

    Args:
        out: the folder.
        split, size, seed: as of `make_sample`.
        count: samples 0 to `count` − 1.
        workers: threads; almost all of the time passes in libvips.

    Raises:
        InputError: the folder holds other samples or cannot be written, or an argument is out of range.
    """
    made = [make_sample(split, index, seed=seed, size=size) for index in range(count)]
    rows = [json.dumps(one.row(), ensure_ascii=False) + "\n" for one in made]
    listed = out / "samples.jsonl"
    claim(out, listed.name, ("images",))
    try:
        _check_rows(listed, rows)
        with folder_lock(out), listed.open("r+" if listed.exists() else "w", encoding="utf-8") as lines:
            _check_rows(listed, rows)
            (out / "images").mkdir(exist_ok=True)
            drawn = draw_files([(one, out / one.file) for one in made], workers=workers)
            for one, row, _ in zip(made, rows, drawn, strict=True):
                lines.write(row)
                yield one
    except UnicodeDecodeError:
        raise InputError(f"{listed}: it is no file of scenes; give another folder") from None
    except OSError as error:
        raise InputError(f"cannot write scenes to {out}: {file_problem(error)}") from error
    except pyvips.Error as error:
        raise InputError(f"cannot write scenes to {out}: {error}") from error


def _check_rows(listed: Path, rows: Sequence[str]) -> None:
    before = listed.read_text(encoding="utf-8") if listed.exists() else ""
    if not "".join(rows).startswith(before):
        raise InputError(f"{listed}: there are other samples, or more; give another folder")
