"""Guard process: runs a command in a new session and ends it when the parent process ends in any way.

    python guard.py GRACE_S COMMAND [ARGUMENT]…     # stdin must be a pipe that the parent holds open

The kernel closes the parent's end of the pipe even after `kill -9`, on every Unix, so the command (with all
the processes that it started) never outlives the program that started it. It gets SIGTERM, and SIGKILL
after the grace. The guard exits as the command does. Only the standard library is used, because this file
runs by its path.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time


def main() -> int:
    """Run the command until it ends or the parent does."""
    grace_s = float(sys.argv[1])
    command = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    threading.Thread(target=_end_with_parent, args=(command.pid, grace_s), daemon=True).start()
    code = command.wait()
    _signal(command.pid, signal.SIGKILL)  # what the command left behind
    return code if code >= 0 else 128 - code


def _end_with_parent(group: int, grace_s: float) -> None:
    # Empty once the other end is closed. Not through sys.stdin, whose lock would be held at exit.
    while os.read(0, 4096):
        pass
    _signal(group, signal.SIGTERM)
    time.sleep(grace_s)
    _signal(group, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main())
