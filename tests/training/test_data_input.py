"""Bad input on the data side of a training: an error before anything starts that says what to do."""

from __future__ import annotations

import json

import pytest

from p2r.errors import InputError
from p2r.training.data import prepare_data
from p2r.training.recipe import load_recipe
from tests.training.small_run import recipe, write_recipe, write_samples


@pytest.fixture
def samples(tmp_path):
    return write_samples(tmp_path / "data", count=4)


def changed(samples, number, **values):
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    rows[number] = {**rows[number], **values}
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))


def prepared(samples, tmp_path, **changes):
    path = write_recipe(tmp_path / "recipe.yaml", recipe(tmp_path / "model", samples, **changes))
    return prepare_data(load_recipe(path), tmp_path / "out")


def test_a_missing_image_is_named_with_its_line(samples, tmp_path):
    (samples.parent / "2.png").unlink()
    with pytest.raises(InputError, match=r"samples.jsonl, line 3: image: no file '.*2.png'"):
        prepared(samples, tmp_path)


def test_a_file_that_is_no_image_is_named_with_its_sample(samples, tmp_path):
    (samples.parent / "1.png").write_text("not an image")
    with pytest.raises(
        InputError, match=r"sample q1: .*1.png.*; correct it, or take the sample out of the data"
    ):
        prepared(samples, tmp_path)


def test_free_form_answers_need_a_judge(samples, tmp_path):
    changed(samples, 0, choices=[], answer="a red door", answer_type="free")
    with pytest.raises(
        InputError, match="1 of 4 samples have free-form answers and there is no judge: set judge"
    ):
        prepared(samples, tmp_path)
    assert len(prepared(samples, tmp_path, judge="exact").samples) == 4


def test_an_answer_that_is_no_option_is_named(samples, tmp_path):
    changed(samples, 3, answer="C")
    with pytest.raises(InputError, match="line 4: answer: 'C' is neither a letter of AB nor an option"):
        prepared(samples, tmp_path)


def test_a_misspelt_key_of_a_sample_is_named(samples, tmp_path):
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    rows[1]["answer_typ"] = rows[1].pop("answer_type")
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"line 2: answer_typ: did you mean 'answer_type'\?"):
        prepared(samples, tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"jugde": "exact"}, "unknown key jugde; did you mean 'judge'?"),
        ({"data": {"sample": "x.jsonl"}}, "unknown key data.sample; did you mean 'samples'?"),
        ({"data": {"samples": "x", "scenes": {"count": 3}}}, "data: give one of samples and scenes"),
        ({"data": {"samples": "x", "max_dropped": 7}}, "data.max_dropped"),
    ],
)
def test_unknown_keys_and_wrong_values_of_a_recipe_are_named(samples, tmp_path, changes, said):
    with pytest.raises(InputError) as raised:
        prepared(samples, tmp_path, **changes)
    assert said in str(raised.value)


def test_inferred_answer_types_are_said(samples, tmp_path):
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    for row in rows[:3]:
        del row["answer_type"]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = prepared(samples, tmp_path)
    assert data.notes == ("3 samples name no answer type: it was inferred from their answers",)
