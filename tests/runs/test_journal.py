"""Complete lines are never lost, and incomplete ones are never read."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from p2r.errors import InputError
from p2r.runs.files import write_json
from p2r.runs.journal import Journal, read_lines


def test_what_is_appended_is_read_back(tmp_path):
    path = tmp_path / "a.jsonl"
    with Journal(path) as journal:
        assert journal.records == []
        for k in range(100):
            journal.append({"id": k, "text": "zwei\nZeilen · 二"})
    with Journal(path) as journal:
        assert [record["id"] for record in journal.records] == list(range(100))
        assert journal.repaired == 0
    assert read_lines(path) == journal.records


def test_a_line_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "a.jsonl"
    with Journal(path) as journal:
        journal.append({"id": 1})
        assert read_lines(path) == [{"id": 1}]


WHOLE = b'{"id": 1}\n{"id": 2}\n'


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        (WHOLE + b'{"id": 3, "te', [1, 2]),
        (WHOLE + b'{"id": 3}', [1, 2]),  # whole but for its newline: it may be the head of a longer line
        (WHOLE + b"\0\0\0\0", [1, 2]),
        (WHOLE + b"\0\0\0\0\n", [1, 2]),
        (b'{"id": 1}\n\0\0d": 2}\n{"id": 3}\n', [1, 3]),
        (b"null\n[1]\n" + WHOLE, [1, 2]),
        (b"\xff\xfe\n" + WHOLE, [1, 2]),
        (b'{"te', []),
        (b"", []),
    ],
)
def test_torn_lines_are_removed_before_anything_is_appended(tmp_path, data, ids):
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    assert [record["id"] for record in read_lines(path)] == ids
    assert path.read_bytes() == data  # reading repairs nothing
    with Journal(path) as journal:
        assert [record["id"] for record in journal.records] == ids
        assert (journal.repaired > 0) == bool(data.replace(WHOLE, b""))
        journal.append({"id": 99})
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [*ids, 99]


def test_every_cut_through_a_file_keeps_the_whole_lines(tmp_path):
    lines = [json.dumps({"id": k, "text": "ä" * k}, ensure_ascii=False).encode() + b"\n" for k in range(5)]
    data = b"".join(lines)
    path = tmp_path / "a.jsonl"
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        with Journal(path) as journal:
            kept = [record["id"] for record in journal.records]
            journal.append({"id": "next"})
        assert kept == list(range(data[:cut].count(b"\n")))
        assert [record["id"] for record in read_lines(path)] == [*kept, "next"]


def fill_the_disk(limit: int, path: str) -> None:
    """Run in a process of its own: no file may grow over `limit` bytes, so that a write comes up short."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with Journal(Path(path)) as journal:
        for k in range(1000):
            journal.append({"id": k, "text": "x" * 90})


@pytest.mark.parametrize("limit", [1024, 1085])
def test_a_full_disk_stops_clearly_and_leaves_whole_lines(tmp_path, limit):
    path = tmp_path / "a.jsonl"
    code = f"import test_journal; test_journal.fill_the_disk({limit}, {str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert (
        f"cannot write {path}: File too large; free some space and run the same command again" in done.stderr
    )
    data = path.read_bytes()
    assert data.endswith(b"\n")
    kept = [record["id"] for record in read_lines(path)]
    assert kept == list(range(limit // len(data.splitlines(keepends=True)[0])))


def test_a_device_without_space(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    path = tmp_path / "a.jsonl"
    path.touch()
    with Journal(path) as journal:
        journal.append({"id": 1})
    full = Journal(path)
    # The same descriptor number, now on a device that is always full.
    with Path("/dev/full").open("wb") as device:
        os.dup2(device.fileno(), full._file.fileno())
    with pytest.raises(InputError, match="No space left on device; free some space"):
        full.append({"id": 2})
    full.close()
    assert read_lines(path) == [{"id": 1}]


def test_numbers_that_json_does_not_know_are_refused(tmp_path):
    with Journal(tmp_path / "a.jsonl") as journal, pytest.raises(ValueError, match="JSON compliant"):
        journal.append({"x": float("nan")})


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(
        InputError, match=r"cannot write .*a.jsonl: Is a directory; give --out another folder"
    ):
        Journal(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match="cannot write"):
        write_json(tmp_path / "missing" / "x.json", {})
