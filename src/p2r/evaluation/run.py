"""One evaluation from beginning to end: choose the questions, ask them, write the figures.

Many questions are in flight; each answer is written when it arrives, and no question is asked twice. One pass
over the data serves all modes, so that an image is read once and the modes stay paired even when a run is
interrupted.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.evaluation.asking import (
    Failure,
    Syncing,
    attempt,
    identity_of,
    in_flight,
    opened,
    revision_of,
    spec_of,
    start_server,
)
from p2r.evaluation.benchmarks.base import select, with_question
from p2r.evaluation.controls import CONTROLS, WithoutEvidence, open_donors
from p2r.evaluation.progress import EvaluationProgress
from p2r.evaluation.records import (
    CONFIG,
    SUMMARY,
    AnswerRecord,
    FailureRecord,
    Identity,
    RunConfig,
    RunData,
    earlier_sessions,
    pass_name,
)
from p2r.evaluation.summary import summarize
from p2r.images import Limits, open_images
from p2r.pipeline import settings_of
from p2r.runs import provenance
from p2r.runs.failures import MOST_FAILURES, FailureMonitor
from p2r.runs.files import folder_lock, write_json
from p2r.runs.journal import Journal
from p2r.scoring import score
from p2r.scoring.judge import Judge
from p2r.types import MODES, Box

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from p2r.evaluation.benchmarks.base import Benchmark, Entry, Selection
    from p2r.evaluation.controls import Control, Donor
    from p2r.evaluation.records import Pass
    from p2r.evaluation.summary import Summary
    from p2r.images import ImageSource
    from p2r.models.base import Model
    from p2r.pipeline import P2R
    from p2r.settings import Settings
    from p2r.types import Mode, Sample

# A code that is read off, such as a number plate: there is one way to write it, and no judge is needed.
_CODE = re.compile(r"[A-Z0-9][A-Z0-9./:-]*")


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What to evaluate, and how; raises InputError for settings that contradict each other.

    Models are specs for `p2r.models.open_model`, or models. Without a reasoner the model plays both roles;
    without a judge, free-form answers must match the gold answer.
    """

    benchmark: Benchmark
    out: Path  # the run folder
    model: str | Model
    reasoner: str | Model | None = None
    judge: str | Model | None = None
    modes: Sequence[Mode] = ("p2r",)
    limit: int | None = None  # how many questions, chosen at random by `seed`
    seed: int = 0
    gold_boxes: bool = False  # in mode `p2r`, for a reasoner without a perceiver
    controls: Sequence[Control] = ()  # that mode `p2r` is compared with
    settings: Settings | None = None  # None for those that come with the model
    concurrency: int = 32  # questions in flight
    most_failures: int = MOST_FAILURES  # stop when this many of the last 50 attempts failed
    command: str = ""  # how the run was started, for the record
    opening: dict[str, Any] | None = None  # the arguments of `open_benchmark`, for the report

    def __post_init__(self) -> None:
        if not self.modes or not set(self.modes) <= set(MODES):
            raise InputError(f"modes are some of {', '.join(MODES)}, not {', '.join(self.modes) or 'none'}")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}: it must be at least 1")
        if not set(self.controls) <= set(CONTROLS):
            raise InputError(f"controls are some of {', '.join(CONTROLS)}, not {', '.join(self.controls)}")
        if self.controls and "p2r" not in self.modes:
            raise InputError("controls take the evidence from mode p2r: they go with it")
        if self.gold_boxes and "p2r" not in self.modes:
            raise InputError("gold boxes go with mode p2r")
        if self.gold_boxes and not self.benchmark.has_boxes:
            raise InputError(f"benchmark {self.benchmark.name} has no gold boxes")


async def evaluate(plan: EvaluationPlan, console: Console) -> Summary:
    """Ask what has no answer yet, write `summary.json`, and return the figures.

    The summary is also written when the run is interrupted, from the answers so far.

    Raises:
        InputError: the data, a setting or the run folder cannot be used.
        ModelError: a model cannot be opened, or too much fails.
    """
    with console.status(f"reading {plan.benchmark.name} …"):
        selection = select(plan.benchmark, limit=plan.limit, seed=plan.seed)
    settings = plan.settings or settings_of(plan.model)
    # Before the model is opened, which may take minutes. A folder that is not ours gets no lock either.
    earlier_sessions(plan.out, _identity(plan, selection, settings), selection)
    if (plan.out / CONFIG).exists():
        with folder_lock(plan.out):
            pass
    for warning in _warnings(plan, selection):
        console.print(warning, style="yellow", markup=False, soft_wrap=True)
    donors: list[Donor] = []
    if "shuffled-crops" in plan.controls:
        with console.status("reading images for control shuffled-crops …"):
            donors = await asyncio.to_thread(open_donors, selection, plan.seed, Limits())
    async with (
        opened(plan.model, plan.reasoner, settings, plan.concurrency, console) as pipeline,
        _opened_judge(plan) as judge,
    ):
        return await _ask(plan, selection, pipeline, judge, donors, console)


def write_summary(out: Path) -> Summary:
    """Compute the figures of a run folder, write them to `summary.json` and return them.

    Raises:
        InputError: it is no run folder, or cannot be written.
    """
    summary = summarize(RunData.read(out))
    write_json(out / SUMMARY, summary.to_json())
    return summary


def _identity(plan: EvaluationPlan, selection: Selection, settings: Settings) -> Identity:
    return Identity(
        benchmark=plan.benchmark.name,
        data=selection.fingerprint,
        questions=len(selection.entries),
        limit=plan.limit,
        seed=plan.seed,
        boxes="gold" if plan.gold_boxes else "perceived",
        judge=spec_of(plan.judge) if plan.judge else None,
        judge_revision=revision_of(plan.judge) if plan.judge else None,
        **identity_of(plan.model, plan.reasoner, settings),
    )


def _warnings(plan: EvaluationPlan, selection: Selection) -> Iterator[str]:
    if rows := selection.unreadable:
        yield (
            f"{len(rows)} of {selection.total} rows cannot be read and are not asked, for example "
            f"{rows[0].row}: {rows[0].reason}"
        )
    samples = [entry.sample for entry in selection.entries.values()]
    free = sum(one.question.answer_type == "free" and not _CODE.fullmatch(one.answer) for one in samples)
    if plan.judge is None and free:
        yield (
            f"{free} of {len(samples)} questions are free-form and there is no --judge: "
            "only answers that match the gold answer count as right"
        )


@asynccontextmanager
async def _opened_judge(plan: EvaluationPlan) -> AsyncIterator[Judge | None]:
    if not isinstance(plan.judge, str):
        yield Judge(plan.judge) if plan.judge else None
        return
    from p2r.models.loading import open_model

    async with aclosing(open_model(plan.judge, max_concurrency=plan.concurrency)) as model:
        await start_server(plan.judge, model)
        yield Judge(model)


async def _ask(
    plan: EvaluationPlan,
    selection: Selection,
    pipeline: P2R,
    judge: Judge | None,
    donors: Sequence[Donor],
    console: Console,
) -> Summary:
    config = RunConfig(
        identity=_identity(plan, selection, pipeline.settings),
        source=plan.benchmark.source,
        rows=selection.total,
        unreadable=selection.unreadable,
        opening=plan.opening,
        layout=plan.benchmark.layout,
    )
    session = provenance.session(plan.command)
    session |= {"modes": list(plan.modes), "concurrency": plan.concurrency}
    session |= {"controls": list(plan.controls)} if plan.controls else {}
    passes: list[Pass] = [(mode, None) for mode in MODES if mode in plan.modes]
    passes += [("p2r", control) for control in CONTROLS if control in plan.controls]  # after mode p2r
    with ExitStack() as stack:
        stack.enter_context(folder_lock(plan.out))
        number = config.begin_session(plan.out, session, selection)
        files = {one: stack.enter_context(_PassFiles(plan.out, pass_name(*one))) for one in passes}
        for journal in (one.predictions for one in files.values() if one.predictions.repaired):
            torn = f"{journal.path}: {journal.repaired} torn line(s) dropped, to be asked again"
            console.print(torn, markup=False, soft_wrap=True)
        before: dict[str, tuple[int, int | None]] = {
            one.name: (len(one.done), sum(one.done.values())) for one in files.values()
        }
        syncing = Syncing(*(one.predictions for one in files.values()))
        with EvaluationProgress(console, len(selection.entries) * len(passes), before) as progress:
            monitor = FailureMonitor(plan.most_failures)
            run = _Run(plan, selection, pipeline, judge, donors, files, number, progress, monitor, syncing)
            try:
                await run.ask_all()
            except BaseException:
                # An interrupt too. A full disk has been reported already.
                with suppress(InputError):
                    write_summary(plan.out)
                raise
        return write_summary(plan.out)


class _PassFiles(ExitStack):
    """The two files of one pass over the questions.

    Attributes:
        done: the questions that have an answer → whether it was right.
        boxes: the same → the boxes of the evidence, as data.
    """

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__()
        self.name = name
        self.done: dict[str, bool] = {}
        self.boxes: dict[str, list[dict[str, Any]]] = {}
        self.predictions = self.enter_context(Journal(folder / f"predictions-{name}.jsonl", self._note))
        self.failures = self.enter_context(Journal(folder / f"failures-{name}.jsonl", lambda _: True))

    def append(self, record: AnswerRecord) -> None:
        """Write an answer."""
        data = record.to_json()
        self.predictions.append(data)
        self._note(data)

    def _note(self, record: dict[str, Any]) -> None:
        if "id" in record:
            self.done[str(record["id"])] = record["correct"] is True
            self.boxes[str(record["id"])] = record.get("boxes", [])


@dataclass(slots=True)
class _Run:
    """Asks the questions of one session."""

    plan: EvaluationPlan
    selection: Selection
    pipeline: P2R
    judge: Judge | None
    donors: Sequence[Donor]
    files: dict[Pass, _PassFiles]
    session: int
    progress: EvaluationProgress
    monitor: FailureMonitor
    syncing: Syncing

    async def ask_all(self) -> None:
        """Ask every question that has no answer yet.

        Raises:
            ModelError: too many calls fail.
            InputError: too many images cannot be read, the disk is full, or the data is gone.
        """
        tasks = self.selection.tasks(skip=lambda name: not any(self._left(name)))
        async with aclosing(in_flight(tasks, self._ask, self.plan.concurrency)) as asked:
            async for _ in asked:
                pass

    def _left(self, name: str) -> Iterator[Pass]:
        """The passes that a question has no answer in. A control asks about boxes: there must be some."""
        perceived = self.files.get(("p2r", None))
        for one, files in self.files.items():
            without_boxes = one[1] and perceived and name in perceived.done and not perceived.boxes[name]
            if name not in files.done and not without_boxes:
                yield one

    async def _ask(self, task: tuple[Entry, Callable[[], Sample]]) -> None:
        entry, load = task
        try:
            sample, sources = await asyncio.to_thread(self._open, entry, load)
        except InputError as error:
            for one in self._left(entry.id):
                self._failed(entry, one, Failure("image", str(error)))
            return
        for one in self._left(entry.id):
            await self._ask_in(one, entry, sample, sources)

    def _open(self, entry: Entry, load: Callable[[], Sample]) -> tuple[Sample, list[ImageSource]]:
        sample, limits = load(), self.pipeline.limits
        sources = open_images(sample.question.images, limits)
        return with_question(sample, id=entry.id, image=sources), sources  # opened once for all passes

    async def _ask_in(self, one: Pass, entry: Entry, sample: Sample, sources: Sequence[ImageSource]) -> None:
        mode, control = one
        pipeline, boxes = self.pipeline, None
        if control:
            found = self.files["p2r", None].boxes.get(entry.id)
            if not found:
                return None  # mode p2r failed: there is nothing to compare with
            boxes = [Box.from_json(box) for box in found]
            pipeline = WithoutEvidence(pipeline, control, self.donors, f"{self.plan.seed}:{entry.id}")
        elif self.plan.gold_boxes and mode == "p2r":
            if sample.boxes is None:
                unknown = Failure("image", "no gold boxes are known for this question")
                return self._failed(entry, one, unknown)
            boxes = list(sample.boxes)
        prediction = await attempt(pipeline, sample.question, mode, boxes)
        if isinstance(prediction, Failure):
            return self._failed(entry, one, prediction)
        scored = await score(prediction.reply, sample, self.judge)
        if scored.correct is None and scored.method == "judge":
            return self._failed(entry, one, Failure("judge", scored.reason))
        record = AnswerRecord(
            **self._about(entry, mode),
            prediction=prediction,
            score=scored,
            gold=sample.answer,
            gold_boxes=sample.boxes,
            size=sources[0].size,
            others=tuple(source.size for source in sources[1:]),
        )
        self.files[one].append(record)
        self.monitor.note_success()
        self.progress.on_answer(pass_name(*one), correct=record.correct)
        await self.syncing.note_written()
        return None

    def _failed(self, entry: Entry, one: Pass, failure: Failure) -> None:
        record = FailureRecord(**self._about(entry, one[0]), kind=failure.kind, error=failure.error)
        self.files[one].failures.append(record.to_json())
        self.progress.on_failure(f"{entry.id} in mode {pass_name(*one)}", failure.error)
        self.monitor.note_failure(failure.error, of_input=failure.kind == "image")

    def _about(self, entry: Entry, mode: Mode) -> dict[str, Any]:
        question = entry.sample.question
        return {
            "id": entry.id,
            "mode": mode,
            "question": question.text,
            "choices": question.choices,
            "answer_type": question.answer_type,
            "category": entry.sample.category,
            "tags": dict(entry.tags),
            "session": self.session,
            "at": round(time.time(), 3),
        }
