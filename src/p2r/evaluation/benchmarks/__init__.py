"""The benchmarks of the paper, the project's own scenes, and the user's own questions."""

from __future__ import annotations

from p2r.errors import InputError
from p2r.evaluation.benchmarks.base import (
    Benchmark,
    Chosen,
    Entry,
    Layout,
    Selection,
    Unreadable,
    named,
    select,
)
from p2r.evaluation.benchmarks.hrbench import open_hrbench
from p2r.evaluation.benchmarks.mme_realworld import open_mme_realworld
from p2r.evaluation.benchmarks.own import Scenes, open_listed
from p2r.evaluation.benchmarks.treebench import open_treebench
from p2r.evaluation.benchmarks.visualprobe import open_visualprobe
from p2r.evaluation.benchmarks.vstar import open_vstar, open_vstar_folder
from p2r.evaluation.benchmarks.zoombench import open_zoombench

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Chosen",
    "Entry",
    "Layout",
    "Selection",
    "Unreadable",
    "named",
    "open_benchmark",
    "select",
]

BENCHMARKS: tuple[str, ...] = (
    "scenes",
    "vstar",
    "vstar-boxes",
    "hrbench-4k",
    "hrbench-8k",
    "mme-realworld",
    "mme-realworld-lite",
    "treebench",
    "visualprobe-easy",
    "visualprobe-medium",
    "visualprobe-hard",
    "zoombench",
    "jsonl",
)
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
    variant = name.rpartition("-")[2]
    match name:
        case "scenes" if data is None:
            return Scenes(count, seed, size)
        case "scenes" | "jsonl":
            return open_listed(data, name)
        case "vstar":
            return open_vstar(data)
        case "vstar-boxes":
            return open_vstar_folder(data, seed)
        case "hrbench-4k" | "hrbench-8k":
            return open_hrbench(data, variant)
        case "mme-realworld" | "mme-realworld-lite":
            return open_mme_realworld(data, name)
        case "treebench":
            return open_treebench(data)
        case "visualprobe-easy" | "visualprobe-medium" | "visualprobe-hard":
            return open_visualprobe(data, variant)
        case "zoombench":
            return open_zoombench(data)
    raise InputError(f"unknown benchmark {name!r}: one of {', '.join(BENCHMARKS)}")
