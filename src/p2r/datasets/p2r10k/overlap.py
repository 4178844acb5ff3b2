"""What the samples share with a benchmark: its questions, and images that look like its images."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2r.datasets.p2r10k.images import distance, perceptual_hash
from p2r.errors import InputError
from p2r.images import ImageSource
from p2r.runs.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from p2r.types import Question, Sample

SAME_LOOK = 6  # of 64 bits; unrelated images differ in 32 on average, with a standard deviation of 4


@dataclass(frozen=True, slots=True)
class Reference:
    """The questions and images of a benchmark."""

    source: str  # where it was read
    questions: frozenset[str]  # its questions, as `plain` writes them
    looks: np.ndarray  # perceptual hashes of its images, uint64; those that cannot be read are missing
    ids: tuple[str, ...]  # of the questions that the images belong to
    unreadable: int  # how many images could not be read

    def shows(self, look: str) -> str | None:
        """The question whose image looks the same as that of a hash (16 hex digits); None for none."""
        if not len(self.looks):
            return None
        distances = distance(int(look, 16), self.looks)
        nearest = int(distances.argmin())
        return self.ids[nearest] if distances[nearest] <= SAME_LOOK else None

    def asks(self, question: str) -> bool:
        """Whether it asks the same, but for case, spacing and punctuation."""
        return plain(question) in self.questions


def plain(text: str) -> str:
    """A question without case, spacing and punctuation."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def read_reference(
    source: str,
    questions: Iterable[tuple[Question, Callable[[], Sample]]],
    cache: Path,
    on_question: Callable[[], None] | None = None,
) -> Reference:
    """Hash the images of a benchmark, or take what was hashed before.

    Args:
        source: of the benchmark.
        questions: each with a function that loads its image.
        cache: a file that keeps the hashes, so that a build that was stopped can continue.
        on_question: called after each question.

    Raises:
        InputError: the benchmark or the cache cannot be read.
    """
    hashed = read_json(cache, hint="delete it to read the benchmark again") if cache.is_file() else {}
    if hashed.get("source") != source:
        hashed = {"source": source, **_hashed(questions, on_question)}
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache, hashed)
    return Reference(
        source,
        frozenset(hashed["questions"]),
        np.array(hashed["looks"], dtype=np.uint64),
        tuple(hashed["ids"]),
        hashed["unreadable"],
    )


def _hashed(
    questions: Iterable[tuple[Question, Callable[[], Sample]]], on_question: Callable[[], None] | None
) -> dict[str, Any]:
    texts: set[str] = set()
    looks: list[int] = []
    ids: list[str] = []
    unreadable = 0
    for question, load in questions:
        texts.add(plain(question.text))
        try:
            looks.append(perceptual_hash(ImageSource.open(load().question.images[0])))
            ids.append(question.id)
        except InputError:
            unreadable += 1
        if on_question:
            on_question()
    return {"questions": sorted(texts), "looks": looks, "ids": ids, "unreadable": unreadable}
