"""Threads for image work, with cancellation.

A thread cannot be stopped from outside. Long work calls `raise_if_cancelled` between its steps, and
`stopped_if_cancelled` makes libvips fail in the middle of a computation.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
T = TypeVar("T")

# Not the pool of the event loop, which other work needs while images are decoded or wait for their turn.
_pool = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4), thread_name_prefix="p2r-image")


class Cancelled(BaseException):
    """The work was cancelled."""


class _Work:
    def __init__(self) -> None:
        self.cancelled = False
        self.images: dict[int, Any] = {}  # those that libvips computes now, by id
        self.lock = threading.Lock()

    def cancel(self) -> None:
        with self.lock:
            self.cancelled = True
            for image in self.images.values():
                image.set_kill(True)


_work: ContextVar[_Work | None] = ContextVar("_work", default=None)


async def in_image_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in one of a bounded number of threads; cancelling the task ends the call soon."""
    work = _Work()
    context = copy_context()
    context.run(_work.set, work)
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(_pool, lambda: context.run(function, *args, **kwargs))
    except asyncio.CancelledError:
        work.cancel()
        raise


def raise_if_cancelled() -> None:
    """Raise `Cancelled` in a thread whose work was cancelled."""
    work = _work.get()
    if work is not None and work.cancelled:
        raise Cancelled


@contextmanager
def stopped_if_cancelled(image: Any) -> Iterator[None]:
    """Make the computation of a libvips image fail as soon as the work is cancelled.

    Raises:
        Cancelled: it was cancelled before.
    """
    work = _work.get() or _Work()
    with work.lock:
        work.images[id(image)] = image
    try:
        raise_if_cancelled()
        yield
    finally:
        with work.lock:
            del work.images[id(image)]
