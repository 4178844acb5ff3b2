"""`p2r train RECIPE --check`: what it finds, its cures, and that it finds nothing where all is well."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from p2r.cli import app
from p2r.datasets.samples import read_samples
from p2r.training.preflight.checks import OTHER, Preflight
from p2r.training.preflight.data import check_answers, check_images
from p2r.training.preflight.memory import (
    Processes,
    Sizes,
    disk_needed,
    needed,
    processes_of,
    read_sizes,
    rollouts_at_once,
)
from p2r.training.preflight.resources import check_memory
from p2r.training.recipe import Recipe, load_recipe
from tests.servers import Server, reply, status
from tests.training.families import write_family
from tests.training.phrase_model import write_phrase_model
from tests.training.small_run import recipe, write_recipe, write_samples

RECIPES = Path(__file__).parents[2] / "recipes"

pytest.importorskip("torch", reason="the local extra is not installed")
pytest.importorskip("transformers", reason="the local extra is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_phrase_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def samples(tmp_path):
    return write_samples(tmp_path / "data", count=8)


def findings(data, tmp_path, groups=2):
    path = write_recipe(tmp_path / "recipe.yaml", data)
    found = list(Preflight(load_recipe(path), tmp_path / "out", groups=groups, tell=lambda _: None).run())
    return {finding.name: finding for finding in found}


def wrong(found):
    return {name: finding for name, finding in found.items() if finding.state == "failure"}


def silent(_text):
    pass


def test_where_all_is_well_nothing_is_found(model, samples, tmp_path):
    path = write_recipe(tmp_path / "recipe.yaml", recipe(model, samples))
    done = CliRunner().invoke(app, ["train", str(path), "--check", "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    found = {row["name"]: row for row in told["findings"]}
    assert told["ok"]
    assert [row["name"] for row in told["findings"]] == [
        "recipe, perceiver", "recipe, reasoner", "model", "data", "images", "answers",
        "prompts, perceiver", "steps, perceiver", "prompts, reasoner", "steps, reasoner",
        "memory, perceiver", "memory, reasoner", "disk",
        "trainer, perceiver", "rollouts, perceiver", "trainer, reasoner", "rollouts, reasoner",
        "frozen role", "judge", "rewards, perceiver", "rewards, reasoner",
        "step, perceiver", "step, reasoner",
    ]  # fmt: skip
    assert "8 samples: 8 choice; 8 with gold boxes" in found["data"]["detail"]
    assert found["images"]["detail"] == "8 images open"
    assert "none is left out" in found["prompts, perceiver"]["detail"]
    assert "8 groups of 4: reward" in found["rewards, perceiver"]["detail"]
    assert not (tmp_path / "out").exists()


def test_a_image_that_is_gone_or_torn_is_named(samples):
    read = read_samples(samples)
    (samples.parent / "3.png").write_bytes((samples.parent / "3.png").read_bytes()[:200])
    (samples.parent / "5.png").unlink()
    found = check_images(read, silent)
    assert found.state == "failure"
    assert found.detail.startswith("2 of 8 images cannot be read: sample q3: ")
    assert "sample q5" in found.detail
    assert found.hint


def test_answers_that_nobody_can_score_are_named(samples):
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


def test_prompts_that_are_too_long_stop_it(model, samples, tmp_path):
    data = recipe(model, samples)
    data["data"]["max_prompt_tokens"] = 100
    found = findings(data, tmp_path)["prompts, perceiver"]
    assert found.state == "failure"
    assert "8 are longer than 100 and left out (100.0 %): q0, q1, q2, and 5 more" in found.detail
    assert "settings.budget" in found.hint


def test_a_batch_that_does_not_divide_and_a_frozen_role_without_weights(model, samples, tmp_path):
    data = recipe(model, samples, training={"micro_batch": 3, "kl": 0.0}, phases=[{"role": "perceiver"}])
    found = wrong(findings(data, tmp_path))
    assert "1 processes × 3 at a time do not divide them" in found["recipe, perceiver"].detail
    assert "kl 0 has none" in found["recipe, frozen role"].detail


def test_what_rests_on_a_missing_model_is_left_out(samples, tmp_path):
    found = findings(recipe(tmp_path / "nowhere", samples), tmp_path)
    assert found["model"].state == "failure"
    assert found["images"].state == "ok"
    assert found["prompts, memory, disk and rewards"].detail == "not looked at: the model is not there"


def test_an_endpoint_that_is_down_and_a_judge_that_cannot_tell(model, samples, tmp_path):
    with Server([reply("yes")]) as always:
        data = recipe(
            model,
            samples,
            frozen={"where": "endpoint", "url": "http://127.0.0.1:9/v1#frozen"},
            judge=f"{always.url}#judge",
            phases=[{"role": "perceiver"}],
        )
        found = findings(data, tmp_path)
    assert found["frozen role"].state == "failure"
    assert found["frozen role"].hint == "start it, or mend frozen.url"
    assert "says yes to a right answer and yes to a wrong one" in found["judge"].detail
    assert found["rewards, perceiver"].detail == "not looked at: the judge does not answer"


def test_calls_that_fail_are_no_rewards(model, samples, tmp_path):
    with Server([reply("<think>.</think><answer>A</answer>"), status(400)]) as server:
        frozen = {"where": "endpoint", "url": f"{server.url}#frozen"}
        found = findings(recipe(model, samples, frozen=frozen, phases=[{"role": "perceiver"}]), tmp_path)
    assert found["frozen role"].state == "ok"
    assert found["rewards, perceiver"].state == "failure"
    assert "rollouts got no reward: " in found["rewards, perceiver"].detail


def test_groups_without_spread_are_said(model, samples, tmp_path):
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    text = "".join(json.dumps({**row, "choices": [], "answer": "zebra"}) + "\n" for row in rows)
    samples.write_text(text.replace('"choice"', '"free"'))
    data = recipe(model, samples, judge="exact", phases=[{"role": "think"}])
    found = findings(data, tmp_path)["rewards, think"]
    assert found.state == "warning"
    assert "reward 0 % on average, rewards differ in 0 of them" in found.detail
    assert "groups without spread teach nothing" in found.hint


# What the run constructs


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"training": {"trainer": {"top_kk": 3}}}, "training.trainer: "),
        ({"training": {"trainer": {"temperature": 2.0}}}, "training.trainer.temperature is set by"),
        ({"attention": "flash_attention_2"}, "ImportError: FlashAttention2"),
        ({"report_to": ["trackio"]}, "RuntimeError: TrackioCallback requires trackio"),
        ({"training": {"trainer": {"steps_per_generation": 1}, "micro_batch": 2}}, "does not fit TRL"),
    ],
)
def test_what_cannot_be_constructed_is_told_before_the_run(model, samples, tmp_path, changes, told):
    found = wrong(findings(recipe(model, samples, phases=[{"role": "think"}], **changes), tmp_path))
    assert list(found) == ["trainer, think"]
    assert told in found["trainer, think"].detail
    assert "\n" not in found["trainer, think"].detail


def test_what_only_a_step_shows_is_told_before_the_run(model, samples, tmp_path):
    odd = {"trainer": {"loss_type": "mine"}}
    data = recipe(model, samples, training=odd, phases=[{"role": "think"}])
    found = wrong(findings(data, tmp_path))
    assert list(found) == ["step, think"]
    assert found["step, think"].detail.startswith("ValueError: Unknown loss type: mine (trl/")


@pytest.mark.parametrize(("family", "frozen"), [("qwen2_5_vl", True), ("qwen3_5", False)])
def test_a_step_of_another_family_is_taken(samples, tmp_path, family, frozen):
    data = recipe(write_family(tmp_path / family, family), samples, training={"freeze_vision": frozen})
    found = findings(data, tmp_path)
    assert not wrong(found)
    assert found["step, reasoner"].detail == "1 prompt × 4 rollouts: generated, rewarded and trained"


def test_images_that_do_not_fit_the_patches_are_told_before_the_run(samples, tmp_path):
    family = write_family(tmp_path / "qwen2_vl", "qwen2_vl")
    data = recipe(family, samples, settings={"budget": {"factor": 32}})
    found = wrong(findings(data, tmp_path))
    assert "needs image sides in multiples of 28: set settings.budget.factor to 28" in found["prompts"].detail


def test_adapters_and_a_recipe_in_parts_are_constructed(model, samples, tmp_path):
    changes = {"lora": {"rank": 4}, "rollouts": {"engine": "transformers"}, "frozen": {"where": "vllm"}}
    parts = {"trainer": {"steps_per_generation": 2}, "prompts": 4, "micro_batch": 4, "kl": 0.0}
    data = recipe(model, samples, training=parts, phases=[{"role": "perceiver"}], **changes)
    found = findings(data, tmp_path)
    assert list(wrong(found)) == ["vllm"]
    assert found["trainer, perceiver"].state == "ok"
    assert "a check before this one failed" in found["steps of training"].detail


def test_rollouts_by_vllm_need_it_where_it_trains(model, samples, tmp_path):
    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is there")
    data = recipe(model, samples, phases=[{"role": "think"}], rollouts={"engine": "vllm-colocate"})
    found = wrong(findings(data, tmp_path))
    assert list(found) == ["rollouts, think"]
    assert "vllm-colocate needs vLLM in the Python that trains" in found["rollouts, think"].detail


# The plan


def planned(**changes):
    data = {"name": "x", "model": "m", "data": {"samples": "s"}, "phases": [{"role": "perceiver"}], **changes}
    return Recipe.model_validate(data)


def test_the_plan_counts_what_is_there(model):
    full = planned(precision="float32", training={"micro_batch": 2})
    sizes = read_sizes(model, full)
    from transformers import AutoModelForImageTextToText

    loaded = AutoModelForImageTextToText.from_pretrained(model)
    assert sizes.parameters == sum(weights.numel() for weights in loaded.parameters())
    assert 0 < sizes.vision < sizes.parameters
    assert sizes.cache == 2 * 2 * 1 * 16
    need = needed(sizes, full, full.phases[0], prompt=100, completion=20)
    assert (need.weights, need.gradients, need.optimizer) == tuple(n * sizes.parameters for n in (4, 4, 8))
    assert need.reference == 4 * sizes.parameters
    # A layer while the prompts are read, and the keys and values of all tokens.
    row = (100 * 17 * 32 + 120 * sizes.cache) * 4
    assert need.generation == 64 * 8 * row
    assert need.pixels == 64 * 8 * 100 * (3 * 2 * 32 * 32) * 4
    in_parts = planned(
        precision="float32", frozen={"batch": 1}, training={"trainer": {"steps_per_generation": 4}}
    )
    part = needed(sizes, in_parts, in_parts.phases[0], 100, 20)
    assert part.generation == 8 * 4 * row
    assert part.pixels == need.pixels // 16
    # The frozen reasoner reads crops too: its prompts are longer than those of the perceiver that is trained.
    asked = needed(sizes, in_parts, in_parts.phases[0], 100, 20, frozen=(9_000, 300))
    assert asked.generation == (9_000 * (17 * 32 + 3 * 2 * 32 * 32) + 9_300 * sizes.cache) * 4
    frozen = planned(precision="float32", training={"freeze_vision": True})
    trained = sizes.parameters - sizes.vision
    assert needed(sizes, frozen, frozen.phases[0], 100, 20).optimizer == 8 * trained
    assert disk_needed(sizes, full) == (3 * 12 + 2 * 4) * sizes.parameters


def test_adapters_are_counted_and_need_no_reference(model):
    adapted = planned(precision="bfloat16", lora={"rank": 4, "targets": ["q_proj", "down_proj"]})
    sizes = read_sizes(model, adapted)
    # Two layers; q_proj is 32 → 32, down_proj 64 → 32.
    trained = 2 * 4 * ((32 + 32) + (64 + 32))
    assert sizes.adapters == trained
    need = needed(sizes, adapted, adapted.phases[0], 100, 20)
    assert need.reference == 0
    assert need.weights == 2 * sizes.parameters + 4 * trained
    assert need.gradients == 4 * trained


def test_sharded_weights_are_shared_out(model, tmp_path):
    config = tmp_path / "fsdp.yaml"
    config.write_text(yaml.safe_dump({"distributed_type": "FSDP", "num_processes": 4}))
    sharded = planned(launch={"config": str(config)}, frozen={"where": "vllm"})
    assert processes_of(sharded) == Processes(4, sharded=True)
    sizes = read_sizes(model, sharded)
    whole = needed(sizes, planned(), sharded.phases[0], 100, 20)
    part = needed(sizes, sharded, sharded.phases[0], 100, 20)
    # Of shared out weights no copy in 16 bits is kept.
    assert (whole.weights, part.weights) == (6 * sizes.parameters, 4 * sizes.parameters // 4)
    assert part.optimizer == whole.optimizer // 4
    assert part.update == whole.update


def test_a_trained_tower_leaves_activations_and_a_frozen_one_none(model):
    whole, frozen = planned(), planned(training={"freeze_vision": True})
    sizes = read_sizes(model, whole)
    assert (sizes.tower_layers, sizes.tower_hidden) == (2, 4 * 32)
    assert sizes.activations(whole.phases[0]) == 2 * (2 * 32 + 2 * 128) + 17 * 128
    assert sizes.activations(frozen.phases[0]) == 2 * (2 * 32) + 17 * 32


def test_a_colocated_vllm_needs_room_in_its_share(model):
    recipe = planned(rollouts={"engine": "vllm-colocate", "memory": 0.3})
    need = needed(read_sizes(model, recipe), recipe, recipe.phases[0], 100, 20)
    share = int(1.15 * need.engine / 0.3)
    fits = check_memory("memory", recipe, replace(need, update=0, pixels=0), "a GPU", 100 * share)
    assert fits.state == "ok"
    tight = check_memory("memory", recipe, need, "a GPU", share - 10)
    assert tight.state == "failure"
    assert "rollouts.memory" in tight.hint


# The released configurations of Qwen3-VL, with adapters of rank 64 where a recipe has them.
RELEASED = {
    "2b": Sizes(2_130_000_000, 410_000_000, 0, 28, 2048, 24, 4 * 1024, 2 * 28 * 8 * 128, 6_144),
    "4b": Sizes(4_440_000_000, 410_000_000, 0, 36, 2560, 24, 4 * 1024, 2 * 36 * 8 * 128, 6_144),
    "8b": Sizes(8_770_000_000, 580_000_000, 0, 36, 4096, 27, 4 * 1152, 2 * 36 * 8 * 128, 6_144),
}
ADAPTERS = {"2b": 70_000_000, "4b": 132_000_000, "8b": 175_000_000}
GPU = 84_900_000_000  # what torch reports of one with "80 GB"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("qwen3-vl-*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_that_ships_fits_on_the_gpus_that_it_names(path):
    loaded = load_recipe(path)
    size = path.stem.split("-")[2]
    sizes = replace(RELEASED[size], adapters=ADAPTERS[size] if loaded.lora else 0)
    # An overview, and three crops, at the release's budget of 2,048 tokens each; and the words.
    tokens = {"perceiver": (2_048 + 512, 1_024), "reasoner": (4 * 2_048 + 512, 2_048)}
    for phase in loaded.phases:
        parts = rollouts_at_once(phase, processes_of(loaded).count) * processes_of(loaded).count
        assert parts % phase.group == 0
        assert phase.prompts * phase.group % parts == 0
        prompt, completion = tokens[phase.role]
        need = needed(sizes, loaded, phase, prompt, completion, tokens[OTHER[phase.role]])
        found = check_memory(path.stem, loaded, need, "a GPU", GPU)
        assert found.state == "ok", found.detail
