"""One evaluation from beginning to end: choose the questions, ask them, write the figures.

Many questions are in flight; each answer is written when it arrives, and no question is asked twice. One pass
over the data serves all modes, so that an image is read once and the modes stay paired even when a run is
interrupted. The code is written for one question at a time; batching and pooling are up to the models.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, ModelError
from p2r.evaluation.benchmarks.base import select, with_question
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
)
from p2r.evaluation.summary import summarize
from p2r.images import open_pages
from p2r.models.base import Message, Sampling
from p2r.pipeline import P2R, settings_of
from p2r.runs import provenance
from p2r.runs.failures import MOST_FAILURES, FailureMonitor
from p2r.runs.files import folder_lock, write_json
from p2r.runs.journal import Journal
from p2r.scoring import score
from p2r.scoring.judge import Judge
from p2r.text import without_secrets
from p2r.types import MODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from p2r.evaluation.benchmarks.base import Benchmark, Entry, Selection
    from p2r.evaluation.records import FailureKind
    from p2r.evaluation.summary import Summary
    from p2r.images import ImageSource
    from p2r.models.base import Model
    from p2r.settings import Settings
    from p2r.types import Mode, Sample

SYNC_EVERY_S = 2.0
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
        console.print(warning, style="yellow", markup=False)
    async with AsyncExitStack() as stack:
        with console.status("opening the model …"):
            # In a thread, so that an interrupt need not wait for the weights.
            opened = await asyncio.to_thread(
                P2R, plan.model, reasoner=plan.reasoner, settings=settings, concurrency=plan.concurrency
            )
            pipeline = await stack.enter_async_context(opened)
            judge = await _open_judge(plan, stack)
            await _start_servers(plan, pipeline, judge)
        return await _ask(plan, selection, pipeline, judge, console)


def write_summary(out: Path) -> Summary:
    """Compute the figures of a run folder, write them to `summary.json` and return them.

    Raises:
        InputError: it is no run folder, or cannot be written.
    """
    summary = summarize(RunData.read(out))
    write_json(out / SUMMARY, summary.to_json())
    return summary


def _identity(plan: EvaluationPlan, selection: Selection, settings: Settings) -> Identity:
    limits, reasoner = settings.max_tokens, plan.reasoner or plan.model
    return Identity(
        benchmark=plan.benchmark.name,
        data=selection.fingerprint,
        questions=len(selection.entries),
        limit=plan.limit,
        seed=plan.seed,
        boxes="gold" if plan.gold_boxes else "perceived",
        model=_spec(plan.model),
        model_revision=_revision(plan.model),
        reasoner=_spec(reasoner),
        reasoner_revision=_revision(reasoner),
        judge=_spec(plan.judge) if plan.judge else None,
        judge_revision=_revision(plan.judge) if plan.judge else None,
        digest=settings.digest,
        settings=settings.canonical(),
        sampling={
            stage: asdict(Sampling(getattr(limits, stage))) for stage in ("perceive", "reason", "direct")
        },
    )


def _spec(model: str | Model) -> str:
    return without_secrets(model) if isinstance(model, str) else model.name


def _revision(model: str | Model) -> str | None:
    return provenance.revision(model) if isinstance(model, str) else None


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


async def _open_judge(plan: EvaluationPlan, stack: AsyncExitStack) -> Judge | None:
    if not isinstance(plan.judge, str):
        return Judge(plan.judge) if plan.judge else None
    from p2r.models.loading import open_model

    model = open_model(plan.judge, max_concurrency=plan.concurrency)
    stack.push_async_callback(model.aclose)
    return Judge(model)


async def _start_servers(plan: EvaluationPlan, pipeline: P2R, judge: Judge | None) -> None:
    """Start our own vLLM servers now: minutes of loading are no question's time, and may fail."""
    models = [(plan.model, pipeline.perceiver), (plan.reasoner, pipeline.reasoner)]
    models += [(plan.judge, judge.model)] if judge else []
    for spec, model in models:
        if isinstance(spec, str) and spec.startswith("vllm:"):
            await model.complete([Message("user", ("Ready?",))], Sampling(max_tokens=1))


async def _ask(
    plan: EvaluationPlan, selection: Selection, pipeline: P2R, judge: Judge | None, console: Console
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
    modes = [mode for mode in MODES if mode in plan.modes]
    with ExitStack() as stack:
        stack.enter_context(folder_lock(plan.out))
        number = config.begin_session(plan.out, session, selection)
        files = {mode: stack.enter_context(_ModeFiles(plan.out, mode)) for mode in modes}
        for journal in (one.predictions for one in files.values() if one.predictions.repaired):
            torn = f"{journal.path}: {journal.repaired} torn line(s) dropped, to be asked again"
            console.print(torn, markup=False)
        before = {mode: list(mode_files.done.values()) for mode, mode_files in files.items()}
        with EvaluationProgress(console, len(selection.entries) * len(modes), before) as progress:
            monitor = FailureMonitor(plan.most_failures)
            run = _Run(plan, selection, pipeline, judge, files, number, progress, monitor)
            try:
                await run.ask_all()
            except BaseException:
                # An interrupt too. A full disk has been reported already.
                with suppress(InputError):
                    write_summary(plan.out)
                raise
        return write_summary(plan.out)


class _ModeFiles(ExitStack):
    """The two files of one mode; `done` maps the questions that have an answer to whether it was right."""

    def __init__(self, folder: Path, mode: Mode) -> None:
        super().__init__()
        self.predictions = self.enter_context(Journal(folder / f"predictions-{mode}.jsonl"))
        self.failures = self.enter_context(Journal(folder / f"failures-{mode}.jsonl"))
        records = self.predictions.records
        self.done = {str(record["id"]): record["correct"] is True for record in records if "id" in record}
        # A long run need not hold the texts of its earlier sessions.
        records.clear()
        self.failures.records.clear()


@dataclass(slots=True)
class _Run:
    """Asks the questions of one session."""

    plan: EvaluationPlan
    selection: Selection
    pipeline: P2R
    judge: Judge | None
    files: dict[Mode, _ModeFiles]
    session: int
    progress: EvaluationProgress
    monitor: FailureMonitor
    synced: float = field(default_factory=time.monotonic)

    async def ask_all(self) -> None:
        """Ask every question that has no answer yet.

        Raises:
            ModelError: too many calls fail.
            InputError: too many images cannot be read, the disk is full, or the data is gone.
        """
        tasks = self.selection.tasks(skip=lambda name: all(name in f.done for f in self.files.values()))
        slots = asyncio.Semaphore(self.plan.concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                # Rows are read ahead one at a time, in a thread: they may come from the hub.
                while (task := await asyncio.to_thread(next, tasks, None)) is not None:
                    await slots.acquire()
                    group.create_task(self._ask(*task)).add_done_callback(lambda _: slots.release())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed

    async def _ask(self, entry: Entry, load: Callable[[], Sample]) -> None:
        modes = [mode for mode, files in self.files.items() if entry.id not in files.done]
        try:
            sample, sources = await asyncio.to_thread(self._open, entry, load)
        except InputError as error:
            for mode in modes:
                self._failed(entry, mode, "image", error)
            return
        for mode in modes:
            await self._ask_in(mode, entry, sample, sources)

    def _open(self, entry: Entry, load: Callable[[], Sample]) -> tuple[Sample, list[ImageSource]]:
        sample, limits = load(), self.pipeline.limits
        sources = [page for image in sample.question.images for page in open_pages(image, limits)]
        return with_question(sample, id=entry.id, image=sources), sources  # opened once for all modes

    async def _ask_in(self, mode: Mode, entry: Entry, sample: Sample, sources: Sequence[ImageSource]) -> None:
        boxes = None
        try:
            if self.plan.gold_boxes and mode == "p2r":
                if sample.boxes is None:
                    raise InputError("no gold boxes are known for this question")
                boxes = sample.boxes
            prediction = await self.pipeline.predict(sample.question, mode, boxes=boxes)
        except InputError as error:
            return self._failed(entry, mode, "image", error)
        except ModelError as error:
            return self._failed(entry, mode, error.kind, error)
        scored = await score(prediction.reply, sample, self.judge)
        if scored.correct is None and scored.method == "judge":
            return self._failed(entry, mode, "judge", scored.reason)
        record = AnswerRecord(
            **self._about(entry, mode),
            prediction=prediction,
            score=scored,
            gold=sample.answer,
            gold_boxes=sample.boxes,
            size=sources[0].size,
            others=tuple(source.size for source in sources[1:]),
        )
        self.files[mode].predictions.append(record.to_json())
        self.monitor.note_success()
        self.progress.on_answer(record)
        await self._sync()
        return None

    def _failed(self, entry: Entry, mode: Mode, kind: FailureKind, error: Exception | str) -> None:
        failure = FailureRecord(**self._about(entry, mode), kind=kind, error=str(error))
        self.files[mode].failures.append(failure.to_json())
        self.progress.on_failure(failure)
        self.monitor.note_failure(failure.error, of_input=kind == "image")

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

    async def _sync(self) -> None:
        """Bring the answers to the disk now and then; what is written later is synced when the run ends."""
        if time.monotonic() - self.synced >= SYNC_EVERY_S:
            self.synced = time.monotonic()
            for files in self.files.values():
                await asyncio.to_thread(files.predictions.sync)
