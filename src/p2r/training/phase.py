"""One phase, in processes of its own: `python -m p2r.training.phase RUN/phases/01-perceiver`.

It reads everything from the run folder and writes everything there. `launch` starts it; `run` reads why it
ended from `error.json`.

SIGTERM or SIGHUP, which batch systems send, or the end of its stdin, when the command that started it is
gone, ask it to stop. It then has `GRACE_S`: the current step may end by itself, then it is interrupted, and a
checkpoint is saved where that is possible.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from p2r.errors import InputError, ModelError, P2RError
from p2r.runs.files import write_json
from p2r.training.launch import END_WITH_STDIN, GRACE_S, STOPPED, exception_line
from p2r.training.run_folder import ERROR, LOG, PhaseError

_STEP_S = 5.0
# How libraries say that a file could not be written: none of them raises an OSError for it.
_FULL = (
    *("no space left", "os error 28", "file too large", "os error 27", "quota exceeded"),
    *("failed writing", "unexpected pos"),  # torch.save
)


def main() -> None:
    """Run the phase whose folder is the only argument; exit codes as those of `p2r train`."""
    path = Path(sys.argv[1]).resolve()
    stop = threading.Event()
    _end_when_asked(stop)
    try:
        from p2r.training.session import Session

        Session(path, stop).run()
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except P2RError as error:
        sys.exit(_report(path, error))
    except Exception as error:  # noqa: BLE001 - the end of the process; all of it goes into the log
        traceback.print_exc()
        text = (
            f"phase {path.name}: {exception_line(error)}; the whole trace is in {path / LOG}; the same "
            "command continues from the last checkpoint"
        )
        sys.exit(_report(path, _full_disk(error, path) or ModelError(text, kind="internal")))


def _full_disk(error: BaseException, path: Path) -> InputError | None:
    """What libraries raise when a checkpoint does not fit, as one readable error; None for anything else."""
    causes: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(" ".join(str(cause).split()))
        cause = cause.__cause__ or cause.__context__
    text = "; ".join(causes)
    if not any(sign in text.lower() for sign in _FULL):
        return None
    free = shutil.disk_usage(path).free / 1e9
    return InputError(
        f"cannot write a checkpoint below {path}: {text[:200]} ({free:.1f} GB are free); free some space and "
        "run the same command again: it continues from the last complete checkpoint"
    )


def _end_when_asked(stop: threading.Event) -> None:
    def ask(*_: Any) -> None:
        stop.set()

    def watch_stdin() -> None:
        # Not through sys.stdin: a thread that holds its lock cannot be ended with the interpreter.
        while os.read(0, 1024):
            pass
        stop.set()

    def end() -> None:
        stop.wait()
        time.sleep(_STEP_S)
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            # Of several processes one cannot leave a step alone. Twice, because asyncio holds the first
            # one back until its task ends.
            for _ in range(2):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                time.sleep(0.5)
        time.sleep(GRACE_S - _STEP_S)
        os._exit(STOPPED)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, ask)
    if os.environ.get(END_WITH_STDIN):
        threading.Thread(target=watch_stdin, daemon=True).start()
    threading.Thread(target=end, daemon=True).start()


def _report(path: Path, error: P2RError) -> int:
    """Write down why the phase ends, unless another of its processes did before; returns the exit code."""
    print(f"error: {error}", flush=True)  # noqa: T201 - into the log of the phase
    kind = error.kind if isinstance(error, ModelError) else ""
    if not (path / ERROR).exists():
        with contextlib.suppress(InputError):
            write_json(path / ERROR, PhaseError(str(error), kind).to_json())
    return 3 if kind else 2


if __name__ == "__main__":
    main()
