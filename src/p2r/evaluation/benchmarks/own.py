"""Questions that need no download: generated scenes, folders of `p2r scenes`, and the user's own JSON lines.

The JSON lines are those of sample files: `id, image, question, choices, answer_type, answer, boxes,
family`, with images relative to the file.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.evaluation.benchmarks.base import Benchmark, Entry, Layout, with_image
from p2r.scenes import FAMILIES, make_sample

if TYPE_CHECKING:
    from p2r.scenes import SceneSample
    from p2r.types import Sample

# The quality that `p2r scenes` writes its images with: generated and written scenes are the same bytes.
_JPEG_QUALITY = 92
SCENE_LAYOUT = Layout(headings={name: name.capitalize() for name in FAMILIES})


def open_scenes(count: int, seed: int, size: str) -> Benchmark:
    """Generated test scenes, each drawn when its question is asked.

    Args:
        count: how many.
        seed: picks another series of test scenes.
        size: `2k`, `4k`, `8k` or `WIDTHxHEIGHT`.
    """

    def make(index: int) -> SceneSample:
        return make_sample("test", index, seed=seed, size=size)

    def draw(index: int) -> Sample:
        import pyvips

        made = make(index)
        jpeg = pyvips.Image.new_from_array(made.render()).jpegsave_buffer(Q=_JPEG_QUALITY)
        return with_image(made.sample(""), jpeg)

    return Benchmark(
        name="scenes",
        source=f"generated, split test, seed {seed}, size {size}",
        layout=SCENE_LAYOUT,
        has_boxes=True,
        entries=lambda: (Entry(with_image(make(index).sample(""), b"")) for index in range(count)),
        loaders=lambda: (partial(draw, index) for index in range(count)),
    )


def open_samples(data: str | None, name: str) -> Benchmark:
    """The questions of a JSON-lines file, or of a folder that holds `samples.jsonl`.

    Args:
        data: the file or folder.
        name: `jsonl`, or `scenes` for a folder of `p2r scenes`.

    Raises:
        InputError: no file was given, or it cannot be read.
    """
    if data is None:
        raise InputError(f"benchmark {name} needs --data FILE.jsonl, or a folder with samples.jsonl")
    path = Path(data).expanduser()
    if path.is_dir():
        path /= "samples.jsonl"
    samples = read_samples(path)
    return Benchmark(
        name=name,
        source=str(path),
        layout=SCENE_LAYOUT if name == "scenes" else Layout(),
        has_boxes=any(sample.boxes is not None for sample in samples),
        entries=lambda: (Entry(with_image(sample, b"")) for sample in samples),
        loaders=lambda: (partial(_itself, sample) for sample in samples),
    )


def _itself(sample: Sample) -> Sample:
    return sample
