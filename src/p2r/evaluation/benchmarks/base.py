"""What a benchmark is: questions that are known before any image is read, and images that are read late.

A run first goes over all entries (text only: ids, questions, gold answers), which sorts out the rows that
cannot be read, fingerprints the data and chooses the questions. Images are read and decoded one by one
afterwards, in the worker that asks the question, so that memory does not grow with the benchmark.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

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
            questions whose answers go together.
    """

    sample: Sample
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that no question can be made of: its options or its answer make no sense. It is not asked.

    Attributes:
        row: which one, for people: `row 12`, or a file.
        reason: what is wrong with it.
    """

    row: str
    reason: str


@dataclass(frozen=True, slots=True)
class Layout:
    """How the table of a benchmark is laid out, as far as the paper or the benchmark's authors say.

    Attributes:
        headings: category → heading, in the order of the columns; other categories follow under their name.
        sections: the tag whose values get an average column each, for example `task`; empty for none.
        breakdowns: tags that get a table of their own.
    """

    headings: Mapping[str, str] = field(default_factory=dict)
    sections: str = ""
    breakdowns: tuple[str, ...] = ()


class Benchmark(Protocol):
    """A source of questions. Its two iterators run over the same rows in the same order."""

    @property
    def name(self) -> str:
        """The name on the command line."""
        ...

    @property
    def source(self) -> str:
        """Where the rows come from: a path, a hub id with its revision, or how they are generated."""
        ...

    @property
    def layout(self) -> Layout:
        """How its table is laid out."""
        ...

    @property
    def has_boxes(self) -> bool:
        """Whether gold boxes are known."""
        ...

    def entries(self) -> Iterator[Entry | Unreadable]:
        """All rows without their images.

        Raises:
            InputError: the data cannot be read, or a column is missing; names it.
        """
        ...

    def loaders(self) -> Iterator[Callable[[], Sample]]:
        """For each row, a function that reads its image and gives the whole sample.

        Calling one raises InputError when its image cannot be used.
        """
        ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """A question that takes part in a run.

    Attributes:
        id: unique in the benchmark; a name that occurs again gets `#2`, `#3`, …
        entry: what is known before the image is read.
    """

    id: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Selection:
    """The questions of a run, chosen before anything is asked.

    Attributes:
        benchmark: where they come from.
        chosen: row number → question, in the order of the rows.
        fingerprints: for each number of rows, twelve hex digits over so many first rows (texts, options, gold
            answers), whether chosen or not: equal fingerprints mean equal questions.
        unreadable: the rows that cannot be asked.
    """

    benchmark: Benchmark
    chosen: Mapping[int, Chosen]
    fingerprints: tuple[str, ...]
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def total(self) -> int:
        """How many rows the benchmark has, with those that cannot be asked."""
        return len(self.fingerprints)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all rows."""
        return self.fingerprints[-1]

    def tasks(self, skip: Callable[[str], bool]) -> Iterator[tuple[Chosen, Callable[[], Sample]]]:
        """The chosen questions that `skip` does not refuse, each with its loader."""
        left = {row for row, chosen in self.chosen.items() if not skip(chosen.id)}
        if not left:
            return
        for row, load in enumerate(self.benchmark.loaders()):
            if row in left:
                yield self.chosen[row], load
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
    entries: dict[int, Chosen] = {}
    unreadable: list[Unreadable] = []
    fingerprints: list[str] = []
    seen: Counter[str] = Counter()
    digest = hashlib.sha256()
    for row, entry in enumerate(benchmark.entries()):
        if isinstance(entry, Unreadable):
            unreadable.append(entry)
            digest.update(entry.reason.encode())
        else:
            name = entry.sample.question.id or str(row)
            seen[name] += 1
            unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
            entries[row] = Chosen(unique, entry)
            digest.update(_canonical(entry).encode())
        fingerprints.append(digest.hexdigest()[:12])
    if not entries:
        cause = f": none of the {len(unreadable)} rows can be read" if unreadable else ""
        first = f", for example {unreadable[0].row}: {unreadable[0].reason}" if unreadable else ""
        raise InputError(f"{benchmark.name}: {benchmark.source} holds no questions{cause}{first}")
    rows = sorted(sorted(entries, key=lambda row: _lot(entries[row].id, seed))[:limit])
    chosen = {row: entries[row] for row in rows}
    return Selection(benchmark, chosen, tuple(fingerprints), tuple(unreadable))


def named(sample: Sample, name: str) -> Sample:
    """The same sample under the id that it has in the run."""
    return replace(sample, question=replace(sample.question, id=name))


def _lot(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _canonical(entry: Entry) -> str:
    sample, question = entry.sample, entry.sample.question
    boxes = sample.boxes and [box.as_tuple() for box in sample.boxes]
    facts = [question.id, question.text, question.choices, question.answer_type, sample.answer, boxes]
    return json.dumps([*facts, sample.category, sample.aliases], ensure_ascii=False)
