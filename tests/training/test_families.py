"""Every Qwen-VL family that transformers has is trained, sampled and cached alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from p2r.training.run_folder import PhaseFolder
from tests.models.real_checkpoint import real_tokenizer
from tests.training import small_run
from tests.training.families import FAMILIES

if TYPE_CHECKING:
    from tests.training.warm import Warm

Small = dict[str, str]
# One without deepstack and with windows, one with linear attention; the others take as long and show no more.
OFTEN = ("qwen2_5_vl", "qwen3_5")
each_family = pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=pytest.mark.long if family in OFTEN else pytest.mark.slow)
        for family in FAMILIES
        if family != "qwen3_vl"  # that of all other tests
    ],
)


@each_family
def test_a_family_is_trained_in_both_roles_with_a_frozen_tower(
    warm: Warm, small: Small, tmp_path: Path, family: str
) -> None:
    recipe = warm.value("probes.make_family", folder=tmp_path, family=family, samples=small["samples"])
    changes = ["training.steps=1", "training.freeze_vision=true"]
    warm.value("warm.train", recipe=recipe, out=tmp_path / "run", changes=changes)
    for name in ("01-perceiver", "02-reasoner"):
        folder = PhaseFolder(tmp_path / "run/phases" / name)
        assert folder.state().status == "done"
        assert [row.values["failed"] for row in folder.metrics()] == [0.0]
        assert "features are not cached" not in (folder.path / "log.txt").read_text()
    assert (tmp_path / "run/model/p2r.json").is_file()


@each_family
def test_a_family_samples_as_it_is_trained_and_sees_each_image_once(
    warm: Warm, small: Small, tmp_path: Path, family: str
) -> None:
    recipe = warm.value("probes.make_family", folder=tmp_path, family=family, samples=small["samples"])
    found = warm.value("probes.log_probs", recipe=recipe, out=tmp_path / "one")
    assert found["images"] == [1, 2, 3, 4]
    assert found["spread"] > 0.1
    assert found["difference"] < 1e-3
    found = warm.value("encodings.cached_features", recipe=recipe, out=tmp_path / "two")
    assert found["difference"] < 1e-5
    assert found["encoded"] == [found["images"] // 4]  # in two calls


@pytest.mark.long
def test_a_role_is_trained_with_the_real_tokenizer(warm: Warm, tmp_path: Path) -> None:
    real_tokenizer()  # or the test is skipped
    model = Path(warm.value("probes.make_real", folder=tmp_path / "model"))
    samples = small_run.write_samples(tmp_path / "data", 2)
    changes = {"steps": 1, "prompts": 1, "micro_batch": 4, "freeze_vision": True}
    data = small_run.recipe(model, samples, training=changes, phases=[{"role": "reasoner"}])
    recipe = small_run.write_recipe(tmp_path / "recipe.json", data)
    warm.value("warm.train", recipe=recipe, out=tmp_path / "run")
    folder = PhaseFolder(tmp_path / "run/phases/01-reasoner")
    assert folder.state().status == "done"
    (row,) = folder.metrics()
    assert (row.values["failed"], row.values["completions/mean_length"]) == (0, 4)
    assert (tmp_path / "run/model/p2r.json").is_file()
