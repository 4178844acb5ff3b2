"""Questions that need no download: generated scenes, folders of `p2r scenes`, and the user's own JSON lines.

The JSON lines are those of sample files: `id, image, question, choices, answer_type, answer, boxes,
family`, with images relative to the file.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.evaluation.benchmarks.base import Entry, Layout
from p2r.scenes import FAMILIES, make_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from p2r.scenes import SceneSample
    from p2r.types import Sample

# The quality that `p2r scenes` writes its images with: generated and written scenes are the same bytes.
_JPEG_QUALITY = 92
SCENE_LAYOUT = Layout(headings={name: name.capitalize() for name in FAMILIES})


class GeneratedScenes:
    """Generated test scenes, each drawn when its question is asked; see `Benchmark`.

    Args:
        count: how many.
        seed: picks another series of test scenes.
        size: `2k`, `4k`, `8k` or `WIDTHxHEIGHT`.
    """

    name = "scenes"
    layout = SCENE_LAYOUT
    has_boxes = True

    def __init__(self, count: int, seed: int, size: str) -> None:
        self.source = f"generated, split test, seed {seed}, size {size}"
        self._made = [partial(make_sample, "test", index, seed=seed, size=size) for index in range(count)]

    def entries(self) -> Iterator[Entry]:
        """All questions; nothing is drawn."""
        for make in self._made:
            yield Entry(_with_image(make().sample(""), b""))

    def loaders(self) -> Iterator[Callable[[], Sample]]:
        """For each question, a function that draws its image, as the JPEG that `p2r scenes` would write."""
        for make in self._made:
            yield partial(_draw, make)


def _draw(make: Callable[[], SceneSample]) -> Sample:
    import pyvips

    made = make()
    jpeg = pyvips.Image.new_from_array(made.render()).jpegsave_buffer(Q=_JPEG_QUALITY)
    return _with_image(made.sample(""), jpeg)


def _with_image(sample: Sample, image: bytes) -> Sample:
    return replace(sample, question=replace(sample.question, image=image))


class SampleFile:
    """The questions of a JSON-lines file, or of a folder that holds `samples.jsonl`; see `Benchmark`.

    Args:
        data: the file or folder.
        name: `jsonl`, or `scenes` for a folder of `p2r scenes`.

    Raises:
        InputError: no file was given, or it cannot be read.
    """

    def __init__(self, data: str | None, name: str) -> None:
        if data is None:
            raise InputError(f"benchmark {name} needs --data FILE.jsonl, or a folder with samples.jsonl")
        path = Path(data).expanduser()
        if path.is_dir():
            path /= "samples.jsonl"
        self.name = name
        self.source = str(path)
        self.layout = SCENE_LAYOUT if name == "scenes" else Layout()
        self._samples = list(read_samples(path))
        self.has_boxes = any(sample.boxes is not None for sample in self._samples)

    def entries(self) -> Iterator[Entry]:
        """All questions."""
        for sample in self._samples:
            yield Entry(_with_image(sample, b""))

    def loaders(self) -> Iterator[Callable[[], Sample]]:
        """For each question, a function that returns it; the image stays a path."""
        for sample in self._samples:
            yield partial(_itself, sample)


def _itself(sample: Sample) -> Sample:
    return sample
