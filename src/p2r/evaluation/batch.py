"""Answer the questions of a table or a folder, without gold answers, in bounded memory.

The source is read twice, row by row: to check it and to see what is left to ask, before a model is opened;
then to ask. Eight bytes a row are held, and the questions in flight.

RUN/batch.json        settings, versions, commands
RUN/results.jsonl     a line for each row, in the order of answers; those that failed are asked again
RUN/results.parquet   the same as a table
RUN/summary.json      counts
"""

from __future__ import annotations

from array import array
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2r.datasets.questions import InvalidRow
from p2r.errors import InputError, MissingExtraError
from p2r.evaluation.asking import Failure, Syncing, attempt, identity_of, in_flight, opened
from p2r.evaluation.batch_results import (
    CONFIG,
    RESULTS,
    TABLE,
    BatchSummary,
    asked,
    read_summary,
    row_key,
    write_table,
)
from p2r.evaluation.cluster import Cluster, answered_on_ray
from p2r.evaluation.progress import EvaluationProgress
from p2r.evaluation.records import SUMMARY
from p2r.pipeline import settings_of
from p2r.runs import provenance
from p2r.runs.failures import MOST_FAILURES, FailureMonitor
from p2r.runs.files import check_same_run, claim, folder_lock, read_run_file, write_json
from p2r.runs.journal import Journal
from p2r.types import Prediction

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from rich.console import Console

    from p2r.datasets.questions import QuestionSource
    from p2r.models.base import Model
    from p2r.pipeline import P2R
    from p2r.settings import Settings
    from p2r.types import Mode, Question

    Row = tuple[int, Question | InvalidRow]

_SHOW_EVERY = 1_000  # rows, while the source is checked


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What to ask, and how. Models are specs for `p2r.models.open_model`, or models."""

    source: QuestionSource
    out: Path  # the run folder
    model: str | Model
    reasoner: str | Model | None = None
    mode: Mode = "p2r"
    limit: int | None = None  # the first rows only
    settings: Settings | None = None  # None for those that come with the model
    concurrency: int = 32  # questions in flight
    most_failures: int = MOST_FAILURES  # stop when this many of the last 50 calls failed
    command: str = ""  # how the run was started, for the record
    cluster: Cluster | None = None  # answers the rows, with these models and settings; None for this process

    def rows(self, *, images: bool = True) -> Iterator[Row]:
        """The rows that are asked."""
        return islice(self.source.questions(images=images), self.limit)


async def run_batch(plan: BatchPlan, console: Console) -> BatchSummary:
    """Ask the rows that have no answer yet, write the results, and return their counts.

    A row that holds no valid question, an image that cannot be read and a call that failed give a line of
    status `failed`. The results are also written when the run is interrupted.

    Raises:
        InputError: no row can be asked, a setting or the run folder cannot be used, or the disk is full.
        ModelError: a model cannot be opened, or too many calls fail.
    """
    settings = plan.settings or settings_of(plan.model)
    identity = {"mode": plan.mode, **identity_of(plan.model, plan.reasoner, settings)}
    sessions: list[dict[str, Any]] = []
    claim(plan.out, CONFIG, (RESULTS, TABLE, SUMMARY))
    if (plan.out / CONFIG).exists():
        before = read_run_file(plan.out / CONFIG, "p2r batch")
        check_same_run(plan.out, before["identity"], identity)
        sessions = before["sessions"]
    keys = _checked(plan, console)
    with folder_lock(plan.out):
        done = _Done(keys)
        session = provenance.session(plan.command)
        sessions.append(session | {"concurrency": plan.concurrency, "limit": plan.limit})
        source = {**asdict(plan.source), "path": str(plan.source.path.resolve())}
        config = {"identity": identity, "source": source, "rows": done.rows[1], "sessions": sessions}
        write_json(plan.out / CONFIG, config)
        with Journal(plan.out / RESULTS, done.note) as journal:
            left = done.left(plan)
            try:
                if left.any():
                    await _ask(plan, settings, left, done.rows[0], journal, console)
            except BaseException:
                # An interrupt too. A full disk has been reported already.
                with suppress(InputError):
                    _finish(plan.out, console)
                raise
        return _finish(plan.out, console)


async def answered(
    rows: Iterable[Row], pipeline: P2R, mode: Mode, *, concurrency: int = 32, root: Path | None = None
) -> AsyncGenerator[dict[str, Any]]:
    """Answer rows and yield the line of each, in the order in which they end; close it with `aclosing`.

    Nothing is raised for a row: a question that cannot be answered gives a line of status `failed`.

    Args:
        rows: numbers and questions, or why a row holds none, as `QuestionSource.questions` yields them. They
            are drawn as they are needed, in a thread.
        pipeline, mode: what answers, and how.
        concurrency: how many questions are worked on at once.
        root: the folder that the paths of images in the lines are relative to.
    """

    async def answer(row: Row) -> dict[str, Any]:
        number, question = row
        if isinstance(question, InvalidRow):
            outcome: Prediction | Failure = Failure("row", question.reason)
        else:
            outcome = await attempt(pipeline, question, mode)
        line, kind = asked(number, question, root), ""
        if isinstance(outcome, Failure):
            kind, outcome = outcome.kind, Prediction(line["id"], mode, "failed", error=outcome.error)
        return {**line, **outcome.to_json(), "failure": kind}

    async with aclosing(in_flight(rows, answer, concurrency)) as lines:
        async for line in lines:
            yield line


def _checked(plan: BatchPlan, console: Console) -> np.ndarray:
    """The key of each row; it says how many rows cannot be asked, and names the first."""
    keys, invalid, first = array("Q"), 0, ""
    with console.status(f"reading {plan.source.path} …") as status:
        for number, question in plan.rows(images=False):
            keys.append(row_key(asked(number, question, plan.source.root)))
            problem = _problem(question, remote=bool(plan.cluster and plan.cluster.remote))
            if problem:
                invalid += 1
                first = first or f"row {number}: {problem}"
            if len(keys) % _SHOW_EVERY == 0:
                status.update(f"reading {plan.source.path}: {len(keys):,} rows …")
    if invalid == len(keys):
        cause = f": none of the {invalid:,} rows can be asked, for example {first}" if invalid else ""
        raise InputError(f"{plan.source.path} holds no questions{cause}")
    if invalid:
        said = f"{invalid:,} of {len(keys):,} rows cannot be asked and will fail, for example {first}"
        console.print(said, style="yellow", markup=False, soft_wrap=True)
    return np.array(keys, np.uint64)


def _problem(question: Question | InvalidRow, *, remote: bool) -> str:
    if isinstance(question, InvalidRow):
        return question.reason
    paths = [] if remote else [one for one in question.images if isinstance(one, Path)]
    missing = [path for path in paths if not path.is_file()]
    return f"there is no image {missing[0]}" if missing else ""


class _Done:
    """Which rows have a line already.

    Args:
        keys: of the rows of the input.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys
        self._known, self._first = np.unique(keys, return_index=True)
        self._lines = array("Q")
        self._foreign = 0

    @property
    def rows(self) -> tuple[int, int]:
        """How many rows have a line, and how many there are; equal ones count once."""
        return len(self._lines), len(self._known)

    def note(self, line: dict[str, Any]) -> bool:
        """Whether a line stays: one that failed does not, unless its row still holds no valid question."""
        key = row_key(line)
        place = np.searchsorted(self._known, np.uint64(key))
        known = place < len(self._known) and self._known[place] == key
        if line["failure"] and not (known and line["failure"] == "row"):
            return False
        self._lines.append(key)
        self._foreign += not known
        return True

    def left(self, plan: BatchPlan) -> np.ndarray:
        """Whether each row is to be asked; of equal rows the first one.

        Raises:
            InputError: there are lines of other rows.
        """
        if self._foreign:
            raise InputError(
                f"{plan.out} holds {self._foreign:,} answers to questions that are not in {plan.source.path}"
                f"{' up to its limit' if plan.limit else ''}; give --out another folder"
            )
        left = np.zeros(len(self._keys), bool)
        left[self._first] = True
        return left & ~np.isin(self._keys, np.array(self._lines, np.uint64))


async def _ask(
    plan: BatchPlan, settings: Settings, left: np.ndarray, done: int, journal: Journal, console: Console
) -> None:
    rows = (row for row, wanted in zip(plan.rows(), left, strict=False) if wanted)
    monitor, syncing = FailureMonitor(plan.most_failures), Syncing(journal)
    answer = partial(answered, mode=plan.mode, concurrency=plan.concurrency, root=plan.source.root)
    async with AsyncExitStack() as stack:
        if plan.cluster:
            answering = answered_on_ray(rows, answer, plan.cluster)
        else:
            answering = answer(
                rows,
                await stack.enter_async_context(
                    opened(plan.model, plan.reasoner, settings, plan.concurrency, console)
                ),
            )
        total = done + int(left.sum())
        progress = stack.enter_context(EvaluationProgress(console, total, {plan.mode: (done, None)}))
        async for line in await stack.enter_async_context(aclosing(answering)):
            journal.append(line)
            if line["status"] != "failed":
                monitor.note_success()
                progress.on_answer(plan.mode)
            else:
                progress.on_failure(line["id"], line["error"])
                if line["failure"] not in ("image", "row"):  # the input of other rows may be fine
                    monitor.note_failure(line["error"])
            await syncing.note_written()


def _finish(out: Path, console: Console) -> BatchSummary:
    """Count the lines, and write `summary.json` and the table."""
    summary = read_summary(out)
    write_json(out / SUMMARY, summary.to_json())
    try:
        write_table(out)
    except MissingExtraError as error:
        console.print(f"no {TABLE}: {error}", style="yellow", markup=False, soft_wrap=True)
    return summary
