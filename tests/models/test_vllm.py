"""The managed server, with a fake vLLM that is a real process: its start, failures, and end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2r.errors import InputError, ModelError
from p2r.models.base import Message, Model, Sampling, StreamingModel
from p2r.models.vllm import VLLMModel, VLLMServer

ASK = (Message("user", ("hello",)),)
SAMPLING = Sampling(8)


class Fake:
    """The program of the fake, and the record that it writes at its start."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes.jsonl"
        self.python = folder / "python"
        script = Path(__file__).parent / "fake_vllm.py"
        self.python.write_text(f'#!/bin/sh\nexec {sys.executable} -I {script} "$@"\n')
        self.python.chmod(0o755)

    @property
    def starts(self) -> list[dict]:
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [json.loads(line) for line in lines]

    def wait_for_start(self) -> None:
        while not self.starts:
            time.sleep(0.02)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    found = Fake(tmp_path)
    monkeypatch.setenv("P2R_VLLM_PYTHON", str(found.python))
    monkeypatch.setenv("P2R_FAKE_VLLM_NOTES", str(found.notes))
    monkeypatch.delenv("P2R_VLLM_ARGS", raising=False)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between opening and reading
        return False


def wait_until_gone(*pids: int) -> None:
    deadline = time.monotonic() + 20
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"still alive: {alive}"
        time.sleep(0.02)


def test_it_is_a_streaming_model(fake: Fake) -> None:
    model = VLLMModel(VLLMServer("org/model"))
    assert isinstance(model, Model)
    assert isinstance(model, StreamingModel)
    assert model.name == "org/model"


def test_the_first_requests_start_one_server_and_closing_ends_it(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2R_FAKE_VLLM", "slow child")

    async def run() -> list[str]:
        model = VLLMModel(VLLMServer("org/model", name="mine"))
        assert not fake.starts
        replies = await asyncio.gather(*(model.complete(ASK, SAMPLING) for _ in range(10)))
        await model.aclose()
        await model.aclose()
        with pytest.raises(ModelError, match="was closed"):
            await model.complete(ASK, SAMPLING)
        return [reply.text for reply in replies]

    assert asyncio.run(run()) == ["mine says hello"] * 10
    assert len(fake.starts) == 1
    wait_until_gone(fake.starts[0]["pid"], fake.starts[0]["child"])


def test_the_log_of_a_server_that_worked_is_removed(fake: Fake) -> None:
    server = VLLMServer("org/model")
    server.start()
    assert server.log is not None
    assert server.log.exists()
    server.stop()
    assert not server.log.exists()


def test_the_error_of_a_server_that_exits_at_start_has_its_last_lines(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2R_FAKE_VLLM", "die")
    server = VLLMServer("org/model")

    async def run() -> list[BaseException]:
        model = VLLMModel(server)
        failed = await asyncio.gather(
            *(model.complete(ASK, SAMPLING) for _ in range(3)), return_exceptions=True
        )
        await model.aclose()
        return [error for error in failed if isinstance(error, BaseException)]

    errors = asyncio.run(run())
    assert len(errors) == 3
    for error in errors:
        assert isinstance(error, ModelError)
        assert error.kind == "internal"
        assert "exit code 3" in str(error)
        assert "loading weights | ValueError: no such architecture" in str(error)
        assert "\n" not in str(error)
    assert server.log is not None
    assert str(server.log) in str(errors[0])
    server.log.unlink()


def test_the_error_of_a_server_that_exits_later_has_its_last_lines(fake: Fake) -> None:
    async def run() -> None:
        model = VLLMModel(VLLMServer("org/model"))
        await model.complete(ASK, SAMPLING)
        with pytest.raises(ModelError, match=r"exit code 7.*the engine core is gone"):
            await model.complete((Message("user", ("crash",)),), SAMPLING)
        await model.aclose()

    asyncio.run(run())


def test_the_error_of_a_server_that_exits_in_a_stream_has_its_last_lines(fake: Fake) -> None:
    async def run() -> None:
        model = VLLMModel(VLLMServer("org/model"))
        await model.complete(ASK, SAMPLING)
        with pytest.raises(ModelError, match=r"exit code 7.*the engine core is gone"):
            await anext(model.stream((Message("user", ("crash",)),), SAMPLING))
        with pytest.raises(ModelError, match="exit code 7"):
            await anext(model.stream(ASK, SAMPLING))
        await model.aclose()

    asyncio.run(run())


def test_a_start_that_fails_here_fails_the_call(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")  # no place for the log, as on a full disk

    async def run() -> None:
        model = VLLMModel(VLLMServer("org/model"))
        with pytest.raises(ModelError, match=r"cannot be started: .*/nowhere"):
            await asyncio.wait_for(model.complete(ASK, SAMPLING), 20)
        await model.aclose()

    asyncio.run(run())


def test_a_server_that_takes_too_long_is_a_timeout(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2R_FAKE_VLLM", "slow")
    server = VLLMServer("org/model", startup_timeout_s=0.05)
    with pytest.raises(ModelError, match=r"not ready within 0\.05 s") as caught:
        server.start()
    assert caught.value.kind == "timeout"
    server.stop()
    assert server.log is not None
    server.log.unlink()


def test_closing_during_the_start_ends_it(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2R_FAKE_VLLM", "slow")

    async def run() -> None:
        model = VLLMModel(server)
        call = asyncio.create_task(model.complete(ASK, SAMPLING))
        await asyncio.to_thread(fake.wait_for_start)
        await model.aclose()
        with pytest.raises(ModelError, match="closed"):
            await call

    server = VLLMServer("org/model")
    asyncio.run(run())
    wait_until_gone(fake.starts[0]["pid"])
    assert server.log is not None
    server.log.unlink()


def test_a_server_sees_the_gpus_that_it_is_given(fake: Fake) -> None:
    server = VLLMServer("org/model", gpus="2,3")
    server.start()
    server.stop()
    assert fake.starts[0]["gpus"] == "2,3"


def test_the_command_is_extended_by_the_environment_and_then_by_the_caller(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2R_VLLM_ARGS", "--dtype float32 --seed '7'")
    server = VLLMServer("org/model", arguments=["--dtype", "bfloat16"])
    command = server.command(1234)
    assert command[:3] == [str(fake.python), "-m", "vllm.entrypoints.openai.api_server"]
    assert command[3:5] == ["--model", "org/model"]
    assert command[-6:] == ["--dtype", "float32", "--seed", "7", "--dtype", "bfloat16"]
    assert command[command.index("--port") + 1] == "1234"
    assert json.loads(command[command.index("--limit-mm-per-prompt") + 1]) == {
        "image": 999,
        "video": 0,
    }, "more than any settings ask for"


def test_vllm_is_found_on_the_path_or_named_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("P2R_VLLM_PYTHON", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="P2R_VLLM_PYTHON="):
        VLLMServer("org/model")
    (tmp_path / "vllm").touch(0o755)
    assert VLLMServer("org/model").command(1)[:3] == [str(tmp_path / "vllm"), "serve", "org/model"]
    monkeypatch.setenv("P2R_VLLM_PYTHON", "/nowhere/python")
    with pytest.raises(InputError, match="/nowhere/python is no program"):
        VLLMServer("org/model")


OWNER = """
import sys, time
from p2r.models.vllm import VLLMServer
server = VLLMServer("org/model", grace_s=0.5)
server.start()
print("ready", flush=True)
if sys.argv[1] == "wait":
    time.sleep(600)
"""


def owner(how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, how], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("behavior", ["child", "child deaf"])
def test_kill_9_of_the_owner_ends_the_server_and_its_children(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, behavior: str
) -> None:
    monkeypatch.setenv("P2R_FAKE_VLLM", behavior)
    with owner("wait") as process:
        started = fake.starts[0]
        assert is_alive(started["pid"])
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wait_until_gone(started["pid"], started["child"])


def test_an_owner_that_exits_without_closing_ends_the_server(fake: Fake) -> None:
    with owner("exit") as process:
        started = fake.starts[0]
        assert process.wait(20) == 0
    wait_until_gone(started["pid"])
