"""Asks the questions: many in flight, each answer written down as it comes, none of them twice.

One pass over the data serves all modes, so that an image is fetched once and the modes stay paired even when
a run is stopped half way. The runner is written for one question at a time; batching and pooling are the
models' business.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from p2r.errors import InputError, ModelError
from p2r.evaluation.benchmarks import named
from p2r.evaluation.records import IMAGE, JUDGE, failure_record, scored_record
from p2r.images import ImageSource
from p2r.runs.journal import Journal
from p2r.scoring import score

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from p2r.evaluation.benchmarks import Chosen, Selection
    from p2r.evaluation.progress import Progress
    from p2r.evaluation.records import Record
    from p2r.pipeline import P2R
    from p2r.runs.failures import FailureMonitor
    from p2r.scoring.judge import Judge
    from p2r.types import Mode, Sample

SYNC_EVERY_S = 2.0


class ModeFiles:
    """The two files of one mode in a run folder.

    Attributes:
        done: id → whether it was answered right, of the questions that need not be asked again.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, mode: Mode) -> None:
        with ExitStack() as stack:
            self.predictions = stack.enter_context(Journal(folder / f"predictions-{mode}.jsonl"))
            self.failures = stack.enter_context(Journal(folder / f"failures-{mode}.jsonl"))
            self._stack = stack.pop_all()
        records = self.predictions.records
        self.done = {str(record["id"]): record["correct"] is True for record in records if "id" in record}
        # A long run need not hold the texts of its earlier sessions.
        records.clear()
        self.failures.records.clear()

    def sync(self) -> None:
        """Wait until both files are on the disk."""
        self.predictions.sync()
        self.failures.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that asking the questions of a run needs.

    Attributes:
        pipeline: answers.
        selection: the questions.
        files: mode → where its answers go.
        session: number of this session; a continued run has several.
        watch: is told what happens, on the event loop.
        judge: scores free-form answers that do not match.
        gold_boxes: give the reasoner the gold boxes instead of asking the perceiver (mode `p2r`).
        concurrency: how many questions are on their way at once.
        health: stops the run when too much fails.
    """

    pipeline: P2R
    selection: Selection
    files: Mapping[Mode, ModeFiles]
    session: int
    watch: Progress
    judge: Judge | None
    gold_boxes: bool
    concurrency: int
    health: FailureMonitor

    async def ask_all(self) -> None:
        """Ask every question that has no answer yet.

        Raises:
            ModelError: too many calls fail.
            InputError: too many images cannot be read, the disk is full, or the data is gone.
        """
        queue: asyncio.Queue[tuple[Chosen, Callable[[], Sample]] | None] = asyncio.Queue(maxsize=1)
        try:
            async with asyncio.TaskGroup() as around:
                syncing = around.create_task(self._sync_regularly())
                async with asyncio.TaskGroup() as asking:
                    asking.create_task(self._feed(queue))
                    for _ in range(self.concurrency):
                        asking.create_task(self._work(queue))
                syncing.cancel()
        except ExceptionGroup as group:
            raise _first(group) from group

    async def _feed(self, queue: asyncio.Queue[Any]) -> None:
        """Read the data ahead of the workers, one row at a time, in a thread: it may come from the hub."""
        tasks = self.selection.tasks(skip=lambda name: all(name in f.done for f in self.files.values()))
        while (task := await asyncio.to_thread(next, tasks, None)) is not None:
            await queue.put(task)
        for _ in range(self.concurrency):
            await queue.put(None)

    async def _work(self, queue: asyncio.Queue[Any]) -> None:
        while (task := await queue.get()) is not None:
            chosen, load = task
            await self._ask(chosen, load)

    async def _ask(self, chosen: Chosen, load: Callable[[], Sample]) -> None:
        modes = [mode for mode, files in self.files.items() if chosen.id not in files.done]
        try:
            sample, source = await asyncio.to_thread(self._open, chosen, load)
        except InputError as error:
            for mode in modes:
                self._failed(failure_record(chosen, mode, error))
            return
        for mode in modes:
            await self._ask_in(mode, chosen, sample, source)

    def _open(self, chosen: Chosen, load: Callable[[], Sample]) -> tuple[Sample, ImageSource]:
        sample = named(load(), chosen.id)
        source = ImageSource.open(sample.question.image, self.pipeline.limits)
        # Opened once for all modes.
        return replace(sample, question=replace(sample.question, image=source)), source

    async def _ask_in(self, mode: Mode, chosen: Chosen, sample: Sample, source: ImageSource) -> None:
        boxes = None
        try:
            if self.gold_boxes and mode == "p2r":
                if sample.boxes is None:
                    raise InputError("no gold boxes are known for this question")
                boxes = sample.boxes
            prediction = await self.pipeline.predict(sample.question, mode, boxes=boxes)
        except (InputError, ModelError) as error:
            self._failed(failure_record(chosen, mode, error))
            return
        scored = await score(prediction.reply, sample, self.judge)
        if scored.correct is None and scored.method == "judge":
            self._failed(failure_record(chosen, mode, scored.reason, JUDGE))
            return
        record = scored_record(prediction, scored, sample, chosen, source.size)
        self._write(self.files[mode].predictions, record)
        self.health.note_success()
        self.watch.on_record(record)

    def _failed(self, failure: Record) -> None:
        self._write(self.files[failure["mode"]].failures, failure)
        self.watch.on_failure(failure)
        self.health.note_failure(failure["error"], of_input=failure["kind"] == IMAGE)

    def _write(self, journal: Journal, record: Record) -> None:
        record |= {"session": self.session, "at": round(time.time(), 3)}
        journal.append(record)

    async def _sync_regularly(self) -> None:
        while True:
            await asyncio.sleep(SYNC_EVERY_S)
            for files in self.files.values():
                await asyncio.to_thread(files.sync)


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """The error that stopped a group of tasks."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
