"""Settings are validated, read and written, and their digest covers everything that determines a request."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING

import pytest

from p2r.cli._options import read_settings
from p2r.errors import InputError
from p2r.models.options import read_assignment
from p2r.nano import WEIGHTS
from p2r.prompts import PromptPack
from p2r.settings import SETTINGS_FILE, Geometry, PixelBudget, Settings, TokenLimits
from p2r.types import BOX_FORMATS

if TYPE_CHECKING:
    from pathlib import Path


def test_the_defaults_are_the_papers() -> None:
    settings = Settings()
    assert settings.geometry == Geometry(3, 0.10, 600, 0.003, 3)
    assert settings.budget.overview_max_pixels == settings.budget.crop_max_pixels == 4_194_304
    assert (settings.budget.factor, settings.budget.min_pixels) == (32, 16 * 32**2)


def test_settings_survive_a_file(tmp_path: Path) -> None:
    settings = Settings(
        Geometry(max_crops=5),
        PixelBudget(context_tokens=8_192),
        TokenLimits(direct=3),
        PromptPack("own", "Be brief."),
    )
    settings.save(tmp_path)
    assert Settings.load(tmp_path) == settings
    assert Settings.load(tmp_path / SETTINGS_FILE).digest == settings.digest


def test_the_digest_is_stable_and_short() -> None:
    assert Settings().digest == Settings().digest
    assert len(Settings().digest) == 12
    assert int(Settings().digest, 16) >= 0


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (part.name, entry.name)
        for part in fields(Settings)
        if is_dataclass(getattr(Settings(), part.name))
        for entry in fields(getattr(Settings(), part.name))
    ],
)
def test_every_value_changes_the_digest(part: str, name: str) -> None:
    settings = Settings()
    value = getattr(getattr(settings, part), name)
    other: object = f"{value} More." if isinstance(value, str) else not value
    if isinstance(value, dict):
        other = {"more": 1}
    changed = replace(settings, **{part: replace(getattr(settings, part), **{name: other})})
    assert changed.digest != settings.digest


def test_an_update_changes_what_it_names_and_nothing_else() -> None:
    own = Settings(Geometry(max_crops=5))
    changed = own.updated({"geometry": {"outline_min_px": 4}, "max_tokens": {"direct": 9}})
    assert changed == Settings(Geometry(max_crops=5, outline_min_px=4), max_tokens=TokenLimits(direct=9))
    assert own.updated({}) == own
    with pytest.raises(InputError, match=r"--set: geometry\.max_crop"):
        own.updated({"geometry": {"max_crop": 4}}, where="--set")


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("geometry.max_crops=1", {"geometry": {"max_crops": 1}}),
        ("options.thinking=off", {"options": {"thinking": False}}),
        ('options.extra_body={"a": [1]}', {"options": {"extra_body": {"a": [1]}}}),
        ("budget.context_tokens=null", {"budget": {"context_tokens": None}}),
        ("prompts.system=Be brief = best.", {"prompts": {"system": "Be brief = best."}}),
        ("prompts.system=", {"prompts": {"system": ""}}),
    ],
)
def test_an_assignment_names_a_nested_key(text: str, changes: object) -> None:
    assert read_assignment(text) == changes


@pytest.mark.parametrize("text", ["geometry.max_crops", "=1", "geometry..max_crops=1", ""])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write KEY=VALUE"):
        read_assignment(text)


def test_the_digests_of_old_results_stay_valid() -> None:
    # As published before `box_format` was a setting, with the defaults and with nano's own file.
    assert Settings().digest == "32f1aa952082"
    assert Settings.load(WEIGHTS / "nano").digest == "3fb258a39e65"


def test_each_box_format_has_a_digest_of_its_own(tmp_path: Path) -> None:
    plain = PromptPack(perceive="Where? $question")
    for prompts in (PromptPack(), plain):
        made = [Settings(prompts=prompts, box_format=name) for name in BOX_FORMATS]
        assert len({settings.digest for settings in made}) == len(BOX_FORMATS) == 4
    made[1].save(tmp_path)
    assert Settings.load(tmp_path) == made[1]
    with pytest.raises(InputError, match=r"box_format.*'qwen3', 'pixels', 'gemini' or 'unit'"):
        Settings.from_dict({"box_format": "yolo"})


def test_what_is_left_out_keeps_its_default() -> None:
    settings = Settings.from_dict({"geometry": {"max_crops": 1}})
    assert settings == Settings(geometry=Geometry(max_crops=1))
    assert Settings.from_dict({}) == Settings()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"geometri": {}}, "geometri"),
        ({"geometry": {"crops": 1}}, "geometry.crops"),
        ({"geometry": {"max_crops": 0}}, "geometry.max_crops"),
        ({"geometry": {"context_fraction": 1.5}}, "geometry.context_fraction"),
        ({"budget": {"min_pixels": "many"}}, "budget.min_pixels"),
        ({"max_tokens": {"reason": -1}}, "max_tokens.reason"),
        ({"prompts": {"perceive": "no question"}}, "$question is missing"),
        ({"prompts": {"hint": "x"}}, "prompts.hint"),
        ([], "top level"),
        (None, "top level"),
    ],
)
def test_an_error_names_the_key(data: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Settings.from_dict(data, where="p2r.json")
    assert str(caught.value).startswith("p2r.json: ")
    assert message in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=SETTINGS_FILE):
        Settings.load(tmp_path)
    (tmp_path / SETTINGS_FILE).write_text("{")
    with pytest.raises(InputError, match=SETTINGS_FILE):
        Settings.load(tmp_path)
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"budget": {"factor": 0}}))
    with pytest.raises(InputError, match=r"budget\.factor"):
        Settings.load(tmp_path)


def test_a_file_with_a_part_of_the_settings_changes_that_part_of_the_models_own(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    own = Settings(
        Geometry(max_crops=5), max_tokens=TokenLimits(direct=3), prompts=PromptPack("own", "Brief.")
    )
    own.save(model)
    changes = tmp_path / "changes.json"
    changes.write_text(json.dumps({"geometry": {"outline_min_px": 4}}))
    read = read_settings(str(model), changes, None)
    assert read == replace(own, geometry=Geometry(max_crops=5, outline_min_px=4))
    assert read_settings(str(model), None, None) == own
    changes.write_text(json.dumps({"geometry": {"outline": 4}}))
    with pytest.raises(InputError, match=r"changes.json: geometry\.outline"):
        read_settings(str(model), changes, None)
