"""The benchmarks of the paper, the project's own scenes, and the user's own questions.

base           what a benchmark is, and the choice of the questions of a run
tabular        benchmarks that are released as tables
vstar_folder   V* with gold boxes

The questions that need no download are opened here: scenes, and the JSON lines of `p2r.datasets.samples`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.evaluation.benchmarks.base import Benchmark, Entry, Layout, with_question
from p2r.evaluation.benchmarks.tabular import RELEASES, open_hrbench, open_table
from p2r.evaluation.benchmarks.vstar_folder import open_vstar_folder
from p2r.scenes import FAMILIES, make_sample

if TYPE_CHECKING:
    from p2r.scenes import SceneSample
    from p2r.types import Sample

BENCHMARKS = ("scenes", "vstar-boxes", "hrbench-4k", "hrbench-8k", *RELEASES, "jsonl")
SCENE_COUNT = 500
# The quality that `p2r scenes` writes its images with: generated and written scenes are the same bytes.
_JPEG_QUALITY = 92
_SCENE_LAYOUT = Layout(headings={name: name.capitalize() for name in FAMILIES})


def open_benchmark(
    name: str,
    data: str | None = None,
    *,
    seed: int = 0,
    size: str = "4k",
    count: int = SCENE_COUNT,
) -> Benchmark:
    """Open a benchmark.

    Args:
        name: one of `BENCHMARKS`.
        data: a file, a folder or a hub id (`owner/name[@revision]`); None for where it is published.
        seed: shuffles the options of `vstar-boxes` and picks the series of generated scenes.
        size: of generated scenes.
        count: of generated scenes.

    Raises:
        InputError: an unknown name, or data that is not there.
        MissingExtraError: `datasets` is needed and not installed.
    """
    if name == "scenes" and data is None:
        return _open_scenes(count, seed, size)
    if name in ("scenes", "jsonl"):
        return _open_samples(data, name)
    if name in RELEASES:
        return open_table(name, data, RELEASES[name])
    if name == "vstar-boxes":
        return open_vstar_folder(data, seed)
    if name.startswith("hrbench-") and name in BENCHMARKS:
        return open_hrbench(data, name.removeprefix("hrbench-"))
    raise InputError(f"unknown benchmark {name!r}: one of {', '.join(BENCHMARKS)}")


def _open_scenes(count: int, seed: int, size: str) -> Benchmark:
    """Generated test scenes, each drawn when its question is asked."""

    def make(index: int) -> SceneSample:
        return make_sample("test", index, seed=seed, size=size)

    def draw(index: int) -> Sample:
        import pyvips

        made = make(index)
        jpeg = pyvips.Image.new_from_array(made.render()).jpegsave_buffer(Q=_JPEG_QUALITY)
        return with_question(made.sample(""), image=jpeg)

    return Benchmark(
        name="scenes",
        source=f"generated, split test, seed {seed}, size {size}",
        layout=_SCENE_LAYOUT,
        has_boxes=True,
        entries=lambda: (Entry(with_question(make(index).sample(""), image=b"")) for index in range(count)),
        loaders=lambda: (partial(draw, index) for index in range(count)),
    )


def _open_samples(data: str | None, name: str) -> Benchmark:
    """The questions of a JSON-lines file, or of a folder that holds `samples.jsonl`."""
    if data is None:
        raise InputError(f"benchmark {name} needs --data FILE.jsonl, or a folder with samples.jsonl")
    path = Path(data).expanduser()
    if path.is_dir():
        path /= "samples.jsonl"
    samples = read_samples(path)
    return Benchmark(
        name=name,
        source=str(path),
        layout=_SCENE_LAYOUT if name == "scenes" else Layout(),
        has_boxes=any(sample.boxes is not None for sample in samples),
        entries=lambda: (Entry(with_question(sample, image=b"")) for sample in samples),
        loaders=lambda: (partial(_itself, sample) for sample in samples),
    )


def _itself(sample: Sample) -> Sample:
    return sample
