"""The benchmarks of the paper, the project's own scenes, and the user's own questions.

base           what a benchmark is, and the choice of the questions of a run
tabular        benchmarks that are released as tables; hrbench has more than a table of columns
vstar_folder   V* with gold boxes
own            scenes and JSON lines
"""

from __future__ import annotations

from p2r.errors import InputError
from p2r.evaluation.benchmarks.base import Benchmark, Entry, Layout, Selection, Unreadable, named, select
from p2r.evaluation.benchmarks.hrbench import open_hrbench
from p2r.evaluation.benchmarks.own import GeneratedScenes, SampleFile
from p2r.evaluation.benchmarks.tabular import RELEASES, Tabular
from p2r.evaluation.benchmarks.vstar_folder import VStarFolder

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Entry",
    "Layout",
    "Selection",
    "Unreadable",
    "named",
    "open_benchmark",
    "select",
]

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
        return GeneratedScenes(count, seed, size)
    if name in ("scenes", "jsonl"):
        return SampleFile(data, name)
    if name in RELEASES:
        return Tabular(name, data, RELEASES[name])
    if name == "vstar-boxes":
        return VStarFolder(data, seed)
    if name.startswith("hrbench-") and name in BENCHMARKS:
        return open_hrbench(data, name.removeprefix("hrbench-"))
    raise InputError(f"unknown benchmark {name!r}: one of {', '.join(BENCHMARKS)}")
