"""Image work in threads of its own, which ends soon after nobody waits for its result any more.

A thread cannot be cancelled from outside. The work asks between its steps (`raise_if_abandoned`), and what
libvips computes meanwhile is stopped (`stopped_if_abandoned`).
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from p2r.images._vips import VipsImage

P = ParamSpec("P")
T = TypeVar("T")

# Not the pool of the event loop, which other work needs while images are decoded or wait for their turn.
_pool = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4), thread_name_prefix="p2r-image")


class Abandoned(BaseException):
    """Nobody waits for the result of this work any more."""


class _Work:
    def __init__(self) -> None:
        self.abandoned = False
        self._computed: list[VipsImage] = []
        self._lock = threading.Lock()

    def abandon(self) -> None:
        with self._lock:
            self.abandoned = True
            for image in self._computed:
                image.set_kill(True)

    def begin(self, images: tuple[VipsImage, ...]) -> None:
        with self._lock:
            self._computed += images
        if self.abandoned:
            raise Abandoned

    def end(self, images: tuple[VipsImage, ...]) -> None:
        with self._lock:
            for image in images:
                self._computed.remove(image)


_work: ContextVar[_Work | None] = ContextVar("_work", default=None)


async def in_image_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in one of the threads for images; if this is cancelled, the call ends soon.

    The number of these threads is bounded: further calls wait for a free one.
    """
    work = _Work()
    context = copy_context()
    context.run(_work.set, work)
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(_pool, lambda: context.run(function, *args, **kwargs))
    except asyncio.CancelledError:
        work.abandon()
        raise


def raise_if_abandoned() -> None:
    """Called between the steps of long work.

    Raises:
        Abandoned: nobody waits for its result any more.
    """
    work = _work.get()
    if work is not None and work.abandoned:
        raise Abandoned


@contextmanager
def stopped_if_abandoned(*images: VipsImage) -> Iterator[None]:
    """While libvips computes pixels of these images: they fail as soon as the work is abandoned.

    Raises:
        Abandoned: it is already.
    """
    work = _work.get()
    if work is None:
        yield
        return
    work.begin(images)
    try:
        yield
    finally:
        work.end(images)
