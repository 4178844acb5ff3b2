"""Draws rows from the sources, reads their images, and writes one set of samples.

OUT/samples.jsonl      the samples, in the format of `p2r.datasets.samples`
OUT/images/SOURCE/     their images; equal ones once
OUT/report.json        what is in it, what was left out and why, what it shares with benchmarks
OUT/build.json         what decides the result: sources, counts, seed
OUT/rows.jsonl         every row that was read, kept or not: a build that was stopped continues from it

Which rows are drawn depends on the seed and their place in the source only. A row that cannot be used is
replaced by the next one drawn.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from p2r.datasets.cells import only_image, pixel_boxes
from p2r.datasets.hub import UnreachableError
from p2r.datasets.p2r10k.images import HashedImage
from p2r.datasets.p2r10k.overlap import plain
from p2r.datasets.p2r10k.sources import SOURCES
from p2r.datasets.tables import Table, require
from p2r.errors import InputError
from p2r.runs.files import (
    claim,
    differences,
    encode_json,
    folder_lock,
    read_json,
    write_error,
    write_file,
    write_json,
)
from p2r.runs.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from p2r.datasets.p2r10k.overlap import Reference
    from p2r.datasets.p2r10k.sources import Item

# The paper: 10,000 samples drawn at random.
MIXTURE: dict[str, int] = {"deepeyes": 3_000, "visualprobe": 3_000, "zwz": 4_000}
BUILD = "build.json"
AHEAD = 2  # images for each core that are read before their turn


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a source that was read (a line of `rows.jsonl`)."""

    source: str
    row: int  # its number in the source, from 1
    kept: bool  # whether it is a sample
    reason: str = ""  # why not
    line: dict[str, Any] = field(default_factory=dict)  # of `samples.jsonl`
    digest: str = ""  # of the bytes of its image
    look: str = ""  # the perceptual hash of its image, 16 hex digits

    def left_out(self, reason: str) -> Row:
        """The same row, not kept."""
        return Row(self.source, self.row, kept=False, reason=reason)


@dataclass(slots=True)
class Drawn:
    """What was drawn from one source."""

    source: str
    place: str  # its files, or the hub id with its commit
    wanted: int | None  # the number of samples; None for all
    rows: int = 0  # how many it has
    # Reason → how many rows cannot be used, whatever their image.
    unusable: Counter[str] = field(default_factory=Counter)
    read: list[Row] = field(default_factory=list)  # the rows that were read, in that order

    @property
    def kept(self) -> list[Row]:
        """The rows that are samples."""
        return [row for row in self.read if row.kept]


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What is built."""

    counts: Mapping[str, int | None]  # source → the number of samples; None for all that can be used
    out: Path  # the folder
    # Source → a file, a folder or a hub id to use instead of the published one.
    data: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0  # picks the rows and the order of the samples
    # Benchmark → its questions and images, which are searched for.
    references: Mapping[str, Reference] = field(default_factory=dict)
    drop_overlap: bool = False  # leave out what shows a benchmark's image, instead of reporting it only


def scaled(total: int) -> dict[str, int]:
    """The paper's mixture for another number of samples; the remainder goes to the last source."""
    whole = sum(MIXTURE.values())
    counts = {name: total * count // whole for name, count in MIXTURE.items()}
    counts[list(counts)[-1]] += total - sum(counts.values())
    return counts


def build(plan: BuildPlan, on_row: Callable[[str, bool], None] | None = None) -> list[Drawn]:
    """Build a set of samples, or continue where a build was stopped.

    Args:
        plan: what to build.
        on_row: called for each row that was read, with its source and whether it was kept.

    Raises:
        InputError: a source that cannot be read, a folder that holds another build, a full disk.
    """
    # Before the folder is made: a source that cannot be reached leaves nothing behind.
    tables = {
        name: Table(plan.data.get(name, SOURCES[name].hub), patterns=SOURCES[name].patterns)
        for name in plan.counts
    }
    check_folder(plan.out)
    with folder_lock(plan.out):
        _check_same_build(plan, tables)
        with Journal(plan.out / "rows.jsonl") as journal:
            rows = _Rows(plan, journal, on_row)
            drawn = [_draw(name, table, rows) for name, table in tables.items()]
        lines = [row.line for one in drawn for row in one.kept]
        if not lines:
            raise InputError(f"no row could be used; {plan.out / 'rows.jsonl'} says why for each")
        # Mixed, so that a training that takes them in order sees all sources from the first step on.
        lines.sort(key=lambda line: _lot(plan.seed, "order", line["id"]))
        write_file(plan.out / "samples.jsonl", b"".join(encode_json(line) + b"\n" for line in lines))
    return drawn


def check_folder(out: Path) -> None:
    """Refuse a folder that holds something else under the names of a build.

    Raises:
        InputError: names what is in the way.
    """
    claim(out, BUILD, ("samples.jsonl", "rows.jsonl", "report.json", "images"))


def _check_same_build(plan: BuildPlan, tables: Mapping[str, Table]) -> None:
    """A folder holds one build: its rows would not be those of another one."""
    identity = {
        "counts": dict(plan.counts),
        "sources": {name: table.source for name, table in tables.items()},
        "seed": plan.seed,
        "drop_overlap": [one.source for one in plan.references.values()] if plan.drop_overlap else [],
    }
    path = plan.out / BUILD
    if not path.is_file():
        write_json(path, identity)
    elif found := differences(read_json(path), identity):
        raise InputError(f"{plan.out} holds another build: {found[0]}; give another folder")


class _Rows:
    """The rows that were read, in this session and before."""

    def __init__(self, plan: BuildPlan, journal: Journal, on_row: Callable[[str, bool], None] | None) -> None:
        self.plan = plan
        self._journal = journal
        self._on_row = on_row
        self._samples: dict[tuple[str, str, str], str] = {}
        self.known: dict[tuple[str, int], Row] = {}
        for record in journal.records:
            self._note(Row(**record))

    def add(self, row: Row) -> Row:
        """Write a row down; one that asks the same about the same image as another is not kept."""
        if row.kept:
            if same := self._samples.get(self._key(row)):
                row = row.left_out(f"asks the same about the same image as {same}")
            elif self.plan.drop_overlap:
                shown = [name for name, one in self.plan.references.items() if one.shows(row.look)]
                row = row.left_out(f"shows an image of {shown[0]}") if shown else row
        self._journal.append({key: value for key, value in asdict(row).items() if value not in ("", {})})
        self._note(row)
        return row

    def _note(self, row: Row) -> None:
        self.known[row.source, row.row] = row
        if row.kept:
            self._samples.setdefault(self._key(row), row.line["id"])
        if self._on_row:
            self._on_row(row.source, row.kept)

    def _key(self, row: Row) -> tuple[str, str, str]:
        return row.digest, plain(row.line["question"]), row.line["answer"]


def _draw(name: str, table: Table, rows: _Rows) -> Drawn:
    source, plan = SOURCES[name], rows.plan
    drawn = Drawn(name, table.source, plan.counts[name])
    usable: dict[int, Item] = {}
    without = (source.image,) if source.embedded else ()
    for number, row in enumerate(table.rows(without=without), start=1):
        drawn.rows = number
        require(row, [column for column in source.columns if column not in without], f"{name}: row {number}")
        try:
            usable[number] = source.read(row)
        except InputError as error:
            drawn.unusable[str(error)] += 1
    order = deque(sorted(usable, key=lambda number: _lot(plan.seed, name, number)))
    wanted = len(order) if drawn.wanted is None else drawn.wanted
    while order and (missing := wanted - len(drawn.kept)) > 0:
        # In the order of the file, so that images within a table are read in one pass.
        turn = sorted(order.popleft() for _ in range(min(missing, len(order))))
        drawn.read += _read_images(name, table, {number: usable[number] for number in turn}, rows)
    return drawn


def _lot(seed: int, name: str, number: int | str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}:{number}".encode()).digest()


def _read_images(name: str, table: Table, turn: Mapping[int, Item], rows: _Rows) -> Iterator[Row]:
    """The rows of a turn, in order: those of before, then new ones; images are read in parallel."""
    new = {number for number in turn if (name, number) not in rows.known}
    yield from (rows.known[name, number] for number in turn if number not in new)
    if not new:
        return
    cores, last = os.cpu_count() or 1, max(new)
    waiting: deque[Future[Row]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for number, row in enumerate(table.rows(), start=1):
                if number in new:
                    waiting.append(
                        pool.submit(_read_image, name, number, turn[number], row, table, rows.plan.out)
                    )
                if len(waiting) > AHEAD * cores:
                    yield rows.add(waiting.popleft().result())
                if number == last:
                    break
            while waiting:
                yield rows.add(waiting.popleft().result())
        finally:
            for future in waiting:
                future.cancel()


def _read_image(name: str, number: int, item: Item, row: Mapping[str, Any], table: Table, out: Path) -> Row:
    source, sample = SOURCES[name], Row(name, number, kept=True)
    try:
        cell = only_image(row, source.image)
        image = HashedImage.open(cell if isinstance(cell, bytes) else table.image(cell))
        boxes = pixel_boxes(row, source.boxes, image.size) if source.boxes else ()
    except UnreachableError:
        raise
    except InputError as error:
        return sample.left_out(str(error))
    folder = out / "images" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        image.write(folder)
    except OSError as error:
        raise write_error(folder / image.file_name, error) from error
    line = {
        "id": f"{name}-{number}",
        "image": f"images/{name}/{image.file_name}",
        "question": item.question,
        "choices": list(item.choices),
        "answer_type": item.answer_type,
        "answer": item.answer,
        "boxes": [list(box.as_tuple()) for box in boxes] or None,
        "family": name,
        "source": {"id": item.id, "row": number, "category": item.category, "inferred": item.inferred},
    }
    return replace(sample, line=line, digest=image.digest, look=f"{image.hash:016x}")
