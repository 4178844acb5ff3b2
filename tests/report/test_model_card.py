"""The model card: what it says of a training, of evaluations, and of a folder with a README.md of its own."""

from __future__ import annotations

import asyncio
import json
import re
import shutil

import pytest

from p2r.errors import InputError
from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.run import EvaluationPlan, evaluate
from p2r.nano import bundled
from p2r.report.model_card import MARK, Publication
from p2r.runs.provenance import revision
from p2r.settings import Geometry, Settings
from tests.evaluation.scripted import QUIET, model, write_questions
from tests.report.training_runs import write_run

pytest.importorskip("jinja2", reason="the local extra is not installed")
ModelCard = pytest.importorskip("huggingface_hub", reason="the local extra is not installed").ModelCard


def write_model(folder):
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "trainer.log", "token.json"):
        (folder / name).write_text(json.dumps({"of": name}))
    Settings(geometry=Geometry(max_crops=2)).save(folder)
    return folder


def evaluated(tmp_path, folder, **options):
    """An evaluation by a scripted model, whose weights are said to be those of the folder."""
    out = tmp_path / "vstar"
    questions = write_questions(tmp_path / "questions", 20)
    plan = EvaluationPlan(open_benchmark("jsonl", str(questions)), out, model(), **options)
    asyncio.run(evaluate(plan, QUIET))
    set_identity(out, model="/home/me/model", model_revision=revision(str(folder)))
    return out


def set_identity(out, **changes):
    config = json.loads((out / "config.json").read_text())
    config["identity"] |= changes
    (out / "config.json").write_text(json.dumps(config))


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "model")


def card_of(folder, *runs, base=None):
    found = Publication.find(folder)
    return str(found.card("me/tags", [found.results("me/tags", run) for run in runs], base))


def test_only_files_of_a_model_are_uploaded(folder):
    assert Publication.find(folder).files == (
        "config.json",
        "model.safetensors",
        "p2r.json",
        "tokenizer.json",
    )


def test_a_bare_folder_says_what_is_not_known(folder):
    text = card_of(folder)
    assert f"\n---\n\n{MARK}\n\n# tags\n" in text
    for line in ("How accurate it is", "How it was trained", "The hub id of the model", "Its license"):
        assert f"- {line}" in text
    assert '"max_crops": 2' in text
    assert f"digest `{Settings(geometry=Geometry(max_crops=2)).digest}`" in text
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "image-text-to-text")
    assert data.eval_results is data.base_model is None


def test_results_are_those_of_the_evaluator(tmp_path, folder):
    run = evaluated(tmp_path, folder, modes=("p2r", "direct"))
    summary = json.loads((run / "summary.json").read_text())["modes"]
    text = card_of(folder, run, base="Qwen/Qwen3-VL-4B-Instruct")
    data = ModelCard(text).data
    assert data.base_model == "Qwen/Qwen3-VL-4B-Instruct"
    assert [one.metric_value for one in data.eval_results] == [
        pytest.approx(summary[mode]["accuracy"], abs=1e-4) for mode in ("p2r", "direct")
    ]
    low, high = summary["p2r"]["ci95"]
    ends = f"{100 * low:.1f}–{100 * high:.1f}"
    assert data.eval_results[0].metric_name == f"mode p2r; 20 questions; 95 % interval {ends} %"
    share = f"{100 * summary['p2r']['accuracy']:.1f}"
    assert f"| p2r | 20 | {summary['p2r']['correct']} | {share} | {ends} |" in text
    assert "p2r − direct" in text
    assert "not those of this repository" in text  # the settings of the scripted run are the defaults
    assert "/home/me" not in text
    assert str(tmp_path) not in text
    # Written again, it is the same; without the run, its results are gone from both places.
    (folder / "README.md").write_text(text)
    assert card_of(folder, run) == text
    assert ModelCard(card_of(folder)).data.eval_results is None
    assert "| p2r |" not in card_of(folder)


def test_results_of_other_weights_are_refused(tmp_path, folder):
    run = evaluated(tmp_path, folder)
    (folder / "model.safetensors").write_text("other")
    with pytest.raises(InputError, match=r"are of another model, /home/me/model: weights [0-9a-f]{12}, not"):
        card_of(folder, run)
    set_identity(run, model="me/tags", model_revision="0" * 40)  # as downloaded from the repository
    assert f"Weights: `{'0' * 40}`" in card_of(folder, run)
    set_identity(
        run, model="http://gpu7.example:8000/v1#tags", model_revision=None, judge="http://h/v1#judge"
    )
    text = card_of(folder, run)
    assert "Weights: those of a server, which names none" in text
    assert "Judge: judge" in text
    assert "gpu7" not in text


def test_an_incomplete_run_is_refused(tmp_path, folder):
    run = evaluated(tmp_path, folder)
    set_identity(run, questions=21)
    with pytest.raises(InputError, match="the run is not complete"):
        card_of(folder, run)


def test_a_training_run_brings_its_recipe(tmp_path):
    run = write_run(tmp_path / "run", rounds=1, steps=4, done=True)
    with pytest.raises(InputError, match="run/model: there is no such folder; p2r train writes it"):
        Publication.find(run)
    write_model(run / "model")
    recipe = (run / "recipe.yaml").read_text()
    recipe = re.sub("^model: .*$", "model: Qwen/Qwen3-VL-2B-Instruct", recipe, flags=re.MULTILINE)
    recipe = re.sub("samples: [^}]*", "samples: /home/me/data/own.jsonl", recipe)
    (run / "recipe.yaml").write_text(recipe + "judge: http://gpu7.example:8000/v1#judge\n")
    for place in (run, run / "model"):
        text = card_of(place)
        assert ModelCard(text).data.base_model == "Qwen/Qwen3-VL-2B-Instruct"
        assert "one run with one seed" in text
        assert "\nrounds: 1\n" in text
        assert "samples: …/own.jsonl" in text
        assert "judge: http://…/v1#judge" in text
        assert "gpu7" not in text
        assert "/home/me" not in text


def test_hub_data_sets_of_the_training_are_named(tmp_path):
    run = write_run(tmp_path / "run", rounds=1, steps=4, done=True)
    write_model(run / "model")
    data = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(data | {"source": str(tmp_path / "data" / "samples.jsonl")}))
    (tmp_path / "data").mkdir()
    sources = {"zwz": {"place": "you/zwz@0123: rows.csv"}, "own": {"place": "/home/me/own"}}
    (tmp_path / "data" / "report.json").write_text(json.dumps({"sources": sources}))
    assert ModelCard(card_of(run)).data.datasets == ["you/zwz"]


def test_a_text_of_ones_own_is_kept(folder):
    own = "---\nlicense: mit\ntags: [mine]\nlibrary_name: other\n---\n\n# Mine\n\nSee below.\n"
    (folder / "README.md").write_text(own)
    text = card_of(folder)
    before, _, after = text.partition(MARK)
    assert before.endswith("# Mine\n\nSee below.\n\n")
    data = ModelCard(text).data
    assert (data.license, data.library_name) == ("mit", "other")
    assert data.tags == ["mine", "perceive-to-reason"]
    assert "Its license" not in after
    (folder / "README.md").write_text(text.replace("# Mine", "# Edited"))
    assert card_of(folder) == text.replace("# Mine", "# Edited")


def test_the_card_of_a_training_is_kept_without_its_folder(folder):
    shutil.copy(bundled()["nano"] / "README.md", folder)
    text = card_of(folder)
    assert "| 1 | perceiver |" in text.partition(MARK)[0]
    assert "THIS_FOLDER" not in text
    assert text.count("--model me/tags") == 1


@pytest.mark.parametrize("text", ["---\n- a list\n---\n", "---\na: [\n---\n", "---\ndatasets: {a: \n---\n"])
def test_a_readme_that_cannot_be_read_is_named(folder, text):
    (folder / "README.md").write_text(text)
    with pytest.raises(InputError, match=r"README\.md cannot be read: "):
        card_of(folder)


def test_what_is_no_checkpoint_is_named(tmp_path, folder):
    with pytest.raises(InputError, match="no such folder"):
        Publication.find(tmp_path / "nowhere")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-2.safetensors"}}')
    with pytest.raises(InputError, match=r"is not complete: model-2\.safetensors is missing"):
        Publication.find(folder)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="holds no"):
        Publication.find(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json"):
        Publication.find(folder)


def test_the_card_is_no_part_of_the_weights(folder):
    before = revision(str(folder))
    (folder / "README.md").write_text(card_of(folder))
    assert revision(str(folder)) == before
    Settings().save(folder)
    assert revision(str(folder)) != before
