"""Questions that need no download: generated scenes, folders of `p2r scenes`, and the user's own JSON lines.

The JSON lines are those of sample files: `id, image, question, choices, answer_type, answer, boxes,
family`, with images relative to the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.evaluation.benchmarks.base import Entry, Layout
from p2r.scenes import FAMILIES, make_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from p2r.types import Sample

# What `p2r scenes` writes its images with: generated and written scenes are the same bytes.
_JPEG_QUALITY = 92
SCENE_LAYOUT = Layout(headings={name: name.capitalize() for name in FAMILIES})


@dataclass(frozen=True, slots=True)
class Scenes:
    """Generated test scenes, drawn when their turn comes.

    Attributes:
        count: how many.
        seed: picks another series of test scenes.
        size: `2k`, `4k`, `8k` or `WIDTHxHEIGHT`.
    """

    count: int
    seed: int
    size: str
    name: str = "scenes"
    layout: Layout = SCENE_LAYOUT
    has_boxes: bool = True

    @property
    def source(self) -> str:
        """How they are generated."""
        return f"generated, split test, seed {self.seed}, size {self.size}"

    def entries(self) -> Iterator[Entry]:
        """All questions; nothing is drawn."""
        for index in range(self.count):
            made = make_sample("test", index, seed=self.seed, size=self.size)
            yield Entry(_with_image(made.sample(""), b""))

    def loaders(self) -> Iterator[Callable[[], Sample]]:
        """For each question, a function that draws its image, as the JPEG that `p2r scenes` would write."""
        for index in range(self.count):
            yield partial(_draw, index, self.seed, self.size)


def _draw(index: int, seed: int, size: str) -> Sample:
    import pyvips

    made = make_sample("test", index, seed=seed, size=size)
    jpeg = pyvips.Image.new_from_array(made.render()).jpegsave_buffer(Q=_JPEG_QUALITY)
    return _with_image(made.sample(""), jpeg)


def _with_image(sample: Sample, image: bytes) -> Sample:
    return replace(sample, question=replace(sample.question, image=image))


@dataclass(frozen=True, slots=True)
class Listed:
    """The questions of a JSON-lines file.

    Attributes:
        name: `jsonl`, or `scenes` for a folder of `p2r scenes`.
        path: the file.
        samples: what it holds; images are paths.
        layout: how the table is laid out.
    """

    name: str
    path: Path
    samples: tuple[Sample, ...]
    layout: Layout

    @property
    def source(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def has_boxes(self) -> bool:
        """Whether any question comes with gold boxes."""
        return any(sample.boxes is not None for sample in self.samples)

    def entries(self) -> Iterator[Entry]:
        """All questions."""
        for sample in self.samples:
            yield Entry(_with_image(sample, b""))

    def loaders(self) -> Iterator[Callable[[], Sample]]:
        """For each question, a function that gives it; the image stays a path."""
        for sample in self.samples:
            yield partial(_itself, sample)


def _itself(sample: Sample) -> Sample:
    return sample


def open_listed(data: str | None, name: str) -> Listed:
    """A JSON-lines file, or a folder that holds `samples.jsonl`.

    Raises:
        InputError: no file was given, or it cannot be read.
    """
    if data is None:
        raise InputError(f"benchmark {name} needs --data FILE.jsonl, or a folder with samples.jsonl")
    path = Path(data).expanduser()
    if path.is_dir():
        path /= "samples.jsonl"
    layout = SCENE_LAYOUT if name == "scenes" else Layout()
    return Listed(name, path, tuple(read_samples(path)), layout)
