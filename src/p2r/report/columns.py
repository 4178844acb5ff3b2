"""What the report shows side by side: the modes of one run, or those of two."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.errors import InputError
from p2r.evaluation.outcomes import outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from p2r.evaluation.folder import RunData
    from p2r.evaluation.records import Record
    from p2r.types import Mode


@dataclass(frozen=True, slots=True)
class Column:
    """One run in one mode.

    Attributes:
        label: how the report calls it.
        run: where it comes from.
        mode: `p2r`, `think` or `direct`.
        lines: id → the question's answer, or its failure.
    """

    label: str
    run: RunData
    mode: Mode
    lines: dict[str, Record]


def columns_of(runs: Sequence[RunData]) -> list[Column]:
    """The columns of a report.

    Raises:
        InputError: a run without a line, or two runs with different questions.
    """
    columns = []
    names = _names(runs)
    for run in runs:
        if not run.modes:
            raise InputError(f"{run.folder} holds no answers yet")
        for mode in run.modes:
            label = f"{names[run.folder]} · {mode}" if len(runs) > 1 else mode
            lines = {line["id"]: line for line in (*run.records[mode], *run.failures[mode])}
            columns.append(Column(label, run, mode, lines))
    if len(runs) > 1:
        first, second = (run.config["identity"] for run in runs)
        if (first["benchmark"], first["data"]) != (second["benchmark"], second["data"]):
            raise InputError(
                f"{runs[0].folder} and {runs[1].folder} asked different questions: "
                f"{first['benchmark']} {first['data']} and {second['benchmark']} {second['data']}"
            )
    return columns


def _names(runs: Sequence[RunData]) -> dict[Path, str]:
    """The folders' names, or their whole paths where the names are the same."""
    short = [run.folder.resolve().name for run in runs]
    if len(set(short)) == len(short):
        return {run.folder: name for run, name in zip(runs, short, strict=True)}
    return {run.folder: str(run.folder) for run in runs}


def outcome_counts(column: Column) -> dict[str, int]:
    """How many questions have which outcome."""
    return Counter(outcome(line) for line in column.lines.values())


def pairs(columns: Sequence[Column]) -> Iterator[tuple[Column, Column]]:
    """What is worth comparing: modes within a run; the same mode, or else everything, between two."""
    folders = list(dict.fromkeys(column.run.folder for column in columns))
    if len(folders) == 1:
        backwards = list(reversed(columns))
        yield from ((a, b) for i, a in enumerate(backwards) for b in backwards[i + 1 :])
        return
    first = [column for column in columns if column.run.folder == folders[0]]
    second = [column for column in columns if column.run.folder == folders[1]]
    same = [(a, b) for a in first for b in second if a.mode == b.mode]
    yield from same or [(a, b) for a in first for b in second]


def question_ids(columns: Sequence[Column]) -> list[str]:
    """All questions, in natural order: q2 before q10."""
    names = {name for column in columns for name in column.lines}
    return sorted(names, key=_natural)


def _natural(name: str) -> list[tuple[int, int, str]]:
    pieces = re.split(r"(\d+)", name)
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces if piece]
