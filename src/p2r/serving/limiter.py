"""Who is answered now, who waits, and who is sent away: a bounded queue, and its end."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from p2r.images.limits import MemoryBudget
from p2r.serving.errors import RequestFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

    from p2r.images.limits import Reservation

MAX_RETRY_AFTER_S = 60
_CANCELLED_WITHIN_S = 5.0


class Slot:
    """A place among the requests that run, and the memory that its evidence takes."""

    def __init__(self, admission: Admission) -> None:
        self._admission: Admission | None = admission
        self._reservation: Reservation | None = None
        self._start_s = time.perf_counter()

    async def hold(self, nbytes: int) -> None:
        """Wait until there are so many bytes, in the order in which requests came here; only once."""
        if self._admission is not None:
            self._reservation = await self._admission.memory(nbytes)

    def release(self) -> None:
        """Let the next request run. Safe to call twice."""
        admission, self._admission = self._admission, None
        if admission is None:
            return
        if self._reservation is not None:
            self._reservation.release()
        admission.free(time.perf_counter() - self._start_s)


class Admission:
    """Lets `concurrency` requests run and `queue` more wait, in the order of their arrival.

    The evidence of those that run takes `nbytes` at most, so that fewer run where images are large.

    A request that is still being read takes no place in the queue, so that slow clients keep nobody out: the
    server's connections and memory are what bounds those (`connections`, `memory`).

    Attributes:
        accepted: requests that were let in and are not done.
        queued: those of them that wait for a slot.
        running: those that are being answered.
        draining: set when nobody new is let in any more.
        idle: set while nobody is in.
        ended: set when the time of the accepted requests is over.
    """

    def __init__(self, concurrency: int, queue: int, nbytes: int = 512 * 2**20) -> None:
        self.accepted = 0
        self.queued = 0
        self.running = 0
        self.draining = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.ended = asyncio.Event()
        self._concurrency = concurrency
        self._queue = queue
        self._slots = asyncio.Semaphore(concurrency)
        self._memory = MemoryBudget(nbytes)
        self._order, self._freed = asyncio.Lock(), asyncio.Event()
        self._typical_s = 1.0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Let a request in.

        Raises:
            RequestFailed: 429 when the queue is full, 503 when the server is ending.
        """
        if self.draining.is_set():
            raise ending()
        self._check_queue()
        self.accepted += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.accepted -= 1
            if not self.accepted:
                self.idle.set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Slot]:
        """Wait for a slot; it is free again when it is released, at the end of the block at the latest.

        Raises:
            RequestFailed: 429 when the queue is full.
        """
        self._check_queue()
        self.queued += 1
        try:
            await self._slots.acquire()
        finally:
            self.queued -= 1
        self.running += 1
        slot = Slot(self)
        try:
            yield slot
        finally:
            slot.release()

    async def memory(self, nbytes: int) -> Reservation:
        """Wait for memory of those that run, first in, first out; more than there is at all waits for all."""
        async with self._order:
            while (found := self._memory.try_reserve(min(nbytes, self._memory.most))) is None:
                self._freed.clear()
                await self._freed.wait()
        return found

    def free(self, held_s: float) -> None:
        """See `Slot.release`."""
        self.running -= 1
        self._slots.release()
        self._freed.set()
        self._typical_s += 0.1 * (held_s - self._typical_s)

    def _check_queue(self) -> None:
        if self.queued >= self._queue and self._slots.locked():
            raise RequestFailed(
                429,
                "too many requests are waiting: try again later",
                code="queue_full",
                headers={"Retry-After": str(self._retry_after_s())},
            )

    def _retry_after_s(self) -> int:
        rounds = self._queue / self._concurrency + 1
        return max(1, min(MAX_RETRY_AFTER_S, math.ceil(rounds * self._typical_s)))

    def end(self, within_s: float) -> None:
        """Let nobody in any more; those inside have so many seconds."""
        self.draining.set()
        asyncio.get_running_loop().call_later(within_s, self.ended.set)


async def done_before(work: Awaitable[None], *signals: Awaitable[object]) -> bool:
    """Do the work, but stop it at the first of the signals; whether it was done.

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
        # A model that is slow to let go must not hold the reply.
        await asyncio.wait(tasks, timeout=_CANCELLED_WITHIN_S)


def ending() -> RequestFailed:
    """What a request is told that cannot be answered because the server is being ended."""
    return RequestFailed(
        503, "the server is shutting down: try again", code="shutting_down", headers={"Retry-After": "5"}
    )
