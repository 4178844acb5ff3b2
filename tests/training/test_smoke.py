"""The whole command with its processes and the recipe for CI, after a kill of the parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from p2r.nano import bundled
from p2r.training.recipe import BUNDLED
from p2r.training.run_folder import PhaseFolder, TrainingRun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECIPE = BUNDLED / "nano-smoke.yaml"
DEADLINE_S = 600


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_the_smoke_recipe_continues_after_its_parent_was_killed(
    small: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "p2r", "train", str(RECIPE), "--out", str(out)]
    if "nano-base" not in bundled():
        command += ["--set", f"model={small['model']}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    first = PhaseFolder(out / "phases/01-perceiver")
    try:
        wait_for(lambda: bool(first.metrics()), running)
    finally:
        running.send_signal(signal.SIGKILL)
        running.communicate()
    # The processes of the phase notice, keep a checkpoint and end; until then the folder is theirs.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    deadline = time.monotonic() + DEADLINE_S
    while "another process is writing this run" in done.stderr and time.monotonic() < deadline:
        time.sleep(1)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = TrainingRun.read(out)
    assert [phase.state().status for phase in run.phases] == ["done", "done"]
    for phase in run.phases:
        assert [row.step for row in phase.metrics()] == [1, 2]
    assert f"model: {out / 'model'}" in done.stderr
    assert json.loads((out / "model/p2r.json").read_text())
    assert "PRA-GRPO" in (out / "model/README.md").read_text()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
