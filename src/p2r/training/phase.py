"""One phase, in processes of its own: `accelerate launch -m p2r.training.phase RUN/phases/01-perceiver`.

Everything it needs is in the run folder, everything it does goes there. It is started by `rounds`, which
reads `error.json` when it ends badly.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path

from p2r.errors import InputError, ModelError, P2RError
from p2r.journal import write_json
from p2r.training.folder import ERROR

END_WITH_STDIN = "P2R_END_WITH_STDIN"
# How libraries say that a file could not be written whole: none of them raises an OSError for it.
_FULL = (
    *("no space left", "os error 28", "file too large", "os error 27", "quota exceeded"),
    *("failed writing", "unexpected pos"),  # torch.save
)


def main() -> None:
    """Run the phase whose folder is the only argument; exit codes as those of `p2r train`."""
    path = Path(sys.argv[1]).resolve()
    stop = threading.Event()
    if os.environ.get(END_WITH_STDIN):
        _watch_stdin(stop)
    try:
        from p2r.training.session import Session

        Session(path, stop).run()
    except P2RError as error:
        _report(path, error)
        sys.exit(3 if isinstance(error, ModelError) else 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if full := full_disk(error, path):
            _report(path, full)
            sys.exit(2)
        raise


def full_disk(error: BaseException, path: Path) -> InputError | None:
    """What libraries raise when a checkpoint does not fit, as one readable error; None for anything else."""
    told: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        told.append(" ".join(str(cause).split()))
        cause = cause.__cause__ or cause.__context__
    text = "; ".join(told)
    if not any(sign in text.lower() for sign in _FULL):
        return None
    free = shutil.disk_usage(path).free / 1e9
    return InputError(
        f"cannot write a checkpoint below {path}: {text[:200]} ({free:.1f} GB are free); free some space and "
        "run the same command again: it goes on from the last whole checkpoint"
    )


def _watch_stdin(stop: threading.Event) -> None:
    """Ask to stop when whoever started us is gone, or closes the pipe to say so."""

    def watch() -> None:
        # Not through sys.stdin: a thread that holds its lock cannot be ended with the interpreter.
        while os.read(0, 1024):
            pass
        stop.set()

    threading.Thread(target=watch, daemon=True).start()


def _report(path: Path, error: P2RError) -> None:
    print(f"error: {error}", flush=True)  # noqa: T201 - into the log of the phase
    kind = error.kind if isinstance(error, ModelError) else ""
    with contextlib.suppress(InputError):
        write_json(path / ERROR, {"message": str(error), "model_error": kind})


if __name__ == "__main__":
    main()
