"""Starts the processes of a phase, and ends them when we end.

On this machine alone they are started here, with the variables that torch's launcher sets, so that we see how
each of them ends. A configuration of accelerate (FSDP, ZeRO, several machines) needs `accelerate launch`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

from p2r.models.vllm import free_port
from p2r.training.phase import END_WITH_STDIN, GRACE_S, STOPPED
from p2r.training.run_folder import LOG

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from p2r.training.recipe import Launch

FROZEN_URL = "P2R_FROZEN_URL"  # where a phase finds the server that was started for it
FROZEN_KEY = "P2R_FROZEN_KEY"
_ASKED = (-signal.SIGTERM, -signal.SIGHUP, -signal.SIGINT)  # a process that ended by these was asked to
# One pool of memory: what other threads (those that cut evidence) have freed serves the next update. With a
# pool for each thread the peak of a perceiver phase is a quarter to four fifths above that of plain GRPO.
CPU_VARIABLES = {"ACCELERATE_USE_CPU": "true", "MALLOC_ARENA_MAX": "1"}


def launch_commands(launch: Launch, folder: Path) -> list[tuple[list[str], dict[str, str]]]:
    """The commands that run a phase together, each with the variables of its own."""
    phase = ["-m", "p2r.training.phase", str(folder)]
    if launch.config is not None:
        command = [sys.executable, "-m", "accelerate.commands.launch"]
        command += ["--config_file", launch.config, "--machine_rank", "0"]
        if launch.processes is not None:
            command += ["--num_processes", str(launch.processes)]
        if launch.main_address is not None:
            command += ["--main_process_ip", launch.main_address]
        if launch.main_port is not None:
            command += ["--main_process_port", str(launch.main_port)]
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


def _has_gpu() -> bool:
    # Without importing torch: the parent of the phases stays small.
    return any(os.path.exists(f"/dev/nvidia{number}") for number in range(8))  # noqa: PTH110


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Processes:
    """The processes of one phase; their output goes to the phase's `log.txt`.

    Args:
        launch: how they are started.
        folder: of the phase.
        environment: more variables for them.
    """

    def __init__(self, launch: Launch, folder: Path, environment: Mapping[str, str]) -> None:
        variables = {**os.environ, **environment, END_WITH_STDIN: "1", "PYTHONUNBUFFERED": "1"}
        variables.setdefault("TOKENIZERS_PARALLELISM", "false")
        if not _has_gpu():
            variables = {**CPU_VARIABLES, **variables}
        commands = launch_commands(launch, folder)
        if launch.threads is not None:
            variables["OMP_NUM_THREADS"] = str(launch.threads)
        elif len(commands) > 1:
            variables.setdefault("OMP_NUM_THREADS", "1")
        with (folder / LOG).open("ab") as log:
            self._processes = [
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

    def poll(self) -> int | None:
        """The exit code, or None while they run; when one fails, its code, negative for a signal."""
        codes = [process.poll() for process in self._processes]
        codes = [STOPPED if code in _ASKED else code for code in codes]
        failed = [code for code in codes if code not in (None, 0, STOPPED)]
        if failed:
            return min(code for code in failed if code is not None)
        return None if None in codes else max(code for code in codes if code is not None)

    def stop(self) -> None:
        """Let them keep a checkpoint and end; kill those that take too long. Safe to call twice.

        They are killed at once when one of them has failed, and by a second interrupt.
        """
        for process in self._processes:
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()
        deadline = time.monotonic() + GRACE_S + 2
        try:
            while self._are_ending() and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            for process in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # and what it has started
                process.wait()

    def _are_ending(self) -> bool:
        code = self.poll()
        # A launcher that got a signal too ends before the process that it has started.
        return code is None or (code == STOPPED and any(_has_members(one.pid) for one in self._processes))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
