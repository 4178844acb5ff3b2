"""TRL's configuration of the engine that generates rollouts, and whether a real vLLM accepts it."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from p2r.models.loading import settings_for
from tests.tiny_model import SPECIAL

if TYPE_CHECKING:
    from tests.training.warm import Warm

Small = dict[str, str]
FORBIDDEN = [
    SPECIAL[token] for token in ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
]
ENGINES = {
    "vllm-colocate": "{engine: vllm-colocate}",
    "vllm-server": "{engine: vllm-server, url: 'http://127.0.0.1:1'}",
}


def configured(warm: Warm, small: Small, *changes: str) -> dict[str, Any]:
    found: dict[str, Any] = warm.value("probes.configured", recipe=small["recipe"], changes=list(changes))
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_vllm_gets_the_forbidden_tokens_as_integers(warm: Warm, small: Small, engine: str) -> None:
    found = ast.literal_eval(configured(warm, small, f"rollouts={ENGINES[engine]}")["generation"])
    assert found == {"logit_bias": dict.fromkeys(FORBIDDEN, -100.0)}
    assert {type(key) for key in found["logit_bias"]} == {int}


def test_transformers_gets_them_as_a_list(warm: Warm, small: Small) -> None:
    assert ast.literal_eval(configured(warm, small)["generation"]) == {"suppress_tokens": FORBIDDEN}


def python_with_vllm() -> str:
    python = os.environ.get("P2R_VLLM_PYTHON") or (sys.executable if importlib.util.find_spec("vllm") else "")
    if not python:
        pytest.skip("vLLM is not here: set P2R_VLLM_PYTHON to the Python of an environment that has it")
    return python


def taken(parameters: str) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).parent / "vllm_sampling.py"
    return subprocess.run(
        [python_with_vllm(), str(script)], input=parameters, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_real_vllm_takes_the_parameters_of_rollouts(warm: Warm, small: Small) -> None:
    done = taken(configured(warm, small, f"rollouts={ENGINES['vllm-colocate']}")["sampling"])
    assert done.returncode == 0, done.stderr
    bias = dict.fromkeys(FORBIDDEN, -100.0)
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == {"server": bias, "colocate": bias}


@pytest.mark.slow
def test_a_real_vllm_in_the_process_refuses_keys_of_text() -> None:
    """As they were: this is what the test above sees."""
    done = taken("{'logit_bias': {'261': -100.0}}")
    assert done.returncode
    assert "TypeError: '<' not supported between instances of 'str' and 'int'" in done.stderr


def test_an_engine_in_the_process_gets_one_token_for_each_image(warm: Warm) -> None:
    prompts = [[7, 7, 7, 1, 7, 7, 2], [3, 7, 1], [1, 1]]
    short = [[7, 1, 7, 2], [3, 7, 1], [1, 1]]
    assert warm.value("probes.short_prompts", prompts=prompts, read=prompts) == short
    assert warm.value("probes.short_prompts", prompts=short, read=prompts) == short  # a TRL that does it
    other = warm.call("probes.short_prompts", prompts=prompts, read=[[7, 7, 1, 7, 7, 2], *prompts[1:]])
    assert other.code == 2
    assert "resize images differently" in other.errors


def test_vllm_must_not_resize_images_again(warm: Warm, small: Small) -> None:
    changes = [
        f"rollouts={ENGINES['vllm-colocate']}",
        "settings={budget: {min_pixels: 1024}}",
        "model=nano-base",
    ]
    ended = warm.call("probes.configured", recipe=small["recipe"], changes=changes)
    assert ended.code == 2
    assert "settings.budget.min_pixels is 1024" in ended.errors
    assert warm.call("probes.configured", recipe=small["recipe"], changes=changes[1:]).code == 0


def test_options_of_the_model_reach_the_trainer(warm: Warm, small: Small) -> None:
    plain = configured(warm, small)
    assert plain["chat_template_kwargs"] == {}
    options = "{thinking: true, thinking_tokens: 40, chat_template_kwargs: {tone: dry}}"
    found = configured(warm, small, f"settings={{options: {options}}}")
    assert found["chat_template_kwargs"] == {"enable_thinking": True, "tone": "dry"}
    assert found["max_completion_length"] == plain["max_completion_length"] + 40
    found = configured(warm, small, f"model={small['model']},thinking=off,thinking_tokens=40")
    assert found["chat_template_kwargs"] == {"enable_thinking": False}
    assert found["max_completion_length"] == plain["max_completion_length"]


def test_options_reach_every_prompt_and_the_written_model(warm: Warm, small: Small, tmp_path: Path) -> None:
    model = warm.value("probes.thinking_model", model=small["model"], folder=tmp_path / "model")
    off = f"model={model},thinking=off"
    rows = warm.value(
        "probes.rows_of", recipe=small["recipe"], out=tmp_path / "rows", role="think", changes=[off]
    )
    for row in rows:
        assert row["end"].endswith("assistant\n<think></think>")
        assert row["same_ids"]
        assert row["counted"] >= row["length"]
    lengths = [
        warm.value("probes.frozen_tokens", recipe=small["recipe"], out=tmp_path / name, changes=[change])
        for name, change in (("off", off), ("on", f"model={model}"))
    ]
    assert lengths[0]["prompt"] == lengths[1]["prompt"] + len("<think></think>")
    changes = [off, "settings={options: {thinking_tokens: 9}}", "training.steps=1", "phases=[{role: think}]"]
    warm.value("warm.train", recipe=small["recipe"], out=tmp_path / "run", changes=changes)
    settings = settings_for(str(tmp_path / "run/model"))
    assert settings is not None
    assert (settings.options.thinking, settings.options.thinking_tokens) == (False, 9)


def test_thinking_tokens_are_added_to_the_frozen_roles_replies(
    warm: Warm, small: Small, tmp_path: Path
) -> None:
    changes = ["settings={options: {thinking_tokens: 30}}"]
    found = warm.value("probes.frozen_tokens", recipe=small["recipe"], out=tmp_path / "run", changes=changes)
    assert found["reply"] > 2
