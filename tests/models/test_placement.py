"""Where and how a checkpoint is loaded: device, precision, attention, quantization, parts on the disk."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from p2r.errors import InputError, MissingExtraError
from p2r.images import EncodedImage
from p2r.models import checkpoint, open_model
from p2r.models.base import Completion, Message, Sampling
from p2r.models.batching import Request, is_out_of_memory
from p2r.models.generation import Generator
from p2r.models.local import LocalModel
from p2r.models.placement import choose_device, choose_dtype, describe, found_devices, input_device
from p2r.nano import bundled
from p2r.pipeline import P2R, settings_of
from tests.tiny_model import write_tiny_model

if TYPE_CHECKING:
    from p2r.errors import ModelError

WITH_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
needs_bitsandbytes = pytest.mark.skipif(
    not WITH_BITSANDBYTES, reason="bitsandbytes is not installed (extra quantized)"
)
needs_nano = pytest.mark.skipif("nano" not in bundled(), reason="this checkout does not hold nano's weights")
GREEDY = Sampling(max_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def questions() -> list[tuple[Message, ...]]:
    """Ragged: one image, none, two of different sizes."""
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    images = [EncodedImage(pixels[:height, :width]) for width, height in ((64, 64), (96, 32), (32, 64))]
    return [
        (Message("user", (images[0], "What?")),),
        (Message("user", ("No image here, but a rather long text instead of it.",)),),
        (Message("user", (images[1], images[2], "Compare.")),),
    ]


def complete(model: Any, processor: Any, sampling: Sampling = GREEDY) -> list[Completion | ModelError]:
    generator = Generator(model, processor, "tiny")
    return generator.complete(
        [Request(generator.encoder.encode(question, sampling), sampling) for question in questions()]
    )


def refusal(spec: str) -> str:
    with pytest.raises(InputError) as caught:
        open_model(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Devices.

TWO_GPUS = ["cuda:0", "cuda:1", "cpu"]
APPLE = ["mps:0", "cpu"]


@pytest.mark.parametrize(
    ("name", "found", "chosen"),
    [
        (None, TWO_GPUS, "cuda"),
        (None, APPLE, "mps"),
        (None, ["cpu"], "cpu"),
        ("cuda:1", TWO_GPUS, "cuda:1"),
        ("cuda", TWO_GPUS, "cuda"),
        ("cpu", TWO_GPUS, "cpu"),
        ("mps", APPLE, "mps"),
        ("auto", TWO_GPUS, "auto"),
        ("auto", ["cpu"], "auto"),
    ],
)
def test_the_device_is_the_one_asked_for_or_the_fastest(
    name: str | None, found: list[str], chosen: str
) -> None:
    assert choose_device(name, found) == chosen


@pytest.mark.parametrize(
    ("name", "found"),
    [("cuda:2", TWO_GPUS), ("cuda", APPLE), ("mps", ["cpu"]), ("meta", ["cpu"]), ("", APPLE)],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name: str, found: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        choose_device(name, found)
    assert f"device {name!r} is not there: this machine has {', '.join(found)}" in str(caught.value)


def test_the_devices_are_those_of_torch() -> None:
    *accelerators, last = found_devices()
    assert last == "cpu"
    assert len(accelerators) == torch.accelerator.device_count()
    for device in found_devices():
        assert torch.ones(2, device=device).sum() == 2


def test_the_precision_follows_the_device() -> None:
    assert choose_dtype("float16", "cpu", 0) is torch.float16
    assert choose_dtype(None, "cpu", 15_000_000) is torch.float32
    if "mps" not in found_devices()[0]:  # as on a macOS before 14: no bfloat16
        assert choose_dtype(None, "mps", 0) is torch.float16


def test_a_small_checkpoint_is_not_rounded_on_the_way_to_float32(folder: Path) -> None:
    loaded = checkpoint.load_checkpoint(folder, device="cpu")
    stored = load_file(folder / "model.safetensors")["model.language_model.layers.0.mlp.up_proj.weight"]
    assert stored.dtype is torch.float32
    assert torch.equal(loaded.model.model.language_model.layers[0].mlp.up_proj.weight, stored)


@pytest.mark.parametrize(
    "text",
    [
        "MPS backend out of memory (MPS allocated: 8.86 GB, max allowed: 9.07 GB)",
        "Invalid buffer size: 20.25 GiB",
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried …",
    ],
)
def test_the_words_of_each_device_for_out_of_memory_are_known(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("device-side assert"))


# In a spec.


def test_a_spec_says_how_its_checkpoint_is_loaded(folder: Path) -> None:
    opened = open_model(f"{folder},device=cpu,dtype=bfloat16,attention=eager,thinking=off")
    assert isinstance(opened, LocalModel)
    assert opened.placement == "cpu, bfloat16, attention eager, 0.00 GB of weights"
    assert opened.name == str(folder)
    assert opened.options.thinking is False
    asyncio.run(opened.aclose())


def test_it_is_no_part_of_the_settings(folder: Path) -> None:
    with P2R(f"{folder},dtype=bfloat16,device=cpu") as placed, P2R(str(folder)) as plain:
        assert (
            placed.settings.digest == plain.settings.digest == settings_of(f"{folder},dtype=float16").digest
        )


def test_a_folder_whose_name_looks_like_options_takes_options(folder: Path, tmp_path: Path) -> None:
    odd = Path(shutil.copytree(folder, tmp_path / "lr=1e-6,temperature=1,device=x"))
    opened = open_model(f"{odd},dtype=bfloat16")
    assert isinstance(opened, LocalModel)
    assert opened.name == str(odd)
    assert "bfloat16" in opened.placement
    asyncio.run(opened.aclose())


def test_every_wrong_value_is_one_line_with_the_choices(folder: Path) -> None:
    assert "'float8': float32, bfloat16, float16" in refusal(f"{folder},dtype=float8")
    text = refusal(f"{folder},attention=flash")
    assert 'attn_implementation="flash"` is not supported' in text
    assert "sdpa" in text
    assert "'2bit': 8bit, 4bit" in refusal(f"{folder},quantize=2bit")
    assert "this machine has" in refusal(f"{folder},device=xpu:7")
    # A hub model is not fetched for this.
    assert "unknown dtype" in refusal("org/never-downloaded,dtype=half")


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="flash_attn is installed")
def test_an_attention_that_is_not_installed_is_one_line(folder: Path) -> None:
    assert "FlashAttention2 doesn't seem to be installed" in refusal(f"{folder},attention=flash_attention_2")


def test_a_server_is_not_told_how_to_load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = refusal("http://localhost:1/v1#name,device=cuda:1")
    assert "device=cuda:1: a server loads its model itself" in text
    monkeypatch.setenv("P2R_VLLM_PYTHON", sys.executable)
    assert "P2R_VLLM_ARGS" in refusal(f"vllm:{folder},quantize=4bit")
    served: Any = open_model(f"vllm:{folder},dtype=float16")
    command = served._server.command(1)  # what is started is shown nowhere else
    assert command[command.index("--dtype") + 1] == "float16"


def test_the_kind_of_attention_does_not_change_a_reply(folder: Path) -> None:
    replies = []
    for attention in ("eager", "sdpa"):
        loaded = checkpoint.load_checkpoint(folder, attention=attention)
        assert attention in describe(loaded.model)
        replies.append(complete(loaded.model, loaded.processor))
    assert replies[0] == replies[1]


# Spread over devices by accelerate.


def test_a_model_that_is_partly_on_the_disk_replies_as_one_in_memory(folder: Path) -> None:
    plain = checkpoint.load_checkpoint(folder)
    spread = checkpoint.read_weights(
        folder,
        torch.float32,
        device_map={"model.visual": "disk", "model.language_model": "cpu", "lm_head": "cpu"},
    )
    checkpoint.linearize_patch_embedding(spread)
    convolution = spread.model.visual.patch_embed.proj
    assert convolution.weight.device.type == "meta", "its weights are on the disk"
    assert convolution._old_forward.__name__ == "_product"  # or it computes as a convolution
    assert input_device(spread).type == "cpu"
    assert "disk and cpu" in describe(spread)
    spread.eval()
    for sampling in (GREEDY, Sampling(max_tokens=12, temperature=1.0, seed=7)):
        assert complete(spread, plain.processor, sampling) == complete(plain.model, plain.processor, sampling)


def test_auto_uses_what_is_there(folder: Path) -> None:
    auto, plain = (checkpoint.load_checkpoint(folder, device=device) for device in ("auto", None))
    if found_devices() == ["cpu"]:
        assert auto.device.type == "cpu"
    assert complete(auto.model, auto.processor) == complete(plain.model, plain.processor)


# Quantized.


@pytest.mark.skipif(WITH_BITSANDBYTES, reason="bitsandbytes is installed")
def test_without_bitsandbytes_the_command_that_installs_it_is_named(folder: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"perceive-to-reason\[quantized\]"):
        open_model(f"{folder},quantize=8bit")


@pytest.mark.long
@needs_nano  # bitsandbytes multiplies 4-bit weights on a CPU only where their sides are multiples of 64
@needs_bitsandbytes
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_the_language_model_is_quantized_and_the_vision_tower_is_not(
    tmp_path: Path, bits: str, capfd: pytest.CaptureFixture[str]
) -> None:
    nano = bundled()["nano"]
    loaded = checkpoint.load_checkpoint(nano, quantize=bits)
    kinds = {name: type(module).__name__ for name, module in loaded.model.named_modules()}
    assert kinds["model.visual.blocks.0.attn.qkv"] == kinds["lm_head"] == "Linear"
    assert kinds["model.language_model.layers.0.mlp.down_proj"] in ("Linear8bitLt", "Linear4bit")
    assert loaded.model.model.visual.patch_embed.proj.forward.__name__ == "_product"
    assert loaded.model.get_memory_footprint() < 12_000_000  # of 15.7 MB in float32
    assert "quantized by bitsandbytes" in describe(loaded.model)
    assert capfd.readouterr() == ("", "")

    # What it writes is a checkpoint that is quantized already: it loads as it is, and not twice. Before the
    # first reply, at which bitsandbytes packs 4-bit weights for the CPU.
    loaded.model.save_pretrained(tmp_path)
    loaded.processor.save_pretrained(tmp_path)
    capfd.readouterr()
    again = checkpoint.load_checkpoint(tmp_path)
    replies = complete(loaded.model, loaded.processor)
    assert all(isinstance(reply, Completion) for reply in replies)
    assert complete(again.model, again.processor) == replies
    assert "is quantized already" in refusal(f"{tmp_path},quantize=8bit")
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_of_another_method_loads_or_says_what_it_needs(folder: Path, tmp_path: Path) -> None:
    for method, package in (("awq", "gptqmodel"), ("gptq", "optimum"), ("compressed-tensors", None)):
        copy = Path(shutil.copytree(folder, tmp_path / method))
        config = json.loads((copy / "config.json").read_text())
        config["quantization_config"] = {
            "quant_method": method,
            "bits": 4,
            "group_size": 32,
            "config_groups": {},
        }
        (copy / "config.json").write_text(json.dumps(config))
        if WITH_BITSANDBYTES:
            assert "is quantized already" in refusal(f"{copy},quantize=4bit")
        if importlib.util.find_spec((package or method).replace("-", "_")) is None:
            assert f"pip install {package or method}" in refusal(str(copy))
