"""Request queue that runs waiting requests in batches, one batch at a time.

Free of torch, so that cancelling, failing and running out of memory are tested without a model.
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
from p2r.models.base import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2r.models.base import Completion, Sampling

Item = TypeVar("Item")

_LINGER_S = 0.005  # how long the first request of a batch waits for others


@dataclass(eq=False, slots=True)
class Request(Generic[Item]):
    """One waiting or running request."""

    item: Item  # what the engine needs
    sampling: Sampling  # the requests of a batch differ at most in their seeds
    on_text: Callable[[str], None] | None = None  # takes the pieces of the text, for a caller that streams
    abandoned: bool = False  # the caller has cancelled; the engine may stop working on it
    future: Future[Completion] = field(default_factory=Future)


class Batcher(Generic[Item]):
    """Collects requests into batches and runs them in one thread, oldest first.

    Args:
        engine: completes a batch; a request that failed alone gives its error. May raise anything.
        max_batch: the most requests of a batch.
        name: the model's name, for errors.
    """

    def __init__(
        self,
        engine: Callable[[Sequence[Request[Item]]], Sequence[Completion | ModelError]],
        *,
        max_batch: int,
        name: str,
    ) -> None:
        self._engine = engine
        self._max_batch = max_batch
        self._name = name
        self._waiting: deque[Request[Item]] = deque()
        self._lock = threading.Lock()
        self._closed = False
        # One task for each request; most find that an earlier one has run theirs. So the thread starts with
        # the first request, and the exit of the interpreter waits only for a running batch.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"p2r-{name}")

    async def submit(
        self, item: Item, sampling: Sampling, on_text: Callable[[str], None] | None = None
    ) -> Completion:
        """Complete one request, in a batch with others.

        Raises:
            ModelError: the engine failed, or the batcher was closed.
        """
        request = Request(item, sampling, on_text)
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
        """Fail the waiting requests, finish the running ones, end the thread. Safe to call twice."""
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
        waiting = len(self._waiting)
        if 0 < waiting < self._max_batch:
            time.sleep(_LINGER_S)
        if batch := self._take():
            self._run(batch)

    def _take(self) -> list[Request[Item]]:
        """Remove the oldest request, and those that can run with it, from the queue."""
        batch: list[Request[Item]] = []
        with self._lock:
            for request in list(self._waiting):
                if len(batch) == self._max_batch:
                    break
                if batch and _without_seed(request.sampling) != _without_seed(batch[0].sampling):
                    continue
                self._waiting.remove(request)
                if request.future.set_running_or_notify_cancel():
                    batch.append(request)
        return batch

    def _run(self, batch: list[Request[Item]]) -> None:
        results: Sequence[Completion | ModelError]
        try:
            results = self._engine(batch)
        except ModelError as error:
            results = [error] * len(batch)
        except Exception as error:  # noqa: BLE001 - it fails these requests and must not end the thread
            text = f"the engine failed: {one_line(f'{type(error).__name__}: {error}')}"
            failed = ModelError(text, kind="internal", model=self._name)
            failed.__cause__ = error
            results = [failed] * len(batch)
        for request, result in zip(batch, results, strict=True):
            if isinstance(result, ModelError):
                request.future.set_exception(result)
            else:
                request.future.set_result(result)


def complete_halving(
    engine: Callable[[Sequence[Request[Item]]], Sequence[Completion]],
    requests: Sequence[Request[Item]],
    name: str,
) -> list[Completion | ModelError]:
    """Complete a batch; one that does not fit into memory is halved and tried again.

    A request that does not fit alone gives an error in place of its completion; `name` is the model's in it.
    """
    try:
        return list(engine(requests))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(requests) == 1:
            text = "out of memory; lower the pixel budget or max_tokens, or use a smaller model"
            return [ModelError(text, kind="internal", model=name)]
    # After the handler, so that nothing holds the tensors of the failed try.
    half = len(requests) // 2
    halves = requests[:half], requests[half:]
    return [result for part in halves for result in complete_halving(engine, part, name)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python or of torch says that memory is exhausted."""
    return (
        isinstance(error, MemoryError)
        or "OutOfMemory" in type(error).__name__
        # The CPU's words, those of Apple's mps, and those of mps for a single tensor that is too large.
        or any(words in str(error) for words in ("allocate memory", "out of memory", "Invalid buffer size"))
    )


def _without_seed(sampling: Sampling) -> Sampling:
    return replace(sampling, seed=None)
