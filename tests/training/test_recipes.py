"""The recipes that ship: the paper's figures, `--check`, and a trainer with their settings, tiny weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from p2r.training.recipe import BUNDLED, load_recipe
from tests.servers import Server, reply
from tests.training.small_run import write_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from p2r.training.recipe import Recipe
    from tests.training.warm import Warm

RECIPES = sorted(BUNDLED.glob("qwen3-vl-*.yaml"))
SAMPLES = 64  # of one step
PAPER = 10_000  # samples of its training set

pytest.importorskip("torch", reason="the local extra is not installed")
pytest.importorskip("transformers", reason="the local extra is not installed")
of_each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def judge() -> Iterator[str]:
    with Server(lambda position: reply("no" if position % 2 else "yes")) as server:
        yield f"{server.url}#judge"


@pytest.fixture(scope="module")
def replaced(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Changes of a recipe: weights, and samples in place of the paper's."""
    folder = tmp_path_factory.mktemp("recipes")
    model = warm.value("construction.make_released", folder=folder / "model")
    return [f"model={model}", f"data.samples={write_samples(folder / 'data', SAMPLES)}"]


def without_vllm(run: Recipe) -> set[str]:
    """The checks that fail where vLLM is not installed."""
    frozen = {"vllm"} if run.frozen.where == "vllm" else set()
    return frozen | {f"rollouts, {phase.role}" for phase in run.phases}


@of_each_recipe
def test_a_recipe_has_the_papers_settings(path: Path) -> None:
    from p2r.settings import Settings
    from p2r.training.data import reply_tokens
    from p2r.training.trl import phase_steps

    run = load_recipe(path)
    settings = Settings().updated(run.settings, where="settings")
    budget = settings.budget
    assert (budget.overview_max_pixels, budget.crop_max_pixels) == (2_097_152, 2_097_152)
    assert budget.min_pixels == 65_536  # the paper's is 16,384, which vLLM would enlarge
    assert [phase.role for phase in run.phases] == ["perceiver", "reasoner"]
    limits = [reply_tokens(phase, role, settings) for phase in run.phases for role in phase.roles]
    assert limits == [1_024, 2_048]
    assert (run.rounds, run.gates.overlap, run.gates.label) == (1, 0.5, True)
    for phase in run.phases:
        assert (phase.prompts, phase.group, phase.updates, phase.temperature) == (64, 8, 1, 1.0)
        assert (phase.kl, phase.epochs, phase.freeze_vision) == (0.01, 1, False)
        assert phase.learning_rate == (1e-5 if run.lora else 1e-6)
        assert phase_steps(phase, PAPER) == 156


@pytest.mark.long
@of_each_recipe
def test_the_check_of_a_recipe_finds_nothing_but_vllm(
    warm: Warm, replaced: list[str], judge: str, path: Path
) -> None:
    # Tiny weights write up to the limit.
    changes = [*replaced, f"judge={judge}", "settings.max_tokens={perceive: 4, reason: 4}"]
    found = warm.value("probes.check", recipe=path, changes=changes, groups=1)
    assert found[-1]["name"] == "steps of training"
    failed = {row["name"]: row["detail"] for row in found if row["state"] == "failure"}
    assert set(failed) in (without_vllm(load_recipe(path)), set()), failed
    assert all("vllm" in detail.lower() for detail in failed.values())


@pytest.mark.long
@of_each_recipe
def test_a_trainer_is_constructed_from_a_recipe(
    warm: Warm, replaced: list[str], tmp_path: Path, path: Path
) -> None:
    """With vLLM up to its engine, which needs a GPU; with transformers as the engine, all of it."""
    run = load_recipe(path)
    for phase in run.phases:
        one = [*replaced, "judge=exact", f"phases=[{{role: {phase.role}}}]"]
        out = tmp_path / phase.role
        found: dict[str, Any] = warm.value(
            "construction.constructed",
            recipe=path,
            out=out,
            changes=[*one, "rollouts={engine: transformers}"],
        )
        parts = phase.trainer["steps_per_generation"]
        assert found["rows"] == 512
        assert found["generated together"] == parts * phase.micro_batch
        assert found["steps"] == 1
        assert found["settings"] == {
            "learning_rate": phase.learning_rate,
            "num_generations": 8,
            "num_iterations": 1,
            "beta": 0.01,
            "epsilon": 0.2,
            "temperature": 1.0,
            "loss_type": "dapo",
            "scale_rewards": "group",
            "max_completion_length": {"perceiver": 1_024, "reasoner": 2_048}[phase.role],
            "bf16": True,
            "gradient_checkpointing": True,
        }
        assert found["frozen"] == ("FrozenModel" if run.frozen.where == "vllm" else "FrozenWeights")
        assert found["reference"] == (None if run.lora else "torch.bfloat16")
        assert found["precision"] == ("torch.bfloat16" if run.lora else "torch.float32")
        adapters = {name: "lora_" in name and "language_model" in name for name in found["trained"]}
        assert adapters
        assert all(adapters.values()) if run.lora else not any(adapters.values())
        assert found["in the optimizer"] == len(adapters)
    engine = warm.value("construction.engine_of", recipe=path, out=tmp_path / "engine", changes=one)
    assert engine == {  # of the reasoner, whose completions are the longest
        "mode": "colocate",
        "gpu_memory_utilization": run.rollouts.memory,
        "tensor_parallel_size": run.rollouts.tensor_parallel,
        "max_model_length": 10_240 + 2_048,
        "max_num_seqs": parts * phase.micro_batch * run.rollouts.tensor_parallel,
    }


@pytest.mark.parametrize("name", ["qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b"])
def test_accelerate_reads_the_configuration_of_a_recipe(warm: Warm, replaced: list[str], name: str) -> None:
    (path,) = [one for one in RECIPES if one.stem == name]
    config = load_recipe(path).launch.config
    assert config
    read = warm.value(
        "construction.accelerate_reads", config=config, model=replaced[0].removeprefix("model=")
    )
    written = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    assert read["processes"] == written["num_processes"]
    assert read["type"] == "FSDP"
    assert read["wrapped"] == ["Qwen3VLTextDecoderLayer", "Qwen3VLVisionBlock"]
