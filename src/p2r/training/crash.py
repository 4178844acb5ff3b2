"""What is told of processes that crashed, in one line: the exception, or the signal that ended them."""

from __future__ import annotations

import re
import signal
import traceback
from pathlib import Path

from p2r.models.batching import is_out_of_memory

_LONGEST = 400
_MEMORY = "lower training.micro_batch, frozen.batch or the pixel budgets"
_OF_SIGNALS = {
    "SIGKILL": f"most likely by the kernel, because the machine ran out of memory: {_MEMORY}",
    "SIGSEGV": "a crash in compiled code",
}
# The last line of a trace, as Python prints it; torchrun puts the rank before it.
_EXCEPTION = re.compile(r"^(?:\[rank\d+\]: *)?((?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt)\b(?::.*)?)$")
_OF_LAUNCHERS = ("CalledProcessError", "ChildFailedError")
# How torchrun and accelerate name the signal that ended one of their processes.
_SIGNAL = re.compile(r"\b(?:Signal \d+ \(|Signals\.)(SIG[A-Z]+)\b")


def exception_line(error: BaseException) -> str:
    """`Type: message (file:line)` with the innermost frame, and what helps against too little memory."""
    text = " ".join(str(error).split())[:_LONGEST]
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if frames := traceback.extract_tb(error.__traceback__):
        said += f" ({_short(Path(frames[-1].filename))}:{frames[-1].lineno})"
    return f"{said}; {_MEMORY}" if is_out_of_memory(error) else said


def signal_name(code: int, log: str) -> str:
    """The signal that ended a process, such as `SIGKILL`; empty when none did.

    Args:
        code: its exit code; negative for a signal.
        log: what it printed: launchers name the signals that end their own processes.
    """
    if code < 0:
        return signal.Signals(-code).name
    # By SIGTERM launchers end those that are left.
    return next((name for name in _SIGNAL.findall(log) if name != "SIGTERM"), "")


def exit_line(code: int, log: str) -> str:
    """Why processes ended that have left no word of their own; for the arguments see `signal_name`."""
    if name := signal_name(code, log):
        return f"ended by {name}" + (f", {_OF_SIGNALS[name]}" if name in _OF_SIGNALS else "")
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    raised = [found[1] for line in lines if (found := _EXCEPTION.match(line))]
    raised = [line for line in raised if not any(name in line for name in _OF_LAUNCHERS)]
    last = (raised or lines or [""])[-1][:_LONGEST]
    return f"ended with exit code {code}" + (f": {last}" if last else "")


def _short(file: Path) -> Path:
    """From the package on: what stands before it says nothing."""
    for above in ("site-packages", "src"):
        if above in file.parts:
            return Path(*file.parts[len(file.parts) - file.parts[::-1].index(above) :])
    return file
