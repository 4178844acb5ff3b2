"""Ctrl-C and SIGTERM, sent to a real process on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest

from tests.servers import Server, reply, slow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Behavior

THOUGHT = "<think>It is.</think><answer>B</answer>"


class Terminal:
    """A command on a pseudo-terminal; `seen` is its output so far."""

    def __init__(self, *command: str) -> None:
        self._own, theirs = pty.openpty()
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "p2r", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def read_until(self, text: str, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen[-2000:]!r}"
            if select.select([self._own], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self._own, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
        assert text in self.seen, self.seen[-2000:]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)


@pytest.fixture
def silent() -> Iterator[Server]:
    with Server([slow(120, reply(THOUGHT))]) as server:
        yield server


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    PIL.Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
    return path


def test_an_answer_stops_at_once(silent: Server, image: Path) -> None:
    terminal = Terminal("answer", str(image), "What?", "--model", f"{silent.url}#served")
    try:
        assert silent.asked.wait(60)
        start = time.monotonic()
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("stopping: ")
        assert time.monotonic() - start < 2
        terminal.read_until("stopped: ")
        assert terminal.process.wait(10) == 130
    finally:
        terminal.end()
    assert "Traceback" not in terminal.seen
    assert "nothing was answered" in terminal.seen


def test_an_evaluation_shows_how_to_continue_and_keeps_its_answers(tmp_path: Path, image: Path) -> None:
    questions, out = tmp_path / "q.jsonl", tmp_path / "run"
    row = {"image": image.name, "question": "Which?", "choices": ["red", "blue"], "answer": "B"}
    questions.write_text("".join(json.dumps({**row, "id": str(n)}) + "\n" for n in range(6)))

    def quick_then_silent(position: int) -> Behavior:
        return reply(THOUGHT) if position < 2 else slow(120, reply(THOUGHT))

    with Server(quick_then_silent) as server:
        options = ["--mode", "think", "--concurrency", "2", "--model", f"{server.url}#served"]
        command = ["eval", "-b", "jsonl", "--data", str(questions), "--out", str(out), *options]
        terminal = Terminal(*command)
        try:
            terminal.read_until("2/6")
            terminal.process.send_signal(signal.SIGINT)
            terminal.read_until("stopping: ")
            terminal.read_until("stopped: ")
            assert terminal.process.wait(10) == 130
        finally:
            terminal.end()
    assert "the same command continues" in terminal.seen
    assert "Ctrl-C again" in terminal.seen
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["complete"], summary["modes"]["think"]["correct"]) == (False, 2)


@contextmanager
def started(script: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has printed `ready`; it is gone after the block."""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert line_of(process) == "ready\n"
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    script = (
        "import asyncio\n"
        "from p2r.cli._console import readable_errors\n"
        "from p2r.cli._interrupt import run\n"
        "async def stubborn():\n"
        "    while True:\n"
        "        try:\n"
        "            await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError:\n"
        "            print('cancelled', flush=True)\n"
        "with readable_errors(debug=False, afterwards='nothing'):\n"
        "    print('ready', flush=True)\n"
        "    run(stubborn())\n"
    )
    with started(script) as process:
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert line_of(process) == "cancelled\n"
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert time.monotonic() - start < 1, "the first would have waited three seconds"


def test_work_that_cannot_be_cancelled_is_abandoned_after_a_timeout() -> None:
    script = (
        "import asyncio, time\n"
        "from p2r.cli._console import readable_errors\n"
        "from p2r.cli._interrupt import run\n"
        "async def work():\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.to_thread(time.sleep, 60)\n"
        "with readable_errors(debug=False, afterwards='nothing', grace_s=0.5):\n"
        "    run(work())\n"
    )
    with started(script) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143, "its thread sleeps on for a minute"


def test_drawing_ends_with_the_command_and_leaves_whole_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "p2r", "scenes", str(tmp_path / "out"), "--size", "2k", "-n", "60"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/images/*.jpg")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 143
        assert [line.partition(": ")[0] for line in errors.splitlines()] == ["stopping", "stopped"]
    finally:
        process.kill()
        process.wait()
    drawn = [path for path in tmp_path.glob("out/images/*.jpg") if not path.name.startswith(".")]
    assert len(drawn) < 60
    for path in drawn:
        PIL.Image.open(path).load()


def test_check_results_do_not_share_a_line_with_the_spinner() -> None:
    script = (
        "import time\n"
        "from p2r.cli._console import show_checks\n"
        "from p2r.checks import CheckResult\n"
        "def find(tell):\n"
        "    for n in range(3):\n"
        "        tell(f'step {n}')\n"
        "        time.sleep(0.15)\n"
        "        yield CheckResult(f'name{n}', 'ok', 'fine')\n"
        "show_checks(find, as_json=False)\n"
    )
    own, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", script], stdout=theirs, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    raw = b""
    while select.select([own], [], [], 0.1)[0]:
        try:
            raw += os.read(own, 65536)
        except OSError:
            break
    os.close(own)
    lines = [line for line in screen(raw.decode()) if line]
    assert lines == ["✓ name0  fine", "✓ name1  fine", "✓ name2  fine"]


def screen(text: str) -> list[str]:
    """What a terminal shows in the end: carriage returns, cursor up and erased lines; colors are dropped."""
    import re

    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part.endswith("A") and part.startswith("\x1b["):
            row -= int(part[2:-1])
        elif not part.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return lines
