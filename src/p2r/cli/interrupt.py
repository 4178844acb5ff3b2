"""Ctrl-C, SIGTERM and SIGHUP: say at once what happens, keep what is done, and end soon.

The first signal cancels the work of the command, which then writes what it has and ends what it started. What
cannot be cancelled, a model that is loading or in the middle of a step, is waited for a few seconds only: it
holds nothing that has to be written. The second signal ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

T = TypeVar("T")

GRACE_S = 3.0  # for what was cancelled and waits for something else


@dataclass
class _Stop:
    """The stop of this process.

    Attributes:
        received: the first signal; 0 before.
        cancel: cancels the coroutine in `run`; None while the command is doing something else.
        leave: says that the command has stopped, and ends the process; None where signals are not handled.
    """

    received: int = 0
    cancel: Callable[[], object] | None = None
    leave: Callable[[], NoReturn] | None = None


_stop = _Stop()


@contextmanager
def stoppable(tell: Callable[[str, str], None], afterwards: str, grace_s: float = GRACE_S) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP stop what runs inside, and end the process with code 128 + signal.

    Args:
        tell: shows a line, given its kind and its text.
        afterwards: what the user can do then.
        grace_s: how long what runs inside may take to stop before the process ends all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if _stop.received:
            _end(number)
        _stop.received = number
        with suppress(RuntimeError):  # the signal came in the middle of another line
            tell("stopping", f"what is on its way is cancelled; {afterwards}; Ctrl-C again ends at once")
        if _stop.cancel is None:
            timer = threading.Timer(grace_s, leave)
            timer.daemon = True
            timer.start()
            raise KeyboardInterrupt
        _stop.cancel()

    def leave() -> NoReturn:
        tell("stopped", afterwards)
        _end(_stop.received)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    _stop.leave = leave
    try:
        yield
    except KeyboardInterrupt:
        if not _stop.received:
            raise
        leave()
    finally:
        _stop.leave = None
        for number, handler in before.items():
            signal.signal(number, handler)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine, as `asyncio.run`; inside `stoppable` a signal cancels it.

    Raises:
        KeyboardInterrupt: it was cancelled. Its worker threads are left behind then: the process ends.
    """
    import asyncio

    async def main() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            if task:
                task.cancel()
            if _stop.leave:
                loop.call_later(GRACE_S, _stop.leave)

        _stop.cancel = lambda: loop.call_soon_threadsafe(stop)
        try:
            return await work
        finally:
            _stop.cancel = None

    runner = asyncio.Runner()
    try:
        result = runner.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except BaseException:
        runner.close()
        raise
    runner.close()
    return result


def _end(number: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):
            stream.flush()
    if sys.__stderr__ is not None and sys.__stderr__.isatty():
        os.write(sys.__stderr__.fileno(), b"\x1b[?25h")  # the cursor, which a spinner hides
    os._exit(128 + number)
