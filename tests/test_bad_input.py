"""Unusable input ends with one clear line on stderr, nothing on stdout, and the right exit code."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from p2r.cli import app
from tests.servers import Server, dead_url, garbage, half, reply, status

if TYPE_CHECKING:
    from collections.abc import Callable

NOWHERE = "http://127.0.0.1:9/v1#never-asked"


def jpeg(path: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (400, 600, 3), np.uint8)
    PIL.Image.fromarray(noise).save(path, quality=90)
    return path.read_bytes()


def png_of_size(width: int, height: int) -> bytes:
    """A small file whose header promises a huge image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def missing(path: Path) -> None:
    pass


def text_file(path: Path) -> None:
    path.write_text("I am no image, whatever my name says.\n" * 10)


def truncated(path: Path) -> None:
    path.write_bytes(jpeg(path)[:9000])


def bomb(path: Path) -> None:
    path.write_bytes(png_of_size(60_000, 60_000))


def empty(path: Path) -> None:
    path.touch()


def folder(path: Path) -> None:
    path.mkdir()


def refuse(*arguments: object, code: int = 2) -> str:
    """Run `p2r`, check that it refuses properly, and return its one line."""
    result = CliRunner().invoke(app, [str(part) for part in arguments])
    assert result.exit_code == code, result.output
    return one_line(result.stdout, result.stderr)


def one_line(stdout: str, stderr: str) -> str:
    assert stdout == ""
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("error: ")
    return stderr


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing, "no such file"),
        (text_file, "this is a text file"),
        (truncated, "damaged"),
        (bomb, "pixels"),
        (empty, "empty"),
        (folder, "folder"),
    ],
)
def test_an_unusable_image(make: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    path = tmp_path / "street.jpg"
    make(path)
    line = refuse("answer", path, "What?", "--model", NOWHERE)
    assert "street.jpg" in line, "the offender is named"
    assert says in line.lower()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([""], "the question is empty"),
        (["  "], "the question is empty"),
        (["What?", "--choice", "only"], "one choice is none"),
        (["What?", "--choice", "red", "--choice", " "], "a choice is empty"),
        (["What?", "--type", "choice"], "needs at least two choices"),
        (["What?", "--type", "number", "--choice", "a", "--choice", "b"], "takes no choices"),
        (["What?", "--prompts", "none.toml"], "none.toml"),
        (["What?", "--settings", "none.json"], "none.json"),
        (["What?", "--save", "none/figure.png"], "there is no folder none"),
        (["What?", "--save", "."], "a folder"),
        (["What?", "--save", "figure.txt"], ".png, .jpg"),
        (["What?", "--save", "figure"], "for example figure.png"),
    ],
)
def test_an_unusable_question(arguments: list[str], says: str, tmp_path: Path) -> None:
    jpeg(tmp_path / "street.jpg")
    assert says in refuse("answer", tmp_path / "street.jpg", *arguments, "--model", NOWHERE)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("mine.toml", 'perceive = "no placeholder"', "$question is missing"),
        ("mine.toml", 'see = "x"', "unknown key 'see'"),
        ("p2r.json", '{"geometry": {"max_crop": 2}}', "max_crop"),
        ("p2r.json", "{", "p2r.json"),
    ],
)
def test_a_file_of_settings_that_cannot_be_used(name: str, content: str, says: str, tmp_path: Path) -> None:
    jpeg(tmp_path / "street.jpg")
    (tmp_path / name).write_text(content)
    option = "--prompts" if name.endswith("toml") else "--settings"
    line = refuse("answer", tmp_path / "street.jpg", "What?", option, tmp_path / name, "--model", NOWHERE)
    assert says in line


def test_a_figure_that_cannot_be_written_is_refused_before_the_model_is_asked(tmp_path: Path) -> None:
    jpeg(tmp_path / "street.jpg")
    with Server() as server:
        refuse(
            "answer", tmp_path / "street.jpg", "What?", "--model", f"{server.url}#served", "--save", tmp_path
        )
        assert not server.requests


def test_a_disk_that_is_full_is_one_line(tmp_path: Path) -> None:
    jpeg(tmp_path / "street.jpg")
    with Server() as server:
        arguments = ["answer", tmp_path / "street.jpg", "What?", "--model", f"{server.url}#served"]
        # No file may grow beyond a kilobyte.
        limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "-", sys.executable, "-B", "-m", "p2r"]
        command = [*limited, *map(str, arguments), "--save", str(tmp_path / "figure.png")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert "answer" in result.stdout, "the answer is shown all the same"
    assert "figure.png" in result.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["street.jpg"]


def test_the_input_image_is_never_overwritten(tmp_path: Path) -> None:
    before = jpeg(tmp_path / "street.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "street.jpg")
    PIL.Image.new("RGB", (20, 20)).save(tmp_path / "other.png")
    for name, says in [
        ("street.jpg", "it is the image of the question"),
        ("link.jpg", "it is the image of the question"),
        ("other.png", "it is there already and is not a figure of ours"),
    ]:
        arguments = [
            "answer",
            tmp_path / "street.jpg",
            "What?",
            "--save",
            tmp_path / name,
            "--model",
            NOWHERE,
        ]
        assert says in refuse(*arguments)
    assert (tmp_path / "street.jpg").read_bytes() == before


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\x01")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing, "there is no such file; "),
        (folder, "it is a folder, not a file"),
        (binary, "it is not a text file (UTF-8)"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("answer", "street.jpg", "What?", "--prompts", "FILE"),
        ("eval", "-b", "scenes", "-o", "run", "--prompts", "FILE"),
        ("eval", "-b", "scenes", "-o", "run", "--settings", "FILE"),
        ("eval", "-b", "jsonl", "-o", "run", "--data", "FILE"),
        ("train", "FILE", "--check"),
        ("serve", "--api-key-file", "FILE"),
        ("doctor", "--prompts", "FILE"),
    ],
    ids=lambda command: f"{command[0]} {command[-2]}",
)
def test_an_unreadable_file_has_a_plain_message(
    command: tuple[str, ...],
    make: Callable[[Path], None],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    jpeg(tmp_path / "street.jpg")
    make(tmp_path / "file.x")
    line = refuse(*(part.replace("FILE", "file.x") for part in command))
    if make is folder and command[-2] in ("--settings", "--data"):  # a folder may hold the file
        says = "there is no such file; "
    assert "file.x" in line
    assert says in line
    assert "Errno" not in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--save", "--prompts", "--settings"])
def test_the_home_folder_may_be_a_tilde(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    jpeg(tmp_path / "street.jpg")
    line = refuse("answer", "~/street.jpg", "What?", option, "~/none/at/all.png", "--model", NOWHERE)
    assert f"{tmp_path}/none/at" in line


@pytest.mark.parametrize(
    "arguments", [[], ["x.jpg"], ["x.jpg", "What?", "--mode", "see"], ["x.jpg", "What?", "-x"]]
)
def test_wrong_usage_says_what_is_expected(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["answer", *arguments])
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert "Error: " in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("./no/such/folder", "no/such/folder"),
        ("http://", "http://"),
        ("ftp://host/v1#name", "ftp://host"),
        ("", "model"),
    ],
)
def test_an_unknown_model(spec: str, says: str, tmp_path: Path) -> None:
    jpeg(tmp_path / "street.jpg")
    assert says in refuse("answer", tmp_path / "street.jpg", "What?", "--model", spec)


@pytest.mark.long
def test_standard_output_that_is_full_or_cannot_show_a_sign(tmp_path: Path) -> None:
    jpeg(tmp_path / "street.jpg")
    boxes = '[{"bbox_2d": [1, 2, 300, 400], "label": "caf\u00e9"}]'
    with Server([lambda exchange: reply(boxes + "<answer>A</answer>")(exchange)]) as server:
        options = ["What? (A) a (B) b", "--model", f"{server.url}#served"]
        command = [sys.executable, "-m", "p2r", "answer", str(tmp_path / "street.jpg"), *options]
        plain = os.environ | {"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
        shown = subprocess.run(command, capture_output=True, text=True, env=plain)
        full = None
        if Path("/dev/full").exists():
            with Path("/dev/full").open("w") as nowhere:
                full = subprocess.run(command, stdout=nowhere, stderr=subprocess.PIPE, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "caf\\xe9" in shown.stdout
    if full is not None:
        assert full.returncode == 2
        assert "cannot write to standard output" in one_line("", full.stderr)


# Servers that fail, called by real processes side by side, because each call is retried with pauses.

FAILURES = {
    "dead": (None, "cannot reach"),
    "500": (status(500, retry_after=0), "the server failed (500)"),
    "429": (status(429, retry_after=0), "overloaded (429)"),
    "garbage": (garbage(), "unreadable reply"),
    "half a reply": (half(), "in the middle of its reply"),
}


def ask_failing(image: Path, name: str) -> subprocess.CompletedProcess[str]:
    behavior, _ = FAILURES[name]
    server = Server([behavior] if behavior else ())
    url = server.url if behavior else dead_url()
    command = [sys.executable, "-m", "p2r", "answer", str(image), "What?", "--model", f"{url}#served"]
    with server:
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"})


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    image = tmp_path_factory.mktemp("failing") / "street.jpg"
    jpeg(image)
    with ThreadPoolExecutor(len(FAILURES)) as pool:
        return dict(zip(FAILURES, pool.map(lambda name: ask_failing(image, name), FAILURES), strict=True))


@pytest.mark.long  # each waits for its retries
@pytest.mark.parametrize("name", FAILURES)
def test_a_server_that_fails(name: str, failed: dict[str, subprocess.CompletedProcess[str]]) -> None:
    run = failed[name]
    assert run.returncode == 3
    assert FAILURES[name][1] in one_line(run.stdout, run.stderr)
