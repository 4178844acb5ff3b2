"""The arithmetic of a step: advantages, loss, log-probabilities, images, the same prompts everywhere."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import pytest

from p2r.training.run_folder import PhaseFolder

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.warm import Warm

Small = dict[str, str]


BATCH = ["phases=[{role: think}]", "training.prompts=4", "training.micro_batch=16"]


@pytest.fixture(scope="module")
def measured(warm: Warm, small: Small, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("loss") / "run"
    return warm.value("probes.loss_by_hand", recipe=small["recipe"], out=out, changes=BATCH)


def test_advantages_are_rewards_less_the_groups_mean_over_its_deviation(measured: dict[str, Any]) -> None:
    size = measured["group"]
    spread = 0
    for start in range(0, len(measured["rewards"]), size):
        rewards = measured["rewards"][start : start + size]
        mean, deviation = statistics.mean(rewards), statistics.stdev(rewards)
        spread += deviation > 0
        scale = deviation + 1e-4 if measured["scaled"] else 1.0
        by_hand = [(reward - mean) / scale for reward in rewards]
        assert measured["advantages"][start : start + size] == pytest.approx(by_hand, abs=1e-5)
    assert spread, "no group had a spread: the test proves nothing"


def test_the_loss_is_the_clipped_surrogate_and_the_kl_over_completion_tokens(
    measured: dict[str, Any],
) -> None:
    assert measured["clipped"] > 0
    assert measured["kl"] > 1e-4
    assert measured["loss"] == pytest.approx(measured["by_hand"], abs=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo", "gspo", "cispo"])
def test_the_loss_of_a_variant_is_that_of_its_paper(
    warm: Warm, small: Small, tmp_path: Path, loss: str
) -> None:
    changes = [*BATCH, f"training.loss={loss}"]
    found = warm.value("probes.loss_by_hand", recipe=small["recipe"], out=tmp_path / "run", changes=changes)
    test_advantages_are_rewards_less_the_groups_mean_over_its_deviation(found)
    assert loss == "cispo" or found["clipped"] > 0  # a ratio of 5 is rare
    assert found["loss"] == pytest.approx(found["by_hand"], abs=1e-5)


def test_what_a_loss_sets_is_not_set_twice(warm: Warm, small: Small) -> None:
    changes = ["training.loss=gspo", "training.trainer={importance_sampling_level: token}"]
    refused = warm.call("probes.configured", recipe=small["recipe"], changes=changes).errors
    assert "training.trainer.importance_sampling_level is set by training.loss: gspo: leave" in refused
    changes = ["training.trainer={loss_type: grpo, epsilon: 0.1}"]  # without a name the first is free
    refused = warm.call("probes.configured", recipe=small["recipe"], changes=changes).errors
    assert "training.trainer.epsilon is set by the recipe's own keys" in refused


def test_only_the_completion_up_to_its_end_carries_loss(measured: dict[str, Any]) -> None:
    assert measured["mask_is_the_completion"]


@pytest.mark.long
def test_sampler_and_trainer_agree_on_log_probabilities(warm: Warm, small: Small, tmp_path: Path) -> None:
    found = warm.value("probes.log_probs", recipe=small["recipe"], out=tmp_path / "run")
    assert found["images"] == [1, 2, 3, 4]
    assert len(found["padding"]) > 2
    assert found["sizes"] > 3
    assert found["spread"] > 0.1
    assert found["difference"] < 1e-3


@pytest.mark.parametrize("role", ["perceiver", "reasoner", "think", "direct"])
def test_rows_hold_the_prompts_of_every_other_entry_point(
    warm: Warm, small: Small, tmp_path: Path, role: str
) -> None:
    rows = warm.value("probes.rows_of", recipe=small["recipe"], out=tmp_path / "run", role=role)
    assert {row["images"] for row in rows} == ({1, 2, 3, 4} if role == "reasoner" else {1})
    for row in rows:
        assert row["tokens"] == row["features"]
        assert row["same_ids"]
        assert row["same_pixels"]
        # What the length filter and the memory plan go by; a reasoner is counted with all of its crops.
        assert row["counted"] >= row["length"]


def test_a_colocated_vllm_is_as_long_as_prompt_and_completion(warm: Warm, small: Small) -> None:
    changes = ["rollouts={engine: vllm-colocate}", "data.max_prompt_tokens=600", "training.max_tokens=40"]
    found = warm.value("probes.configured", recipe=small["recipe"], changes=changes)
    assert (found["use_vllm"], found["vllm_max_model_length"]) == (True, 640)
    wished = "training.trainer={vllm_max_model_length: 900}"
    found = warm.value("probes.configured", recipe=small["recipe"], changes=[*changes, wished])
    assert found["vllm_max_model_length"] == 900


def test_a_step_that_is_written_in_parts_keeps_all_of_its_rollouts(
    warm: Warm, small: Small, tmp_path: Path
) -> None:
    changes = [
        "phases=[{role: think}]",
        "training.micro_batch=4",
        "training.trainer={steps_per_generation: 1}",
    ]
    warm.value("warm.train", recipe=small["recipe"], out=tmp_path / "run", changes=changes)
    folder = PhaseFolder(tmp_path / "run/phases/01-think")
    for metrics in folder.metrics():
        mine = [row for row in folder.rollouts() if row.step == metrics.step]
        assert [row.group for row in mine] == [0] * 4 + [1] * 4
        assert sum(row.reward or 0.0 for row in mine) / len(mine) == pytest.approx(metrics.values["reward"])


@pytest.mark.long
def test_two_processes_train_as_one(warm: Warm, small: Small, tmp_path: Path) -> None:
    """Float32, plain gradient descent (Adam turns a rounding error in a tiny gradient into a whole step)."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Two updates a batch, of which this is the second: TRL takes the completions that it holds already.
    changes = ["phases=[{role: think}]", "training.steps=1", "training.prompts=4", "training.updates=2"]
    changes += ["training.learning_rate=0.1", "training.trainer={optim: sgd}"]
    batch = str(tmp_path / "batch.pt")
    one = warm.value(
        "two_processes.one_step",
        recipe=small["recipe"],
        out=tmp_path / "one",
        batch=batch,
        changes=[*changes, "training.micro_batch=16"],
    )
    two = warm.value(
        "two_processes.step_of_two",
        recipe=small["recipe"],
        out=tmp_path / "two",
        batch=batch,
        changes=[*changes, "training.micro_batch=8"],
        port=port,
    )
    for other in two:
        found = warm.value("two_processes.compare", one=one, other=other, first=small["model"])
        assert found["moved"] > 1e-4
        assert found["between"] < 1e-6
