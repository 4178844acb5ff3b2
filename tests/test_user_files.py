"""Nothing of the user's is ever overwritten: commands refuse, and leave no trace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from p2r.cli import app
from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.runs.files import claim, folder_lock, write_file

if TYPE_CHECKING:
    from pathlib import Path


def p2r(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; links by where they lead."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()).encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    PIL.Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "a.png")
    row = {"image": "a.png", "question": "Which?", "choices": ["red", "blue"], "answer": "A"}
    (folder / "samples.jsonl").write_text(json.dumps(row) + "\n")
    return folder


RECIPE = "name: mine\nmodel: nano-base\ndata: {samples: samples.jsonl}\n"
SCENES = ("scenes", "OUT", "-n", "1", "--size", "320x240")
EVAL = ("eval", "-b", "jsonl", "--data", "DATA/samples.jsonl", "--out", "OUT", "--model", "nano-base")
TRAIN = ("train", "DATA/recipe.yaml", "--out", "OUT")
BUILD = ("data", "zwz", "OUT", "--from", "zwz=DATA")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *((SCENES, name) for name in ("samples.jsonl", "images/a.jpg")),
        *((EVAL, name) for name in ("config.json", "summary.json", "predictions-p2r.jsonl")),
        *((EVAL, name) for name in ("failures-think.jsonl",)),
        *((TRAIN, name) for name in ("recipe.yaml", "run.json", "data.json", "phases/a")),
        *((TRAIN, name) for name in ("model/a", "scenes/a")),
        *((BUILD, name) for name in ("samples.jsonl", "rows.jsonl", "report.json", "build.json")),
        *((BUILD, name) for name in ("images/a.jpg",)),
    ],
)
@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
def test_a_folder_with_something_else_under_a_name_that_is_written_is_refused(
    tmp_path: Path, data: Path, command: tuple[str, ...], name: str, kind: str
) -> None:
    out = tmp_path / "out"
    path = out / name
    path.parent.mkdir(parents=True)
    (tmp_path / "mine.txt").write_text('{"mine": 1}\n')
    (data / "recipe.yaml").write_text(RECIPE)
    if kind == "file":
        path.write_text('{"mine": 1}\n')
    else:
        path.symlink_to(tmp_path / ("mine.txt" if kind == "link" else "nothing"))
    before = contents(tmp_path)
    done = p2r(*(word.replace("OUT", str(out)).replace("DATA", str(data)) for word in command))
    assert done.exit_code == 2, done.output
    assert "\n" not in done.stderr.strip()
    assert contents(tmp_path) == before


def test_a_recipe_is_not_replaced_by_a_run_in_its_folder(data: Path) -> None:
    (data / "recipe.yaml").write_text(RECIPE)
    done = p2r("train", data / "recipe.yaml", "--out", data)
    assert done.exit_code == 2
    assert "holds recipe.yaml but no run.json; give another folder" in done.stderr
    assert (data / "recipe.yaml").read_text() == RECIPE


def test_other_things_in_a_folder_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("mine")
    done = p2r("scenes", tmp_path, "-n", "1", "--size", "320x260")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "log.txt").read_text() == "mine"
    assert len(read_samples(tmp_path / "samples.jsonl")) == 1


def test_a_folder_of_scenes_that_was_left_half_way_is_continued(tmp_path: Path) -> None:
    assert p2r("scenes", tmp_path, "-n", "2", "--size", "320x260").exit_code == 0
    whole = contents(tmp_path)
    lines = (tmp_path / "samples.jsonl").read_text()
    (tmp_path / "samples.jsonl").write_text("")  # killed before the first line
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    assert p2r("scenes", tmp_path, "-n", "2", "--size", "320x260").exit_code == 0
    assert contents(tmp_path) == whole
    assert (tmp_path / "samples.jsonl").read_text() == lines


def test_two_commands_do_not_draw_into_one_folder(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        done = p2r("scenes", tmp_path, "-n", "1", "--size", "320x260")
    assert done.exit_code == 2
    assert "another process is writing" in done.stderr
    assert not (tmp_path / "samples.jsonl").exists()


@pytest.mark.parametrize("name", ["report.html", "link.html"])
def test_a_page_of_the_user_is_not_replaced_by_a_report(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "report.html").write_text("<p>mine</p>")
    (run / "link.html").symlink_to("report.html")
    done = p2r("report", run, *([] if name == "report.html" else ["--out", run / name]))
    assert done.exit_code == 2
    assert "is not a report of ours; give another name" in done.stderr
    assert (run / "report.html").read_text() == "<p>mine</p>"


@pytest.mark.parametrize("save", ["a.png", "link.png", "hard.png", "../data/a.png", "notes.png"])
def test_an_image_of_the_user_is_not_replaced_by_a_figure(
    data: Path, monkeypatch: pytest.MonkeyPatch, save: str
) -> None:
    monkeypatch.chdir(data)
    (data / "link.png").symlink_to("a.png")
    (data / "hard.png").hardlink_to(data / "a.png")
    (data / "notes.png").write_text("no image")
    before = contents(data)
    done = p2r("answer", "a.png", "Which?", "--model", "nano-base", "--save", save)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --save")
    assert contents(data) == before


def test_figures_of_the_demo_do_not_replace_images_of_the_user(tmp_path: Path) -> None:
    from p2r.cli.demo import FOLDER

    name = f"{read_samples(FOLDER / 'samples.jsonl')[0].question.id}.png"
    (tmp_path / name).write_text("mine")
    done = p2r("demo", "--out", tmp_path, "--model", "nano-base")
    assert done.exit_code == 2
    assert "is not a figure of ours" in done.stderr
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_that_is_a_link_is_replaced_itself_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to("mine")
    write_file(tmp_path / "link", "ours")
    assert ((tmp_path / "mine").read_text(), (tmp_path / "link").read_text()) == ("mine", "ours")


def test_what_is_claimed(tmp_path: Path) -> None:
    claim(tmp_path / "none", "mark", ["*"])
    (tmp_path / "model").mkdir()
    claim(tmp_path, "mark", ["models", "*.jsonl"])
    with pytest.raises(InputError, match="holds model but no mark; give another folder"):
        claim(tmp_path, "mark", ["model"])
    (tmp_path / "mark").touch()
    claim(tmp_path, "mark", ["model"])
