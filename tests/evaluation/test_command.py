"""`p2r eval` and `p2r report` from the command line, against a real server on loopback that misbehaves."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner

from p2r.cli import app
from p2r.runs.journal import read_lines
from tests import servers
from tests.evaluation.releases import vstar, write_parquet
from tests.evaluation.scripted import perception, write_questions

if TYPE_CHECKING:
    from pathlib import Path


def answer(exchange):
    """A right reply to a request: boxes for the perceiver, else the right letter."""
    text = json.dumps(exchange.body)
    k = int(text.partition("number ")[2].partition("?")[0])
    reply = perception(k) if "bbox_2d" in text else f"<think>…</think><answer>{'ABCD'[k % 4]}</answer>"
    servers.reply(reply)(exchange)


def p2r(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def evaluate(server_url, questions, out, *more):
    model = f"{server_url}#served"
    settings = questions.parent / "p2r.json"
    # Small images: what is tested here is not their making.
    settings.write_text(json.dumps({"budget": {"overview_max_pixels": 16_384, "crop_max_pixels": 16_384}}))
    options = ("--data", questions, "--model", model, "--settings", settings, "--out", out)
    return p2r("eval", "--benchmark", "jsonl", "--concurrency", 16, *options, *more)


@pytest.fixture
def questions(tmp_path):
    return write_questions(tmp_path / "data", 12)


def test_a_benchmark_from_the_command_line_and_its_page(tmp_path, questions):
    out = tmp_path / "run"
    with servers.Server(lambda _: answer) as server:
        done = evaluate(server.url, questions, out, "--mode", "p2r", "--mode", "direct", "--compare", "paper")
    assert done.exit_code == 0, done.output
    assert "Accuracy on jsonl" in done.output
    assert "Paired differences" in done.output
    assert "The paper has no figure for jsonl." in done.output
    page = p2r("report", out)
    assert page.exit_code == 0, page.output
    assert (out / "report.html").stat().st_size > 50_000
    both = p2r("report", out, out, "--out", tmp_path / "both.html")
    assert both.exit_code == 0, both.output
    config = json.loads((out / "config.json").read_text())
    assert config["sessions"][0]["command"].startswith("p2r")
    assert config["opening"]["data"] == str(questions.resolve())


def test_the_figures_as_json(tmp_path, questions):
    with servers.Server(lambda _: answer) as server:
        done = evaluate(server.url, questions, tmp_path / "run", "--json", "--limit", 8)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["modes"]["p2r"]["n"], summary["modes"]["p2r"]["accuracy"]) == (8, 1.0)


TROUBLES = [servers.status(500), servers.reset(), servers.garbage(), servers.half()]


@pytest.mark.long
def test_retries_repair_one_failing_call_in_ten(tmp_path):
    questions = write_questions(tmp_path / "data", 80)

    def every_tenth(position):
        return TROUBLES[position // 10 % len(TROUBLES)] if position % 10 == 0 else answer

    with servers.Server(every_tenth) as server:
        done = evaluate(server.url, questions, tmp_path / "run", "--json")
        asked = len(server.requests)
    assert asked > 160
    figures = json.loads(done.stdout)["modes"]["p2r"]
    assert (figures["n"], figures["failed"], figures["accuracy"]) == (80, 0, 1.0)


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        (servers.status(500), "the server failed (500)"),
        pytest.param(servers.reset(), "broke", marks=pytest.mark.long),
        pytest.param(servers.garbage(), "unreadable reply", marks=pytest.mark.long),
        (servers.status(401), "set P2R_API_KEY"),
    ],
)
def test_a_server_that_always_fails_stops_the_run_within_a_minute(tmp_path, questions, trouble, cause):
    out = tmp_path / "run"
    start, repaired = time.monotonic(), threading.Event()
    with servers.Server(lambda _: answer if repaired.is_set() else trouble) as server:
        done = evaluate(server.url, questions, out)
        assert time.monotonic() - start < 60
        assert done.exit_code == 3
        assert "of the last" in done.output
        assert cause in done.output
        assert "run the same command again" in done.output
        assert read_lines(out / "predictions-p2r.jsonl") == []
        assert json.loads((out / "summary.json").read_text())["modes"]["p2r"]["correct"] == 0
        repaired.set()
        done = evaluate(server.url, questions, out, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["modes"]["p2r"]["accuracy"] == 1.0


@pytest.mark.long
def test_an_unreachable_server_stops_the_run_within_a_minute(tmp_path, questions):
    start = time.monotonic()
    done = evaluate(servers.dead_url(), questions, tmp_path / "run")
    assert time.monotonic() - start < 60
    assert done.exit_code == 3
    assert "is the server running?" in done.output


def test_an_unreadable_image_sets_the_exit_code(tmp_path, questions):
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    (questions.parent / "broken.png").write_text("no image")
    rows[3]["image"] = "broken.png"
    questions.write_text("\n".join(json.dumps(row) for row in rows))
    with servers.Server(lambda _: answer) as server:
        done = evaluate(server.url, questions, tmp_path / "run")
    assert done.exit_code == 2
    assert "1 question(s); the same command asks them again" in done.output
    assert "q3" in done.output


def test_many_images_that_cannot_be_read_stop_the_run_as_wrong_input(tmp_path, questions):
    contents = [b"", b"no image", b"", b"\x89PNG\r\n\x1a\nbroken"]
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    for index, row in enumerate(rows):
        row["image"] = f"broken {index}.png"
        (questions.parent / row["image"]).write_bytes(contents[index % 4])
    questions.write_text("\n".join(json.dumps(row) for row in rows))
    with servers.Server(lambda _: answer) as server:
        done = evaluate(server.url, questions, tmp_path / "run")
    assert done.exit_code == 2, done.output
    assert "10 of the last 10 attempts failed because of their input, " in done.output
    assert " of them: …: the file is empty …; the last one: " in done.output
    assert "model" not in done.output
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["modes"]["p2r"]["failures"]["image"] in range(10, 20), "those that were on their way too"


def test_unreadable_rows_are_reported_separately(tmp_path):
    root = vstar(tmp_path / "vstar")
    table = root / "data/test-00000-of-00001.parquet"
    rows = pq.read_table(table).to_pylist()
    write_parquet(
        table, [*rows, {**rows[0], "label": "F"}, {**rows[1], "text": "No options here?"}], ("image",)
    )
    settings = tmp_path / "p2r.json"
    settings.write_text(json.dumps({"budget": {"overview_max_pixels": 16_384, "crop_max_pixels": 16_384}}))
    out = tmp_path / "run"
    with servers.Server(lambda _: servers.reply("B")) as server:
        options = ("--model", f"{server.url}#m", "--settings", settings, "--out", out, "--mode", "direct")
        done = p2r("eval", "--benchmark", "vstar", "--data", root, *options)
    assert done.exit_code == 0, done.output
    assert "2 of 5 rows cannot be read and are not asked, for example row 4: column 'label'" in done.output
    assert "Rows that could not be read and were not asked: 2 (row 4, row 5)." in " ".join(
        done.output.split()
    )
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["questions"], summary["modes"]["direct"]["n"], summary["complete"]) == (3, 3, True)
    assert [row["row"] for row in summary["unreadable"]] == ["row 4", "row 5"]


def test_scenes_need_no_judge_and_a_larger_limit_extends_the_run(tmp_path):
    settings = tmp_path / "p2r.json"
    settings.write_text(json.dumps({"budget": {"overview_max_pixels": 16_384, "crop_max_pixels": 16_384}}))
    options = (
        "--settings",
        settings,
        "--out",
        tmp_path / "run",
        "--mode",
        "direct",
        "--size",
        "320x256",
        "--json",
    )
    with servers.Server(lambda _: servers.reply("A")) as server:

        def scenes(limit):
            return p2r("eval", "-b", "scenes", "--model", f"{server.url}#m", "--limit", limit, *options)

        first = scenes(12)
        assert first.exit_code == 0, first.output
        assert "free-form" not in first.output
        asked = len(server.requests)
        more = scenes(15)
        assert more.exit_code == 0, more.output
        assert len(server.requests) == asked + 3
        fewer = scenes(10)
    assert json.loads(more.stdout)["modes"]["direct"]["n"] == 15
    assert fewer.exit_code == 2
    assert "questions was 15, is 10; a run can be extended by a larger --limit" in " ".join(
        fewer.output.split()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--benchmark", "nope"), "unknown benchmark 'nope': one of scenes, vstar"),
        (("--benchmark", "jsonl"), "needs --data"),
        (("--benchmark", "scenes", "--size", "huge"), "size 'huge'"),
        (("--benchmark", "vstar", "--data", "missing"), "no such file or folder"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(tmp_path, arguments, message):
    done = p2r("eval", *arguments, "--model", servers.dead_url(), "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert message in done.output
    assert done.output.count("\n") == 1


def test_a_report_needs_a_run(tmp_path):
    done = p2r("report", tmp_path)
    assert done.exit_code == 2
    assert "is not a run folder: it has no config.json; p2r eval, batch and train make one" in done.output
    nowhere = p2r("report", tmp_path / "nope")
    assert nowhere.exit_code == 2
    assert "there is no such folder" in nowhere.output
    three = p2r("report", tmp_path, tmp_path, tmp_path)
    assert three.exit_code == 2
    assert "unexpected extra argument" in three.output


def test_a_report_is_written_where_help_says_and_replaces_reports_only(tmp_path, questions):
    first, second = tmp_path / "first", tmp_path / "second"
    with servers.Server(lambda _: answer) as server:
        for out in (first, second):
            evaluate(server.url, questions, out, "--limit", 2, "--mode", "direct")
    for _ in range(2):
        assert p2r("report", first).exit_code == 0
        assert p2r("report", first, second).exit_code == 0
    assert (first / "report.html").is_file()
    assert (first / "report-against-second.html").is_file()
    assert p2r("report", second, "--out", first / "report.html").exit_code == 0, "it is a report"
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine</p>")
    for target, says in [
        (mine, "is not a report"),
        (tmp_path, "a folder"),
        (tmp_path / "no" / "x.html", "no folder"),
    ]:
        refused = p2r("report", first, "--out", target)
        assert refused.exit_code == 2
        assert says in refused.output
    assert mine.read_text() == "<p>mine</p>"


def test_input_errors_come_before_the_first_model_call(tmp_path, questions):
    (tmp_path / "file").write_text("")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "summary.json").write_text("mine")
    with servers.Server(lambda _: answer) as server:
        out = tmp_path / "run"
        evaluate(server.url, questions, out, "--limit", 2, "--mode", "direct")
        asked = len(server.requests)
        refusals: list[tuple[Path, list[Any], str]] = [
            (tmp_path / "file", [], "it is a file"),
            (tmp_path / "file" / "run", [], "is a file"),
            (taken, [], "holds summary.json but no config.json"),
            (out, ["--seed", 5], "was started with other settings: seed was 0, is 5"),
            (tmp_path / "new", ["--judge", "nope"], "unknown model 'nope'"),
            (tmp_path / "new", ["--reasoner", "nope"], "unknown model 'nope'"),
            (tmp_path / "new", ["--prompts", "nope.toml"], "nope.toml: there is no such file"),
        ]
        for folder, more, says in refusals:
            refused = evaluate(server.url, questions, folder, "--limit", 2, "--mode", "direct", *more)
            assert refused.exit_code == 2, refused.output
            assert says in refused.output
            assert "Errno" not in refused.output
        assert len(server.requests) == asked
        assert server.models_asked == 0
    assert (taken / "summary.json").read_text() == "mine"
    assert not (tmp_path / "new").exists()


def test_questions_without_gold_answers_get_a_hint(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"image": "a.png", "question": "Which?"}\n')
    done = p2r("eval", "-b", "jsonl", "--data", questions, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "line 1: answer: is missing" in done.output
    assert "P2R.answer_many" in done.output


def test_verbose_names_every_failure(tmp_path, questions):
    with servers.Server(lambda _: servers.status(400, message="not today")) as server:
        done = evaluate(server.url, questions, tmp_path / "run", "--limit", 3, "--mode", "direct", "-v")
    assert done.exit_code == 3
    assert done.stderr.count("in mode direct failed: ") == 3


def test_the_latency_note_mentions_waiting(tmp_path, questions):
    with servers.Server(lambda _: answer) as server:
        done = evaluate(server.url, questions, tmp_path / "run", "--limit", 2, "--mode", "direct")
    assert "latency (s)" in done.output
    assert "with 16 questions in flight: it includes waiting" in " ".join(done.output.split())
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["concurrency"] == 16
