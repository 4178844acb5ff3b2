"""Starts the processes of a phase with `accelerate launch`, and ends them when we end."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Self

from p2r.training.folder import LOG
from p2r.training.phase import END_WITH_STDIN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from p2r.training.recipe import Launch

FROZEN_URL = "P2R_FROZEN_URL"  # where a phase finds the server that was started for it
FROZEN_KEY = "P2R_FROZEN_KEY"
_GRACE_S = 300.0
# One pool of memory: what other threads (those that cut evidence) have freed serves the next update. With a
# pool for each thread the peak of a perceiver phase is a quarter to four fifths above that of plain GRPO.
CPU_VARIABLES = {"ACCELERATE_USE_CPU": "true", "MALLOC_ARENA_MAX": "1"}


def launch_command(launch: Launch, folder: Path) -> list[str]:
    """The command that runs a phase."""
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    if launch.config is not None:
        command += ["--config_file", launch.config, "--machine_rank", "0"]
        if launch.processes is not None:
            command += ["--num_processes", str(launch.processes)]
        if launch.main_address is not None:
            command += ["--main_process_ip", launch.main_address]
    else:
        processes = launch.processes or 1
        if processes > 1 and not _has_gpu():
            # accelerate starts several processes on CPUs through MPI only; torch's launcher needs none.
            command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
            port = str(launch.main_port or 29_500)
            return [*command, "--master_port", port, "-m", "p2r.training.phase", str(folder)]
        command += ["--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no"]
        command += ["--dynamo_backend", "no", *(["--multi_gpu"] if processes > 1 else [])]
        command += [] if _has_gpu() else ["--cpu"]
    if launch.main_port is not None:
        command += ["--main_process_port", str(launch.main_port)]
    return [*command, "-m", "p2r.training.phase", str(folder)]


def _has_gpu() -> bool:
    # Without importing torch: the parent of the phases stays small.
    return any(os.path.exists(f"/dev/nvidia{number}") for number in range(8))  # noqa: PTH110


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
        if launch.threads is not None:
            variables["OMP_NUM_THREADS"] = str(launch.threads)
        with (folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is built above
                launch_command(launch, folder),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=variables,
                start_new_session=True,  # an interrupt is ours; they stop between two steps
            )

    def poll(self) -> int | None:
        """The exit code, or None while they run."""
        return self._process.poll()

    def stop(self) -> None:
        """Let them keep a checkpoint and end; kill them when they take too long. Safe to call twice."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
