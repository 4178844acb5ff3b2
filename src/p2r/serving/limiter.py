"""Bounded request queue with draining."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from p2r.images.limits import MemoryBudget
from p2r.serving.errors import APIError, shutting_down

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

_MAX_RETRY_AFTER_S = 60
_CANCELLED_WITHIN_S = 5.0
_slot: ContextVar[ExitStack] = ContextVar("slot")


class Limiter:
    """Lets `concurrency` requests run and `queue` more wait, in the order of their arrival.

    The evidence of running requests takes `evidence_bytes` at most, so fewer run where images are large. A
    request whose body is still being read is not in the queue: `http` limits those.

    Attributes:
        accepted: requests that are being read, wait or run.
        queued: those that wait for a slot.
        running: those that are being answered.
        ended: set when the time of the accepted requests is over.
    """

    def __init__(self, concurrency: int, queue: int, evidence_bytes: int = 512 * 2**20) -> None:
        self.accepted = 0
        self.queued = 0
        self.running = 0
        self.ended = asyncio.Event()
        self._draining = False
        self._concurrency = concurrency
        self._queue = queue
        self._slots = asyncio.Semaphore(concurrency)
        self._memory = MemoryBudget(evidence_bytes)
        self._order, self._freed = asyncio.Lock(), asyncio.Event()
        self._typical_s = 1.0

    @contextmanager
    def accept(self) -> Iterator[None]:
        """Accept a request.

        Raises:
            APIError: 429 when the queue is full, 503 when the server is shutting down.
        """
        if self._draining:
            raise shutting_down()
        self._check_queue()
        self.accepted += 1
        try:
            yield
        finally:
            self.accepted -= 1

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[ExitStack]:
        """Wait for a slot. Closing it frees it before the end of the block, with its memory.

        Raises:
            APIError: 429 when the queue is full.
        """
        self._check_queue()
        self.queued += 1
        try:
            await self._slots.acquire()
        finally:
            self.queued -= 1
        self.running += 1
        with ExitStack() as slot:
            slot.callback(self._free, time.perf_counter())
            _slot.set(slot)
            yield slot

    async def reserve(self, nbytes: int) -> None:
        """Wait for memory until the slot of this task is closed, first in, first out.

        A request for more than the whole budget waits for the whole budget.
        """
        async with self._order:
            while (found := self._memory.try_reserve(min(nbytes, self._memory.most))) is None:
                self._freed.clear()
                await self._freed.wait()
        _slot.get().enter_context(found)

    def drain(self, within_s: float) -> None:
        """Accept no more requests; after `within_s` seconds the accepted ones end too."""
        self._draining = True
        asyncio.get_running_loop().call_later(within_s, self.ended.set)

    def _free(self, start_s: float) -> None:
        self.running -= 1
        self._slots.release()
        self._freed.set()
        self._typical_s += 0.1 * (time.perf_counter() - start_s - self._typical_s)

    def _check_queue(self) -> None:
        if self.queued >= self._queue and self._slots.locked():
            seconds = math.ceil((self._queue / self._concurrency + 1) * self._typical_s)
            raise APIError(
                429,
                "too many requests are waiting: try again later",
                code="queue_full",
                headers={"Retry-After": str(max(1, min(_MAX_RETRY_AFTER_S, seconds)))},
            )


async def done_before(work: Awaitable[None], *signals: Awaitable[object]) -> bool:
    """Do the work, but cancel it at the first of the signals; whether it was done.

    Raises:
        Exception: what the work raises.
    """
    working = asyncio.ensure_future(work)
    tasks = [working, *map(asyncio.ensure_future, signals)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if done := working.done():
            await working
        return done
    finally:
        for task in tasks:
            task.cancel()
        # A model that takes long to cancel must not delay the reply.
        await asyncio.wait(tasks, timeout=_CANCELLED_WITHIN_S)
