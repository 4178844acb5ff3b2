"""The two stages, their failures, and the synchronous face, with a scripted model."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import threading
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest

from p2r._sync import SyncRunner
from p2r.errors import InputError, ModelError
from p2r.images import ImageSource
from p2r.models import DEFAULT_MODEL
from p2r.models.base import Completion
from p2r.pipeline import P2R, Finished, Perceived, TextDelta, settings_of
from p2r.settings import Geometry, PixelBudget, Settings, TokenLimits
from p2r.types import Box, Prediction, Question, Usage
from tests.fake_model import FakeModel, StreamingFakeModel, failure, said
from tests.image_files import encoded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

    from p2r.models.base import Message, Sampling
    from p2r.pipeline import Event
    from p2r.types import Mode
    from tests.fake_model import Reply

BOXES = (
    '[{"bbox_2d": [100, 200, 150, 260], "label": "bus"}, {"bbox_2d": [700, 700, 760, 780], "label": "sign"}]'
)
THOUGHT = "<think>The bus says 42.</think><answer>42</answer>"
SETTINGS = Settings(
    budget=PixelBudget(overview_max_pixels=64 * 1024, crop_max_pixels=64 * 1024, min_pixels=16 * 1024),
    max_tokens=TokenLimits(perceive=11, reason=22, direct=3),
)
IMAGE = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
QUESTION = Question(IMAGE, "What is the number of the bus?", answer_type="number", id="bus")


def perceiving(messages: Sequence[Message]) -> bool:
    return "JSON list of boxes" in said(messages)


def replies(boxes: Reply = BOXES, thought: Reply = THOUGHT) -> FakeModel:
    return FakeModel(lambda messages: boxes if perceiving(messages) else thought)


def pipeline(model: FakeModel, reasoner: FakeModel | None = None, concurrency: int = 32) -> P2R:
    return P2R(model, reasoner=reasoner, settings=SETTINGS, concurrency=concurrency)


def predict(model: FakeModel, mode: Mode = "p2r", question: Question = QUESTION) -> Prediction:
    return asyncio.run(pipeline(model).predict(question, mode))


# The stages.


@pytest.mark.parametrize("mode", ["p2r", "think", "direct"])
def test_notes_on_the_file_are_in_the_prediction_of_every_mode(mode: Mode) -> None:
    pages = [PIL.Image.fromarray(IMAGE), PIL.Image.new("RGB", (400, 300), "red")]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    question = replace(QUESTION, image=ImageSource.open(data))
    assert predict(replies(), mode, question).notes == ("the file has 2 pages: the first was read",)


def test_the_perceiver_sees_the_whole_and_the_reasoner_the_evidence() -> None:
    model = replies()
    predict(model)
    perceive, reason = model.calls
    assert (len(perceive.images), len(reason.images)) == (1, 3)
    assert perceive.sampling.max_tokens == 11
    assert reason.sampling.max_tokens == 22
    assert perceive.sampling.temperature == reason.sampling.temperature == 0
    assert perceive.images[0].size == reason.images[0].size
    assert not np.array_equal(perceive.images[0].pixels, reason.images[0].pixels), "boxes are drawn"


def test_every_field_of_a_prediction_is_filled() -> None:
    model = replies()
    known = predict(model)
    assert (known.id, known.mode, known.status, known.answer) == ("bus", "p2r", "answered", "42")
    assert known.perception is not None
    assert (known.perception.outcome, known.perception.text) == ("boxes", BOXES)
    assert [box.label for box in known.boxes] == ["bus", "sign"]
    assert known.boxes[0].as_tuple() == (100, 200, 150, 260)
    assert len(known.crops_px) == 2
    x0, y0, x1, y1 = known.crops_px[0]
    assert x0 < 80 < 120 < x1 < 400, "the first box in pixels, with context"
    assert y0 < 120 < 156 < y1 < 400
    assert known.thinking == "The bus says 42."
    assert known.text == THOUGHT
    assert set(known.seconds) == {"image", "perceive", "evidence", "reason", "total"}
    assert known.seconds["total"] >= sum(known.seconds[stage] for stage in ("image", "perceive", "reason"))
    assert (known.model, known.reasoner, known.digest) == ("fake", "fake", SETTINGS.digest)
    assert not known.truncated
    assert not known.error


def test_boxes_are_requested_and_parsed_in_the_configured_format() -> None:
    # The overview of 800 × 600 pixels is sent with 288 × 192.
    model = replies('[{"bbox_2d": [28.8, 38.4, 43.2, 49.92], "label": "bus"}]')
    settings = replace(SETTINGS, box_format="pixels")
    known = asyncio.run(P2R(model, settings=settings).predict(QUESTION))
    assert model.calls[0].images[0].size == (288, 192)
    assert "pixels of the image, which is 288 pixels wide and 192 pixels high" in model.calls[0].text
    assert known.boxes[0].as_tuple() == pytest.approx((100, 200, 150, 260))
    assert known.notes == ()


def test_a_reply_in_another_box_format_is_noted() -> None:
    known = predict(replies('[{"bbox_2d": [1200, 100, 1400, 200], "label": "bus"}]'))
    assert known.boxes == ()
    assert known.notes == ()  # beyond 0–1000, and beyond the pixels of the image, too
    unit = replace(SETTINGS, box_format="unit")
    known = asyncio.run(P2R(replies(), settings=unit).predict(QUESTION))
    (note,) = known.notes
    assert note.startswith("no box fits box format unit, all would fit qwen3 or gemini: ")
    assert "--set box_format=qwen3" in note


def test_tokens_of_both_stages_add_up() -> None:
    known = predict(replies(Completion(BOXES, 100, 10, "stop"), Completion(THOUGHT, 200, 20, "stop")))
    assert known.usage == Usage(300, 30, 2)


@pytest.mark.parametrize(("text", "outcome"), [("[]", "whole"), ("I cannot see a bus.", "malformed")])
def test_without_a_usable_box_the_reasoner_gets_the_plain_image_and_the_think_prompt(
    text: str, outcome: str
) -> None:
    model = replies(text)
    known = predict(model)
    perceive, reason = model.calls
    assert known.perception is not None
    assert known.perception.outcome == outcome
    assert (known.boxes, known.crops_px) == ((), ())
    assert reason.images == perceive.images, "the overview is made once and shared"
    think = replies()
    predict(think, "think")
    assert reason.text == think.calls[0].text


def test_think_is_one_pass_over_the_plain_image() -> None:
    model = replies()
    known = predict(model, "think")
    assert len(model.calls) == 1
    assert (known.answer, known.perception, known.boxes, known.usage.calls) == ("42", None, (), 1)
    assert set(known.seconds) == {"image", "reason", "total"}
    assert model.calls[0].sampling.max_tokens == 22


def test_direct_reads_a_bare_answer() -> None:
    model = FakeModel(["B"])
    question = Question(IMAGE, "Which?", ("a cat", "a dog"))
    known = predict(model, "direct", question)
    assert (known.answer, known.status) == ("B", "answered")
    assert model.calls[0].sampling.max_tokens == 3


def test_given_boxes_skip_the_perceiver() -> None:
    model = FakeModel([THOUGHT])
    known = asyncio.run(pipeline(model).predict(QUESTION, boxes=[Box(0, 0, 100, 100, "gold")]))
    assert (len(model.calls[0].images), known.perception, known.usage.calls) == (2, None, 1)
    assert known.boxes == (Box(0, 0, 100, 100, "gold"),)
    assert "perceive" not in known.seconds


def test_given_an_empty_list_the_whole_image_is_the_evidence() -> None:
    model = FakeModel([THOUGHT])
    known = asyncio.run(pipeline(model).predict(QUESTION, boxes=[]))
    assert (len(model.calls[0].images), known.crops_px, known.perception) == (1, (), None)


def test_two_models_play_the_two_roles() -> None:
    perceiver, reasoner = FakeModel([BOXES], name="eye"), FakeModel([THOUGHT], name="mind")
    known = asyncio.run(pipeline(perceiver, reasoner).predict(QUESTION))
    assert (len(perceiver.calls), len(reasoner.calls)) == (1, 1)
    assert (known.model, known.reasoner) == ("eye", "mind")


def test_one_pass_is_the_reasoners() -> None:
    perceiver, reasoner = FakeModel([]), FakeModel([THOUGHT])
    asyncio.run(pipeline(perceiver, reasoner).predict(QUESTION, "think"))
    assert (len(perceiver.calls), len(reasoner.calls)) == (0, 1)


def test_a_text_that_names_no_answer_is_no_answer() -> None:
    question = Question(IMAGE, "Which?", ("a cat", "a dog"))
    known = predict(replies(thought="<think>Hm.</think><answer>A or B</answer>"), question=question)
    assert (known.status, known.answer) == ("no_answer", None)
    assert known.notes, "it says why"


def test_text_without_an_answer_tag_is_no_answer() -> None:
    assert predict(replies(thought="It is 42.")).status == "no_answer"


def test_a_reply_cut_at_its_token_limit_is_marked() -> None:
    cut = predict(replies(thought=Completion("<think>The bus", 5, 22, "length")))
    assert (cut.truncated, cut.status) == (True, "no_answer")
    perceiver_cut = predict(replies(Completion(BOXES[:60], 5, 11, "length")))
    assert not perceiver_cut.truncated
    assert len(perceiver_cut.boxes) == 1, "the whole boxes of a cut reply are used"
    assert any("perceiver" in note for note in perceiver_cut.notes)
    for notes in (cut.notes, predict(replies(Completion("<think>A bus", 5, 11, "length"))).notes):
        assert any(
            "while the model was still thinking: add ,thinking=off or ,thinking_tokens=" in note
            for note in notes
        )


def test_a_note_of_a_model_is_kept_once() -> None:
    sampled = ("the server refuses temperature 0",)
    known = predict(
        replies(Completion(BOXES, 5, 5, "stop", sampled), Completion(THOUGHT, 5, 5, "stop", sampled))
    )
    assert known.notes == sampled


def test_the_reasoner_alone_answers_from_the_boxes_of_the_perceiver() -> None:
    async def run() -> None:
        p2r = pipeline(replies())
        whole = await p2r.predict(QUESTION)
        again = await p2r.predict(QUESTION, boxes=whole.boxes)
        assert (again.reply, again.crops_px, again.perception) == (whole.reply, whole.crops_px, None)

    asyncio.run(run())


# What cannot be used, and what fails.


def test_wrong_use_is_refused_before_any_call() -> None:
    model = FakeModel([])
    with pytest.raises(InputError, match="unknown mode 'see': p2r, think, direct"):
        predict(model, "see")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="boxes go with mode p2r only"):
        asyncio.run(pipeline(model).predict(QUESTION, "think", boxes=[]))
    with pytest.raises(InputError, match="concurrency is 0"):
        pipeline(model, concurrency=0)
    assert not model.calls


def test_a_failed_call_raises_or_is_returned_as_failed() -> None:
    with pytest.raises(ModelError, match="scripted failure"):
        predict(replies(boxes=failure("timeout")))
    known = asyncio.run(pipeline(replies(boxes=failure("timeout"))).predict(QUESTION, errors="return"))
    assert (known.status, known.answer, known.error) == ("failed", None, "scripted failure")
    assert known.perception is None


def test_a_failed_second_stage_keeps_what_the_first_found() -> None:
    known = asyncio.run(pipeline(replies(thought=failure("server"))).predict(QUESTION, errors="return"))
    assert (known.status, known.answer, known.text) == ("failed", None, "")
    assert known.perception is not None
    assert (len(known.boxes), len(known.crops_px), known.usage.calls) == (2, 2, 1)
    assert {"perceive", "evidence", "reason", "total"} <= set(known.seconds)


def test_an_unreadable_image_raises_or_is_returned_as_failed(tmp_path: Path) -> None:
    question = Question(str(tmp_path / "none.jpg"), "What?")
    model = FakeModel([])
    with pytest.raises(InputError, match=r"none\.jpg"):
        predict(model, question=question)
    known = asyncio.run(pipeline(model).predict(question, errors="return"))
    assert known.status == "failed"
    assert "none.jpg" in known.error
    assert not model.calls


def test_a_cancelled_question_cancels_its_call() -> None:
    def reply(messages: Sequence[Message]) -> str:
        waiting.set()
        return BOXES

    model, waiting = FakeModel(reply, delay_s=30), asyncio.Event()

    async def run() -> None:
        task = asyncio.create_task(pipeline(model).predict(QUESTION))
        await asyncio.wait_for(waiting.wait(), 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert model.cancelled == 1


def test_the_digest_depends_on_prompts_and_geometry() -> None:
    wide = replace(SETTINGS, geometry=Geometry(context_fraction=0.2))
    worded = replace(SETTINGS, prompts=replace(SETTINGS.prompts, free_hint="One word."))
    digests = {P2R(FakeModel([]), settings=chosen).settings.digest for chosen in (SETTINGS, wide, worded)}
    assert len(digests) == 3


# Events.


def events_of(model: FakeModel, mode: Mode = "p2r", **options: Any) -> list[Event]:
    async def run() -> list[Event]:
        return [event async for event in pipeline(model).stream(QUESTION, mode, **options)]

    return asyncio.run(run())


@pytest.mark.parametrize("streams", [False, True])
def test_a_stream_yields_the_evidence_then_the_text_then_the_prediction(streams: bool) -> None:
    kind = StreamingFakeModel if streams else FakeModel
    perceived, *deltas, finished = events_of(kind([BOXES, THOUGHT]))
    assert isinstance(perceived, Perceived)
    assert isinstance(finished, Finished)
    known = finished.prediction
    assert perceived.perception == known.perception
    assert tuple(crop.region_px for crop in perceived.evidence.crops) == known.crops_px
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == known.text
    assert (len(deltas) > 1) == streams


class NoStream(StreamingFakeModel):
    async def stream(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[str | Completion]:
        assert not messages, "the text is wanted whole"
        yield ""


def test_a_model_is_not_asked_to_stream_without_need() -> None:
    assert predict(NoStream([BOXES, THOUGHT])).answer == "42"
    _, delta, _ = events_of(NoStream([BOXES, THOUGHT]), deltas=False)
    assert delta == TextDelta(THOUGHT)


def test_without_a_perceiver_there_is_no_perception_among_the_events() -> None:
    text, finished = events_of(FakeModel([THOUGHT]), "think")
    assert text == TextDelta(THOUGHT)
    assert isinstance(finished, Finished)
    text, _ = events_of(FakeModel([THOUGHT]), boxes=[Box(0, 0, 9, 9)])
    assert text == TextDelta(THOUGHT)


def test_a_stream_that_breaks_off_is_a_failed_call() -> None:
    class Broken(FakeModel):
        async def stream(
            self, messages: Sequence[Message], sampling: Sampling
        ) -> AsyncIterator[str | Completion]:
            yield "<think>The"

    with pytest.raises(ModelError, match="without a completion"):
        events_of(Broken([]), "think")


def test_closing_a_stream_cancels_its_call() -> None:
    class Endless(FakeModel):
        closed_early = False

        async def stream(
            self, messages: Sequence[Message], sampling: Sampling
        ) -> AsyncIterator[str | Completion]:
            try:
                while True:
                    yield "<think>"
            finally:
                self.closed_early = True

    async def run(model: Endless) -> None:
        async with aclosing(pipeline(model).stream(QUESTION, "think")) as events:
            async for event in events:
                assert event == TextDelta("<think>")
                break
        assert model.closed_early

    asyncio.run(run(Endless([])))


# Many at once.


def test_the_stages_of_different_questions_overlap() -> None:
    """The first question's reasoning ends only when the second is being perceived, after it."""

    class Chained(FakeModel):
        second_perceived = asyncio.Event()

        async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
            completion = await super().complete(messages, sampling)
            if perceiving(messages) and "second" in said(messages):
                await self.first_reasons.wait()
                self.second_perceived.set()
            elif not perceiving(messages) and "first" in said(messages):
                self.first_reasons.set()
                await self.second_perceived.wait()
            return completion

        def __init__(self) -> None:
            super().__init__(lambda messages: BOXES if perceiving(messages) else THOUGHT)
            self.first_reasons = asyncio.Event()
            self.second_perceived = asyncio.Event()

    async def run() -> list[Prediction]:
        p2r = pipeline(Chained())
        questions = [replace(QUESTION, text=text) for text in ("first?", "second?")]
        return await asyncio.wait_for(asyncio.gather(*map(p2r.predict, questions)), 20)

    assert [known.answer for known in asyncio.run(run())] == ["42", "42"]


class Uneven(FakeModel):
    """Answers with the number in the question; the first of each `period` questions takes longer."""

    def __init__(self, delay_s: float, *, slow_s: float, period: int = 10**9) -> None:
        super().__init__(lambda messages: "", delay_s=delay_s)
        self._slow_s, self._period = slow_s, period

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        await super().complete(messages, sampling)
        number = int(said(messages).split("Question: ")[1].split("\n")[0])
        if number % self._period == 0:
            await asyncio.sleep(self._slow_s)
        return Completion(str(number), 1, 1, "stop")


def numbered(count: int | None = None) -> Iterator[Question]:
    small = IMAGE[:64, :64]
    numbers = itertools.count() if count is None else range(count)
    return (Question(small, str(number), answer_type="number", id=str(number)) for number in numbers)


def test_many_are_answered_in_order_and_with_bounded_concurrency() -> None:
    model = Uneven(0.05, slow_s=0.1, period=3)
    with pipeline(model, concurrency=4) as p2r:
        known = list(p2r.answer_many(numbered(20), "direct"))
    assert [prediction.id for prediction in known] == [str(number) for number in range(20)]
    assert [prediction.answer for prediction in known] == [str(number) for number in range(20)]
    assert 2 <= model.most_in_flight <= 4


def test_an_endless_iterable_is_drawn_a_bounded_way_ahead() -> None:
    drawn = 0

    def counted() -> Iterator[Question]:
        nonlocal drawn
        for question in numbered():
            drawn += 1
            yield question

    model = Uneven(0, slow_s=0.5)
    with pipeline(model, concurrency=2) as p2r:
        predictions = p2r.answer_many(counted(), "direct")
        assert next(predictions).id == "0"
        assert 2 < drawn <= 8, "the others went on while the first was waited for, within bounds"
        assert [prediction.id for prediction in itertools.islice(predictions, 20)][-1] == "20"
        assert drawn <= 21 + 8


def test_leaving_early_cancels_running_calls() -> None:
    class OnlyTheFirst(FakeModel):
        async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
            self._delay_s = 0 if "Question: 0\n" in said(messages) else 30
            return await super().complete(messages, sampling)

    model = OnlyTheFirst(lambda messages: "1")
    with pipeline(model, concurrency=3) as p2r:
        predictions = p2r.answer_many(numbered(), "direct")
        next(predictions)
        predictions.close()  # type: ignore[attr-defined]
        with pytest.raises(InputError):
            p2r.answer(b"", "has the loop come round?")
        assert model.in_flight == 0
        assert model.cancelled == len(model.calls) - 1


def test_a_failure_among_many_is_marked_and_the_others_continue() -> None:
    model = FakeModel(
        lambda messages: failure("server", "it broke") if "Question: 1\n" in said(messages) else "7"
    )
    questions = [*numbered(3), Question(b"not an image", "What?", id="bad")]
    with pipeline(model) as p2r:
        known = list(p2r.answer_many(questions, "direct"))
    assert [prediction.status for prediction in known] == ["answered", "failed", "answered", "failed"]
    assert known[1].error == "it broke"
    assert [prediction.answer for prediction in known] == ["7", None, "7", None]


def test_an_error_in_the_users_own_iterable_comes_through() -> None:
    def broken() -> Iterator[Question]:
        yield QUESTION
        raise RuntimeError("mine")

    with pipeline(replies()) as p2r, pytest.raises(RuntimeError, match="mine"):
        list(p2r.answer_many(broken()))


# The synchronous face.


def test_answer_is_one_call() -> None:
    with pipeline(replies()) as p2r:
        known = p2r.answer(IMAGE, "What is the number?", answer_type="number")
    assert (known.status, known.answer) == ("answered", "42")


def test_answer_takes_choices() -> None:
    with pipeline(replies(thought="<answer>B</answer>")) as p2r:
        assert p2r.answer(IMAGE, "Which?", ["cat", "dog"], mode="think").answer == "B"


def test_answer_raises_what_predict_raises() -> None:
    with pipeline(replies(failure("server"))) as p2r:
        with pytest.raises(ModelError):
            p2r.answer(IMAGE, "What?")
        with pytest.raises(InputError, match="question is empty"):
            p2r.answer(IMAGE, " ")


def test_it_works_where_a_loop_is_running_already() -> None:
    async def notebook_cell() -> Prediction:
        with pipeline(replies()) as p2r:
            return p2r.answer(IMAGE, "What?", answer_type="number")

    assert asyncio.run(notebook_cell()).answer == "42"


def test_the_callers_own_event_loop_stays_the_callers() -> None:
    mine = asyncio.new_event_loop()
    asyncio.set_event_loop(mine)
    try:
        with pipeline(replies()) as p2r:
            p2r.answer(IMAGE, "What?")
            assert asyncio.get_event_loop() is mine
        assert asyncio.get_event_loop() is mine
    finally:
        asyncio.set_event_loop(None)
        mine.close()


def test_any_thread_may_call_answer() -> None:
    with pipeline(replies()) as p2r:
        answers: list[str | None] = []
        ask = lambda: answers.append(p2r.answer(IMAGE, "What?", answer_type="number").answer)  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["42"] * 8


def test_an_interrupt_cancels_the_question() -> None:
    def reply(messages: Sequence[Message]) -> str:
        time.sleep(0.2)  # by now the caller waits for the answer
        os.kill(os.getpid(), signal.SIGINT)
        return BOXES

    model = FakeModel(reply, delay_s=30)
    with pipeline(model) as p2r:
        with pytest.raises(KeyboardInterrupt):
            p2r.answer(IMAGE, "What?")
        end = time.monotonic() + 10
        while not model.cancelled and time.monotonic() < end:
            time.sleep(0.01)
        assert model.cancelled == 1


def test_closing_ends_the_private_thread_and_leaves_given_models_open() -> None:
    model = replies()
    p2r = pipeline(model)
    assert "p2r-loop" not in {thread.name for thread in threading.enumerate()}, (
        "no thread before it is needed"
    )
    p2r.answer(IMAGE, "What?")
    assert "p2r-loop" in {thread.name for thread in threading.enumerate()}
    p2r.close()
    p2r.close()
    assert "p2r-loop" not in {thread.name for thread in threading.enumerate()}
    assert model.closed == 0


def test_a_forgotten_pipeline_ends_its_thread_when_it_is_collected() -> None:
    p2r = pipeline(replies())
    p2r.answer(IMAGE, "What?")
    del p2r
    import gc

    gc.collect()
    assert "p2r-loop" not in {thread.name for thread in threading.enumerate()}


def test_a_pipeline_that_its_own_loop_collects_ends_its_thread_too() -> None:
    runner = SyncRunner()
    held = [runner]

    async def drop() -> None:
        held.clear()

    future = runner.submit(drop)
    del runner
    future.result()
    end = time.monotonic() + 10
    while "p2r-loop" in {thread.name for thread in threading.enumerate()} and time.monotonic() < end:
        time.sleep(0.01)
    assert "p2r-loop" not in {thread.name for thread in threading.enumerate()}


# Settings.


def test_settings_that_come_with_a_model_are_used_unless_others_are_given(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "p2r.json").write_text(json.dumps({"geometry": {"max_crops": 2}}))
    assert settings_of(str(tmp_path)).geometry.max_crops == 2
    assert settings_of("http://127.0.0.1:9/v1#name") == Settings()
    assert settings_of(FakeModel([])) == Settings()
    assert P2R(FakeModel([]), settings=SETTINGS).settings == SETTINGS


def test_settings_of_one_question_leave_those_of_the_others_alone() -> None:
    small = replace(SETTINGS, geometry=Geometry(max_crops=1), max_tokens=TokenLimits(perceive=5, reason=6))
    model = replies()

    async def run() -> tuple[Prediction, Prediction]:
        p2r = pipeline(model)
        first = await p2r.predict(QUESTION, settings=small)
        return first, await p2r.predict(QUESTION)

    first, second = asyncio.run(run())
    assert [call.sampling.max_tokens for call in model.calls] == [5, 6, 11, 22]
    assert (len(first.crops_px), len(second.crops_px)) == (1, 2)
    assert (first.digest, second.digest) == (small.digest, SETTINGS.digest)


# A prediction as plain data.


@pytest.mark.parametrize("model", [replies(), replies("[]"), replies("no box"), replies(thought="none")])
def test_a_prediction_is_read_back_from_its_json(model: FakeModel) -> None:
    known = predict(model)
    data = json.loads(json.dumps(known.to_json()))
    assert Prediction.from_json(data).to_json() == known.to_json()
    assert Prediction.from_json(data | {"correct": True}).boxes == known.boxes


def test_a_failed_prediction_is_read_back_from_its_json() -> None:
    known = asyncio.run(pipeline(replies(thought=failure())).predict(QUESTION, errors="return"))
    again = Prediction.from_json(known.to_json())
    assert (again.status, again.answer, again.text) == ("failed", None, "")
    assert again.to_json() == known.to_json()


def test_json_of_an_older_run_may_have_fewer_keys() -> None:
    assert Prediction.from_json({"id": "7", "mode": "think", "status": "no_answer"}) == Prediction(
        "7", "think", "no_answer"
    )


# Models that are opened here.


def test_a_model_that_was_opened_here_is_closed_here_and_shared_by_both_roles() -> None:
    async def run() -> None:
        async with P2R("http://127.0.0.1:9/v1#name", settings=SETTINGS) as p2r:
            assert p2r.perceiver is p2r.reasoner
            assert p2r.perceiver.name == "name"
        async with P2R("http://127.0.0.1:9/v1#a", reasoner="http://127.0.0.1:9/v1#b") as p2r:
            assert (p2r.perceiver.name, p2r.reasoner.name) == ("a", "b")

    asyncio.run(run())


def test_a_server_that_was_started_here_is_ended_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, python = tmp_path / "notes.jsonl", tmp_path / "python"
    stand_in = Path(__file__).parent / "models" / "fake_vllm.py"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I {stand_in} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("P2R_VLLM_PYTHON", str(python))
    monkeypatch.setenv("P2R_FAKE_VLLM_NOTES", str(notes))
    with P2R("vllm:org/model", settings=SETTINGS) as p2r:
        assert p2r.answer(IMAGE, "Who is there?", mode="direct").answer == "org/model says hello"
        pid = json.loads(notes.read_text())["pid"]
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_unknown_model_is_refused_when_the_pipeline_is_made() -> None:
    with pytest.raises(InputError, match="unknown model 'no such thing'"):
        P2R("no such thing")
    with pytest.raises(InputError, match="unknown model 'nor this'"):
        P2R("http://127.0.0.1:9/v1#name", reasoner="nor this")
    assert DEFAULT_MODEL in ("nano", "nano-base")
