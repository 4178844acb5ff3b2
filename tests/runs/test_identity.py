"""Whether a folder holds the run that a command would continue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from p2r.errors import InputError
from p2r.runs.files import check_same_run, read_run_file, write_json

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY: dict[str, Any] = {"seed": 0, "recipe": {"rounds": [{"steps": 4}]}, "sizes": (1, 2), "gone": None}


def test_the_same_run_is_continued(tmp_path: Path) -> None:
    check_same_run(tmp_path, {"seed": 0, "recipe": {"rounds": [{"steps": 4}]}, "sizes": [1, 2]}, IDENTITY)


def test_every_value_that_differs_is_named(tmp_path: Path) -> None:
    before = {"seed": 1, "recipe": {"rounds": [{"steps": 8}], "old": "x" * 90}, "sizes": [1]}
    with pytest.raises(
        InputError,
        match=re.escape(
            f'{tmp_path} was started with other settings: recipe.old was "{"x" * 56}…, is null; '
            "recipe.rounds.0.steps was 8, is 4; seed was 1, is 0; sizes was [1], is [1, 2]; "
            "give --out another folder"
        ),
    ):
        check_same_run(tmp_path, before, IDENTITY)


@pytest.mark.parametrize("data", [{}, {"identity": {}}, {"identity": 1, "sessions": []}])
def test_a_file_that_is_no_run_file_is_refused(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "run.json"
    write_json(path, data)
    with pytest.raises(InputError, match=r"run.json was not written by p2r train; give --out another folder"):
        read_run_file(path, "p2r train")


def test_a_run_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"identity": {"seed": 0}, "sessions": [], "more": 1})
    assert read_run_file(path, "p2r train")["more"] == 1
