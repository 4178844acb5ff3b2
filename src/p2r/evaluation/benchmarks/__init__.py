"""The benchmarks of the paper, the project's own scenes, and the user's own questions.

base           what a benchmark is, and the choice of the questions of a run
tabular        benchmarks that are released as tables
vstar_folder   V* with gold boxes
own            scenes and JSON lines
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2r.errors import InputError
from p2r.evaluation.benchmarks.own import open_samples, open_scenes
from p2r.evaluation.benchmarks.tabular import RELEASES, open_hrbench, open_table
from p2r.evaluation.benchmarks.vstar_folder import open_vstar_folder

if TYPE_CHECKING:
    from p2r.evaluation.benchmarks.base import Benchmark

BENCHMARKS = ("scenes", "vstar-boxes", "hrbench-4k", "hrbench-8k", *RELEASES, "jsonl")
SCENE_COUNT = 500


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
        return open_scenes(count, seed, size)
    if name in ("scenes", "jsonl"):
        return open_samples(data, name)
    if name in RELEASES:
        return open_table(name, data, RELEASES[name])
    if name == "vstar-boxes":
        return open_vstar_folder(data, seed)
    if name.startswith("hrbench-") and name in BENCHMARKS:
        return open_hrbench(data, name.removeprefix("hrbench-"))
    raise InputError(f"unknown benchmark {name!r}: one of {', '.join(BENCHMARKS)}")
