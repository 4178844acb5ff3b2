"""Starts and ends the processes of a phase, and explains how they ended.

On this machine alone they are started here, with the variables that torch's launcher sets, so that the end of
each is seen. A configuration of accelerate (FSDP, ZeRO, several machines) needs `accelerate launch`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from p2r.models.vllm import free_port
from p2r.training.run_folder import LOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from p2r.training.recipe import Launch

FROZEN_URL = "P2R_FROZEN_URL"  # the server that was started for a phase
FROZEN_KEY = "P2R_FROZEN_KEY"
END_WITH_STDIN = "P2R_END_WITH_STDIN"
STOPPED = 130  # the exit code of a phase that was asked to stop
GRACE_S = 20.0  # batch systems give 30, of which a frozen vLLM takes its share
# One pool of memory: the next update reuses what other threads (those that cut evidence) have freed. With a
# pool for each thread the peak of a perceiver phase is a quarter to four fifths above that of plain GRPO.
CPU_VARIABLES = {"ACCELERATE_USE_CPU": "true", "MALLOC_ARENA_MAX": "1"}

_STOP_SIGNALS = (-signal.SIGTERM, -signal.SIGHUP, -signal.SIGINT)
_LONGEST = 400
_MEMORY_HINT = "lower training.micro_batch, frozen.batch or the pixel budgets"
_SIGNAL_HINTS = {
    "SIGKILL": f", most likely by the kernel, because the machine ran out of memory: {_MEMORY_HINT}",
    "SIGSEGV": ", a crash in compiled code",
}
# The last line of a trace, as Python prints it; torchrun puts the rank before it.
_EXCEPTION = re.compile(r"^(?:\[rank\d+\]: *)?((?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt)\b(?::.*)?)$")
_LAUNCHER_ERRORS = ("CalledProcessError", "ChildFailedError")
# How torchrun and accelerate name the signal that ended one of their processes.
_SIGNAL = re.compile(r"\b(?:Signal \d+ \(|Signals\.)(SIG[A-Z]+)\b")


def launch_commands(launch: Launch, folder: Path) -> list[tuple[list[str], dict[str, str]]]:
    """The commands that run a phase together, each with its own environment variables."""
    phase = ["-m", "p2r.training.phase", str(folder)]
    if launch.config is not None:
        command = [sys.executable, "-m", "accelerate.commands.launch"]
        options = {
            "--config_file": launch.config,
            "--machine_rank": 0,
            "--num_processes": launch.processes,
            "--main_process_ip": launch.main_address,
            "--main_process_port": launch.main_port,
        }
        for option, value in options.items():
            command += [option, str(value)] if value is not None else []
        return [([*command, *phase], {})]
    command, count = [sys.executable, *phase], launch.processes or 1
    if count == 1:
        return [(command, {})]
    shared = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(launch.main_port or free_port()),
    }
    return [(command, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)]


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def phase_processes(
    launch: Launch, folder: Path, environment: Mapping[str, str]
) -> Iterator[Callable[[], int | None]]:
    """The processes of the phase in `folder`, and `_exit_code` of them; their output goes to its `log.txt`.

    At the end of the block they may save a checkpoint; those that take too long are killed. They are killed
    at once when one of them has failed, and by a second interrupt.
    """
    variables = {**os.environ, **environment, END_WITH_STDIN: "1", "PYTHONUNBUFFERED": "1"}
    variables.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not any(Path("/dev").glob("nvidia[0-9]*")):  # without torch: the parent of the phases stays small
        variables = {**CPU_VARIABLES, **variables}
    commands = launch_commands(launch, folder)
    if launch.threads is not None:
        variables["OMP_NUM_THREADS"] = str(launch.threads)
    elif len(commands) > 1:
        variables.setdefault("OMP_NUM_THREADS", "1")
    with (folder / LOG).open("ab") as log:
        processes = [
            subprocess.Popen(  # noqa: S603 - the command is built above
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**variables, **own},
                start_new_session=True,  # an interrupt is ours; they stop between two steps
            )
            for command, own in commands
        ]
    try:
        try:
            yield lambda: _exit_code(processes)
        finally:
            for process in processes:
                process.stdin.close()  # type: ignore[union-attr]  # asks it to stop
            deadline = time.monotonic() + GRACE_S + 2
            while _are_ending(processes) and time.monotonic() < deadline:
                time.sleep(0.05)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it has started
            process.wait()


def _exit_code(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """None while they run; when one fails, its code, negative for a signal."""
    codes = [process.poll() for process in processes]
    ended = [STOPPED if code in _STOP_SIGNALS else code for code in codes if code is not None]
    if failed := [code for code in ended if code not in (0, STOPPED)]:
        return min(failed)
    return max(ended) if len(ended) == len(codes) else None


def _are_ending(processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    code = _exit_code(processes)
    # A launcher that got a signal too ends before the process that it has started.
    return code is None or (code == STOPPED and any(_has_members(one.pid) for one in processes))


# How they ended.


def exception_line(error: BaseException) -> str:
    """`Type: message (file:line)` with the innermost frame, and a hint against too little memory."""
    name, text = type(error).__name__, " ".join(str(error).split())[:_LONGEST]
    line = f"{name}: {text}" if text else name
    if frames := traceback.extract_tb(error.__traceback__):
        line += f" ({_short(Path(frames[-1].filename))}:{frames[-1].lineno})"
    memory = "OutOfMemory" in name or isinstance(error, MemoryError) or "allocate memory" in str(error)
    return f"{line}; {_MEMORY_HINT}" if memory else line


def signal_name(code: int, log: str) -> str:
    """The signal that ended a process with this exit code and output, such as `SIGKILL`; empty for none."""
    if code < 0:
        return signal.Signals(-code).name
    # Launchers name the signal that ended one of their processes, and end the others by SIGTERM.
    return next((name for name in _SIGNAL.findall(log) if name != "SIGTERM"), "")


def exit_line(code: int, log: str) -> str:
    """Why processes with this exit code and output ended, in one line."""
    if name := signal_name(code, log):
        return f"ended by {name}{_SIGNAL_HINTS.get(name, '')}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    raised = [found[1] for line in lines if (found := _EXCEPTION.match(line))]
    raised = [line for line in raised if not any(name in line for name in _LAUNCHER_ERRORS)]
    last = (raised or lines or [""])[-1][:_LONGEST]
    return f"ended with exit code {code}" + (f": {last}" if last else "")


def _short(file: Path) -> Path:
    """From the package on."""
    for above in ("site-packages", "src"):
        if above in file.parts:
            return Path(*file.parts[len(file.parts) - file.parts[::-1].index(above) :])
    return file
