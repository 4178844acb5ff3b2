"""Asking many questions at once: what `p2r eval` and `p2r batch` share.

The code is written for one question at a time; batching and pooling are up to the models.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from p2r.errors import InputError, ModelError
from p2r.models.base import Message, Sampling
from p2r.pipeline import P2R
from p2r.runs import provenance
from p2r.text import without_secrets

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from rich.console import Console

    from p2r.evaluation.records import FailureKind
    from p2r.models.base import Model
    from p2r.runs.journal import Journal
    from p2r.settings import Settings
    from p2r.types import Box, Mode, Prediction, Question

S = TypeVar("S")
T = TypeVar("T")

SYNC_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a question has no answer."""

    kind: FailureKind
    error: str


async def attempt(
    pipeline: P2R, question: Question, mode: Mode, boxes: Sequence[Box] | None = None
) -> Prediction | Failure:
    """The prediction of one question, or why there is none: the image, or a call that failed.

    It does not keep the question: a run has any number of them, and their images may be in memory.
    """
    try:
        return replace(await pipeline.predict(question, mode, boxes=boxes), question=None)
    except InputError as error:
        return Failure("image", str(error))
    except ModelError as error:
        return Failure(error.kind, str(error))


async def in_flight(
    items: Iterable[S], work: Callable[[S], Awaitable[T]], concurrency: int
) -> AsyncGenerator[T]:
    """Yield `await work(item)` for each item in the order in which they end; close it with `aclosing`.

    At most `concurrency` items are worked on, so that the items may be endless. They are drawn one at a time,
    in a thread: they may come from a slow disk or from the hub. What `work` raises ends the others.
    """
    iterator = iter(items)

    def draw() -> asyncio.Task[tuple[S] | None]:
        # In a tuple, because an item may be None. A thread cannot raise StopIteration into a coroutine.
        return asyncio.create_task(asyncio.to_thread(lambda: next(((item,) for item in iterator), None)))

    drawing: asyncio.Task[tuple[S] | None] | None = draw()
    running: set[asyncio.Task[T]] = set()
    try:
        while drawing or running:
            waited: set[asyncio.Task[Any]] = {*running}
            if drawing and len(running) < concurrency:
                waited.add(drawing)
            ended, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if drawing in ended:
                drawn = await drawing
                drawing = None
                if drawn is not None:
                    running.add(asyncio.ensure_future(work(drawn[0])))
                    drawing = draw()
            for task in [task for task in running if task in ended]:
                running.discard(task)
                yield await task
    finally:
        left: list[asyncio.Task[Any]] = [*running, drawing] if drawing else [*running]
        for unfinished in left:
            unfinished.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class Syncing:
    """Brings journals to the disk now and then; what is written later is synced when they are closed."""

    def __init__(self, *journals: Journal) -> None:
        self._journals = journals
        self._last = time.monotonic()

    async def note_written(self) -> None:
        """Something was written."""
        if time.monotonic() - self._last >= SYNC_EVERY_S:
            self._last = time.monotonic()
            for journal in self._journals:
                await asyncio.to_thread(journal.sync)


@asynccontextmanager
async def opened(
    model: str | Model,
    reasoner: str | Model | None,
    settings: Settings,
    concurrency: int,
    console: Console,
) -> AsyncIterator[P2R]:
    """A pipeline whose servers, where they are our own, have started.

    Minutes of loading are no question's time, and may fail.
    """
    with console.status("opening the model …"):
        # In a thread, so that an interrupt need not wait for the weights.
        pipeline = await asyncio.to_thread(
            P2R, model, reasoner=reasoner, settings=settings, concurrency=concurrency
        )
    async with pipeline:
        with console.status("opening the model …"):
            await start_server(model, pipeline.perceiver)
            await start_server(reasoner, pipeline.reasoner)
        yield pipeline


async def start_server(spec: str | Model | None, model: Model) -> None:
    """Start our own vLLM server now, if the spec is of one."""
    if isinstance(spec, str) and spec.startswith("vllm:"):
        await model.complete([Message("user", ("Ready?",))], Sampling(max_tokens=1))


def identity_of(model: str | Model, reasoner: str | Model | None, settings: Settings) -> dict[str, Any]:
    """What decides the answers to a question: models and their weights, settings, sampling."""
    reasoner, limits = reasoner or model, settings.max_tokens
    return {
        "model": spec_of(model),
        "model_revision": revision_of(model),
        "reasoner": spec_of(reasoner),
        "reasoner_revision": revision_of(reasoner),
        "digest": settings.digest,
        "settings": settings.canonical(),
        "sampling": {
            stage: asdict(Sampling(getattr(limits, stage))) for stage in ("perceive", "reason", "direct")
        },
    }


def spec_of(model: str | Model) -> str:
    """A spec without its secrets, or the name of a model."""
    return without_secrets(model) if isinstance(model, str) else model.name


def revision_of(model: str | Model) -> str | None:
    """Which weights a spec refers to, if known."""
    return provenance.revision(model) if isinstance(model, str) else None
