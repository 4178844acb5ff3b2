"""Runs survive kills, signals and a full disk, tested with real processes."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest

from p2r.runs.journal import read_lines
from tests.evaluation.long_run import Launcher
from tests.evaluation.scripted import QUIET, model, write_questions
from tests.evaluation.test_run import run, untimed


@pytest.fixture(scope="module")
def launcher():
    with Launcher() as launcher:
        yield launcher


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_when(pid, number, ready, pause_s=0.0):
    """Send a signal a moment after `ready`; a process that ended before is not waited for."""
    while not ready():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.002)
    time.sleep(pause_s)
    os.kill(pid, number)


@pytest.mark.long
def test_kills_lose_nothing_and_repeat_nothing(tmp_path, launcher):
    questions, out = write_questions(tmp_path / "data", 150), tmp_path / "run"
    predictions = out / "predictions-p2r.jsonl"
    draw = random.Random(7)
    kept: list[str] = []
    for _ in range(5):
        pid = launcher.start(questions=questions, out=out)
        wanted = len(kept) + draw.randrange(1, 25)
        kill_when(
            pid, signal.SIGKILL, lambda wanted=wanted: lines_in(predictions) >= wanted, draw.random() * 0.01
        )
        ended = launcher.wait()
        assert ended.code == -signal.SIGKILL, ended.errors
        now = [line["id"] for line in read_lines(predictions)]
        assert now[: len(kept)] == kept
        kept = now
    assert 5 <= len(kept) < 150
    launcher.start(questions=questions, out=out)
    ended = launcher.wait()
    assert ended.code == 0, ended.errors
    ids = [json.loads(line)["id"] for line in predictions.read_text().splitlines()]
    assert sorted(ids) == sorted(f"q{k}" for k in range(150))
    assert ids[: len(kept)] == kept
    summary = json.loads((out / "summary.json").read_text())
    whole = run(questions, tmp_path / "whole", model())
    assert untimed(summary) == untimed(json.loads(json.dumps(whole)))
    assert len(json.loads((out / "config.json").read_text())["sessions"]) == 6


def test_a_full_disk_stops_the_run_and_the_same_command_continues(tmp_path, launcher):
    questions, out = write_questions(tmp_path / "data", 40), tmp_path / "run"
    launcher.start(questions=questions, out=out, limit_bytes=20_000)
    ended = launcher.wait()
    assert ended.code == 1
    assert "free some space and run the same command again" in ended.errors
    predictions = out / "predictions-p2r.jsonl"
    data = predictions.read_bytes()
    assert data.endswith(b"\n")
    assert 5 < lines_in(predictions) < 40
    # A crash may also leave half a line behind.
    predictions.write_bytes(data + b'{"id": "q39", "correct": tr')
    after = run(questions, out, model(), console=QUIET)
    assert untimed(after) == untimed(run(questions, tmp_path / "whole", model()))
    assert predictions.read_bytes().startswith(data)
    assert lines_in(predictions) == 40


def test_ctrl_c_leaves_a_summary(tmp_path, launcher):
    questions, out = write_questions(tmp_path / "data", 300), tmp_path / "run"
    predictions = out / "predictions-direct.jsonl"
    pid = launcher.start(questions=questions, out=out, modes=["direct"])
    kill_when(pid, signal.SIGINT, lambda: lines_in(predictions) >= 10)
    assert launcher.wait().code == 1
    summary = json.loads((out / "summary.json").read_text())
    assert not summary["complete"]
    assert summary["modes"]["direct"]["n"] == lines_in(predictions) >= 10
