"""A spec opens the right model, or gives one line with the choices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from p2r.errors import InputError
from p2r.models import open_model, settings_for
from p2r.models.endpoint import EndpointModel
from p2r.models.vllm import VLLMModel, VLLMServer
from p2r.pipeline import settings_of
from p2r.settings import Geometry, Settings
from tests.fake_hub import FakeHub

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like a checkpoint and carries settings."""
    (tmp_path / "config.json").write_text("{}")
    Settings(geometry=Geometry(max_crops=5)).save(tmp_path)
    return tmp_path


def refusal(spec: str) -> str:
    with pytest.raises(InputError) as caught:
        open_model(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("spec", ["http://localhost:8000/v1", "https://example.org/v1"])
def test_a_url_is_an_endpoint(spec: str) -> None:
    assert isinstance(named := open_model(f"{spec}#org/model"), EndpointModel)
    assert (named.base_url, named.name) == (spec, "org/model")
    assert open_model(spec).name == spec
    assert settings_for(f"{spec}#org/model") is None


def test_vllm_serves_a_folder_or_a_hub_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2R_VLLM_PYTHON", sys.executable)
    for name in (str(folder), "org/model"):
        model = open_model(f"vllm:{name}")
        assert isinstance(model, VLLMModel)
        assert model.name == name
    assert (own := VLLMModel(VLLMServer(folder)).settings) is not None
    assert own.geometry.max_crops == 5
    assert settings_of(VLLMModel(VLLMServer(folder))) == own


def test_the_settings_of_a_checkpoint_are_found(folder: Path) -> None:
    for spec in (str(folder), f"vllm:{folder}"):
        found = settings_for(spec)
        assert found is not None
        assert found.geometry.max_crops == 5
    (folder / "p2r.json").unlink()
    assert settings_for(str(folder)) is None
    assert settings_for("org/never-downloaded") is None


def test_the_settings_of_a_hub_model_are_there_before_its_weights(folder: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="the local extra is not installed")
    code = "from p2r.models import settings_for as of\n"
    code += "print(*[of(spec).geometry.max_crops for spec in ('me/model', 'vllm:me/model')])"
    with FakeHub({"me/model": folder}) as hub:
        # The hub's client reads its endpoint when it is imported.
        env = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "home")}
        env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
        )
    assert done.stdout == "5 5\n", done.stderr


def test_a_hub_that_cannot_be_reached_is_asked_once_and_quietly(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="the local extra is not installed")
    # Importing torch is not timed: without compiled files it takes long.
    code = """
import time, huggingface_hub, torch, transformers
from p2r.models import open_model
started = time.monotonic()
try:
    open_model("me/model")
finally:
    print(time.monotonic() - started)
"""
    env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert float(done.stdout) < 15, "several tries take half a minute"
    assert "Retry" not in done.stderr
    assert "the hub cannot be reached" in done.stderr.splitlines()[-1]


def test_settings_that_cannot_be_read_are_an_error(folder: Path) -> None:
    (folder / "p2r.json").write_text(json.dumps({"geometry": {"max_crops": 0}}))
    with pytest.raises(InputError, match=r"geometry\.max_crops"):
        settings_for(str(folder))


@pytest.mark.parametrize("spec", ["", "word", "vllm:", "vllm:word", "a/b/c", "ftp://host/v1", "./nowhere"])
def test_an_unknown_spec_lists_the_choices(spec: str) -> None:
    text = refusal(spec)
    for choice in ("nano", "nano-base", "folder", "hub id", "vllm:", "#name"):
        assert choice in text
    with pytest.raises(InputError, match="unknown model"):
        settings_for(spec)


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path} is no checkpoint folder" in refusal(str(tmp_path))
    assert f"{tmp_path} is no checkpoint folder" in refusal(f"vllm:{tmp_path}")


def test_a_url_without_a_host_is_refused() -> None:
    assert "is no server" in refusal("http://#model")
