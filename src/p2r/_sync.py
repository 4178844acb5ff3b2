"""The synchronous face of asynchronous code: calls run on an event loop in a thread of its own.

It works where a loop is running already (Jupyter, a server's handler), and any thread may call it.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from concurrent.futures import Future

    from anyio.from_thread import BlockingPortal

S = TypeVar("S")
T = TypeVar("T")


class SyncRunner:
    """Starts its loop with the first call, and ends it on `close`, when collected, and at exit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._end: weakref.finalize[Any, SyncRunner] | None = None

    def submit(self, function: Callable[..., Awaitable[T]], *args: Any) -> Future[T]:
        """Start `function(*args)` on the loop; cancelling the future cancels the call."""
        return self._started().start_task_soon(function, *args)

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """The result of `await function(*args)`; an interrupt cancels the call."""
        future = self.submit(function, *args)
        try:
            return future.result()
        finally:
            future.cancel()

    def map(
        self, function: Callable[[S], Awaitable[T]], items: Iterable[S], *, concurrency: int
    ) -> Iterator[T]:
        """Yield `await function(item)` for each item, in order, as they are ready.

        At most `concurrency` items are being worked on, and at most four times as many are drawn ahead of the
        one that is waited for, so that one slow item does not stop the others and an endless iterable is
        fine. The items are drawn in the caller's thread. Leaving early cancels the running calls.
        """
        drawn = iter(items)
        window: deque[Future[T]] = deque()
        more = True
        try:
            while more or window:
                running = [future for future in window if not future.done()]
                if more and len(running) < concurrency and len(window) < 4 * concurrency:
                    for item in drawn:
                        window.append(self.submit(function, item))
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
        """Cancel running calls and end the thread. Safe to call twice; the next call starts a new one."""
        with self._lock:
            if self._end is not None:
                self._end()
            self._portal = self._end = None

    def _started(self) -> BlockingPortal:
        from anyio.from_thread import start_blocking_portal

        with self._lock:
            if self._portal is None:
                stack = ExitStack()
                portal = stack.enter_context(start_blocking_portal(name="p2r-loop"))
                # To leave the portal's context waits for running calls; they are cancelled instead.
                stack.callback(portal.call, portal.stop, True)
                self._end = weakref.finalize(self, _end, stack, portal.call(threading.get_ident))
                self._portal = portal
            return self._portal


def _end(stack: ExitStack, loop_thread: int) -> None:
    if threading.get_ident() == loop_thread:
        # Collected by the loop's own thread, which cannot wait for its own end.
        threading.Thread(target=stack.close, daemon=True).start()
    else:
        stack.close()
