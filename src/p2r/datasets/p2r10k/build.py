"""Draws rows from the sources, looks at their images, and writes one set of samples.

OUT/samples.jsonl      the samples, in the format of `p2r.datasets.samples`
OUT/images/SOURCE/     their images; equal ones once
OUT/report.json        what is in it, what was left out and why, what it shares with benchmarks
OUT/build.json         what decides the result: sources, counts, seed
OUT/rows.jsonl         every row that was looked at, kept or not: a build that was stopped goes on from it

Which rows are drawn depends on the seed and their place in the source only. A row that cannot be used is
replaced by the next one drawn.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p2r.datasets.cells import pixel_boxes
from p2r.datasets.p2r10k.images import ImageFiles, UnreachableError, look_at
from p2r.datasets.p2r10k.overlap import plain
from p2r.datasets.p2r10k.sources import SOURCES, only_image
from p2r.datasets.tables import Table, require
from p2r.errors import InputError, file_problem
from p2r.runs.files import encode_json, folder_lock, write_file, write_json
from p2r.runs.identity import claim
from p2r.runs.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from p2r.datasets.p2r10k.images import Seen
    from p2r.datasets.p2r10k.overlap import Reference
    from p2r.datasets.p2r10k.sources import Item, Source

# The paper: 10,000 samples drawn at random.
MIXTURE: dict[str, int] = {"deepeyes": 3_000, "visualprobe": 3_000, "zwz": 4_000}
BUILD = "build.json"
AHEAD = 2  # images for each core that are looked at before their turn

Record = dict[str, Any]


@dataclass(slots=True)
class Drawn:
    """What became of one source.

    Attributes:
        source: which.
        place: its files, or the hub id with its commit.
        rows: how many it has.
        wanted: how many were asked for; None for all.
        unusable: reason → how many rows cannot be used, whatever their image.
        records: the rows that were looked at, in that order (`rows.jsonl`).
    """

    source: str
    place: str
    rows: int
    wanted: int | None
    unusable: Counter[str] = field(default_factory=Counter)
    records: list[Record] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is built.

    Attributes:
        counts: source → how many samples; None for all that can be used.
        out: the folder.
        data: source → a file, a folder or a hub id, where it is not taken from where it is published.
        seed: picks the rows and the order of the samples.
        references: benchmarks that are looked for.
        drop_overlap: leave out what shows a benchmark's image, instead of reporting it only.
    """

    counts: Mapping[str, int | None]
    out: Path
    data: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    references: Sequence[Reference] = ()
    drop_overlap: bool = False


def scaled(total: int) -> dict[str, int]:
    """The paper's mixture for another number of samples; what does not divide goes to the last source."""
    whole = sum(MIXTURE.values())
    counts = {name: total * count // whole for name, count in MIXTURE.items()}
    counts[list(counts)[-1]] += total - sum(counts.values())
    return counts


def build(plan: Plan, on_row: Callable[[str, bool], None] | None = None) -> list[Drawn]:
    """Build a set of samples, or go on where a build was stopped.

    Args:
        plan: what to build.
        on_row: is told of each row that was looked at: its source, and whether it was kept.

    Raises:
        InputError: a source that cannot be read, a folder that holds another build, a full disk.
    """
    # Before the folder is made: a source that cannot be reached leaves nothing behind.
    tables = {name: _table(SOURCES[name], plan.data.get(name)) for name in plan.counts}
    check_folder(plan.out)
    with folder_lock(plan.out):
        _same_build(plan, tables)
        with Journal(plan.out / "rows.jsonl") as journal:
            known = _Known(plan, journal, on_row)
            drawn = [_draw(name, tables[name], known) for name in plan.counts]
        _write_samples(plan, drawn)
    return drawn


def check_folder(out: Path) -> None:
    """Refuse a folder that holds something else under the names of a build.

    Raises:
        InputError: names what is in the way.
    """
    claim(out, BUILD, ("samples.jsonl", "rows.jsonl", "report.json", "images"))


def _table(source: Source, data: str | None) -> Table:
    return Table(data or source.hub, patterns=source.patterns)


def _same_build(plan: Plan, tables: Mapping[str, Table]) -> None:
    """A folder holds one build: the rows that it knows would not be those of another one."""
    identity = {
        "counts": dict(plan.counts),
        "sources": {name: table.source for name, table in tables.items()},
        "seed": plan.seed,
        "drop_overlap": [reference.source for reference in plan.references] if plan.drop_overlap else [],
    }
    path = plan.out / BUILD
    if not path.is_file():
        write_json(path, identity)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {file_problem(error)}") from error
    if not isinstance(before, dict):
        raise InputError(f"{path} was not written by p2r data; give another folder")
    changed = [key for key in identity if before.get(key) != identity[key]]
    if changed:
        raise InputError(
            f"{plan.out} holds another build: {changed[0]} was {before.get(changed[0])!r}, is "
            f"{identity[changed[0]]!r}; give another folder"
        )


class _Known:
    """The rows that were looked at, in this session and before."""

    def __init__(self, plan: Plan, journal: Journal, on_row: Callable[[str, bool], None] | None) -> None:
        self.plan = plan
        self._journal = journal
        self._on_row = on_row
        self._asked: dict[tuple[str, str, str], str] = {}
        self.records = {(record["source"], record["row"]): record for record in journal.records}
        for record in journal.records:
            self._note(record)

    def add(self, record: Record) -> Record:
        """Write a row down; one that asks the same about the same image as another is not kept."""
        if record["kept"]:
            line = record["line"]
            key = (record["digest"], plain(line["question"]), line["answer"])
            if key in self._asked:
                record = _left_out(record, f"asks the same about the same image as {self._asked[key]}")
            elif self.plan.drop_overlap and (shown := _shown_in(self.plan, record["look"])):
                record = _left_out(record, f"shows an image of {shown}")
        self._journal.append(record)
        self.records[record["source"], record["row"]] = record
        self._note(record)
        return record

    def _note(self, record: Record) -> None:
        if record["kept"]:
            line = record["line"]
            self._asked.setdefault((record["digest"], plain(line["question"]), line["answer"]), line["id"])
        if self._on_row:
            self._on_row(record["source"], record["kept"])


def _left_out(record: Record, reason: str) -> Record:
    return {"source": record["source"], "row": record["row"], "kept": False, "reason": reason}


def _shown_in(plan: Plan, look: str) -> str | None:
    for reference in plan.references:
        if reference.shows(int(look, 16)) is not None:
            return reference.name
    return None


def _draw(name: str, table: Table, known: _Known) -> Drawn:
    source, plan = SOURCES[name], known.plan
    drawn = Drawn(name, table.source, 0, plan.counts[name])
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
    # Listed once on the hub, so that all images come from one commit.
    files = ImageFiles(table.root, plan.data.get(name, source.hub))
    kept = 0
    while order and kept < wanted:
        # In the order of the file, so that images within a table are read in one pass.
        turn = sorted(order.popleft() for _ in range(min(wanted - kept, len(order))))
        for record in _looked_at(source, table, files, {number: usable[number] for number in turn}, known):
            drawn.records.append(record)
            kept += record["kept"]
    return drawn


def _lot(seed: int, name: str, number: int | str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}:{number}".encode()).digest()


def _looked_at(
    source: Source, table: Table, files: ImageFiles, turn: Mapping[int, Item], known: _Known
) -> Iterator[Record]:
    """The rows of a turn with what became of them, in order; images are looked at side by side."""
    new = {number for number in turn if (source.name, number) not in known.records}
    for number in sorted(turn.keys() - new):
        yield known.records[source.name, number]
    if not new:
        return
    cores = os.cpu_count() or 1
    waiting: deque[Future[Record]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for number, row in enumerate(table.rows(), start=1):
                if number not in new:
                    continue
                new.discard(number)
                waiting.append(pool.submit(_look, source, number, turn[number], row, files, known.plan.out))
                if len(waiting) > AHEAD * cores:
                    yield known.add(waiting.popleft().result())
                if not new:
                    break
            while waiting:
                yield known.add(waiting.popleft().result())
        finally:
            for future in waiting:
                future.cancel()


def _look(
    source: Source, number: int, item: Item, row: Mapping[str, Any], files: ImageFiles, out: Path
) -> Record:
    where = {"source": source.name, "row": number}
    try:
        cell = only_image(row.get(source.image))
        seen = look_at(cell if isinstance(cell, bytes) else files.find(cell))
        boxes = pixel_boxes(row, source.boxes, seen.size) if source.boxes else ()
    except UnreachableError:
        raise
    except InputError as error:
        return {**where, "kept": False, "reason": str(error)}
    folder = out / "images" / source.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        seen.write(folder)
    except OSError as error:
        raise InputError(
            f"cannot write {folder / seen.file_name}: {error.strerror or error}; the same command goes on"
        ) from error
    line = _line(source, number, item, seen, [list(box.as_tuple()) for box in boxes])
    return {**where, "kept": True, "line": line, "digest": seen.digest, "look": f"{seen.look:016x}"}


def _line(source: Source, number: int, item: Item, seen: Seen, boxes: list[list[float]]) -> Record:
    return {
        "id": f"{source.name}-{number}",
        "image": f"images/{source.name}/{seen.file_name}",
        "question": item.question,
        "choices": list(item.choices),
        "answer_type": item.answer_type,
        "answer": item.answer,
        "boxes": boxes or None,
        "family": source.name,
        "source": {"id": item.id, "row": number, "category": item.category, "inferred": item.inferred},
    }


def _write_samples(plan: Plan, drawn: Sequence[Drawn]) -> None:
    lines = [record["line"] for one in drawn for record in one.records if record["kept"]]
    if not lines:
        raise InputError(f"no row could be used; {plan.out / 'rows.jsonl'} says why for each")
    # Mixed, so that a training that takes them in order sees all sources from the first step on.
    lines.sort(key=lambda line: _lot(plan.seed, "order", line["id"]))
    write_file(plan.out / "samples.jsonl", b"".join(encode_json(line) + b"\n" for line in lines))
