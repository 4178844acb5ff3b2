"""Training data: read, drawn, checked before anything is loaded, and recognized when a run continues."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest

from p2r.errors import InputError
from p2r.settings import Settings
from p2r.training.data import draw_order, prepare_data, read_data, settings_of
from p2r.training.recipe import Recipe
from p2r.training.run_folder import DATA
from tests.training.small_run import recipe as small_recipe
from tests.training.small_run import write_samples

if TYPE_CHECKING:
    from pathlib import Path


def made(folder: Path, **data: Any) -> Recipe:
    samples = write_samples(folder / "data")
    return Recipe.model_validate(small_recipe(folder, samples) | {"data": {"samples": str(samples), **data}})


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "data/samples.jsonl").read_text().splitlines()]


def rewrite(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "data/samples.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def test_samples_are_read_and_described(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    samples, report = prepare_data(recipe, tmp_path)
    assert len(samples) == report.samples == 8
    assert report.answer_types == {"choice": 8}
    assert report.gold_boxes == 8
    assert report.notes == []


def test_inferred_answer_types_are_reported(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    rewrite(tmp_path, [{key: row[key] for key in row if key != "answer_type"} for row in lines(tmp_path)])
    _, report = prepare_data(recipe, tmp_path)
    assert report.notes == ["8 samples name no answer type: it was inferred from their answers"]


def test_a_limit_draws_by_the_seed(tmp_path: Path) -> None:
    recipe = made(tmp_path, limit=3)

    def drawn(other: Recipe) -> tuple[str, ...]:
        samples, _ = prepare_data(other, tmp_path)
        return tuple(sample.question.id for sample in samples)

    assert len(drawn(recipe)) == 3
    assert drawn(recipe) == drawn(recipe)
    others = {drawn(other) for other in (recipe.model_copy(update={"seed": seed}) for seed in range(5))}
    assert len(others) > 1


def test_a_missing_image_is_named_before_anything_else(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    (tmp_path / "data/3.png").unlink()
    with pytest.raises(InputError, match=r"line 4: image: no file .*3\.png"):
        prepare_data(recipe, tmp_path)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    (tmp_path / "data/3.png").write_text("not an image")
    (tmp_path / "data/4.png").write_text("nor this")
    with pytest.raises(InputError, match=r"sample q3: .*3\.png.*\(and 1 more\); correct it"):
        prepare_data(recipe, tmp_path)


def test_free_form_answers_need_a_judge_or_a_decision(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    rows = lines(tmp_path)
    for row in rows[:2]:
        row |= {"choices": [], "answer_type": "free", "answer": "a bus"}
    rewrite(tmp_path, rows)
    with pytest.raises(
        InputError, match="2 of 8 samples have free-form answers and there is no judge: set judge"
    ):
        prepare_data(recipe, tmp_path)
    assert prepare_data(recipe.model_copy(update={"judge": "exact"}), tmp_path)


def test_a_run_continues_only_with_the_same_data(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    _, record = prepare_data(recipe, tmp_path)
    (tmp_path / DATA).write_text(json.dumps(record.to_json()))
    assert [one.question.id for one in read_data(recipe, tmp_path)] == [f"q{k}" for k in range(8)]
    rows = lines(tmp_path)
    rows[0]["answer"] = "B"
    rewrite(tmp_path, rows)
    with pytest.raises(InputError, match=r"samples\.jsonl has changed since"):
        read_data(recipe, tmp_path)


def test_scenes_are_drawn_once_and_only_of_the_train_split(tmp_path: Path) -> None:
    scenes = {"count": 3, "size": "640x480", "scale": 0.5, "folder": str(tmp_path / "shared")}
    recipe = Recipe.model_validate({"name": "x", "model": "m", "data": {"scenes": scenes}, "judge": "exact"})
    samples, record = prepare_data(recipe, tmp_path / "run")
    assert [sample.question.id for sample in samples] == ["train-0-0", "train-0-1", "train-0-2"]
    image = PIL.Image.open(str(samples[0].question.image))
    assert image.size == (320, 240)
    assert np.asarray(image).std() > 5
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "shared/images").iterdir()}
    _, again = prepare_data(recipe, tmp_path / "another")
    assert again.fingerprint == record.fingerprint
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "shared/images").iterdir()} == drawn


def test_scenes_of_several_worlds(tmp_path: Path) -> None:
    scenes = {"count": 2, "size": "320x256", "world": "tags,street"}
    recipe = Recipe.model_validate({"name": "x", "model": "m", "data": {"scenes": scenes}, "judge": "exact"})
    samples, _ = prepare_data(recipe, tmp_path)
    assert [sample.question.id for sample in samples] == ["train-0-0", "street-train-0-1"]


def test_a_folder_of_other_scenes_is_left_alone(tmp_path: Path) -> None:
    def prepare(seed: int) -> None:
        scenes = {"count": 1, "size": "256x256", "seed": seed, "folder": str(tmp_path / "shared")}
        data = {"name": "x", "model": "m", "data": {"scenes": scenes}, "judge": "exact"}
        prepare_data(Recipe.model_validate(data), tmp_path)

    prepare(0)
    with pytest.raises(InputError, match=r"holds other scenes .*another folder"):
        prepare(1)


def test_settings_are_the_models_with_the_recipes_changes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    Settings().save(tmp_path)
    changed = made(tmp_path).model_copy(update={"settings": {"budget": {"factor": 16}}})
    settings = settings_of(changed)
    assert settings.budget.factor == 16
    assert settings.budget.min_pixels == Settings().budget.min_pixels
    with pytest.raises(InputError, match=r"recipe: settings: budget\.facter"):
        settings_of(changed.model_copy(update={"settings": {"budget": {"facter": 16}}}))


def test_a_phase_goes_through_whole_shuffled_passes() -> None:
    order = draw_order(5, 12, "0-1")
    assert sorted(order[:5]) == sorted(order[5:10]) == [0, 1, 2, 3, 4]
    assert order == draw_order(5, 12, "0-1")
    assert order != draw_order(5, 12, "0-2")
