"""Recipes: valid and invalid keys, changes, and every bundled recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from p2r.errors import InputError
from p2r.training.recipe import BUNDLED, dump_recipe, find_recipe, load_recipe, read_resolved

if TYPE_CHECKING:
    from p2r.training.recipe import Recipe

LEAST = "name: x\nmodel: nano-base\ndata: {samples: a.jsonl}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def load(folder: Path, text: str, *changes: str) -> Recipe:
    return load_recipe(write(folder, text), changes)


def test_the_defaults_are_the_papers(tmp_path: Path) -> None:
    recipe = load(tmp_path, LEAST)
    assert [phase.role for phase in recipe.phases] == ["perceiver", "reasoner"]
    training = recipe.phases[0]
    assert (training.learning_rate, training.prompts, training.group, training.kl) == (1e-6, 64, 8, 0.01)
    assert (training.temperature, training.epochs, training.steps) == (1.0, 1, None)
    assert (recipe.gates.overlap, recipe.gates.label, recipe.gates.malformed) == (0.5, True, True)


def test_a_phase_inherits_and_may_differ(tmp_path: Path) -> None:
    text = LEAST + "training: {steps: 5, kl: 0.1}\nphases: [{role: perceiver}, {role: reasoner, kl: 0.2}]\n"
    perceiver, reasoner = load(tmp_path, text).phases
    assert (perceiver.steps, perceiver.kl, reasoner.steps, reasoner.kl) == (5, 0.1, 5, 0.2)


def test_rounds_repeat_the_phases(tmp_path: Path) -> None:
    plan = load(tmp_path, LEAST + "rounds: 2\n").plan()
    assert [(number, phase.role) for number, phase in plan] == [
        (1, "perceiver"),
        (1, "reasoner"),
        (2, "perceiver"),
        (2, "reasoner"),
    ]


def test_changes_are_applied_before_anything_is_checked(tmp_path: Path) -> None:
    text = LEAST + "phases: [{role: think}]\n"
    recipe = load(
        tmp_path,
        text,
        "training.steps=7",
        "phases.0.kl=0",
        "gates.overlap=null",
        "training.learning_rate=1e-5",
    )
    assert (recipe.phases[0].steps, recipe.phases[0].kl) == (7, 0)
    assert recipe.gates.overlap is None
    assert recipe.phases[0].learning_rate == 1e-5


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = load(tmp_path, LEAST + "launch: {config: fsdp2.yaml}\n")
    assert recipe.data.samples == str(tmp_path / "a.jsonl")
    assert recipe.launch.config == str(tmp_path / "fsdp2.yaml")


def test_a_path_in_a_change_is_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes, here = tmp_path / "recipes", tmp_path / "here"
    for folder in (recipes, here):
        (folder / "mine").mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = "name: x\nmodel: mine\njudge: vllm:mine,thinking=off\ndata: {samples: ~/a.jsonl}\n"
    recipe = load(recipes, text)
    assert recipe.model == str(recipes / "mine")
    assert recipe.judge == f"vllm:{recipes / 'mine'},thinking=off"
    assert recipe.data.samples == str(tmp_path / "home/a.jsonl")
    recipe = load(
        recipes,
        text,
        "data.samples=b.jsonl",
        "model=mine",
        "judge=../here/mine",
        "launch.config=../ddp.yaml",
    )
    assert recipe.data.samples == str(here / "b.jsonl")
    assert recipe.model == str(here / "mine")
    assert Path(recipe.judge or "").resolve() == here / "mine"
    assert recipe.launch.config == str(here / "../ddp.yaml")
    for change in (
        "data={scenes: {count: 3, folder: drawn}}",
        "data={samples: null, scenes: {count: 3, folder: drawn}}",
    ):
        scenes = load(recipes, text, change).data.scenes
        assert scenes is not None
        assert scenes.folder == str(here / "drawn")


@pytest.mark.parametrize("spec", ["nano", "org/name", "http://127.0.0.1:1/v1#mine", "elsewhere"])
def test_a_model_that_is_no_folder_stays_what_it_is(tmp_path: Path, spec: str) -> None:
    (tmp_path / "nano").mkdir()
    assert load(tmp_path, LEAST, f"model={spec}").model == spec
    assert load(tmp_path, f"name: x\nmodel: {spec}\ndata: {{samples: a.jsonl}}\n").model == spec


def test_a_resolved_recipe_is_a_recipe(tmp_path: Path) -> None:
    recipe = load(tmp_path, LEAST + "lora: {}\nphases: [{role: perceiver, steps: 3}]\n")
    again = load(tmp_path, dump_recipe(recipe))
    assert again == recipe


def test_what_a_run_was_made_with_is_read_without_the_keys_that_are_gone(tmp_path: Path) -> None:
    recipe = load(tmp_path, LEAST + "phases: [{role: perceiver, steps: 3}]\n")
    data = yaml.safe_load(dump_recipe(recipe))
    data["launch"]["nodes"] = 2
    data["phases"][0]["entropy"] = data["training"]["entropy"] = 0.1
    read, unknown = read_resolved(write(tmp_path, yaml.safe_dump(data)))
    assert read == recipe
    assert sorted(unknown) == ["launch.nodes", "phases.0.entropy", "training.entropy"]
    with pytest.raises(InputError, match=r"rounds: Input should be"):
        read_resolved(write(tmp_path, yaml.safe_dump(data | {"rounds": 0})))


@pytest.mark.parametrize(
    ("keys", "bounds"),
    [
        ("", (0.2, None)),
        ("loss: dapo", (0.2, 0.28)),
        ("loss: gspo", (3e-4, 4e-4)),
        ("loss: gspo, clip: 0.1", (0.1, 4e-4)),
        ("loss: cispo, clip_high: 3", (0.2, 3)),
    ],
)
def test_a_loss_brings_the_bounds_of_its_paper(
    tmp_path: Path, keys: str, bounds: tuple[float, float | None]
) -> None:
    recipe = load(tmp_path, LEAST + f"training: {{{keys}}}\n")
    assert {(one.clip, one.clip_high) for one in (recipe.training, *recipe.phases)} == {bounds}
    recipe = load(tmp_path, LEAST + f"phases: [{{role: joint, {keys}}}]\n")
    assert (recipe.phases[0].clip, recipe.phases[0].clip_high) == bounds


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("traning: {}\n", "unknown key traning; did you mean 'training'?"),
        ("data: {sample: x.jsonl}\n", "unknown key data.sample; did you mean 'samples'?"),
        ("data: {samples: x.jsonl, max_dropped: 7}\n", "data.max_dropped: Input should be less than"),
        ("training: {learning_rte: 1}\n", "learning_rte; did you mean 'learning_rate'?"),
        ("phases: [{role: perceiver, stesp: 1}]\n", "unknown key phases.0.stesp; did you mean 'steps'?"),
        (
            "phases: [{role: watcher}]\n",
            "phases.0.role: Input should be 'perceiver', 'reasoner', 'joint', 'think'",
        ),
        ("training: {loss: [grpo]}\n", "training.loss: Input should be 'grpo', 'dapo', 'dr_grpo', 'gspo' or"),
        ("phases: []\n", "phases"),
        ("training: {group: 1}\n", "group: Input should be greater than or equal to 2"),
        ("frozen: {where: endpoint}\n", "frozen: url goes with where: endpoint"),
        ("rollouts: {engine: vllm-server}\n", "rollouts: url goes with engine: vllm-server"),
        ("failures: {window: 5, most: 6}\n", "failures: most is 6, more than the window of 5"),
        (
            "training: {updates: 2, trainer: {steps_per_generation: 4}}\n",
            "training: updates above 1 need the rollouts of a step at once: leave out steps_per_generation",
        ),
        ("precision: float8\n", "precision: Input should be 'float32' or 'bfloat16'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, LEAST + more)
    assert message in str(caught.value)
    assert "recipe.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "data", ["{}", "{samples: a.jsonl, scenes: {count: 3}}"], ids=["no source", "two sources"]
)
def test_there_is_one_source_of_data(tmp_path: Path, data: str) -> None:
    with pytest.raises(InputError, match="data: give one of samples and scenes"):
        load(tmp_path, f"name: x\nmodel: m\ndata: {data}\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.steps", "write KEY=VALUE"),
        ("phases.5.kl=1", "--set phases.5.kl=1"),
        ("training.steps=[", "--set training.steps="),
    ],
)
def test_a_change_that_cannot_be_made_is_named(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(InputError, match="--set") as caught:
        load(tmp_path, LEAST + "phases: [{role: think}]\n", change)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["- a list\n", "name: [\n", ""])
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"recipe .*recipe\.yaml"):
        load(tmp_path, text)


def test_a_bundled_recipe_has_a_name_and_a_file_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("nano-smoke") == BUNDLED / "nano-smoke.yaml"
    (tmp_path / "nano-smoke").write_text(LEAST)
    assert load_recipe(find_recipe("nano-smoke")).name == "x"
    with pytest.raises(InputError, match=r"recipe nano-smok: .*bundled recipe: nano, nano-smoke, qwen3"):
        load_recipe(find_recipe("nano-smok"))


def test_a_configuration_of_accelerate_has_a_name(tmp_path: Path) -> None:
    for recipe in (
        load(tmp_path, f"{LEAST}launch: {{config: zero3-nodes}}"),
        load(tmp_path, LEAST, "launch.config=zero3-nodes"),
    ):
        assert recipe.launch.config == str(BUNDLED / "accelerate/zero3-nodes.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml"):
        load_recipe(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("path", sorted(BUNDLED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_that_ships_can_be_read(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    for phase in recipe.phases:
        assert phase.prompts * phase.group % phase.micro_batch == 0
    if recipe.launch.config is not None:
        assert Path(recipe.launch.config).is_file()


@pytest.mark.parametrize(
    "change",
    [
        "training.trainer.hub_token=hf_abcdef",
        "phases.0.trainer.push_to_hub_token=hf_abcdef",
        "settings.options.extra_body.api_key=hf_abcdef",
        "frozen.vllm_arguments=[--hf-token, hf_abcdef]",
        "rollouts={engine: vllm-server, url: 'http://user:hf_abcdef@host:8000'}",
    ],
)
def test_a_recipe_holds_no_secret_because_it_is_copied_into_the_run(tmp_path: Path, change: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: a\nmodel: nano-base\ndata: {samples: a.jsonl}\nphases: [{role: think}]\n")
    with pytest.raises(InputError, match="a recipe is copied into the run folder: give it by") as caught:
        load_recipe(path, [change])
    assert "hf_abcdef" not in str(caught.value)


def test_logins_of_a_recipe_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: a\nmodel: nano-base\ndata: {samples: a.jsonl}\njudge: http://u:pw-55@h/v1#j\n")
    changes = ["frozen.where=endpoint", "frozen.url=https://h/v1?key=pw-66#f"]
    recipe, logins = load_recipe(path, changes).without_logins()
    assert logins == {
        "http://h/v1#j": "http://u:pw-55@h/v1#j",
        "https://h/v1?key=…#f": "https://h/v1?key=pw-66#f",
    }
    assert (recipe.judge, recipe.frozen.url) == tuple(logins)
    assert "pw-" not in recipe.model_dump_json()
