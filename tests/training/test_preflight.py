"""`p2r train RECIPE --check`: problems with their hints, and no problem in a valid recipe."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from p2r.checks import CheckResult
from p2r.datasets.samples import read_samples
from p2r.training.preflight.checks import check_answers, check_images
from p2r.training.preflight.resources import (
    Processes,
    check_disk,
    check_memory,
    memory_needed,
    processes_of,
)
from p2r.training.recipe import BUNDLED, Recipe, load_recipe
from tests.servers import Server, reply, status
from tests.training.small_run import recipe, write_recipe, write_samples

if TYPE_CHECKING:
    from tests.training.warm import Warm

    Results = dict[str, CheckResult]


pytest.importorskip("torch", reason="the local extra is not installed")
pytest.importorskip("transformers", reason="the local extra is not installed")


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "data", count=8)


@pytest.fixture
def model(small: dict[str, str]) -> Path:
    return Path(small["model"])


def results(warm: Warm, data: dict[str, Any], folder: Path, probe: str = "check") -> Results:
    path = write_recipe(folder / "recipe.yaml", data)
    found = [CheckResult(**row) for row in warm.value(f"probes.{probe}", recipe=path)]
    return {result.name: result for result in found}


def failed(found: Results) -> Results:
    return {name: result for name, result in found.items() if result.state == "failure"}


def silent(_text: str) -> None:
    pass


def test_where_all_is_well_nothing_is_found(warm: Warm, model: Path, samples: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", recipe(model, samples))
    code, output = warm.value("probes.check_by_command", recipe=path, out=tmp_path / "out")
    assert code == 0, output
    printed = json.loads(output)
    found = {row["name"]: row for row in printed["findings"]}
    assert printed["ok"]
    assert [row["name"] for row in printed["findings"]] == [
        "recipe, perceiver", "recipe, reasoner", "model", "data", "images", "answers",
        "prompts, perceiver", "steps, perceiver", "prompts, reasoner", "steps, reasoner",
        "trainer, perceiver", "rollouts, perceiver", "memory, perceiver",
        "trainer, reasoner", "rollouts, reasoner", "memory, reasoner", "disk",
        "frozen role", "judge", "rewards, perceiver", "rewards, reasoner",
        "step, perceiver", "step, reasoner",
    ]  # fmt: skip
    assert "8 samples: 8 choice; 8 with gold boxes" in found["data"]["detail"]
    assert found["images"]["detail"] == "8 images open"
    assert "none is left out" in found["prompts, perceiver"]["detail"]
    assert "8 groups of 4: reward" in found["rewards, perceiver"]["detail"]
    assert found["step, reasoner"]["detail"] == "1 prompt × 4 rollouts: generated, rewarded and trained"
    assert not (tmp_path / "out").exists()


def test_an_image_that_is_missing_or_damaged_is_named(samples: Path) -> None:
    read = read_samples(samples)
    (samples.parent / "3.png").write_bytes((samples.parent / "3.png").read_bytes()[:200])
    (samples.parent / "5.png").unlink()
    found = check_images(read, silent)
    assert found.state == "failure"
    assert found.detail.startswith("2 of 8 images cannot be read: sample q3: ")
    assert "sample q5" in found.detail
    assert found.hint


def test_answers_that_cannot_be_scored_are_named(samples: Path) -> None:
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    for row in rows[:5]:
        row |= {"choices": [], "answer": "a red door", "answer_type": "free"}
    rows[6] |= {"choices": [], "answer": "about a dozen", "answer_type": "number"}
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_samples(samples)
    without, number = check_answers(read, None)
    assert (without.state, number.state) == ("failure", "warning")
    assert (
        "5 of 8 answers are free-form, and the recipe has no judge: q0, q1, q2, and 2 more" in without.detail
    )
    assert "q6 ('about a dozen')" in number.detail
    (only,) = check_answers(read, "exact")
    assert only.name == "answers"
    assert only.state == "warning"
    (fine,) = check_answers(read[7:], None)
    assert fine.state == "ok"


def test_prompts_that_are_too_long_fail(warm: Warm, model: Path, samples: Path, tmp_path: Path) -> None:
    data = recipe(model, samples)
    data["data"]["max_prompt_tokens"] = 100
    found = results(warm, data, tmp_path)["prompts, perceiver"]
    assert found.state == "failure"
    assert "8 are longer than 100 and left out (100.0 %): q0, q1, q2, and 5 more" in found.detail
    assert "settings.budget" in found.hint


def test_without_a_limit_the_context_of_the_model_is_the_limit_in_check_and_run(
    warm: Warm, model: Path, samples: Path, tmp_path: Path
) -> None:
    small = shutil.copytree(model, tmp_path / "small")
    config = json.loads((small / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 200
    (small / "config.json").write_text(json.dumps(config))
    data = recipe(small, samples, phases=[{"role": "joint"}], training={"max_tokens": 40})
    found = results(warm, data, tmp_path)["prompts, joint"]
    assert found.state == "failure"
    assert "are longer than 160 and left out" in found.detail
    path = write_recipe(tmp_path / "recipe.json", data)
    refused = warm.call("probes.rows_of", recipe=str(path), out=tmp_path / "run", role="joint").errors
    assert found.detail.split("; ")[1].split(" are ")[0] + " of 8 prompts are longer than 160" in refused


def test_a_batch_that_does_not_divide_and_a_frozen_role_without_weights(
    warm: Warm, model: Path, samples: Path, tmp_path: Path
) -> None:
    data = recipe(model, samples, training={"micro_batch": 3, "kl": 0.0}, phases=[{"role": "perceiver"}])
    found = failed(results(warm, data, tmp_path))
    assert "which 1 processes × micro_batch 3 = 3 do not divide" in found["recipe, perceiver"].detail
    assert "kl 0 has none" in found["recipe, frozen role"].detail


def test_what_depends_on_a_missing_model_is_skipped(warm: Warm, samples: Path, tmp_path: Path) -> None:
    found = results(warm, recipe(tmp_path / "nowhere", samples), tmp_path)
    assert found["model"].state == "failure"
    assert found["images"].state == "ok"
    assert found["prompts, memory, disk and rewards"].detail == "not checked: the model is missing"


# Calls.


def test_an_endpoint_that_fails_and_a_judge_that_always_says_yes(
    warm: Warm, model: Path, samples: Path, tmp_path: Path
) -> None:
    with Server([reply("yes")]) as always, Server([status(400)]) as down:
        data = recipe(
            model,
            samples,
            frozen={"where": "endpoint", "url": f"{down.url}#frozen"},
            judge=f"{always.url}#judge",
            phases=[{"role": "perceiver"}],
        )
        found = results(warm, data, tmp_path, "check_calls")
    assert found["frozen role"].state == "failure"
    assert found["frozen role"].hint == "start it, or correct frozen.url"
    assert "says yes to a right answer and yes to a wrong one" in found["judge"].detail
    assert found["rewards, perceiver"].detail == "not checked: the judge does not answer"


def test_failed_calls_are_no_rewards(warm: Warm, model: Path, samples: Path, tmp_path: Path) -> None:
    with Server([reply("<think>.</think><answer>A</answer>"), status(400)]) as server:
        frozen = {"where": "endpoint", "url": f"{server.url}#frozen"}
        data = recipe(model, samples, frozen=frozen, phases=[{"role": "perceiver"}])
        found = results(warm, data, tmp_path, "check_calls")
    assert found["frozen role"].state == "ok"
    assert found["rewards, perceiver"].state == "failure"
    assert "rollouts got no reward: " in found["rewards, perceiver"].detail


def test_groups_without_spread_are_reported(warm: Warm, model: Path, samples: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    text = "".join(json.dumps({**row, "choices": [], "answer": "zebra"}) + "\n" for row in rows)
    samples.write_text(text.replace('"choice"', '"free"'))
    data = recipe(model, samples, judge="exact", phases=[{"role": "think"}])
    found = results(warm, data, tmp_path, "check_calls")["rewards, think"]
    assert found.state == "warning"
    assert "reward 0 % on average, rewards differ in 0 of them" in found.detail
    assert "groups without spread teach nothing" in found.hint


# What the run constructs.


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"training": {"trainer": {"top_kk": 3}}}, "training.trainer: "),
        ({"training": {"trainer": {"temperature": 2.0}}}, "training.trainer.temperature is set by"),
        ({"attention": "flash_attention_2"}, "ImportError: FlashAttention2"),
        ({"report_to": ["trackio"]}, "RuntimeError: TrackioCallback requires trackio"),
        ({"training": {"trainer": {"steps_per_generation": 1}, "micro_batch": 2}}, "does not fit TRL"),
        ({"lora": {"targets": ["nowhere_proj"]}}, "nowhere_proj"),
    ],
)
def test_what_cannot_be_constructed_fails_before_the_run(
    warm: Warm, model: Path, samples: Path, tmp_path: Path, changes: dict[str, Any], detail: str
) -> None:
    found = failed(results(warm, recipe(model, samples, phases=[{"role": "think"}], **changes), tmp_path))
    assert list(found) == ["trainer, think"]
    assert detail in found["trainer, think"].detail
    assert "\n" not in found["trainer, think"].detail


def test_what_only_a_step_shows_fails_before_the_run(
    warm: Warm, model: Path, samples: Path, tmp_path: Path
) -> None:
    odd = {"trainer": {"loss_type": "mine"}}
    data = recipe(model, samples, training=odd, phases=[{"role": "think"}])
    path = write_recipe(tmp_path / "recipe.yaml", data)
    found = warm.value("probes.check_step", recipe=path, folder=tmp_path)
    assert found["state"] == "failure"
    assert found["detail"].startswith("ValueError: Unknown loss type: mine (trl/")


@pytest.mark.long
@pytest.mark.parametrize(("family", "frozen"), [("qwen2_5_vl", True), ("qwen3_5", False)])
def test_a_step_of_another_family_is_taken(
    warm: Warm, samples: Path, tmp_path: Path, family: str, frozen: bool
) -> None:
    warm.value("probes.make_family", folder=tmp_path, family=family, samples=samples)
    data = recipe(tmp_path / family, samples, training={"freeze_vision": frozen})
    found = results(warm, data, tmp_path)
    assert not failed(found)
    assert found["step, reasoner"].detail == "1 prompt × 4 rollouts: generated, rewarded and trained"


def test_images_that_do_not_fit_the_patches_fail_before_the_run(
    warm: Warm, samples: Path, tmp_path: Path
) -> None:
    warm.value("probes.make_family", folder=tmp_path, family="qwen2_vl", samples=samples)
    data = recipe(
        tmp_path / "qwen2_vl", samples, settings={"budget": {"factor": 32}}, phases=[{"role": "think"}]
    )
    found = failed(results(warm, data, tmp_path))
    assert "needs image sides in multiples of 28: set settings.budget.factor to 28" in found["prompts"].detail


def test_adapters_and_a_recipe_in_parts_are_constructed(
    warm: Warm, model: Path, samples: Path, tmp_path: Path
) -> None:
    changes = {"lora": {"rank": 4}, "rollouts": {"engine": "transformers"}, "frozen": {"where": "vllm"}}
    parts = {"trainer": {"steps_per_generation": 2}, "prompts": 4, "micro_batch": 4, "kl": 0.0}
    data = recipe(model, samples, training=parts, phases=[{"role": "perceiver"}], **changes)
    found = results(warm, data, tmp_path)
    assert list(failed(found)) == ["vllm"]
    assert found["trainer, perceiver"].state == "ok"
    assert "a check before this one failed" in found["steps of training"].detail


def test_rollouts_by_vllm_need_it_where_it_trains(
    warm: Warm, model: Path, samples: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is installed")
    data = recipe(model, samples, phases=[{"role": "think"}], rollouts={"engine": "vllm-colocate"})
    found = failed(results(warm, data, tmp_path))
    assert list(found) == ["rollouts, think"]
    assert "vllm-colocate needs vLLM in the Python that trains" in found["rollouts, think"].detail


# Memory and disk.


def planned(**changes: Any) -> Recipe:
    data = {"name": "x", "model": "m", "data": {"samples": "s"}, "phases": [{"role": "perceiver"}], **changes}
    return Recipe.model_validate(data)


@pytest.mark.parametrize(
    ("changes", "trained", "expected"),
    [
        ({}, 100, {"weights": 400, "gradients": 400, "AdamW": 800, "KL reference": 200}),
        ({"precision": "float32"}, 60, {"weights": 400, "gradients": 240, "AdamW": 480, "KL reference": 400}),
        ({"lora": {}}, 8, {"weights": 232, "gradients": 32, "AdamW": 64}),
        ({"training": {"kl": 0}}, 100, {"weights": 400, "gradients": 400, "AdamW": 800}),
    ],
)
def test_memory_is_that_of_weights_gradients_optimizer_and_reference(
    changes: dict[str, Any], trained: int, expected: dict[str, int]
) -> None:
    run = planned(**changes)
    assert memory_needed(run, run.phases[0], 100, trained) == expected


def test_sharded_weights_are_divided_by_the_processes(tmp_path: Path) -> None:
    config = tmp_path / "fsdp.yaml"
    config.write_text(yaml.safe_dump({"distributed_type": "FSDP", "num_processes": 4}))
    sharded, whole = planned(launch={"config": str(config)}, frozen={"where": "vllm"}), planned()
    assert processes_of(sharded) == Processes(4, sharded=True)
    parts, all_of_them = (memory_needed(run, run.phases[0], 100, 100) for run in (sharded, whole))
    assert {part: 4 * size for part, size in parts.items()} == all_of_them


@pytest.mark.parametrize(
    ("memory", "state"), [(2_300, "ok"), (2_200, "warning"), (1_800, "warning"), (1_799, "failure")]
)
def test_a_phase_needs_room_for_its_weights_and_more(memory: int, state: str) -> None:
    run = planned()
    assert check_memory(run, run.phases[0], 100, 100, "a GPU", memory).state == state
    assert check_memory(run, run.phases[0], 100, 100, "cpu", memory).state == "warning"


def test_a_colocated_vllm_needs_room_in_its_share() -> None:
    run = planned(rollouts={"engine": "vllm-colocate", "memory": 0.3}, lora={})
    assert check_memory(run, run.phases[0], 100, 1, "a GPU", 700).state == "ok"
    tight = check_memory(run, run.phases[0], 100, 1, "a GPU", 600)
    assert tight.state == "failure"
    assert "rollouts.memory" in tight.hint


def test_checkpoints_and_models_need_room_on_the_disk(tmp_path: Path) -> None:
    assert check_disk(planned(), 1_000, 1_000, tmp_path / "not/there").state == "ok"
    huge = check_disk(planned(), 10**15, 10**15, tmp_path)
    assert huge.state == "failure"
    assert huge.detail.startswith("up to 44000000.0 GB")  # 3 checkpoints of 12 bytes a weight, 2 models of 4


# Weights of Qwen3-VL, and of adapters of rank 64.
RELEASED = {"2b": 2_130_000_000, "4b": 4_440_000_000, "8b": 8_770_000_000}
ADAPTERS = {"2b": 70_000_000, "4b": 132_000_000, "8b": 175_000_000}
GPU = 84_900_000_000  # what torch reports of one with "80 GB"


@pytest.mark.parametrize("path", sorted(BUNDLED.glob("qwen3-vl-*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_that_ships_fits_on_the_gpus_that_it_names(path: Path) -> None:
    run, size = load_recipe(path), path.stem.split("-")[2]
    processes = processes_of(run).count
    for phase in run.phases:
        parts = phase.trainer.get("steps_per_generation")
        together = parts * phase.micro_batch * processes if parts else phase.prompts * phase.group
        assert together % phase.group == 0
        assert phase.prompts * phase.group % together == 0
        trained = ADAPTERS[size] if run.lora else RELEASED[size]
        found = check_memory(run, phase, RELEASED[size], trained, "a GPU", GPU)
        assert found.state == "ok", found.detail
