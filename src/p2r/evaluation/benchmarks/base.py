"""What a benchmark is: questions that are read first, without images, and images that are read late.

A run first reads all rows as texts (ids, questions, gold answers). This finds the rows that cannot be read,
gives the data a fingerprint and chooses the questions. Each image is read by the worker that asks its
question, so that memory does not grow with the benchmark.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from p2r.types import Sample


@dataclass(frozen=True, slots=True)
class Entry:
    """One question of a benchmark, before its image is read.

    Attributes:
        sample: the question and its gold answer; the question's image is empty (`b""`). Gold boxes that are
            given in pixels are missing too, because they need the size of the image.
        tags: what else tables are broken down by, for example `{"rotation": "2"}`. The tag `cluster` names
            questions whose answers are not independent.
    """

    sample: Sample
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id of the question."""
        return self.sample.question.id


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that holds no valid question: its options or its answer cannot be read. It is not asked."""

    row: str  # `row 12`, or a file
    reason: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a benchmark's table of results."""

    headings: dict[str, str] = field(default_factory=dict)  # category → heading, in the order of the columns
    sections: str = ""  # the tag whose values get an average column each, for example `task`
    breakdowns: tuple[str, ...] = ()  # tags that get a table of their own


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A source of questions. Its two iterators run over the same rows in the same order.

    `entries` reads all rows without their images, and raises InputError when the data cannot be read.
    `loaders` gives for each row a function that returns the whole sample, or raises InputError.
    """

    name: str  # on the command line
    source: str  # a path, a hub id with its revision, or how the questions are generated
    layout: Layout
    has_boxes: bool  # whether gold boxes are known
    entries: Callable[[], Iterator[Entry | Unreadable]]
    loaders: Callable[[], Iterator[Callable[[], Sample]]]


@dataclass(frozen=True, slots=True)
class Selection:
    """The questions of a run, chosen before anything is asked.

    Attributes:
        benchmark: where they come from.
        entries: row number → question, in the order of the rows. Ids are unique: a name that occurs again
            gets `#2`, `#3`, …
        fingerprints: for each row, twelve hex digits over all rows up to it (texts, options, gold answers),
            chosen or not: equal fingerprints mean equal questions.
        unreadable: the rows that cannot be asked.
    """

    benchmark: Benchmark
    entries: Mapping[int, Entry]
    fingerprints: tuple[str, ...]
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def total(self) -> int:
        """The number of rows, with those that cannot be asked."""
        return len(self.fingerprints)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all rows."""
        return self.fingerprints[-1]

    def tasks(self, skip: Callable[[str], bool]) -> Iterator[tuple[Entry, Callable[[], Sample]]]:
        """The chosen questions whose ids `skip` does not refuse, each with the loader of its sample."""
        left = {row for row, entry in self.entries.items() if not skip(entry.id)}
        for row, load in enumerate(self.benchmark.loaders() if left else ()):
            if row in left:
                yield self.entries[row], load
                left.discard(row)
                if not left:
                    return


def select(benchmark: Benchmark, *, limit: int | None = None, seed: int = 0) -> Selection:
    """Read every row and choose the questions of a run.

    Args:
        benchmark: where they come from.
        limit: how many to choose, at random; None for all. The choice depends on the ids and the seed only,
            so that a larger limit asks the same questions and more.
        seed: picks another choice.

    Raises:
        InputError: the data cannot be read, or no row of it.
    """
    entries: dict[int, Entry] = {}
    unreadable: list[Unreadable] = []
    fingerprints: list[str] = []
    seen: Counter[str] = Counter()
    digest = hashlib.sha256()
    for row, entry in enumerate(benchmark.entries()):
        if isinstance(entry, Unreadable):
            unreadable.append(entry)
            digest.update(entry.reason.encode())
        else:
            digest.update(_canonical(entry).encode())
            name = entry.id or str(row)
            seen[name] += 1
            unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
            entries[row] = replace(entry, sample=with_question(entry.sample, id=unique))
        fingerprints.append(digest.hexdigest()[:12])
    if not entries:
        cause = ""
        if unreadable:
            first = f"{unreadable[0].row}: {unreadable[0].reason}"
            cause = f": none of the {len(unreadable)} rows can be read, for example {first}"
        raise InputError(f"{benchmark.name}: {benchmark.source} holds no questions{cause}")
    rows = sorted(entries, key=lambda row: hashlib.sha256(f"{seed}:{entries[row].id}".encode()).digest())
    chosen = {row: entries[row] for row in sorted(rows[:limit])}
    return Selection(benchmark, chosen, tuple(fingerprints), tuple(unreadable))


def with_question(sample: Sample, **changes: Any) -> Sample:
    """The same sample with other fields of its question, such as `image` or `id`."""
    return replace(sample, question=replace(sample.question, **changes))


def _canonical(entry: Entry) -> str:
    sample, question = entry.sample, entry.sample.question
    boxes = sample.boxes and [box.as_tuple() for box in sample.boxes]
    facts = [question.id, question.text, question.choices, question.answer_type, sample.answer, boxes]
    return json.dumps([*facts, sample.category, sample.aliases], ensure_ascii=False)
