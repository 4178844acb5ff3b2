"""The error of `p2r train` after a crash of its processes: the exception or the signal, and the log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from p2r.training.launch import exception_line, exit_line

if TYPE_CHECKING:
    from tests.training.warm import Warm

Small = dict[str, str]

# The ends of what torchrun and accelerate print when a process of theirs is killed.
TORCHRUN = """\
W1126 14:44:56.123 20592 torch/distributed/elastic/multiprocessing/api.py:1010] Sending process 20593 closing signal SIGTERM
Traceback (most recent call last):
  File "torch/distributed/launcher/api.py", line 386, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
=======================================================
  exitcode  : -15 (pid: 20593)  (SIGTERM)
  traceback : Signal 15 (SIGTERM) received by PID 20593
Root Cause (first observed failure):
  exitcode  : -9 (pid: 20594)  (SIGKILL)
  traceback : Signal 9 (SIGKILL) received by PID 20594
=======================================================
"""  # noqa: E501 - as it is printed
ACCELERATE = """\
  File "accelerate/commands/launch.py", line 999, in simple_launcher
    raise subprocess.CalledProcessError(returncode=process.returncode, cmd=cmd)
subprocess.CalledProcessError: Command '['python', '-m', 'p2r']' died with <Signals.SIGSEGV: 11>.
"""
RANKS = """\
[rank1]: Traceback (most recent call last):
[rank1]:   File "mine.py", line 3, in <module>
[rank1]:     raise ValueError("no such field")
[rank1]: ValueError: no such field
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""
NOT_A_CONFIG = """\
  File "accelerate/commands/config/config_args.py", line 148, in from_yaml_file
    raise ValueError(
ValueError: The config file has unknown keys (['nodes']), please try upgrading your `accelerate` version
"""


@pytest.mark.parametrize(
    ("code", "log", "said"),
    [
        (-9, "", "ended by SIGKILL, most likely by the kernel, because the machine ran out of memory"),
        (-11, "step 3\n", "ended by SIGSEGV, a crash in compiled code"),
        (-6, "", "ended by SIGABRT"),
        (1, TORCHRUN, "ended by SIGKILL, most likely by the kernel"),
        (1, ACCELERATE, "ended by SIGSEGV, a crash in compiled code"),
        (1, RANKS, "ended with exit code 1: ValueError: no such field"),
        (1, NOT_A_CONFIG, "ended with exit code 1: ValueError: The config file has unknown keys (['nodes'])"),
        (
            2,
            "usage: launch [-h]\nlaunch: error: unrecognized arguments: --x\n",
            "code 2: launch: error: unrec",
        ),
        (7, "", "ended with exit code 7"),
    ],
)
def test_the_end_of_a_process_is_named(code: int, log: str, said: str) -> None:
    assert said in exit_line(code, log)
    assert "\n" not in exit_line(code, log)
    assert "ChildFailedError" not in exit_line(code, log)


def test_an_exception_is_named_with_the_frame_that_raised_it() -> None:
    with pytest.raises(ValueError, match="deep") as caught:
        raise ValueError("deep\nstack")
    assert exception_line(caught.value).startswith("ValueError: deep stack (")
    assert f"{Path(__file__).name}:" in exception_line(caught.value)
    assert exception_line(MemoryError()).startswith("MemoryError; lower training.micro_batch")


# Whole runs.


def test_an_exception_of_a_library_is_the_error_of_the_run(warm: Warm, small: Small, tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes = ["training.trainer={loss_type: mine}"]
    ended = warm.call("warm.train", recipe=small["recipe"], out=out, changes=changes)
    line = ended.errors.strip().splitlines()[-1]
    assert line.startswith("phase 01-perceiver: ValueError: Unknown loss type: mine (trl/")
    assert f"the whole trace is in {out / 'phases/01-perceiver/log.txt'}" in line
    assert "Traceback" in (out / "phases/01-perceiver/log.txt").read_text()
    # The next one has another cause, and none of this one.
    ended = warm.call("warm.train", recipe=small["recipe"], out=out, changes=["training.steps=3"])
    assert "loss type" not in ended.errors.strip().splitlines()[-1]


def error_line(recipe: str, out: Path, *changes: str, **variables: str) -> str:
    """What `p2r train` prints."""
    sets = [word for change in ("training.steps=400", *changes) for word in ("--set", change)]
    command = [sys.executable, "-m", "p2r", "train", recipe, "--out", str(out), *sets]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 3, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.slow
def test_a_package_that_cannot_be_imported(small: Small, tmp_path: Path) -> None:
    (tmp_path / "trl.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    line = error_line(small["recipe"], tmp_path / "run", PYTHONPATH=str(tmp_path))
    assert "phase 01-perceiver: ImportError: libcudart.so.12: cannot open shared object file" in line


def test_an_end_before_the_phase_begins(small: Small, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'P2R_END_WITH_STDIN' in os.environ:\n"
        "    os.write(2, b'Traceback (most recent call last):\\nRuntimeError: no licence\\n')\n"
        "    os._exit(4)\n"
    )
    line = error_line(small["recipe"], tmp_path / "run", PYTHONPATH=str(tmp_path))
    assert "phase 01-perceiver: ended with exit code 4: RuntimeError: no licence; what was printed is" in line


@pytest.mark.slow
def test_a_port_that_is_taken(small: Small, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        changes = ["launch.processes=2", f"launch.main_port={port}", "training.micro_batch=4"]
        line = error_line(small["recipe"], tmp_path / "run", *changes)
    assert "address already in use" in line.lower() or "EADDRINUSE" in line
    assert str(port) in line


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_of_two_that_is_killed(small: Small, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, threading, time\n"
        "def die():\n"
        "    time.sleep(30)\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "if os.environ.get('RANK') == '1':\n"
        "    threading.Thread(target=die, daemon=True).start()\n"
    )
    changes = ["launch.processes=2", "training.micro_batch=4"]
    line = error_line(small["recipe"], tmp_path / "run", *changes, PYTHONPATH=str(tmp_path))
    assert f"phase 01-perceiver: ended by {number.name}" in line
