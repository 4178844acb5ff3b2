"""A whole evaluation with a scripted model: figures computed by hand, and continuing a run."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from rich.console import Console

from p2r.errors import InputError, ModelError
from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.records import RunData
from p2r.evaluation.run import EvaluationPlan, evaluate
from p2r.runs.journal import read_lines
from tests.evaluation.scripted import QUIET, model, number_of, reply, write_questions
from tests.fake_model import FakeModel, failure

TIMES = ("seconds_per_question", "questions_per_second")


def run(questions, out, asked=None, console=QUIET, **options):
    plan = EvaluationPlan(open_benchmark("jsonl", str(questions)), out, asked or model(), **options)
    return asyncio.run(evaluate(plan, console)).to_json()


def untimed(summary):
    modes = {
        mode: {key: value for key, value in figures.items() if key not in TIMES}
        for mode, figures in summary["modes"].items()
    }
    # How many questions were in flight says something about the times only.
    return {**summary, "modes": modes, "concurrency": None}


@pytest.fixture
def questions(tmp_path):
    return write_questions(tmp_path / "data", 20)


def test_the_figures_by_hand(tmp_path, questions):
    summary = run(questions, tmp_path / "run", modes=("p2r", "think", "direct"))
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["complete"]
    p2r, think = summary["modes"]["p2r"], summary["modes"]["think"]
    # With crops (k modulo 10 up to 7) right unless k is a multiple of 3, without right for multiples of 4.
    cropped = [k for k in range(20) if k % 10 < 8]
    right = {k for k in cropped if k % 3} | {8}
    assert (p2r["n"], p2r["correct"]) == (20, len(right))
    assert p2r["accuracy"] == len(right) / 20
    assert p2r["split"] == {
        "correct": len(right),
        "reasoning": len([k for k in cropped if k % 3 == 0 and k % 10 not in (6, 7)]),
        "localization": len([k for k in cropped if k % 3 == 0 and k % 10 in (6, 7)]) + 1,  # 18: whole image
        "wrong": 0,
        "malformed": 2,  # 9 and 19
        "no_answer": 0,
        "unscored": 0,
        "failed": 0,
    }
    assert p2r["malformed"] == 2
    assert p2r["mean_boxes"] == 16 / 20
    assert p2r["localization"]["recall"] == 12 / 20
    assert p2r["localization"]["questions"] == 20
    assert p2r["localization"]["miou"] == 12 / 20
    assert think["correct"] == len([k for k in range(20) if k % 4 == 0])
    assert think["no_answer"] == 2
    assert think["split"]["wrong"] == 20 - think["correct"] - 2
    assert think["localization"] is None
    assert p2r["categories"]["even"]["n"] == p2r["categories"]["odd"]["n"] == 10
    pair = next(p for p in summary["pairs"] if (p["first"], p["second"]) == ("direct", "p2r"))
    single = {k for k in range(20) if k % 4 == 0}
    assert (pair["only_second"], pair["only_first"]) == (len(right - single), len(single - right))
    assert pair["difference"] == pytest.approx((len(right) - 5) / 20)


def test_gold_boxes_skip_the_perceiver(tmp_path, questions):
    asked = model()
    summary = run(questions, tmp_path / "run", asked, gold_boxes=True)
    assert len(asked.calls) == 20
    figures = summary["modes"]["p2r"]
    assert figures["localization"]["complete"] == 1.0
    assert figures["localization"]["miou"] == 1.0
    assert figures["correct"] == len([k for k in range(20) if k % 3])
    assert figures["split"]["reasoning"] == 20 - figures["correct"]


def test_gold_boxes_must_be_there(tmp_path):
    bare = open_benchmark("jsonl", str(write_questions(tmp_path / "data", 3, boxes=False)))
    with pytest.raises(InputError, match="benchmark jsonl has no gold boxes"):
        EvaluationPlan(bare, tmp_path / "run", model(), gold_boxes=True)
    with pytest.raises(InputError, match="gold boxes go with mode p2r"):
        EvaluationPlan(bare, tmp_path / "run", model(), modes=("think",), gold_boxes=True)


def test_the_same_command_asks_nothing_twice_and_another_mode_only_what_is_new(tmp_path, questions):
    first = run(questions, tmp_path / "run")
    asked = model()
    assert untimed(run(questions, tmp_path / "run", asked)) == untimed(first)
    assert asked.calls == []
    both = run(questions, tmp_path / "run", asked, modes=("p2r", "direct"))
    assert len(asked.calls) == 20
    assert untimed(both)["modes"]["p2r"] == untimed(first)["modes"]["p2r"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert len(config["sessions"]) == 3


def test_a_larger_limit_extends_a_run_and_a_smaller_one_is_refused(tmp_path, questions):
    for limit, new in ((5, 5), (9, 4), (None, 11)):
        asked = model()
        summary = run(questions, tmp_path / "run", asked, limit=limit, modes=("direct",))
        assert len(asked.calls) == new
        assert (summary["questions"], summary["complete"]) == (limit or 20, True)
    assert untimed(summary) == untimed(run(questions, tmp_path / "whole", modes=("direct",)))
    with pytest.raises(
        InputError,
        match="limit was null, is 6; questions was 20, is 6; a run can be extended by a larger --limit",
    ):
        run(questions, tmp_path / "run", limit=6)


def test_rows_that_were_added_at_the_end_extend_a_run(tmp_path, questions):
    run(questions, tmp_path / "run")
    asked = model()
    longer = write_questions(tmp_path / "data", 23)
    assert run(longer, tmp_path / "run", asked)["modes"]["p2r"]["n"] == 23
    assert len(asked.calls) == 6
    rows = [json.loads(line) for line in longer.read_text().splitlines()]
    rows[2]["question"] += " Look twice."
    longer.write_text("\n".join(json.dumps(row) for row in [*rows, {**rows[0], "id": "new"}]))
    with pytest.raises(InputError, match="data was "):
        run(longer, tmp_path / "run")


def test_a_changed_setting_is_refused_with_the_difference(tmp_path, questions):
    run(questions, tmp_path / "run", limit=5)
    with pytest.raises(InputError, match='model was "scripted", is "other"'):
        run(questions, tmp_path / "run", FakeModel(reply, name="other"), limit=5)
    changed = write_questions(tmp_path / "data", 19)
    with pytest.raises(InputError, match="data was "):
        run(changed, tmp_path / "run", limit=5)


def test_concurrency_is_bounded(tmp_path, questions):
    asked = model(delay_s=0.01)
    run(questions, tmp_path / "run", asked, concurrency=3)
    assert 2 <= asked.most_in_flight <= 3


def test_a_failed_call_is_no_answer_and_is_asked_again(tmp_path, questions):
    def sometimes(messages):
        return failure("timeout") if "number 7?" in str(messages) else reply(messages)

    summary = run(questions, tmp_path / "run", FakeModel(sometimes, name="scripted"))
    figures = summary["modes"]["p2r"]
    assert (figures["n"], figures["failed"], figures["failures"]) == (20, 1, {"timeout": 1})
    assert figures["split"]["failed"] == 1
    assert "q7" not in [line["id"] for line in read_lines(tmp_path / "run" / "predictions-p2r.jsonl")]
    assert [line["id"] for line in read_lines(tmp_path / "run" / "failures-p2r.jsonl")] == ["q7"]
    asked = model()
    mended = run(questions, tmp_path / "run", asked)
    assert len(asked.calls) == 2
    assert mended["modes"]["p2r"]["failed"] == 0
    assert untimed(mended) == untimed(run(questions, tmp_path / "whole"))


def test_pairs_leave_out_what_failed_in_either(tmp_path, questions):
    def direct_is_down(messages):
        text = str(messages)
        return failure() if "nothing else" in text and "number 3?" in text else reply(messages)

    summary = run(questions, tmp_path / "run", FakeModel(direct_is_down, name="s"), modes=("p2r", "direct"))
    assert summary["modes"]["direct"]["n"] == 20
    assert summary["pairs"][0]["n"] == 19


def test_an_unreachable_server_stops_the_run_which_can_be_continued(tmp_path, questions):
    down = FakeModel(lambda messages: failure("unreachable", "cannot reach the server"), name="scripted")
    with pytest.raises(
        ModelError, match=r"stopped: 1[0-3] of the last 1[0-3] attempts failed, all of them: .*cannot reach"
    ):
        run(questions, tmp_path / "run", down, concurrency=4)
    assert len(down.calls) < 20
    stopped = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert stopped["modes"]["p2r"]["correct"] == 0
    assert not stopped["complete"]
    assert untimed(run(questions, tmp_path / "run")) == untimed(run(questions, tmp_path / "whole"))


def test_a_few_failures_do_not_stop_a_run(tmp_path):
    def every_tenth(messages):
        return (
            failure() if any(f"number {k}?" in str(messages) for k in range(0, 100, 10)) else reply(messages)
        )

    questions = write_questions(tmp_path / "data", 100)
    summary = run(questions, tmp_path / "run", FakeModel(every_tenth, name="s"), modes=("direct",))
    assert summary["modes"]["direct"]["failed"] == 10


def test_a_broken_image_fails_its_question_only(tmp_path, questions):
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    (questions.parent / "broken.png").write_text("no image")
    rows[3]["image"] = "broken.png"
    questions.write_text("\n".join(json.dumps(row) for row in rows))
    summary = run(questions, tmp_path / "run", modes=("p2r", "think"))
    for figures in summary["modes"].values():
        assert (figures["n"], figures["failed"], figures["failures"]) == (20, 1, {"image": 1})


def test_a_judge_that_fails_gives_no_score_but_a_failure(tmp_path, questions):
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    free = [{**row, "choices": None, "answer": "crimson", "answer_type": "free"} for row in rows[:4]]
    questions.write_text("\n".join(json.dumps(row) for row in free))
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    alone = run(questions, tmp_path / "alone", console=console, modes=("direct",))
    assert "4 of 4 questions are free-form and there is no --judge" in shown.getvalue()
    codes = write_questions(tmp_path / "codes", 2)
    codes.write_text("\n".join(json.dumps({**row, "answer": "K7Q"}) for row in free[:2]))
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    run(codes, tmp_path / "exact", console=console, modes=("direct",))
    assert "free-form" not in shown.getvalue()
    assert alone["modes"]["direct"]["correct"] == 0
    broken = FakeModel(lambda messages: failure(), name="judge")
    failed = run(questions, tmp_path / "judged", modes=("direct",), judge=broken)
    assert failed["modes"]["direct"]["failures"] == {"judge": 4}
    willing = FakeModel(lambda messages: "yes", name="judge")
    judged = run(questions, tmp_path / "judged", modes=("direct",), judge=willing)
    assert judged["modes"]["direct"]["correct"] == 4
    answers = RunData.read(tmp_path / "judged").answers["direct"]
    assert {record.score.method for record in answers} == {"judge"}


def test_thinking_that_never_closes_is_counted_whether_it_answers_or_not(tmp_path, questions):
    def unclosed(messages):
        k = number_of(messages)
        letter = "ABCD"[k % 4]
        return (
            "<think>hm",
            f"<think>{letter}<answer>{letter}</answer>",
            f"<think></think><answer>{letter}</answer>",
        )[k % 3]

    figures = run(questions, tmp_path / "run", FakeModel(unclosed, name="s"), modes=("think",))["modes"][
        "think"
    ]
    assert (figures["unclosed_thinking"], figures["no_answer"], figures["correct"]) == (14, 7, 13)


def test_a_stopped_run_keeps_what_it_has(tmp_path, questions):
    class Interrupt(BaseException):
        pass

    def interrupt(messages):
        if "number 12?" in str(messages):
            raise Interrupt
        return reply(messages)

    with pytest.raises((Interrupt, BaseExceptionGroup)):
        run(questions, tmp_path / "run", FakeModel(interrupt, name="scripted"), concurrency=1)
    assert len(read_lines(tmp_path / "run" / "predictions-p2r.jsonl")) == 12
    assert untimed(run(questions, tmp_path / "run")) == untimed(run(questions, tmp_path / "whole"))


def test_the_config_says_all_it_takes_to_repeat_the_run(tmp_path, questions):
    run(questions, tmp_path / "run", limit=4, seed=3, command="p2r eval …")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    identity, (session,) = config["identity"], config["sessions"]
    assert identity["benchmark"] == "jsonl"
    assert (identity["limit"], identity["seed"], identity["questions"]) == (4, 3, 4)
    assert identity["sampling"]["reason"]["temperature"] == 0.0
    assert identity["settings"]["geometry"]["max_crops"] == 3
    assert config["source"] == str(questions)
    assert config["rows"] == 20
    assert session["command"] == "p2r eval …"
    assert {"p2r", "commit", "python", "platform", "packages", "started", "concurrency"} <= session.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Expecting"),
        ("[]", "it holds no JSON object"),
        ("{}", "was not written by p2r eval"),
        ('{"identity": {}, "sessions": []}', "was not written by p2r eval"),
        (None, "is not a run folder"),
    ],
)
def test_a_folder_that_is_no_run(tmp_path, content, message):
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=message):
        RunData.read(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path, questions):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file.run: Not a directory"):
        run(questions, tmp_path / "file" / "run")


def test_predictions_without_their_config_are_not_continued(tmp_path, questions):
    run(questions, tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(InputError, match=r"holds failures-p2r\.jsonl but no config\.json"):
        run(questions, tmp_path / "run")


def test_a_run_as_a_dataset(tmp_path, questions):
    pytest.importorskip("datasets", reason="the eval extra is not installed")
    asked = FakeModel(lambda messages: failure("overloaded") if number_of(messages) == 3 else reply(messages))
    summary = run(questions, tmp_path / "run", asked, modes=("p2r", "direct"))
    table = RunData.read(tmp_path / "run").to_dataset().to_pandas()
    for mode, figures in summary["modes"].items():
        rows = table[table["mode"] == mode]
        assert (len(rows), (rows["correct"] == True).sum()) == (figures["n"], figures["correct"])  # noqa: E712
        assert rows["outcome"].value_counts().to_dict() == {k: n for k, n in figures["split"].items() if n}
    failed = table[table["id"] == "q3"].iloc[0]
    assert failed["correct"] is None
    assert (failed["kind"], failed["error"]) == ("overloaded", "scripted failure")
    found = table[table["id"] == "q0"].iloc[0]
    assert [list(box) for box in found["boxes"]] == [list(box) for box in found["gold_boxes"]]
    assert (list(found["labels"]), found["gold"]) == (["it"], "A")
