"""An event loop in a thread of its own: the synchronous face of code that is async inside.

It works where a loop is running already (Jupyter, a server's handler), and any thread may call it.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator
    from concurrent.futures import Future

S = TypeVar("S")
T = TypeVar("T")


class PrivateLoop:
    """Starts its thread with the first coroutine, and ends it on `close`, when collected, and at exit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: weakref.finalize[Any, PrivateLoop] | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop; cancelling the future cancels the coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._started())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return its result; an interrupt cancels it."""
        future = self.submit(coroutine)
        try:
            return future.result()
        finally:
            future.cancel()

    def map(
        self, work: Callable[[S], Coroutine[Any, Any, T]], items: Iterable[S], *, concurrency: int
    ) -> Iterator[T]:
        """Yield `await work(item)` for each item, in order, as they are ready.

        At most `concurrency` items are being worked on, and at most four times as many are drawn ahead of the
        one that is waited for, so that one slow item does not stop the others and an endless iterable is
        fine. The items are drawn in the caller's thread. Leaving early cancels what is on its way.
        """
        drawn = iter(items)
        window: deque[Future[T]] = deque()
        more = True
        try:
            while more or window:
                running = [future for future in window if not future.done()]
                if more and len(running) < concurrency and len(window) < 4 * concurrency:
                    for item in drawn:
                        window.append(self.submit(work(item)))
                        break
                    else:
                        more = False
                elif window[0].done():
                    yield window.popleft().result()
                else:
                    wait(running, return_when=FIRST_COMPLETED)
        finally:
            for future in window:
                future.cancel()

    def close(self) -> None:
        """Cancel what is still running and end the thread. Safe to call twice; the next use starts anew."""
        with self._lock:
            if self._end is not None:
                self._end()
            self._loop = self._end = None

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                # With a factory, because a runner without one makes its loop that of the caller's thread.
                runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
                stop = asyncio.Event()
                self._loop = runner.get_loop()
                thread = threading.Thread(target=_serve, args=(runner, stop), name="p2r-loop", daemon=True)
                thread.start()
                self._end = weakref.finalize(self, _end, self._loop, stop, thread)
            return self._loop


def _serve(runner: asyncio.Runner, stop: asyncio.Event) -> None:
    with runner:  # leaving it cancels the tasks that are left and ends the worker threads
        runner.run(stop.wait())


def _end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(stop.set)
    if thread is not threading.current_thread():
        thread.join()
