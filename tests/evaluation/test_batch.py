"""Many questions without gold answers: sources, results, and continuing a run."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
import re
import shutil
import signal
from pathlib import Path

import PIL.Image
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from rich.console import Console

from p2r.datasets.questions import InvalidRow, QuestionSource
from p2r.errors import InputError, ModelError
from p2r.evaluation.batch import BatchPlan, answered, run_batch
from p2r.pipeline import P2R
from p2r.report.batch import chosen
from p2r.runs.journal import read_lines
from tests import servers
from tests.evaluation.long_run import Launcher
from tests.evaluation.scripted import QUIET, model, reply
from tests.evaluation.test_command import p2r
from tests.evaluation.test_interruptions import kill_when, lines_in
from tests.fake_model import FakeModel, failure
from tests.report.test_evaluation import data_of

CHOICES = ["red", "green", "blue", "white"]


def write_rows(folder, n, **changes: str):
    """`n` rows of JSON lines without gold answers; `changes` maps the name of a row (`q3`) to its line."""
    folder.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (64, 64), "gray").save(folder / "x.png")
    rows = [
        {"id": f"q{k}", "image": "x.png", "question": f"What is number {k}?", "choices": CHOICES}
        for k in range(n)
    ]
    lines = [changes.get(f"q{k}", json.dumps(row)) for k, row in enumerate(rows)]
    path = folder / "questions.jsonl"
    path.write_text("\n".join(lines))
    return path


def batch(source, out, asked=None, console=QUIET, **options):
    source = source if isinstance(source, QuestionSource) else QuestionSource(source)
    plan = BatchPlan(source, out, asked or model(), **options)
    return asyncio.run(run_batch(plan, console))


def results(out):
    return {line["id"]: line for line in read_lines(out / "results.jsonl")}


def test_every_row_gets_a_line_and_a_row_of_the_table(tmp_path):
    summary = batch(write_rows(tmp_path / "data", 20), tmp_path / "run")
    lines = read_lines(tmp_path / "run" / "results.jsonl")
    assert sorted(line["row"] for line in lines) == list(range(1, 21))
    one = results(tmp_path / "run")["q1"]
    assert (one["image"], one["question"], one["choices"]) == ("x.png", "What is number 1?", CHOICES)
    assert (one["status"], one["answer"], one["mode"], one["error"]) == ("answered", "B", "p2r", "")
    assert one["boxes"] == [{"box": [400.0, 400.0, 500.0, 500.0], "label": "it"}]
    assert one["usage"]["calls"] == 2
    table = pq.read_table(tmp_path / "run" / "results.parquet").to_pylist()
    assert [row["id"] for row in table] == [line["id"] for line in lines]
    row = next(row for row in table if row["id"] == "q1")
    assert row["boxes"] == [{**box, "image": None} for box in one["boxes"]]
    assert row["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert (summary.rows, summary.answered, summary.failed) == (20, 20, 0)
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert written == summary.to_json()
    assert written["complete"]
    assert written["answers"] == {
        letter: sum(line["answer"] == letter for line in lines) for letter in "ABCD"
    }


def as_csv(rows, folder):
    path = folder / "q.csv"
    with path.open("w", newline="") as file:
        # As pandas writes it: the index is a column without a name. Options are lettered lines.
        table = csv.writer(file)
        table.writerow(["", "id", "image", "question", "choices"])
        for index, row in enumerate(rows):
            options = "\n".join(
                f"{letter}. {text}" for letter, text in zip("ABCD", row["choices"], strict=True)
            )
            table.writerow([index, row["id"], row["image"], row["question"], options])
    return path


def as_parquet(rows, folder):
    pixels = (folder / "x.png").read_bytes()
    rows = [{**row, "image": {"bytes": pixels, "path": None}} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), folder / "q.parquet")
    return folder / "q.parquet"


@pytest.mark.parametrize("write", [as_csv, as_parquet])
def test_tables_are_answered_as_json_lines_are(tmp_path, write):
    questions = write_rows(tmp_path / "data", 12)
    batch(questions, tmp_path / "lines")
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    batch(write(rows, tmp_path / "data"), tmp_path / "run")
    same = ("row", "question", "choices", "answer", "boxes", "text", "usage")
    expected, found = results(tmp_path / "lines"), results(tmp_path / "run")
    assert found.keys() == expected.keys()
    for name, line in found.items():
        assert [line[key] for key in same] == [expected[name][key] for key in same]


def test_a_folder_is_asked_one_question(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "more/c.webp", ".hidden.png"):
        PIL.Image.new("RGB", (64, 64)).save(folder / name, format="PNG")
    (folder / "notes.txt").write_text("no image")
    source = QuestionSource(folder, "What is number 4?", ("red", "blue"))
    batch(source, tmp_path / "run")
    lines = read_lines(tmp_path / "run" / "results.jsonl")
    assert sorted((line["row"], line["id"], line["image"]) for line in lines) == [
        (1, "a.JPG", "a.JPG"),
        (2, "b.png", "b.png"),
        (3, "more/c.webp", "more/c.webp"),
    ]
    assert {tuple(line["choices"]) for line in lines} == {("red", "blue")}
    with pytest.raises(InputError, match="a folder of images needs a question; give --question TEXT"):
        QuestionSource(folder)


def test_a_row_may_have_several_images(tmp_path):
    row = json.dumps(
        {"id": "q1", "images": ["x.png", "y.png"], "question": "What is number 1?", "choices": CHOICES}
    )
    questions = write_rows(tmp_path / "data", 3, q1=row)
    PIL.Image.new("RGB", (64, 64)).save(tmp_path / "data" / "y.png")
    assert batch(questions, tmp_path / "run").answered == 3
    line = results(tmp_path / "run")["q1"]
    assert (line["image"], line["images"]) == ("x.png", ["x.png", "y.png"])
    asked = model()
    assert batch(questions, tmp_path / "run", asked).answered == 3
    assert asked.calls == []


def test_rows_that_cannot_be_asked_are_named_and_stop_nothing(tmp_path):
    broken = {
        "q2": "{",
        "q3": '{"image": "x.png"}',
        "q4": '{"image": "nowhere.png", "question": "What is number 4?"}',
        "q5": '{"id": "q5", "image": "torn.png", "question": "What is number 5?"}',
        "q6": "[1]",
    }
    questions = write_rows(tmp_path / "data", 30, **broken)
    (tmp_path / "data" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    shown = io.StringIO()
    summary = batch(questions, tmp_path / "run", console=Console(file=shown, width=200))
    assert "4 of 30 rows cannot be asked and will fail, for example row 3: not JSON" in shown.getvalue()
    assert (summary.rows, summary.answered, summary.failed) == (30, 25, 5)
    assert summary.failures == {"row": 3, "image": 2}
    lines = results(tmp_path / "run")
    assert lines["4"]["error"] == "the row: column 'question' is missing; found: 'image'"
    assert "nowhere.png" in lines["5"]["error"]
    assert lines["q5"]["status"] == "failed"
    assert lines["q5"]["question"] == "What is number 5?"
    assert "torn.png" in lines["q5"]["error"]


def test_many_broken_images_stop_nothing(tmp_path):
    questions = write_rows(tmp_path / "data", 60)
    (tmp_path / "data" / "x.png").write_bytes(b"")
    assert batch(questions, tmp_path / "run").failures == {"image": 60}


def test_failing_calls_stop_the_run_and_the_same_command_continues(tmp_path):
    questions = write_rows(tmp_path / "data", 100)
    broken = FakeModel(lambda messages: failure(), name="scripted")
    with pytest.raises(ModelError, match="10 of the last 10 attempts failed, all of them: scripted failure"):
        batch(questions, tmp_path / "run", broken, concurrency=4)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert not summary["complete"]
    assert summary["failures"]["server"] >= 10
    asked = model()
    assert batch(questions, tmp_path / "run", asked).answered == 100
    assert len(asked.calls) == 200
    assert len(read_lines(tmp_path / "run" / "results.jsonl")) == 100


def test_the_same_command_asks_nothing_twice(tmp_path):
    questions = write_rows(tmp_path / "data", 20, q2="{")
    first = batch(questions, tmp_path / "run")
    before = (tmp_path / "run" / "results.jsonl").read_bytes()
    asked = model()
    assert batch(questions, tmp_path / "run", asked) == first
    assert asked.calls == []
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == before


def test_rows_that_were_added_corrected_or_moved_are_asked_and_no_others(tmp_path):
    questions = write_rows(tmp_path / "data", 10, q2="{")
    batch(questions, tmp_path / "run")
    rows = write_rows(tmp_path / "data", 13).read_text().splitlines()
    questions.write_text("\n".join(reversed(rows)))
    asked = model()
    summary = batch(questions, tmp_path / "run", asked)
    assert (summary.rows, summary.answered, summary.failed) == (13, 13, 0)
    assert {int(re.findall(r"number (\d+)", call.text)[0]) for call in asked.calls} == {2, 10, 11, 12}
    assert sorted(results(tmp_path / "run")) == sorted(f"q{k}" for k in range(13))


def test_a_folder_with_answers_to_other_questions_is_refused(tmp_path):
    batch(write_rows(tmp_path / "data", 10), tmp_path / "run")
    before = (tmp_path / "run" / "results.jsonl").read_bytes()
    shorter = write_rows(tmp_path / "other", 7)
    with pytest.raises(InputError, match=r"run holds 3 answers to questions that are not in .*other"):
        batch(shorter, tmp_path / "run")
    with pytest.raises(InputError, match='mode was "p2r", is "think"'):
        batch(shorter, tmp_path / "run", mode="think")
    with pytest.raises(InputError, match=r"up to its limit; give --out another folder"):
        batch(tmp_path / "data" / "questions.jsonl", tmp_path / "run", limit=5)
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == before
    shutil.copy(tmp_path / "run" / "results.jsonl", tmp_path / "data")
    with pytest.raises(InputError, match=r"holds results\.jsonl but no batch\.json"):
        batch(shorter, tmp_path / "data")


def test_a_larger_limit_goes_on_and_equal_rows_are_asked_once(tmp_path):
    questions = write_rows(tmp_path / "data", 10)
    questions.write_text(questions.read_text() + "\n" + questions.read_text())
    assert batch(questions, tmp_path / "run", limit=4).answered == 4
    asked = model()
    summary = batch(questions, tmp_path / "run", asked, mode="p2r")
    assert (summary.rows, summary.answered, len(asked.calls)) == (10, 10, 12)


def test_the_questions_are_checked_before_a_model_is_opened(tmp_path):
    asked, questions = model(), write_rows(tmp_path / "data", 2, q0="{", q1="[]")
    for source, message in (
        (questions, r"holds no questions: none of the 2 rows can be asked, for example row 1: not JSON"),
        (write_rows(tmp_path / "none", 0), "holds no questions"),
    ):
        with pytest.raises(InputError, match=message):
            batch(source, tmp_path / "run", asked)
    assert asked.closed == len(asked.calls) == 0
    assert not (tmp_path / "run").exists()
    for path in (tmp_path / "nowhere.jsonl", tmp_path / "data" / "x.png"):
        with pytest.raises(InputError, match=r"give a file of \.jsonl, \.csv, \.tsv, \.parquet, or a folder"):
            QuestionSource(path)


def test_a_stream_of_rows_is_answered_as_it_is_drawn(tmp_path):
    source = QuestionSource(write_rows(tmp_path / "data", 8))
    drawn = []

    def endless():
        for number, question in source.questions():
            drawn.append(number)
            yield number, question
        yield 9, InvalidRow("9", "no question")
        raise AssertionError("drawn too early")

    async def first(n):
        async with P2R(FakeModel(reply, name="scripted")) as p2r:
            lines = answered(endless(), p2r, "direct", concurrency=2)
            found = [await anext(lines) for _ in range(n)]
            await lines.aclose()
            return found

    lines = asyncio.run(first(4))
    assert len({line["row"] for line in lines}) == 4
    assert len(drawn) <= 7, "two in flight and one ahead"


def test_the_command_and_its_exit_codes(tmp_path):
    questions, folder = write_rows(tmp_path / "data", 6, q5="{"), tmp_path / "run"
    with servers.Server(lambda _: servers.reply("A")) as server:
        asked = ("batch", questions, "--out", folder, "--model", f"{server.url}#m", "--mode", "direct")
        done = p2r(*asked, "--limit", 5)
        assert done.exit_code == 0, done.output
        assert re.search(r"^ +5 +5 +0 +0 ", done.output, re.MULTILINE)
        assert {line["answer"] for line in read_lines(folder / "results.jsonl")} == {"A"}
        done = p2r(*asked, "--json", "--figures", 2)
        assert done.exit_code == 2, done.output
    assert json.loads(done.stdout)["failures"] == {"row": 1}
    assert "1 row(s); the same command asks them again" in done.output
    assert [path.suffix for path in (folder / "figures").iterdir()] == [".webp"] * 2
    with servers.Server(lambda _: servers.status(400)) as server:
        broken = p2r("batch", questions, "--out", tmp_path / "broken", "--model", f"{server.url}#m")
    assert broken.exit_code == 3, broken.output


def test_the_report_of_a_batch_shows_counts_answers_and_images_but_no_accuracy(tmp_path):
    questions = write_rows(
        tmp_path / "data", 30, q3="{", q4='{"id": "<b>", "image": "n.png", "question": "?"}'
    )
    batch(questions, tmp_path / "run")
    assert p2r("report", tmp_path / "run").exit_code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    data = data_of(page)
    assert [one["answers"][0]["outcome"] for one in data["questions"]] == ["failed"] * 2 + ["answered"] * 28
    assert "30 of 30 rows of" in page
    assert "Accuracy" not in re.sub(r'aria-label="Accuracy"', "", page)
    one = next(one for one in data["questions"] if one["id"] == "q1")
    assert one["images"][0][1].startswith("data:image/webp")
    assert one["answers"][0]["crops"][0].startswith("data:image/webp")
    assert one["answers"][0]["answer"] == "B"
    second = p2r("report", tmp_path / "run", tmp_path / "run")
    assert "is a batch run; only evaluation runs can be compared" in second.output
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = p2r("report", tmp_path / "run")
    assert (moved.exit_code, "no images: " in moved.output) == (0, True)
    again = p2r("report", tmp_path / "run", "--data", tmp_path / "moved" / "questions.jsonl")
    assert (again.exit_code, "no images: " in again.output) == (0, False)


def test_the_rows_on_the_page_are_taken_evenly_with_those_without_an_answer(tmp_path):
    questions = write_rows(tmp_path / "data", 40, **{f"q{k}": "{" for k in range(30, 40)})
    batch(questions, tmp_path / "run")
    lines = chosen(tmp_path / "run", 9)
    assert [line["status"] for line in lines] == ["failed"] * 4 + ["answered"] * 5
    assert {line["status"] for line in chosen(tmp_path / "run", 9, failed=False)} == {"answered"}
    assert len(chosen(tmp_path / "run", 100)) == 40


@pytest.fixture(scope="module")
def launcher():
    with Launcher() as launcher:
        yield launcher


def peak_kib(pid):
    found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


@pytest.mark.parametrize(
    "n",
    [
        pytest.param(3_000, marks=pytest.mark.long),
        pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)]),
    ],
)
def test_a_killed_batch_goes_on_with_each_row_once_in_bounded_memory(tmp_path, launcher, n):
    questions, out = write_rows(tmp_path / "data", n), tmp_path / "run"
    path = out / "results.jsonl"
    start, half = n // 10, n // 2 + random.Random(n).randrange(n // 10)
    pid = launcher.start(questions=questions, out=out, batch=True)
    kill_when(pid, 0, lambda: lines_in(path) >= start)
    early = peak_kib(pid)
    kill_when(pid, signal.SIGKILL, lambda: lines_in(path) >= half, 0.01)
    assert launcher.wait().code == -signal.SIGKILL
    kept = [line["id"] for line in read_lines(path)]
    assert half <= len(kept) < n
    pid = launcher.start(questions=questions, out=out, batch=True)
    kill_when(pid, 0, lambda: lines_in(path) >= n - 50)
    late = peak_kib(pid)
    ended = launcher.wait()
    assert ended.code == 0, ended.errors
    ids = [line["id"] for line in read_lines(path)]
    assert ids[: len(kept)] == kept
    assert sorted(ids) == sorted(f"q{k}" for k in range(n))
    assert json.loads((out / "summary.json").read_text())["complete"]
    assert pq.read_metadata(out / "results.parquet").num_rows == n
    print(f"{n:,} rows: peak {early / 1024:.0f} MB after {start:,}, {late / 1024:.0f} MB at the end")
    assert late - early < 30 * 1024 + 100 * n / 1024
