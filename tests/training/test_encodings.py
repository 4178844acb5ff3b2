"""Steps that encode each image once, and cast weights once a rollout, are those of the plain trainer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from p2r.training import trl as building
from tests.tiny_model import build_model

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.warm import Warm

Small = dict[str, str]
# A step: two prompts of four completions about an image each, in micro-batches of half a group.
COMMON = ["phases=[{role: think}]", "training.micro_batch=2", "training.gradient_checkpointing=true"]


# Two steps of two images, or one batch of two images for two updates.
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["training.freeze_vision=true"], {"generation": 4, "reference": 0, "update": 0}),
        # The tower of the base is that of policy, reference and frozen role.
        (["lora={rank: 4}"], {"generation": 4, "reference": 0, "update": 0}),
        # The rows of an update are shuffled: two of one image meet in a micro-batch by chance.
        ([], {"generation": 4, "reference": 4, "update": 12}),
        # Here the policy computes log-probabilities before the update too, in micro-batches.
        (["training.updates=2"], {"generation": 2, "reference": 2 + 4, "update": 12}),
    ],
    ids=["frozen", "adapters", "trained", "trained twice"],
)
@pytest.mark.long
def test_steps_are_those_of_the_plain_trainer(
    warm: Warm, small: Small, tmp_path: Path, changes: list[str], expected: dict[str, int]
) -> None:
    plain, once = (
        warm.value(
            "encodings.steps",
            recipe=small["recipe"],
            out=tmp_path / name,
            changes=[*COMMON, *changes],
            plain=name == "plain",
        )
        for name in ("plain", "once")
    )
    assert once["texts"] == plain["texts"]
    for one, other in zip(once["metrics"], plain["metrics"], strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    assert plain["metrics"][1]["kl"] > 1e-4  # the policy has moved
    assert {part: once["encoded"].get(part, 0) for part in expected} == expected
    assert plain["encoded"]["generation"] == 4 * expected["generation"]
    assert plain["encoded"]["update"] == 16


@pytest.mark.long
def test_in_bfloat16_policy_and_reference_encode_for_themselves(
    warm: Warm, small: Small, tmp_path: Path
) -> None:
    changes = [*COMMON, "training.freeze_vision=true", "precision=bfloat16"]
    found = warm.value(
        "encodings.steps", recipe=small["recipe"], out=tmp_path / "run", changes=changes, plain=False
    )
    assert found["encoded"] == {"generation": 4, "reference": 4}
    assert found["metrics"][0]["kl"] < 1e-3  # so their features are about the same


@pytest.mark.long
def test_a_rollout_casts_each_weight_once(warm: Warm, small: Small, tmp_path: Path) -> None:
    found = warm.value("encodings.rollouts_in_bfloat16", recipe=small["recipe"], out=tmp_path / "run")
    tokens = 3
    assert found["casts"] == [tokens, 1, tokens, 1]
    plain, once, moved, moved_once = found["logits"]
    assert once == plain
    assert moved_once == moved != plain  # with the weights of the moment


@pytest.mark.parametrize("sharded", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_sharded_models_run_as_they_are(sharded: str) -> None:
    model = build_model()
    switches = {"is_fsdp_enabled": False, "is_deepspeed_enabled": False} | {sharded: True}
    trainer = SimpleNamespace(model=model, ref_model=model, **switches)
    building.encode_images_once(trainer)
    building.cast_weights_once(trainer)
    assert "generate" not in vars(model)
    assert "forward" not in vars(model.model.visual)


@pytest.mark.parametrize("follows", [False, True])
def test_a_reference_that_follows_the_policy_is_encoded_in_each_call(follows: bool) -> None:
    policy, reference = build_model(), build_model()
    arguments = SimpleNamespace(sync_ref_model=follows)
    trainer = SimpleNamespace(
        model=policy, ref_model=reference, args=arguments, is_fsdp_enabled=False, is_deepspeed_enabled=False
    )
    building.encode_images_once(trainer)
    encoded: list[int] = []
    for model in (policy, reference):
        model.model.visual.blocks[0].register_forward_pre_hook(lambda *_: encoded.append(1))
    pixels, grids = torch.ones(8, 1_536), torch.tensor([[1, 2, 2], [1, 2, 2]])
    for model in (policy, reference):
        encoded.clear()
        for _ in range(2):
            model.model.get_image_features(pixels, grids)
        assert len(encoded) == (2 if follows or model is policy else 1)
