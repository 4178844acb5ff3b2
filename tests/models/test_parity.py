"""The same questions through every way to run one checkpoint: boxes and answers must agree.

    P2R_VLLM_PYTHON=/path/to/vllm-env/bin/python pytest -m slow tests/models/test_parity.py -s

prints each difference. P2R_PARITY_MODEL names another checkpoint folder than the bundled one's. The engines
add up their products in different orders, so a reply may differ where two tokens were almost equally likely;
anything more than that shows in the numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.models import VLLMModel, VLLMServer, open_model, settings_for
from p2r.nano import bundled
from p2r.pipeline import P2R, Finished
from p2r.scenes import write_scenes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from p2r.models.base import Model
    from p2r.types import Prediction, Question

NAME = os.environ.get("P2R_PARITY_MODEL", "nano-base")
FOLDER = bundled().get(NAME, Path(NAME))
COUNT = 100
AGREE = 95
SEED = 77

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"this checkout does not hold the weights of {NAME}"),
]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> list[Question]:
    folder = tmp_path_factory.mktemp("scenes")
    for _ in write_scenes(folder, split="test", size="2k", count=COUNT, seed=SEED):
        pass
    return [sample.question for sample in read_samples(folder / "samples.jsonl")]


@pytest.fixture(scope="module")
def local(questions: list[Question]) -> list[Prediction]:
    return ask_all(NAME, questions)


@pytest.fixture(scope="module")
def vllm() -> Iterator[VLLMServer]:
    with vllm_server() as server:
        yield server


@contextlib.contextmanager
def vllm_server(*arguments: str) -> Iterator[VLLMServer]:
    # The same arithmetic as here: float32 on a CPU, whose memory other programs use too.
    on_cpu = ("--dtype", "float32", "--enforce-eager", "--gpu-memory-utilization", "0.3")
    try:
        server = VLLMServer(FOLDER, name=NAME, arguments=(*(() if has_cuda() else on_cpu), *arguments))
    except InputError as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def transformers_serve() -> Iterator[str]:
    """The spec of a running `transformers serve`."""
    program = shutil.which("transformers", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("`transformers serve` is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "serve", str(FOLDER), "--host", "127.0.0.1", "--port", str(port)]
    if not has_cuda():
        command += ["--device", "cpu", "--dtype", "float32"]
    with subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}/v1#{FOLDER}"
        finally:
            process.terminate()


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 900
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server was not ready in time"
        time.sleep(0.5)


def ask_all(model: str | Model, questions: list[Question]) -> list[Prediction]:
    with P2R(model, settings=settings_for(NAME), concurrency=8) as p2r:
        started = time.monotonic()
        predictions = list(p2r.answer_many(questions))
        name = model if isinstance(model, str) else model.name
        print(f"\n{name}: {len(questions)} questions in {time.monotonic() - started:.1f} s")
    return predictions


def check(here: list[Prediction], there: list[Prediction]) -> None:
    different = []
    for one, other in zip(here, there, strict=True):
        assert one.status != "failed", one.error
        assert other.status != "failed", other.error
        same_boxes = [box.as_tuple() for box in one.boxes] == [box.as_tuple() for box in other.boxes]
        if not same_boxes or one.answer != other.answer:
            different.append(f"{one.id}: {shown(one)} | {shown(other)}")
    same_usage = sum(one.usage == other.usage for one, other in zip(here, there, strict=True))
    print(f"\n{COUNT - len(different)} of {COUNT} agree; equal token counts in {same_usage}")
    print("\n".join(different))
    assert COUNT - len(different) >= AGREE, "\n".join(different)


def shown(prediction: Prediction) -> str:
    boxes = [[round(side) for side in box.as_tuple()] for box in prediction.boxes]
    return f"{prediction.answer!r} from {boxes}"


def test_the_managed_vllm_agrees(
    vllm: VLLMServer, local: list[Prediction], questions: list[Question]
) -> None:
    check(local, ask_all(VLLMModel(vllm), questions))


def test_vllm_as_an_endpoint_agrees(
    vllm: VLLMServer, local: list[Prediction], questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm.start()
    monkeypatch.setenv("P2R_API_KEY", vllm.api_key)
    check(local, ask_all(open_model(f"{vllm.base_url}#{NAME}"), questions))


def stream_all(model: Model, questions: list[Question]) -> list[Prediction]:
    async def run() -> list[Prediction]:
        p2r = P2R(model, settings=settings_for(NAME))
        events = [event for question in questions async for event in p2r.stream(question)]
        return [event.prediction for event in events if isinstance(event, Finished)]

    return asyncio.run(run())


@pytest.mark.parametrize("parser", ["deepseek_r1", "qwen3"])
def test_vllm_with_a_parser_of_reasoning_agrees(
    parser: str, local: list[Prediction], questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the whole text of a model without think tags for reasoning."""
    with vllm_server("--reasoning-parser", parser) as server:
        server.start()
        monkeypatch.setenv("P2R_API_KEY", server.api_key)
        model = open_model(f"{server.base_url}#{NAME}")
        check(local, ask_all(model, questions))
        check(local, stream_all(model, questions))


def test_transformers_serve_agrees(
    transformers_serve: str, local: list[Prediction], questions: list[Question]
) -> None:
    check(local, ask_all(transformers_serve, questions))
