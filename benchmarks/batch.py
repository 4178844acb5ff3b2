"""Memory and cost of `p2r batch`: many questions, killed with SIGKILL in the middle, and continued.

    python benchmarks/batch.py --questions 100000

The model is in the same process and replies at once; all questions are about one image of 64 × 64 pixels, so
that what is measured is the runner: reading rows, evidence, records, the journal. Exit code 1 if a row is
missing or there twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
from rich.console import Console

from p2r.datasets.questions import QuestionSource
from p2r.evaluation.batch import BatchPlan, run_batch
from p2r.models.base import Completion
from p2r.runs.journal import each_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Message, Sampling

SHOWN = 10  # lines of the curve for each process


class ScriptedModel:
    """Replies with one box, then with an answer."""

    name = "scripted"

    async def complete(self, messages: Sequence[Message], _: Sampling) -> Completion:
        """The reply of one call, at once."""
        await asyncio.sleep(0)
        perceive = any("bbox_2d" in part for part in messages[0].content if isinstance(part, str))
        box = '[{"bbox_2d": [400, 400, 500, 500], "label": "it"}]'
        return Completion(box if perceive else "<think>hm</think><answer>B</answer>", 100, 10, "stop")

    async def aclose(self) -> None:
        """Nothing to close."""


def write_questions(folder: Path, n: int) -> Path:
    """`n` rows about one image."""
    PIL.Image.new("RGB", (64, 64), "gray").save(folder / "x.png")
    path = folder / "questions.jsonl"
    with path.open("w") as file:
        for k in range(n):
            row = {"id": f"q{k}", "image": "x.png", "question": f"What is number {k}?", "choices": ["a", "b"]}
            file.write(json.dumps(row) + "\n")
    return path


def memory_mb(pid: int) -> tuple[int, int]:
    """Resident memory of a process, now and at its peak; zeros when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    found = {name: int(value.split()[0]) // 1024 for name, _, value in (line.partition(":") for line in lines)
             if name in ("VmRSS", "VmHWM")}  # fmt: skip
    return found.get("VmRSS", 0), found.get("VmHWM", 0)


def follow(questions: Path, out: Path, n: int, *, kill_at: int | None) -> None:
    """Run one process, print its memory and speed, and kill it after a number of lines."""
    path, start = out / "results.jsonl", time.monotonic()
    child = subprocess.Popen([sys.executable, __file__, "--child", str(questions), str(out)])
    size = lines = before = 0
    first_s, shown = 0.0, -1
    while child.poll() is None:
        time.sleep(0.2)
        if path.exists():
            with path.open("rb") as file:
                file.seek(size)
                fresh = file.read()
            if not size:
                first_s, before = time.monotonic(), fresh.count(b"\n")
            size, lines = size + len(fresh), lines + fresh.count(b"\n")
        if lines * 2 * SHOWN // n > shown:
            shown = lines * 2 * SHOWN // n
            now, peak = memory_mb(child.pid)
            print(
                f"{time.monotonic() - start:7.0f} s {lines:9,} lines   resident {now:4} MB, peak {peak:4} MB"
            )
        if kill_at and lines >= kill_at:
            child.send_signal(signal.SIGKILL)
            child.wait()
    print(
        f"exit code {child.returncode}; {(lines - before) / (time.monotonic() - first_s):.0f} rows a second"
    )


def run_child(questions: Path, out: Path) -> None:
    """The process that is measured."""
    plan = BatchPlan(QuestionSource(questions), out, ScriptedModel())
    summary = asyncio.run(run_batch(plan, Console(file=sys.stderr, quiet=True)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_ms = 1000 * (used.ru_utime + used.ru_stime)
    print(f"complete: {summary.to_json()['complete']}; {cpu_ms / 1000:.0f} s of CPU time in this process")


def main() -> int:
    """Run both processes and check the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=3_000)
    parser.add_argument("--child", nargs=2, type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(*arguments.child)
        return 0
    n = arguments.questions
    with tempfile.TemporaryDirectory() as temporary:
        questions, out = write_questions(Path(temporary), n), Path(temporary) / "run"
        for kill_at in (n // 2, None):
            follow(questions, out, n, kill_at=kill_at)
        counts = Counter(line["row"] for line in each_line(out / "results.jsonl"))
    once = len(counts) == n and max(counts.values()) == 1
    print(f"{n:,} rows, each once: {once}; {os.cpu_count()} CPUs")
    return int(not once)


if __name__ == "__main__":
    sys.exit(main())
