"""Runs that can be killed: `python long_run.py` imports everything once and forks a process for each request.

A request is a line of JSON: `{"questions": …, "out": …, "modes": […], "limit_bytes": …}`. The answer is a
line with the process's id when it starts, and one with its exit code and its errors when it has ended. With
`"batch": true` the questions are answered as `p2r batch` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parents[2]))

from rich.console import Console

from p2r.datasets.questions import QuestionSource
from p2r.errors import P2RError
from p2r.evaluation.batch import BatchPlan, run_batch
from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.run import EvaluationPlan, evaluate
from tests.evaluation.scripted import ForgetfulModel, model, reply


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, negative for a signal, and what it wrote to stderr."""

    code: int
    errors: str


class Launcher:
    """Starts runs and waits for them; used by the tests."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self, **request: Any) -> int:
        """Start a run; returns the id of its process."""
        print(json.dumps(request, default=str), file=self._process.stdin, flush=True)
        assert self._process.stdout
        return int(self._process.stdout.readline())

    def wait(self) -> Ended:
        """Wait until the run has ended."""
        assert self._process.stdout
        return Ended(**json.loads(self._process.stdout.readline()))


def run(request: dict[str, Any]) -> None:
    if limit := request.get("limit_bytes"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if request.get("batch"):
        source = QuestionSource(Path(request["questions"]))
        batch = BatchPlan(source, Path(request["out"]), ForgetfulModel(reply, name="scripted"))
        asyncio.run(run_batch(batch, Console(stderr=True)))
        return
    plan = EvaluationPlan(
        open_benchmark("jsonl", request["questions"]),
        Path(request["out"]),
        model(delay_s=0.002),
        modes=request.get("modes", ["p2r"]),
        concurrency=4,
    )
    asyncio.run(evaluate(plan, Console(stderr=True)))


def child(request: dict[str, Any], errors: int) -> None:
    os.dup2(errors, 2)
    code = 1
    try:
        run(request)
        code = 0
    except P2RError as error:
        print(error, file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def serve() -> None:
    for line in sys.stdin:
        with tempfile.TemporaryFile() as errors:
            pid = os.fork()
            if pid == 0:
                child(json.loads(line), errors.fileno())
            print(pid, flush=True)
            _, status = os.waitpid(pid, 0)
            errors.seek(0)
            told = errors.read().decode(errors="replace")
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "errors": told}), flush=True)


if __name__ == "__main__":
    serve()
