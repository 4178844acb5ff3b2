"""Batches on a Ray cluster: images and tables of other file systems, replicas, and killed processes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import PIL.Image
import pytest

from p2r.datasets.questions import InvalidRow, QuestionSource
from p2r.errors import InputError, MissingExtraError, ModelError
from p2r.evaluation.batch import BatchPlan, answered, run_batch
from p2r.evaluation.cluster import Cluster, _InTurn, _with_bytes, answered_on_ray, fetched, joined
from p2r.models.base import Completion, Message, Sampling
from p2r.runs.journal import read_lines
from p2r.settings import Settings
from p2r.types import Question
from tests.evaluation.scripted import QUIET
from tests.fake_model import FakeModel, failure
from tests.servers import Server, dead_url, reply

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="pip install '.[ray]'")
BOXES = '[{"bbox_2d": [450, 450, 550, 550], "label": "middle"}]'


def write_questions(folder: Path, n: int) -> Path:
    """`n` rows about three images."""
    folder.mkdir(parents=True)
    for name, color in (("0.png", "red"), ("1.png", "green"), ("2.png", "blue")):
        PIL.Image.new("RGB", (96, 64), color).save(folder / name)
    rows = (
        {"image": f"{k % 3}.png", "question": f"Is it {k}?", "choices": ["a", "b", "c"]} for k in range(n)
    )
    path = folder / "questions.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def by_number(exchange) -> None:
    """Boxes for the perceiver; for the reasoner an answer that depends on the question alone."""
    asked = json.dumps(exchange.body)
    number = int(re.findall(r"Is it (\d+)\?", asked)[-1])
    reply(BOXES if "bbox_2d" in asked else f"<answer>{'ABC'[number * 7 % 3]}</answer>")(exchange)


def answering(pause_s: float = 0.0):
    def behave(exchange) -> None:
        time.sleep(pause_s)
        by_number(exchange)

    return Server(lambda _: behave)


def answers(out: Path) -> dict[int, tuple[str, ...]]:
    """Row → answer; fails where a row has two lines."""
    lines = read_lines(out / "results.jsonl")
    assert len({line["row"] for line in lines}) == len(lines)
    return {line["row"]: (line["image"], line["status"], line["answer"]) for line in lines}


# Other file systems.


def test_a_table_with_a_uri_is_copied_and_its_images_are_read_there(tmp_path):
    there, here = tmp_path / "a store", tmp_path / "run"
    questions = write_questions(there, 2)
    table, remote = fetched(questions.as_uri(), here)
    assert table.parent == here
    assert table.read_bytes() == questions.read_bytes()
    _, question = next(QuestionSource(table).questions())
    opened = _with_bytes(question, here, remote)
    assert isinstance(opened, Question)
    assert opened.image == (there / "0.png").read_bytes()


def test_a_folder_of_images_with_a_uri_becomes_a_table(tmp_path):
    write_questions(tmp_path / "store" / "deep", 1)
    table, remote = fetched((tmp_path / "store").as_uri(), tmp_path / "run")
    found = [question for _, question in QuestionSource(table, "Is it red?", ("yes", "no")).questions()]
    assert [question.id for question in found] == ["deep/0.png", "deep/1.png", "deep/2.png"]
    opened = _with_bytes(found[0], tmp_path / "run", remote)
    assert isinstance(opened, Question)
    assert opened.image == (tmp_path / "store/deep/0.png").read_bytes()


def test_the_uri_of_an_image_in_a_row_goes_before_the_folder(tmp_path):
    image = write_questions(tmp_path / "store", 1).parent / "2.png"
    row = {"image": image.as_uri(), "question": "Is it blue?"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    _, question = next(QuestionSource(tmp_path / "rows.jsonl").questions())
    opened = _with_bytes(question, tmp_path, "")
    assert isinstance(opened, Question)
    assert opened.image == image.read_bytes()


def test_several_images_of_a_row_are_read_too(tmp_path):
    folder = write_questions(tmp_path / "store", 1).parent
    question = Question([Path("0.png"), (folder / "1.png").as_uri()], "Are both red?")
    opened = _with_bytes(question, None, folder.as_uri())
    assert isinstance(opened, Question)
    assert opened.images == ((folder / "0.png").read_bytes(), (folder / "1.png").read_bytes())


def test_an_image_that_is_not_there_fails_its_row_only(tmp_path):
    question = Question(tmp_path / "x.png", "Is it red?", id="7")
    failed = _with_bytes(question, tmp_path, tmp_path.as_uri())
    assert isinstance(failed, InvalidRow)
    assert failed.id == "7"
    assert failed.reason.startswith(f"{tmp_path.as_uri()}/x.png: ")


def test_a_uri_keeps_its_query():
    s3 = "s3://bucket/shop?region=eu-west-1"
    assert joined(s3, "a b/1.jpg") == "s3://bucket/shop/a%20b/1.jpg?region=eu-west-1"


@pytest.mark.parametrize("uri", ["s4://bucket/questions.jsonl", "file:///no/such/questions.jsonl"])
def test_a_uri_that_cannot_be_read_is_named(tmp_path, uri):
    with pytest.raises(InputError, match=re.escape(uri)):
        fetched(uri, tmp_path)


# Replicas.


class Late(FakeModel):
    """Other requests run before it replies."""

    async def complete(self, *asked):
        await asyncio.sleep(0.01)
        return await super().complete(*asked)


def ask(model) -> Completion:
    return asyncio.run(model.complete([Message("user", ("Which?",))], Sampling(8)))


def test_replicas_are_asked_in_turn():
    replicas = [FakeModel(["first"] * 3), FakeModel(["second"] * 3)]
    model = _InTurn(replicas)
    assert [ask(model).text for _ in range(4)] == ["first", "second", "first", "second"]


def test_a_replica_that_cannot_be_reached_is_passed_over():
    model = _InTurn([FakeModel([failure("unreachable")] * 3), FakeModel(["second"] * 4)])
    assert [ask(model).text for _ in range(3)] == ["second"] * 3


def test_a_request_tries_each_replica_however_many_run_at_once():
    async def ask_many():
        model = _InTurn([Late([failure("unreachable")] * 8), Late(["second"] * 16)])
        return await asyncio.gather(*(model.complete([], Sampling(8)) for _ in range(16)))

    assert {done.text for done in asyncio.run(ask_many())} == {"second"}


def test_a_refusal_is_that_of_the_question():
    model = _InTurn([FakeModel([failure("rejected")]), FakeModel(["second"])])
    with pytest.raises(ModelError):
        ask(model)


# Errors.


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_error_says_what_to_install():
    async def first():
        return await anext(answered_on_ray(iter([]), answered, Cluster(["nano"], Settings())))  # type: ignore[arg-type]

    with pytest.raises(MissingExtraError, match=re.escape("pip install 'perceive-to-reason[ray]'")):
        asyncio.run(first())


# A cluster.


def command(questions: Path, out: Path, *models: str) -> list[str]:
    replicas = [word for url in models[1:] for word in ("--replica", f"{url}#served")]
    fixed = ["--model", f"{models[0]}#served", "--ray", "local", "--workers", "2", "--out", str(out)]
    return [sys.executable, "-m", "p2r", "batch", str(questions), *fixed, *replicas, "--debug"]


def workers_of(mark: str) -> list[int]:
    """The pids of the Ray workers whose environment holds the mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::MapWorker" in (process / "cmdline").read_bytes():
                found += [int(process.name)] * (mark.encode() in (process / "environ").read_bytes())
        except OSError:  # it has ended, or belongs to somebody else
            continue
    return sorted(found)


def wait_for_lines(process: subprocess.Popen, out: Path, n: int) -> None:
    while process.poll() is None:
        path = out / "results.jsonl"
        if path.exists() and path.read_bytes().count(b"\n") >= n:
            return
        time.sleep(0.1)
    raise AssertionError(process.stderr.read() if process.stderr else "it ended")


def without_ray(questions: Path, out: Path, server: Server) -> dict[int, tuple[str, ...]]:
    plan = BatchPlan(QuestionSource(questions), out, f"{server.url}#served", settings=Settings())
    asyncio.run(run_batch(plan, QUIET))
    return answers(out)


@needs_ray
@pytest.mark.long
def test_a_small_batch_on_two_workers_and_a_dead_replica(tmp_path):
    questions = write_questions(tmp_path / "data", 150)
    with answering() as server:
        done = subprocess.run(
            command(questions, tmp_path / "ray", server.url, dead_url()), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert answers(tmp_path / "ray") == without_ray(questions, tmp_path / "plain", server)
    assert len(answers(tmp_path / "ray")) == 150


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_workers_and_a_killed_command_lose_and_double_nothing(tmp_path):
    questions, out, mark = write_questions(tmp_path / "data", 2000), tmp_path / "ray", uuid.uuid4().hex
    environment = os.environ | {"P2R_TEST_MARK": mark}
    with answering(0.02) as first, answering(0.02) as second:
        started = command(questions, out, first.url, second.url)
        with subprocess.Popen(started, env=environment, stderr=subprocess.PIPE, text=True) as process:
            wait_for_lines(process, out, 200)
            killed = workers_of(mark)
            assert len(killed) == 2
            os.kill(killed[0], signal.SIGKILL)
            wait_for_lines(process, out, 800)
            process.kill()  # the command itself
        asked = len(answers(out))
        assert 800 <= asked < 2000
        for _ in range(3):  # on a busy machine a node of Ray may give up its start
            again = subprocess.run(started, env=environment, capture_output=True, text=True)
            if "timed out during startup" not in again.stderr:
                break
        assert again.returncode == 0, again.stderr
        assert answers(out) == without_ray(questions, tmp_path / "plain", first)
        assert len(answers(out)) == 2000
        assert min(len(first.requests), len(second.requests)) > 1000  # both were asked
