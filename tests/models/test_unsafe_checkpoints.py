"""Checkpoints with code or pickles: neither is run or read, and the error is one line."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from p2r.errors import InputError, ModelError
from p2r.models import checkpoint, open_model
from p2r.models.base import Message, Sampling
from p2r.models.vllm import VLLMServer
from p2r.nano import bundled
from tests.tiny_model import write_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.models.base import Model

CLASSES = ("Config", "Model", "ModelForImageTextToText", "ModelForCausalLM", "Processor", "Tokenizer")
CODE = """
import pathlib
pathlib.Path({mark!r}).touch()
from transformers import PreTrainedModel, PretrainedConfig
class Config(PretrainedConfig):
    model_type = "strange"
class Model(PreTrainedModel):
    pass
def generate(*_, **__):
    raise SystemExit
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def with_code(tiny: Path, folder: Path, mark: Path, *, known: bool) -> Path:
    """A checkpoint whose parts name custom code, which would create the file `mark`."""
    shutil.copytree(tiny, folder)
    (folder / "custom_generate").mkdir()
    for name in ("own.py", "custom_generate/generate.py"):
        (folder / name).write_text(CODE.format(mark=str(mark)))
    named = {f"Auto{name}": "own.Config" if name == "Config" else "own.Model" for name in CLASSES}
    named |= {"AutoImageProcessor": "own.Model", "AutoVideoProcessor": "own.Model"}
    for file in folder.glob("*.json"):
        data = json.loads(file.read_text())
        if file.name.endswith("config.json"):
            data["auto_map"] = {**named, "AutoTokenizer": ["own.Model", "own.Model"]}
        if file.name == "config.json" and not known:
            data["model_type"] = "strange"
        file.write_text(json.dumps(data))
    return folder


def test_code_of_a_checkpoint_that_transformers_knows_is_not_run(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = with_code(tiny, tmp_path / "own", tmp_path / "mark", known=True)
    loaded = checkpoint.load_checkpoint(folder)
    assert type(loaded.model).__name__ == "Qwen3VLForConditionalGeneration"
    assert not (tmp_path / "mark").exists()
    (said,) = [record.message for record in caplog.records if record.name.startswith("p2r")]
    assert said == f"model {folder} brings code of its own, which is not run (config.json names own.Config)"


def test_a_checkpoint_that_only_its_own_code_can_read_is_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_code(tiny, tmp_path / "own", tmp_path / "mark", known=False)
    # On a terminal transformers would ask whether to run it: the answer here is yes.
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(InputError, match="can only be read by code of its own") as caught:
        open_model(str(folder))
    assert "(config.json names own.Config), which is not run" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()


def test_code_is_run_where_the_user_trusts_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2R_TRUST_REMOTE_CODE", "1")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = with_code(tiny, tmp_path / "own", tmp_path / "mark", known=False)
    with pytest.raises(InputError, match="cannot be loaded"):  # it is no model
        checkpoint.load_checkpoint(folder)
    assert (tmp_path / "mark").exists()
    server = VLLMServer(folder, python=sys.executable)
    assert "--trust-remote-code" in server.command(1)


def test_vllm_is_started_without_trusting_the_code(tiny: Path) -> None:
    assert "--trust-remote-code" not in VLLMServer(tiny, python=sys.executable).command(1)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt"])
def test_weights_in_a_pickle_are_refused_in_one_line(tiny: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tiny, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / name)
    for spec in (str(folder), f"vllm:{folder}"):
        with pytest.raises(InputError, match=rf"holds its weights as a pickle \({name}\)") as caught:
            open_model(spec)
        assert "\n" not in str(caught.value)


def test_an_adapter_in_a_pickle_is_refused_and_an_adapter_alone_is_named(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "adapted")
    (folder / "adapter_config.json").write_text("{}")
    torch.save({}, folder / "adapter_model.bin")
    with pytest.raises(InputError, match=r"holds its weights as a pickle \(adapter_model.bin\)"):
        open_model(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="is the folder of an adapter: merge it into its model first"):
        open_model(str(folder))


def test_pickles_beside_safetensors_are_not_read(tiny: Path, tmp_path: Path) -> None:
    """As in a checkpoint of a training, with its optimizer."""
    folder = shutil.copytree(tiny, tmp_path / "checkpoint-3")
    for name in ("optimizer.pt", "training_args.bin", "rng_state.pth", "pytorch_model.bin"):
        (folder / name).write_bytes(b"no pickle at all")
    assert checkpoint.load_checkpoint(folder).model.num_parameters() > 0


async def ask(model: Model) -> None:
    try:
        await model.complete((Message("user", ("Hi",)),), Sampling(2))
    finally:
        await model.aclose()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif("P2R_VLLM_PYTHON" not in os.environ, reason="P2R_VLLM_PYTHON is not set")
@pytest.mark.parametrize("known", [True, False])
def test_vllm_does_not_run_code_of_a_checkpoint(tmp_path: Path, known: bool) -> None:
    # Not the tiny model, with which vLLM ends when it is asked.
    folder = with_code(bundled()["nano"], tmp_path / "own", tmp_path / "mark", known=known)
    model = open_model(f"vllm:{folder}")
    with contextlib.nullcontext() if known else pytest.raises(ModelError):
        asyncio.run(ask(model))
    assert not (tmp_path / "mark").exists()
