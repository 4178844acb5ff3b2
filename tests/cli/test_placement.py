"""--device, --dtype, --attention and --quantize: for which models, and what `p2r doctor` shows of them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2r.cli import app
from p2r.cli._options import placed
from p2r.errors import InputError
from p2r.models.options import split_spec
from p2r.nano import bundled

SERVER = "http://127.0.0.1:1/v1#name"
IMAGE = str(next((Path(__file__).parents[2] / "src/p2r/demo/images").iterdir()))
needs_nano = pytest.mark.skipif("nano" not in bundled(), reason="this checkout does not hold nano's weights")


def test_flags_are_for_the_models_that_are_loaded_here() -> None:
    assert placed(["nano", SERVER, None], "cpu", None, "eager", None) == [
        "nano,device=cpu,attention=eager",
        SERVER,
        None,
    ]
    assert placed([SERVER, None], None, None, None, None) == [SERVER, None]


def test_an_option_in_a_spec_goes_before_a_flag() -> None:
    (spec,) = placed(["nano,thinking=off,device=cuda:1"], "cuda:0", "float16", None, None)
    assert split_spec(spec) == ("nano", {"thinking": False, "device": "cuda:1", "dtype": "float16"})


@pytest.mark.parametrize(
    "command",
    [
        ["answer", IMAGE, "What?"],
        ["eval", "-b", "scenes", "-o", "never-made"],
        ["serve", "--port", "0"],
        ["demo", "-o", "never-made"],
        ["doctor"],
    ],
)
def test_every_command_refuses_them_for_a_server(command: list[str]) -> None:
    for flag, value in (
        ("device", "cuda"),
        ("dtype", "float16"),
        ("attention", "sdpa"),
        ("quantize", "4bit"),
    ):
        result = CliRunner().invoke(app, [*command, "--model", SERVER, f"--{flag}", value])
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"--{flag} {value}: no model is loaded here" in " ".join(result.stderr.split())
    assert not Path("never-made").exists()


def test_doctor_without_a_model_has_nothing_to_place() -> None:
    with pytest.raises(InputError, match="no model is loaded here"):
        placed([], "cpu", None, None, None)


def p2r(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "p2r", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.long
@needs_nano
def test_doctor_shows_how_a_model_was_loaded() -> None:
    flags = ["--device", "auto", "--dtype", "bfloat16", "--attention", "eager"]
    if quantized := importlib.util.find_spec("bitsandbytes") is not None:
        flags += ["--quantize", "8bit"]
    done = p2r("doctor", "--model", "nano", *flags, "--json")
    (loaded,) = [
        check for check in json.loads(done.stdout)["findings"] if check["name"].endswith("is loaded")
    ]
    assert loaded["state"] == "ok"
    for part in ("cpu", "bfloat16", "attention eager", "GB of weights"):
        assert part in loaded["detail"]
    assert ("quantized by bitsandbytes" in loaded["detail"]) == quantized


@pytest.mark.long
@needs_nano
def test_a_device_that_is_not_there_is_one_line() -> None:
    done = p2r("answer", IMAGE, "What?", "--model", "nano", "--device", "cuda:99")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: device 'cuda:99' is not there: this machine has ")
