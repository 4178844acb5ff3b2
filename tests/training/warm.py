"""Runs that can be killed: `python warm.py` imports everything once and forks a process for each request.

A new process imports for seconds; `Forked` forks instead, with the same variables. test_smoke.py and
test_stopping.py use real processes.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from p2r.errors import P2RError  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from p2r.training.recipe import Launch


@dataclass(frozen=True)
class Ended:
    """How a request ended: its exit code (negative for a signal), its stderr, and what it returned."""

    code: int
    errors: str
    value: Any


class Warm:
    """Starts requests and waits for them; used by the tests."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdout
        self._replies = self._process.stdout
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self, call: str, **arguments: Any) -> int:
        """Begin `module.function(**arguments)` in a process and session of its own; returns its id."""
        request = {"call": call, "arguments": arguments}
        print(json.dumps(request, default=str), file=self._process.stdin, flush=True)
        return int(self._replies.readline())

    def wait(self) -> Ended:
        """Wait until it has ended."""
        return Ended(**json.loads(self._replies.readline()))

    def call(self, call: str, **arguments: Any) -> Ended:
        """Begin and wait."""
        self.start(call, **arguments)
        return self.wait()

    def value(self, call: str, **arguments: Any) -> Any:
        """The returned value; errors fail the test."""
        ended = self.call(call, **arguments)
        assert ended.code == 0, ended.errors
        return ended.value


class Forked:
    """The processes of a phase, forked from this one: `p2r.training.launch.phase_processes` in a test."""

    def __init__(self, launch: Launch, folder: Path, environment: Mapping[str, str]) -> None:
        count = launch.processes or 1
        variables = {**environment, "ACCELERATE_USE_CPU": "true", "P2R_END_WITH_STDIN": "1"}
        if count > 1:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            variables |= {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        reading, self._pipe = os.pipe()
        self._children = [self._fork(folder, variables, rank, count, reading) for rank in range(count)]
        os.close(reading)
        self._codes: dict[int, int] = {}

    def _fork(self, folder: Path, variables: dict[str, str], rank: int, count: int, reading: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            os.dup2(reading, 0)
            os.close(self._pipe)
            log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ.update(variables)
            if count > 1:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}
            from p2r.training.phase import main

            sys.argv = ["phase", str(folder)]
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        for pid in self._children:
            if pid not in self._codes:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    self._codes[pid] = os.waitstatus_to_exitcode(status)
        bad = [code for code in self._codes.values() if code]
        if bad:
            return bad[0]
        return 0 if len(self._codes) == len(self._children) else None

    def __enter__(self) -> Callable[[], int | None]:
        return self.poll

    def __exit__(self, *_: object) -> None:
        os.close(self._pipe)
        for pid in self._children:
            if pid not in self._codes:
                if any(self._codes.values()):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def train(recipe: str, out: str, changes: list[str] | None = None, file_limit: int | None = None) -> str:
    """`p2r train`, with forked phases."""
    from rich.console import Console

    from p2r.training.recipe import load_recipe
    from p2r.training.run import train as run

    if file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    loaded = load_recipe(Path(recipe), changes or ())
    return str(run(loaded, Path(out), Console(stderr=True, width=400), start_phase=Forked))


def run_child(request: dict[str, Any], errors: int, results: int) -> None:
    """The forked process of a request."""
    os.setsid()
    os.dup2(errors, 2)
    os.dup2(errors, 1)
    code = 1
    try:
        module, _, name = request["call"].rpartition(".")
        value = getattr(importlib.import_module(f"tests.training.{module}"), name)(**request["arguments"])
        os.write(results, json.dumps(value).encode())
        code = 0
    except P2RError as error:
        print(error, file=sys.stderr, flush=True)
        code = 2
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Import what a phase imports, then fork for each line of stdin."""
    import openai  # noqa: F401
    import transformers
    from trl import GRPOTrainer  # noqa: F401

    import p2r.training.session  # noqa: F401
    from tests.training import probes  # noqa: F401

    for name in ("AutoProcessor", "AutoModelForImageTextToText", "Qwen3VLForConditionalGeneration"):
        getattr(transformers, name)
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as results:
            pid = os.fork()
            if pid == 0:
                run_child(json.loads(line), errors.fileno(), results.fileno())
            print(pid, file=replies, flush=True)
            _, status = os.waitpid(pid, 0)
            errors.seek(0)
            results.seek(0)
            printed = errors.read().decode(errors="replace")
            value = json.loads(results.read() or b"null")
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"code": code, "errors": printed, "value": value}), file=replies, flush=True)


if __name__ == "__main__":
    serve()
    os._exit(0)  # an orderly end of an interpreter that holds torch takes seconds
