"""The builder on small sets in the published schemas: samples, rows left out, duplicates, continuing."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from p2r.cli import app
from p2r.datasets.p2r10k.build import MIXTURE, BuildPlan, build, scaled
from p2r.datasets.p2r10k.images import HashedImage, distance, perceptual_hash
from p2r.datasets.p2r10k.overlap import read_reference
from p2r.datasets.p2r10k.report import report_of
from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.benchmarks.base import Entry
from p2r.images import ImageSource
from tests.datasets.p2r10k.sets import deepeyes, jpeg, pixels, released, visualprobe, zwz
from tests.image_files import encoded


@pytest.fixture
def sources(tmp_path):
    made = {"deepeyes": deepeyes, "visualprobe": visualprobe, "zwz": zwz}
    return {name: str(make(tmp_path / "sources" / name)) for name, make in made.items()}


def mixed(sources, out, **changes):
    return BuildPlan(**{"counts": scaled(10), "out": out, "data": sources, "seed": 1, **changes})


def lines_of(out):
    return [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]


def test_the_mixture_is_the_papers():
    assert MIXTURE == {"deepeyes": 3000, "visualprobe": 3000, "zwz": 4000}
    assert scaled(10) == {"deepeyes": 3, "visualprobe": 3, "zwz": 4}
    assert sum(scaled(97).values()) == 97


def test_what_is_written_is_read_as_samples(sources, tmp_path):
    out = tmp_path / "out"
    drawn = build(mixed(sources, out))
    samples = read_samples(out / "samples.jsonl")
    assert len(samples) == 10
    families = [sample.category for sample in samples]
    assert {name: families.count(name) for name in scaled(10)} == scaled(10)
    assert families != sorted(families)  # mixed
    for sample in samples:
        assert ImageSource.open(sample.question.images[0]).width == 96
    zoomed = [sample for sample in samples if sample.category == "zwz"]
    assert zoomed[0].question.text.startswith("How many lamps does pole")
    assert "box" not in zoomed[0].question.text
    assert zoomed[0].question.choices == ("1", "2", "3", "4")
    assert zoomed[0].boxes
    assert zoomed[0].boxes[0].as_tuple() == (250, 250, 500, 500)
    report = report_of(mixed(sources, out), drawn)
    assert report["samples"] == report["inferred"] == 10
    assert report["gold_boxes"] == 4
    assert sum(report["answer_types"].values()) == 10
    assert "10 answer types were inferred" in " ".join(report["notes"])


def test_answer_types_are_inferred_from_question_and_answer(sources, tmp_path):
    build(mixed(sources, tmp_path / "out", counts={"deepeyes": None, "visualprobe": None}))
    samples = read_samples(tmp_path / "out" / "samples.jsonl")
    types = {sample.question.text: (sample.question.answer_type, sample.answer) for sample in samples}
    assert types["What is the color of car 1?"] == ("choice", "B")
    assert types["What is the color of car 2?"] == ("free", "The car is blue.")
    assert types["What is written on sign 1?"] == ("number", "41")
    assert types["What is written on sign 2?"] == ("free", "STOP")


def test_the_released_set_says_its_answer_types(tmp_path):
    data = {"p2r-10k": str(released(tmp_path / "set"))}
    drawn = build(BuildPlan({"p2r-10k": None}, tmp_path / "out", data))
    samples = {sample.answer: sample for sample in read_samples(tmp_path / "out" / "samples.jsonl")}
    assert {answer: sample.question.answer_type for answer, sample in samples.items()} == {
        "A": "choice",
        "7": "number",
        "7 UP": "free",
    }
    assert report_of(BuildPlan({"p2r-10k": None}, tmp_path / "out"), drawn)["inferred"] == 0


def test_the_seed_decides_which_rows(sources, tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        build(mixed(sources, tmp_path / name, seed=seed))
    assert lines_of(tmp_path / "one") == lines_of(tmp_path / "again")
    assert lines_of(tmp_path / "one") != lines_of(tmp_path / "other")


def test_rows_that_cannot_be_used_are_replaced_and_named(sources, tmp_path):
    folder = tmp_path / "sources" / "deepeyes"
    rows = json.loads((folder / "train.json").read_text())
    (folder / "data" / "0.jpg").unlink()
    (folder / "data" / "1.jpg").write_bytes(jpeg(1)[:400])
    rows[2]["solution"] = ""
    rows[3]["solution"] = "E. violet"
    rows[4]["images"] = ["a.jpg", "b.jpg"]
    (folder / "train.json").write_text(json.dumps(rows))
    plan = mixed(sources, tmp_path / "out", counts={"deepeyes": 3})
    report = report_of(plan, build(plan))
    assert [line["id"] for line in lines_of(tmp_path / "out")] == ["deepeyes-6"]
    found = report["sources"]["deepeyes"]
    reasons = {dropped["row"]: dropped["reason"] for dropped in found["dropped"]}
    assert "no image DeepEyes_train_4K/data/0.jpg" in reasons[1]
    assert "truncated" in reasons[2]
    assert "2 images; one is needed" in reasons[5]
    unusable = " ".join(found["unusable"])
    assert "column 'solution': expected a text" in unusable
    assert "'E. violet' is none of the options" in unusable
    assert "deepeyes: 1 samples instead of 3" in report["notes"][0]


def test_a_question_about_a_box_that_is_not_drawn_is_left_out(sources, tmp_path):
    path = tmp_path / "sources" / "zwz" / "train_crop_clean.csv"
    path.write_text(
        path.read_text().replace("How many lamps does pole 3", "In the red bounding box, how many")
    )
    drawn = build(mixed(sources, tmp_path / "out", counts={"zwz": None}))
    assert drawn[0].unusable.total() == 1
    assert "no row" not in next(iter(drawn[0].unusable))
    assert "none is" in next(iter(drawn[0].unusable))


def test_a_missing_column_is_named(sources, tmp_path):
    path = tmp_path / "sources" / "zwz" / "train_crop_clean.csv"
    path.write_text(path.read_text().replace("answer,", "reply,", 1))
    with pytest.raises(InputError, match=r"zwz: row 1: column 'answer' is missing; found: .*'reply'"):
        build(mixed(sources, tmp_path / "out"))


def test_the_same_question_about_the_same_image_is_kept_once(sources, tmp_path):
    folder = tmp_path / "sources" / "visualprobe"
    rows = json.loads((folder / "train.json").read_text())
    (folder / "images" / "copy.png").write_bytes((folder / "images" / "p0.png").read_bytes())
    rows += [{**rows[0], "images": ["images/copy.png"], "problem": "<image> what is written on sign 0"}]
    rows += [{**rows[0], "problem": "<image> Where is sign 0?"}]
    (folder / "train.json").write_text(json.dumps(rows))
    plan = mixed(sources, tmp_path / "out", counts={"visualprobe": None})
    report = report_of(plan, build(plan))
    (dropped,) = report["sources"]["visualprobe"]["dropped"]
    assert "asks the same about the same image as visualprobe-" in dropped["reason"]
    assert report["images"] == {"different": 6, "shared": 1, "alike": 0}
    assert len(list((tmp_path / "out" / "images" / "visualprobe").iterdir())) == 6


class StopError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_stopped_build_is_continued(sources, tmp_path, after):
    (tmp_path / "sources" / "deepeyes" / "data" / "0.jpg").unlink()
    build(mixed(sources, tmp_path / "whole"))
    seen = []

    def stop(source, kept):
        seen.append(source)
        if len(seen) == after:
            raise StopError

    with pytest.raises(StopError):
        build(mixed(sources, tmp_path / "out"), stop)
    with (tmp_path / "out" / "rows.jsonl").open("a") as file:
        file.write('{"source": "zwz", "row": 1, "ke')  # what a kill leaves of a line
    again = []
    build(mixed(sources, tmp_path / "out"), lambda source, kept: again.append(source))
    assert (tmp_path / "out" / "samples.jsonl").read_bytes() == (
        tmp_path / "whole/samples.jsonl"
    ).read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert len({(row["source"], row["row"]) for row in rows}) == len(rows)


def test_a_folder_holds_one_build(sources, tmp_path):
    build(mixed(sources, tmp_path / "out"))
    with pytest.raises(InputError, match="holds another build: seed was 1, is 2; give another folder"):
        build(mixed(sources, tmp_path / "out", seed=2))


@pytest.mark.parametrize("name", ["samples.jsonl", "rows.jsonl"])
def test_files_of_others_are_left_alone(sources, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine\n")
    with pytest.raises(InputError, match=f"holds {name} but no build.json; give another folder"):
        build(mixed(sources, out))
    assert (out / name).read_text() == "mine\n"


# What it shares with benchmarks


def test_the_perceptual_hash_survives_resizing_and_compression():
    made = pixels(5)
    larger = made.repeat(5, axis=0).repeat(5, axis=1)
    look = HashedImage.open(jpeg(5)).hash
    same = [
        perceptual_hash(ImageSource.open(encoded(larger, "JPEG", quality=60))),
        HashedImage.open(encoded(made, "PNG")).hash,
    ]
    others = np.array([HashedImage.open(jpeg(seed)).hash for seed in range(30) if seed != 5], np.uint64)
    assert distance(look, np.array(same, np.uint64)).max() <= 3
    assert distance(look, others).min() > 12


@pytest.fixture
def benchmark(tmp_path):
    """Shows an image of zwz, larger and as PNG, and asks a question of visualprobe about another image."""
    folder = tmp_path / "benchmark"
    folder.mkdir()
    larger = pixels(202).repeat(3, axis=0).repeat(3, axis=1)
    (folder / "a.png").write_bytes(encoded(larger, "PNG"))
    (folder / "b.jpg").write_bytes(jpeg(999))
    rows = [
        {"id": "a", "image": "a.png", "question": "Another question?", "answer": "x"},
        {"id": "b", "image": "b.jpg", "question": "what is written on  SIGN 3", "answer": "y"},
    ]
    (folder / "samples.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def read_listed(folder, cache):
    found = open_benchmark("jsonl", str(folder))
    entries = [entry.sample.question for entry in found.entries() if isinstance(entry, Entry)]
    return read_reference(found.source, zip(entries, found.loaders(), strict=True), cache)


def test_overlap_is_reported(sources, benchmark, tmp_path):
    reference = read_listed(benchmark, tmp_path / "out" / "against" / "jsonl.json")
    plan = mixed(sources, tmp_path / "out", counts=dict.fromkeys(sources), references={"jsonl": reference})
    found = report_of(plan, build(plan))["overlap"]["jsonl"]
    assert (found["images"], found["questions"], found["both"]) == (1, 1, 0)
    assert found["same_images"] == {"zwz-3": "a"}


def test_overlap_is_left_out_when_asked(sources, benchmark, tmp_path):
    reference = read_listed(benchmark, tmp_path / "cache.json")
    plan = mixed(
        sources, tmp_path / "out", counts={"zwz": None}, references={"jsonl": reference}, drop_overlap=True
    )
    report = report_of(plan, build(plan))
    assert report["sources"]["zwz"]["dropped"] == [{"row": 3, "reason": "shows an image of jsonl"}]
    assert report["samples"] == 7


# The command


def test_the_command(sources, benchmark, tmp_path):
    given = [part for name, place in sources.items() for part in ("--from", f"{name}={place}")]
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["data", "p2r-10k", str(out), "-n", "10", *given, "--against", f"jsonl={benchmark}"]
    )
    assert done.exit_code == 0, done.output
    assert "jsonl: " in done.stdout
    assert "10 samples in" in done.stderr
    assert json.loads((out / "report.json").read_text())["samples"] == 10
    assert len(read_samples(out / "samples.jsonl")) == 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["p2r-20k"], "unknown data 'p2r-20k': one of p2r-10k, p2r-10k-released, deepeyes, visualprobe, zwz"),
        (["zwz", "--from", "zwz"], "--from zwz: write SOURCE=PATH_OR_ID"),
        (["zwz", "--from", "zwz=/nowhere/at/all"], "/nowhere/at/all: no such file or folder"),
        (["zwz", "--against", "vstarr"], "unknown benchmark 'vstarr': one of scenes, vstar"),
    ],
)
def test_wrong_usage_is_an_error(tmp_path, arguments, said):
    done = CliRunner().invoke(app, ["data", arguments[0], str(tmp_path / "out"), *arguments[1:]])
    assert done.exit_code == 2
    assert said in done.stderr


def test_nothing_heavy_is_loaded():
    heavy = ("torch", "transformers", "trl", "datasets", "pandas")
    code = (
        "import sys\nimport p2r.cli.data, p2r.datasets.p2r10k.build, p2r.datasets.p2r10k.report\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
