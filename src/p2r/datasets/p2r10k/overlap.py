"""Which rows ask what a benchmark asks, or show what it shows: its figures would be worth less."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2r.datasets.p2r10k.images import distance, look_of
from p2r.errors import InputError, file_problem
from p2r.evaluation.benchmarks import Unreadable, open_benchmark
from p2r.images import ImageSource
from p2r.runs.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from p2r.evaluation.benchmarks import Benchmark

SAME_LOOK = 6  # of 64 bits; unrelated images differ in 32 on average, with a standard deviation of 4


@dataclass(frozen=True, slots=True)
class Reference:
    """What a benchmark asks and shows.

    Attributes:
        name: of the benchmark.
        source: where it was read.
        questions: its questions, as `plain` writes them.
        looks: perceptual hashes of its images, uint64; those that cannot be read are missing.
        ids: of the questions that the images belong to.
        unreadable: how many images could not be read.
    """

    name: str
    source: str
    questions: frozenset[str]
    looks: np.ndarray
    ids: tuple[str, ...]
    unreadable: int

    def shows(self, look: int) -> str | None:
        """The question whose image looks the same; None for none."""
        if not len(self.looks):
            return None
        distances = distance(look, self.looks)
        nearest = int(distances.argmin())
        return self.ids[nearest] if distances[nearest] <= SAME_LOOK else None

    def asks(self, question: str) -> bool:
        """Whether it asks the same, but for case, spacing and punctuation."""
        return plain(question) in self.questions


def plain(text: str) -> str:
    """A question without case, spacing and punctuation."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def read_reference(
    name: str, data: str | None, cache: Path, on_question: Callable[[], None] | None = None
) -> Reference:
    """Read a benchmark and hash its images, or take what was hashed before.

    Args:
        name: of the benchmark, as `p2r eval` knows it.
        data: a file, a folder or a hub id; None for where it is published.
        cache: a file that keeps the hashes, so that a build that was stopped goes on.
        on_question: is told of each question.

    Raises:
        InputError: an unknown benchmark, or data that cannot be read.
    """
    benchmark = open_benchmark(name, data)
    kept = _read(cache) if cache.is_file() else {}
    if kept.get("source") != benchmark.source:
        kept = _hashed(benchmark, on_question)
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache, kept)
    return Reference(
        name,
        kept["source"],
        frozenset(kept["questions"]),
        np.array(kept["looks"], dtype=np.uint64),
        tuple(kept["ids"]),
        kept["unreadable"],
    )


def _hashed(benchmark: Benchmark, on_question: Callable[[], None] | None) -> dict[str, Any]:
    questions: set[str] = set()
    looks: list[int] = []
    ids: list[str] = []
    unreadable = 0
    for entry, load in zip(benchmark.entries(), benchmark.loaders(), strict=True):
        if isinstance(entry, Unreadable):
            continue
        questions.add(plain(entry.sample.question.text))
        try:
            looks.append(look_of(ImageSource.open(load().question.image)))
            ids.append(entry.sample.question.id)
        except InputError:
            unreadable += 1
        if on_question:
            on_question()
    found = {"questions": sorted(questions), "looks": looks, "ids": ids, "unreadable": unreadable}
    return {"source": benchmark.source, **found}


def _read(cache: Path) -> dict[str, Any]:
    try:
        data = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{cache}: {file_problem(error)}; delete it to read the benchmark again") from error
    if not isinstance(data, dict):
        raise InputError(f"{cache}: an object is needed; delete it to read the benchmark again")
    return data
