"""One evaluation from beginning to end: choose the questions, ask them, write the figures."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.evaluation.benchmarks import select
from p2r.evaluation.folder import SUMMARY, RunData, begin, check
from p2r.evaluation.progress import Progress
from p2r.evaluation.runner import ModeFiles, Run
from p2r.evaluation.summary import summarize
from p2r.models.base import Message, Sampling
from p2r.pipeline import P2R, settings_of
from p2r.runs.failures import MOST_FAILURES, FailureMonitor
from p2r.runs.files import folder_lock, write_json
from p2r.runs.provenance import environment, revision
from p2r.scoring.judge import Judge
from p2r.text import without_secrets
from p2r.types import MODES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from p2r.evaluation.benchmarks import Benchmark, Selection
    from p2r.models.base import Model
    from p2r.settings import Settings
    from p2r.types import Mode


@dataclass(frozen=True, slots=True)
class Plan:
    """What to evaluate, and how.

    Attributes:
        benchmark: where the questions come from.
        out: the run folder.
        model, reasoner, judge: specs for `p2r.models.open_model`, or models; no reasoner means the model
            itself, no judge that free-form answers must match.
        modes: one or more of `p2r`, `think`, `direct`.
        limit: how many questions, chosen at random by `seed`; None for all.
        seed: chooses the questions.
        gold_boxes: in mode `p2r`, give the reasoner the gold boxes instead of asking the perceiver.
        settings: prompts, geometry and budgets; None for those that come with the model.
        concurrency: how many questions are on their way at once.
        most_failures: stop when as many of the last 50 attempts failed.
        command: how the run was started, for the record.
        opening: the arguments of `open_benchmark`, for the record; the report finds the images with them.

    Raises:
        InputError: settings that contradict each other.
    """

    benchmark: Benchmark
    out: Path
    model: str | Model
    reasoner: str | Model | None = None
    judge: str | Model | None = None
    modes: Sequence[Mode] = ("p2r",)
    limit: int | None = None
    seed: int = 0
    gold_boxes: bool = False
    settings: Settings | None = None
    concurrency: int = 32
    most_failures: int = MOST_FAILURES
    command: str = ""
    opening: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.modes or not set(self.modes) <= set(MODES):
            raise InputError(f"modes are some of {', '.join(MODES)}, not {', '.join(self.modes) or 'none'}")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}: it must be at least 1")
        if self.gold_boxes and "p2r" not in self.modes:
            raise InputError("gold boxes go with mode p2r")
        if self.gold_boxes and not self.benchmark.has_boxes:
            raise InputError(f"benchmark {self.benchmark.name} has no gold boxes")


async def evaluate(plan: Plan, console: Console) -> dict[str, Any]:
    """Ask what has no answer yet, write `summary.json`, and return what it holds.

    The summary is written also when the run is stopped, from what is there.

    Raises:
        InputError: the data, a setting or the run folder cannot be used.
        ModelError: a model cannot be opened, or too much fails.
    """
    with console.status(f"reading {plan.benchmark.name} …"):
        selection = select(plan.benchmark, limit=plan.limit, seed=plan.seed)
    settings = plan.settings or settings_of(plan.model)
    # Before the model is opened, which may take minutes.
    check(plan.out, identity(plan, selection, settings), selection)
    _warn_about_unreadable(selection, console)
    _warn_about_free_form(plan, selection, console)
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


def write_summary(out: Path) -> dict[str, Any]:
    """Work out the figures of a run folder, write them to `summary.json` and return them.

    Raises:
        InputError: it is no run folder, or cannot be written.
    """
    summary = summarize(RunData.read(out))
    write_json(out / SUMMARY, summary)
    return summary


async def _ask(
    plan: Plan, selection: Selection, pipeline: P2R, judge: Judge | None, console: Console
) -> dict[str, Any]:
    session = {"started": time.time(), "command": without_secrets(plan.command), **environment()}
    session |= {"modes": list(plan.modes), "concurrency": plan.concurrency}
    details = {
        "source": plan.benchmark.source,
        "rows": selection.total,
        "unreadable": [asdict(row) for row in selection.unreadable],
        "opening": plan.opening and dict(plan.opening),
        "layout": asdict(plan.benchmark.layout),
    }
    with ExitStack() as stack:
        stack.enter_context(folder_lock(plan.out))
        number = begin(plan.out, identity(plan, selection, pipeline.settings), details, session, selection)
        modes = [mode for mode in MODES if mode in plan.modes]
        files = {mode: stack.enter_context(ModeFiles(plan.out, mode)) for mode in modes}
        for mode_files in files.values():
            if mended := mode_files.predictions.repaired:
                console.print(
                    f"{mode_files.predictions.path}: {mended} torn line(s) dropped, to be asked again",
                    markup=False,
                )
        before = {mode: list(mode_files.done.values()) for mode, mode_files in files.items()}
        with Progress(console, len(selection.chosen) * len(modes), before) as watch:
            run = Run(
                pipeline,
                selection,
                files,
                session=number,
                watch=watch,
                judge=judge,
                gold_boxes=plan.gold_boxes,
                concurrency=plan.concurrency,
                health=FailureMonitor(plan.most_failures),
            )
            try:
                await run.ask_all()
            except BaseException:
                # An interrupt too: what is there is worth its figures. A full disk has been reported already.
                with suppress(InputError):
                    write_summary(plan.out)
                raise
        return write_summary(plan.out)


def identity(plan: Plan, selection: Selection, settings: Settings) -> dict[str, Any]:
    """The settings that decide what is asked and answered; a run is only continued with the same ones."""
    limits = settings.max_tokens
    same = plan.reasoner is None
    return {
        "benchmark": plan.benchmark.name,
        "data": selection.fingerprint,
        "questions": len(selection.chosen),
        "limit": plan.limit,
        "seed": plan.seed,
        "boxes": "gold" if plan.gold_boxes else "perceived",
        "model": _spec(plan.model),
        "model_revision": _revision(plan.model),
        "reasoner": _spec(plan.model if same else plan.reasoner),
        "reasoner_revision": _revision(plan.model if same else plan.reasoner),
        "judge": _spec(plan.judge),
        "judge_revision": _revision(plan.judge),
        "digest": settings.digest,
        "settings": settings.canonical(),
        "sampling": {
            stage: asdict(Sampling(getattr(limits, stage))) for stage in ("perceive", "reason", "direct")
        },
    }


def _spec(model: str | Model | None) -> str | None:
    if model is None:
        return None
    return without_secrets(model) if isinstance(model, str) else model.name


def _revision(model: str | Model | None) -> str | None:
    return revision(model) if isinstance(model, str) else None


async def _open_judge(plan: Plan, stack: AsyncExitStack) -> Judge | None:
    if plan.judge is None:
        return None
    if not isinstance(plan.judge, str):
        return Judge(plan.judge)
    from p2r.models.loading import open_model

    model = open_model(plan.judge, max_concurrency=plan.concurrency)
    stack.push_async_callback(model.aclose)
    return Judge(model)


async def _start_servers(plan: Plan, pipeline: P2R, judge: Judge | None) -> None:
    """Start the vLLM servers of our own now: minutes of loading are no question's time, and may fail."""
    models = [(plan.model, pipeline.perceiver), (plan.reasoner, pipeline.reasoner)]
    models += [(plan.judge, judge.model)] if judge else []
    for spec, model in models:
        if isinstance(spec, str) and spec.startswith("vllm:"):
            await model.complete([Message("user", ("Ready?",))], Sampling(max_tokens=1))


def _warn_about_unreadable(selection: Selection, console: Console) -> None:
    if rows := selection.unreadable:
        console.print(
            f"{len(rows)} of {selection.total} rows cannot be read and are not asked, for example "
            f"{rows[0].row}: {rows[0].reason}",
            style="yellow",
            markup=False,
        )


# A code that is read off, such as a number plate: there is one way to write it, and no judge is needed.
_CODE = re.compile(r"[A-Z0-9][A-Z0-9./:-]*")


def _warn_about_free_form(plan: Plan, selection: Selection, console: Console) -> None:
    samples = [chosen.entry.sample for chosen in selection.chosen.values()]
    free = sum(
        sample.question.answer_type == "free" and not _CODE.fullmatch(sample.answer) for sample in samples
    )
    if plan.judge is None and free:
        console.print(
            f"{free} of {len(samples)} questions are free-form and there is no --judge: "
            "only answers that match the gold answer count as right",
            style="yellow",
            markup=False,
        )
