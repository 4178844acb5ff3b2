"""Handling of Ctrl-C, SIGTERM and SIGHUP.

The first signal cancels the work of the command, which then writes its results so far and ends its child
processes. Work that cannot be cancelled, such as loading a model, gets a few seconds, as it has nothing to
write. The second signal ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

T = TypeVar("T")

GRACE_S = 3.0  # for work that was cancelled and waits for something else


class _Stop:
    """The state of this process, because a signal has no other way to the coroutine that it cancels."""

    received = 0  # the first signal
    cancel: Callable[[], object] | None = None  # cancels the coroutine in `run`, while there is one
    leave: Callable[[], NoReturn] | None = None  # ends the process, while signals are handled
    grace_s = GRACE_S


@contextmanager
def stoppable(
    say: Callable[[str, str, str], None], afterwards: str, grace_s: float = GRACE_S
) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP stop the block, and end the process with code 128 + signal.

    Args:
        say: prints a line, given its kind, style and text.
        afterwards: what the user can do then.
        grace_s: the seconds after which the process ends even if the block has not stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals
        return

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if _Stop.received:
            _end(number)
        _Stop.received = number
        with suppress(RuntimeError):  # the signal came in the middle of another line
            say("stopping", "yellow", f"cancelling the work; {afterwards}; Ctrl-C again ends at once")
        if _Stop.cancel is None:
            timer = threading.Timer(grace_s, leave)
            timer.daemon = True
            timer.start()
            raise KeyboardInterrupt
        _Stop.cancel()

    def leave() -> NoReturn:
        say("stopped", "yellow", afterwards)
        _end(_Stop.received)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    _Stop.leave, _Stop.grace_s = leave, grace_s
    try:
        yield
    except KeyboardInterrupt:
        if not _Stop.received:
            raise
        leave()
    finally:
        _Stop.leave = None
        for number, handler in before.items():
            signal.signal(number, handler)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine, as `asyncio.run`; inside `stoppable` a signal cancels it.

    Raises:
        KeyboardInterrupt: it was cancelled. Its worker threads are not waited for: the process ends.
    """
    import asyncio

    async def main() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            if task:
                task.cancel()
            if _Stop.leave:
                loop.call_later(_Stop.grace_s, _Stop.leave)

        _Stop.cancel = lambda: loop.call_soon_threadsafe(stop)
        try:
            return await work
        finally:
            _Stop.cancel = None

    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        try:
            return runner.run(main())
        except asyncio.CancelledError:
            stack.pop_all()  # to close the runner is to wait for its threads
            raise KeyboardInterrupt from None


def _end(number: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):
            stream.flush()
    if sys.__stderr__ is not None and sys.__stderr__.isatty():
        os.write(sys.__stderr__.fileno(), b"\x1b[?25h")  # show the cursor again, which a spinner hides
    os._exit(128 + number)
