"""A password in the URL of a model is sent, and appears in no file, page or output."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from p2r.cli import app
from p2r.errors import InputError
from p2r.models import open_model
from p2r.runs.files import folder_lock
from tests import servers
from tests.evaluation.scripted import write_questions

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = ("pass-word-77", "pass%2Dword-77", "query-secret-88", "dXNlcjpwYXNzLXdvcmQtNzc", "key-from-env-99")


def p2r(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def with_login(url: str) -> str:
    return url.replace("://", "://user:pass%2Dword-77@") + "?code=query-secret-88#served"


def leaks(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(one.encode() in path.read_bytes() for one in SECRETS)]


def echo(exchange: servers.Exchange) -> None:
    """A server that repeats every request."""
    said = f"no access with {exchange.headers['authorization']} at {exchange.path}, user pass-word-77"
    servers.status(403, message=said)(exchange)


@pytest.fixture
def small_images(tmp_path: Path) -> Path:
    path = tmp_path / "p2r.json"
    path.write_text(json.dumps({"budget": {"overview_max_pixels": 16_384, "crop_max_pixels": 16_384}}))
    return path


@pytest.mark.parametrize("fails", [False, True])
def test_an_evaluation_sends_a_password_and_writes_it_nowhere(
    tmp_path: Path, small_images: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setenv("P2R_API_KEY", "key-from-env-99")
    questions, out = write_questions(tmp_path / "data", 3), tmp_path / "run"
    behave = echo if fails else servers.reply("<answer>A</answer>")
    with servers.Server([behave]) as server:
        url = with_login(server.url)
        monkeypatch.setattr("sys.argv", ["p2r", "eval", "--model", url, f"--judge={url}"])
        asked = ("eval", "-b", "jsonl", "--data", questions, "--out", out, "--mode", "direct", "-v")
        done = p2r(*asked, "--model", url, "--judge", url, "--settings", small_images)
        again = p2r(*asked, "--model", url, "--judge", url, "--settings", small_images, "--json")
    assert done.exit_code == again.exit_code == (3 if fails else 0), done.output
    page = p2r("report", out)
    assert page.exit_code == 0, page.output
    headers = {one.headers["authorization"] for one in server.requests}
    assert headers == {"Basic dXNlcjpwYXNzLXdvcmQtNzc="}
    assert leaks(out) == []
    assert (out / "report.html").is_file()
    identity = json.loads((out / "config.json").read_text())["identity"]
    assert identity["model"] == identity["judge"] == server.url + "?code=…#served"
    text = done.output + done.stderr + again.output + again.stderr + page.output
    assert [secret for secret in SECRETS if secret in text] == []


@pytest.mark.long
def test_an_answer_and_the_doctor_do_not_show_it(tmp_path: Path, small_images: Path) -> None:
    image = write_questions(tmp_path / "data", 1).parent / "x.png"
    with servers.Server([echo]) as server:
        url = with_login(server.url)
        shown = [
            p2r("answer", image, "Which?", "--model", url, "--settings", small_images, "-vv", *more)
            for more in ([], ["--json"])
        ]
        shown.append(p2r("doctor", "--model", url, "--settings", small_images))
        shown.append(p2r("doctor", "--model", url, "--settings", small_images, "--json"))
    for done in shown:
        assert done.exit_code == 3
        assert "no access with" in done.output + done.stderr
        assert [secret for secret in SECRETS if secret in done.output + done.stderr] == []


@pytest.mark.parametrize(
    "spec",
    [
        "http://user:pass-word-77@host:port/v1#m",
        "http://user:pass-word-77@/v1",
        "ftp://user:pass-word-77@host",
        "http://user:pass-word-77@host/v1#m,unknown=1",
        "http://user:pass#word-77/@host/v1",
    ],
)
def test_an_error_about_a_spec_does_not_show_it(spec: str) -> None:
    with pytest.raises(InputError) as caught:
        open_model(spec)
    assert "word-77" not in str(caught.value)


@pytest.mark.parametrize("option", ["extra_body.api_key=abcdef", "extra_body.headers.Authorization=abcdef"])
def test_a_key_among_the_options_is_refused_because_they_are_written_down(option: str) -> None:
    with pytest.raises(InputError, match="a key must not be: set P2R_API_KEY") as caught:
        open_model(f"http://host/v1#m,{option}")
    assert "abcdef" not in str(caught.value)


def test_a_run_that_another_process_writes_is_left_as_it_is(tmp_path: Path, small_images: Path) -> None:
    questions, out = write_questions(tmp_path / "data", 3), tmp_path / "run"
    with servers.Server([servers.reply("<answer>A</answer>")]) as server:
        asked = ["eval", "-b", "jsonl", "--data", questions, "--out", out, "--mode", "direct"]
        asked += ["--model", f"{server.url}#served", "--settings", small_images]
        assert p2r(*asked).exit_code == 0
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        with folder_lock(out):
            refused = p2r(*asked, "--mode", "think")
    assert refused.exit_code == 2
    assert "another process is writing this run" in refused.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
