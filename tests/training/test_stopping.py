"""Stopped and crashed training processes: no process is left, and the cause is one line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from p2r.training.run_folder import PhaseFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.training.warm import Warm

Small = dict[str, str]
CHANGES = ["training.steps=400", "training.save_every=400", "training.freeze_vision=true"]
DEADLINE_S = 200
# One process, started by accelerate: what ends it has to go through its launcher.
ACCELERATE = """\
compute_environment: LOCAL_MACHINE
distributed_type: 'NO'
mixed_precision: 'no'
num_machines: 1
num_processes: 1
use_cpu: true
"""


class Run:
    """`p2r train` as a process in a session of its own."""

    def __init__(self, recipe: str, out: Path, *changes: str) -> None:
        self.out = out
        sets = [word for change in changes for word in ("--set", change)]
        self.command = [sys.executable, "-m", "p2r", "train", recipe, "--out", str(out), *sets]
        self.process = subprocess.Popen(
            self.command,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not reached():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def phases(self) -> list[int]:
        """The processes that work in the run folder, without the command itself."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and int(entry.name) != self.process.pid:
                    line = (entry / "cmdline").read_bytes().split(b"\0")
                    if any(str(self.out).encode() in word for word in line):
                        found.append(int(entry.name))
        return found

    def gone(self) -> bool:
        return not self.phases()


@pytest.fixture
def run(small: Small, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    started: list[Run] = []

    def start(*changes: str) -> Run:
        started.append(Run(small["recipe"], tmp_path / "run", *CHANGES, *changes))
        return started[-1]

    yield start
    for one in started:
        for pid in (one.process.pid, *one.phases()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        one.process.communicate()


def steps(out: Path) -> int:
    path = out / "phases/01-perceiver/metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("number", "whom", "launch"),
    [
        (signal.SIGTERM, "command", []),
        (signal.SIGHUP, "everybody", []),
        (signal.SIGTERM, "everybody", ["launch.processes=2", "training.micro_batch=4"]),
        (signal.SIGINT, "command", ["launch.processes=2", "training.micro_batch=4"]),
        (signal.SIGTERM, "everybody", ["launch.config=accelerate.yaml"]),
    ],
)
def test_a_signal_leaves_a_checkpoint_and_no_process_behind(
    run: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    whom: str,
    launch: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("accelerate.yaml").write_text(ACCELERATE)
    one = run(*launch)
    one.until(lambda: steps(one.out) >= 2)
    began = time.monotonic()
    for pid in [one.process.pid, *(one.phases() if whom == "everybody" else [])]:
        os.kill(pid, number)
    _, errors = one.process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert one.process.returncode not in (0, 2, 3)
    assert "the same command goes on" in errors
    assert one.gone()
    folder = PhaseFolder(one.out / "phases/01-perceiver")
    assert folder.state().status == "stopped"
    (checkpoint,) = folder.checkpoints()
    done = int(checkpoint.name.rpartition("-")[2])
    assert done >= 2
    again = run(*launch)
    again.until(lambda: steps(one.out) > done)
    assert [row.step for row in folder.metrics()] == list(range(1, done + 2))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_command_that_is_killed_leaves_a_checkpoint_and_no_process_behind(run: Callable[..., Run]) -> None:
    one = run()
    one.until(lambda: steps(one.out) >= 2)
    began = time.monotonic()
    one.process.kill()
    # The next one waits for what the killed one has left.
    again = run()
    while any(pid != again.process.pid for pid in one.phases()) and steps(one.out) < 3:
        assert time.monotonic() - began < 30
        time.sleep(0.1)
    folder = PhaseFolder(one.out / "phases/01-perceiver")
    again.until(lambda: folder.state().sessions == 2 and steps(one.out) > 3)
    assert [row.step for row in folder.metrics()] == list(range(1, steps(one.out) + 1))


def wait_for_checkpoints(folder: PhaseFolder) -> list[Path]:
    deadline = time.monotonic() + 30
    while not folder.checkpoints():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return folder.checkpoints()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_step_that_takes_long_is_left_and_done_again_as_it_was(
    warm: Warm, small: Small, tmp_path: Path
) -> None:
    """The step is interrupted in its middle; the weights and the random state are those of its begin."""
    changes = ["phases=[{role: perceiver}]", "training.steps=2", "training.save_every=9"]
    changes += ["training.freeze_vision=true", "training.prompts=96"]
    whole, out = tmp_path / "whole", tmp_path / "run"
    warm.value("warm.train", recipe=small["recipe"], out=whole, changes=changes)
    seconds = PhaseFolder(whole / "phases/01-perceiver").metrics()[1].values["seconds/step"]
    assert seconds > 8, "a step ends by itself: the test proves nothing"
    pid = warm.start("warm.train", recipe=small["recipe"], out=out, changes=changes)
    deadline = time.monotonic() + DEADLINE_S
    while steps(out) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    warm.wait()
    (checkpoint,) = wait_for_checkpoints(PhaseFolder(out / "phases/01-perceiver"))
    assert checkpoint.name == "checkpoint-1"
    ended = warm.call("warm.train", recipe=small["recipe"], out=out, changes=changes)
    while "another process is writing this run" in ended.errors:  # what was forked holds the lock of the run
        assert time.monotonic() < deadline
        ended = warm.call("warm.train", recipe=small["recipe"], out=out, changes=changes)
    assert ended.code == 0, ended.errors
    ours, theirs = (
        warm.value("probes.file_hash", path=folder / "model/model.safetensors") for folder in (out, whole)
    )
    assert ours == theirs
