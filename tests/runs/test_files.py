"""Files that are replaced in one step, JSON objects, and the lock of a folder."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from p2r.errors import InputError
from p2r.runs.files import NO_LIMIT, folder_lock, read_json, replacing, write_json

if TYPE_CHECKING:
    from pathlib import Path


def test_json_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2} == read_json(path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def partial_file(path: Path) -> None:
    path.write_text("new")
    raise FileNotFoundError


def partial_folder(path: Path) -> None:
    path.mkdir()
    raise FileNotFoundError


def test_a_block_that_fails_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    for make in (partial_file, partial_folder):
        with pytest.raises(FileNotFoundError), replacing(path) as partial:
            make(partial)
    assert path.read_text() == "old"
    with replacing(path) as partial:
        assert not partial.exists()  # what the failed block left is removed
        partial.write_text("new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("x.txt", "new")]


def test_a_folder_is_replaced_whole_too(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with replacing(tmp_path / "model") as partial:
            partial.mkdir()
            (partial / name).touch()
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")] == ["model", "model/b"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[1]", "it holds no JSON object"),
        (b"{", "it is not JSON: "),
        (b"\xff", "it is not a text file"),
        (None, "there is no such file"),
    ],
)
def test_a_file_without_an_object_is_named(tmp_path: Path, body: bytes | None, problem: str) -> None:
    path = tmp_path / "x.json"
    if body is not None:
        path.write_bytes(body)
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: {problem}')}.*; delete it$"):
        read_json(path, hint="delete it")


def test_two_writers_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path),
        pytest.raises(InputError, match="another process is writing this run"),
        folder_lock(tmp_path),
    ):
        pass
    with folder_lock(tmp_path):
        pass


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    def second() -> None:
        with folder_lock(tmp_path, wait_s=NO_LIMIT):
            pass

    with ThreadPoolExecutor(1) as pool:
        with folder_lock(tmp_path):
            waiting = pool.submit(second)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
        waiting.result(timeout=10)


def test_a_lock_makes_its_folder_or_says_why_not(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "runs" / "one"):
        assert (tmp_path / "runs" / "one").is_dir()
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"cannot write .*file.run: Not a directory; give --out another"),
        folder_lock(tmp_path / "file" / "run"),
    ):
        pass
