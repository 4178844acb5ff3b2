"""Requests that wait together run together: a queue in front of an engine that takes one batch at a time.

Torch-free, so that cancelling, failing and running out of memory are tested without a model.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from p2r.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2r.models.base import Completion, Sampling

Item = TypeVar("Item")


@dataclass(eq=False, slots=True)
class Request(Generic[Item]):
    """One waiting or running request.

    Attributes:
        item: what the engine needs.
        sampling: how to decode; the requests of a batch differ in their seeds at most.
        abandoned: the caller went away; the engine may stop working on it.
    """

    item: Item
    sampling: Sampling
    abandoned: bool = False
    future: Future[Completion] = field(default_factory=Future)


class Batcher(Generic[Item]):
    """Collects requests into batches and runs them in one thread, oldest first.

    Args:
        engine: completes a batch; may raise anything. A MemoryError halves the batch.
        max_batch: the most requests of a batch.
        name: the model's name, for errors.
        linger_s: how long the first request of a batch waits for company.
    """

    def __init__(
        self,
        engine: Callable[[Sequence[Request[Item]]], Sequence[Completion]],
        *,
        max_batch: int,
        name: str,
        linger_s: float = 0.005,
    ) -> None:
        self._engine = engine
        self._max_batch = max_batch
        self._name = name
        self._linger_s = linger_s
        self._waiting: deque[Request[Item]] = deque()
        self._lock = threading.Lock()
        self._closed = False
        # One task for each request, most of which find that an earlier one took theirs along. So the thread
        # starts with the first request, and the interpreter's exit waits for a running batch only.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"p2r-{name}")

    async def submit(self, item: Item, sampling: Sampling) -> Completion:
        """Wait for a place in a batch, and for the batch.

        Raises:
            ModelError: the engine failed, or the batcher was closed.
        """
        request = Request(item, sampling)
        with self._lock:
            if self._closed:
                raise self._closed_error()
            self._waiting.append(request)
            self._thread.submit(self._serve)
        try:
            return await asyncio.wrap_future(request.future)
        except asyncio.CancelledError:
            request.abandoned = True
            with self._lock:
                if request in self._waiting:
                    self._waiting.remove(request)
            raise

    def close(self) -> None:
        """Fail what waits, finish what runs, end the thread. Safe to call twice."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for request in waiting:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(self._closed_error())
        self._thread.shutdown(wait=True)

    def _closed_error(self) -> ModelError:
        return ModelError("the model was closed", kind="internal", model=self._name)

    def _serve(self) -> None:
        with self._lock:
            company = len(self._waiting)
        if not company:
            return
        if company < self._max_batch:
            time.sleep(self._linger_s)
        if batch := self._take():
            self._run(batch)

    def _take(self) -> list[Request[Item]]:
        """The oldest request and those that can run with it, out of the queue."""
        batch: list[Request[Item]] = []
        with self._lock:
            for request in list(self._waiting):
                if len(batch) == self._max_batch:
                    break
                if batch and _shared(request.sampling) != _shared(batch[0].sampling):
                    continue
                self._waiting.remove(request)
                if request.future.set_running_or_notify_cancel():
                    batch.append(request)
        return batch

    def _run(self, batch: list[Request[Item]]) -> None:
        error: ModelError | None = None
        try:
            completions = self._engine(batch)
            replies = list(zip(batch, completions, strict=True))
        except MemoryError:
            if len(batch) == 1:
                text = "out of memory; lower the pixel budget or max_tokens, or use a smaller model"
                error = ModelError(text, kind="internal", model=self._name)
        except ModelError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001 - it ends these requests and must not end the thread
            text = " ".join(f"{type(raised).__name__}: {raised}".split())[:300]
            error = ModelError(f"the engine failed: {text}", kind="internal", model=self._name)
            error.__cause__ = raised
        else:
            for request, completion in replies:
                request.future.set_result(completion)
            return
        if error is None:
            # Outside the handler, so that the failed try's memory is free again.
            half = len(batch) // 2
            self._run(batch[:half])
            self._run(batch[half:])
            return
        for request in batch:
            request.future.set_exception(error)


def _shared(sampling: Sampling) -> Sampling:
    return replace(sampling, seed=None)
