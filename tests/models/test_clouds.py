"""Models of two clouds as perceiver and as reasoner: from the question to the answer, over HTTP."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest

from p2r import P2R, ModelError, Settings
from p2r.model_checks import check_model
from p2r.scoring.localization import localize
from p2r.settings import PixelBudget
from tests.clouds import Asked, gemini, gpt
from tests.grounding import SAMPLES, WRITERS, right_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2r.types import BoxFormat, Prediction
    from tests.servers import Server

SMALL = Settings(budget=PixelBudget(overview_max_pixels=65_536, crop_max_pixels=262_144))
SAMPLE = next(iter(SAMPLES.values()))
CUT = re.compile("the reply was cut at its limit of 2048 tokens: .*,thinking_tokens=")
SAMPLED = "the server refuses temperature 0, so this was sampled and may differ the next time"


def grounds(box_format: BoxFormat) -> Callable[[Asked], str]:
    """Writes the right reply, in its own box format whatever the prompt asks for."""
    return lambda asked: right_reply(asked.text, WRITERS[box_format], asked.images[0].size)


# Name → the server with its model, the box format, and what follows the model's name.
CLOUDS: dict[str, tuple[Callable[..., Server], BoxFormat, str]] = {
    "gemini-flash": (gemini, "gemini", ""),
    "gpt-5": (gpt, "qwen3", ",extra_body.reasoning_effort=low"),
}


def answer(
    perceiver: Server, name: str, *, reasoner: str | None = None, box_format: BoxFormat = "qwen3"
) -> Prediction:
    question, settings = SAMPLE.sample().question, replace(SMALL, box_format=box_format)
    with P2R(f"{perceiver.url}#{name}", reasoner=reasoner, settings=settings) as p2r:
        return p2r.answer(question.image, question.text, question.choices)


def assert_the_crop_shows_the_object(prediction: Prediction, server: Server) -> None:
    """By the region of the crop, and by the pixels that arrived at the reasoner's server."""
    located = localize(SAMPLE.boxes, prediction.boxes, prediction.crops_px, SAMPLE.size)
    assert located.complete
    assert located.iou[0] > 0.8
    (region,) = prediction.crops_px
    _, crop = Asked.read(server.requests[-1].body).images
    expected = PIL.Image.fromarray(SAMPLE.render()).crop(region).resize(crop.size)
    assert np.abs(np.asarray(crop, float) - np.asarray(expected, float)).mean() < 8


@pytest.mark.parametrize("reasoner", CLOUDS)
@pytest.mark.parametrize("perceiver", CLOUDS)
def test_each_cloud_perceives_and_reasons(perceiver: str, reasoner: str) -> None:
    (first, box_format, more), (second, _, further) = CLOUDS[perceiver], CLOUDS[reasoner]
    with first(grounds(box_format)) as sees, second(grounds("unit")) as thinks:
        prediction = answer(
            sees, perceiver + more, reasoner=f"{thinks.url}#{reasoner}{further}", box_format=box_format
        )
        assert (prediction.model, prediction.reasoner) == (perceiver, reasoner)
        assert prediction.answer == SAMPLE.sample().answer
        assert_the_crop_shows_the_object(prediction, thinks)
        assert (SAMPLED in prediction.notes) == ("gpt-5" in (perceiver, reasoner))


def test_the_other_order_of_corners_shows_something_else() -> None:
    """What the test above rules out."""
    with gemini(grounds("gemini")) as server:
        prediction = answer(server, "gemini-flash")
    assert not localize(SAMPLE.boxes, prediction.boxes, prediction.crops_px, SAMPLE.size).complete


def test_gpt_refuses_one_field_at_a_time_and_is_asked_once_more_for_each() -> None:
    options = ",thinking=off,extra_body.reasoning_effort=low"
    with gpt(grounds("qwen3")) as server:
        assert answer(server, f"gpt-5{options}").status == "answered"
        sent = [request.body for request in server.requests]
    # chat_template_kwargs, max_tokens, temperature; then both stages in the form that is accepted.
    assert len(sent) == 5
    for body in sent[-2:]:
        assert body.keys() == {"model", "messages", "max_completion_tokens", "reasoning_effort"}


def test_gemini_names_all_fields_at_once_and_thinking_off_is_not_its_switch() -> None:
    with gemini(grounds("gemini"), thinks=3_000) as server:
        prediction = answer(server, "gemini-flash,thinking=off", box_format="gemini")
        assert len(server.requests) == 3, "a refusal, and the two stages"
        assert "the server refuses chat_template_kwargs, so it was left out" in prediction.notes
        # The thinking used up both limits: nothing came, and nothing was asked again.
        assert prediction.perception is not None
        assert (prediction.status, prediction.perception.outcome) == ("no_answer", "malformed")
        assert any(
            "cut at its limit of 2048" in note and "thinking_tokens" in note for note in prediction.notes
        )
        for option in ("extra_body.reasoning_effort=none", "thinking_tokens=8192"):
            assert answer(server, f"gemini-flash,{option}", box_format="gemini").status == "answered"


def test_hidden_reasoning_that_used_up_the_limit_says_what_to_set() -> None:
    with gpt(grounds("qwen3"), reasons=4_000) as server:
        cut = answer(server, "gpt-5")
        assert (cut.status, cut.truncated) == ("no_answer", True)
        assert any(CUT.match(note) for note in cut.notes)
        assert answer(server, "gpt-5,thinking_tokens=8192").answer == SAMPLE.sample().answer


@pytest.mark.parametrize(
    ("cloud", "name", "says", "message"),
    [
        (
            gpt,
            "gpt-5",
            "I'm sorry, I can't assist with that.",
            "the model refused: I'm sorry, I can't assist",
        ),
        (
            gemini,
            "gemini-flash",
            "RECITATION",
            "withheld the reply (content_filter: RECITATION)",
        ),
    ],
)
def test_a_refusal_of_the_model_is_its_error_and_is_not_asked_again(
    cloud: Callable[..., Server], name: str, says: str, message: str
) -> None:
    with cloud(lambda _: says) as server:
        with pytest.raises(ModelError) as caught:
            answer(server, f"{name},temperature=omit,max_tokens_field=max_completion_tokens")
        assert caught.value.kind == "rejected"
        assert message in str(caught.value)
        assert len(server.requests) == 1


@pytest.mark.long
@pytest.mark.parametrize(("name", "set_to"), [("gemini-flash", "qwen3"), ("gpt-5", "gemini")])
def test_doctor_finds_the_box_format_of_a_cloud(name: str, set_to: BoxFormat) -> None:
    cloud, box_format, more = CLOUDS[name]

    def found(server: Server, chosen: BoxFormat) -> Sequence[str]:
        results = asyncio.run(check_model(f"{server.url}#{name}{more}", replace(SMALL, box_format=chosen)))
        return [
            f"{result.state}: {result.detail} {result.hint}" for result in results if "boxes" in result.name
        ]

    with cloud(grounds(box_format)) as server:
        (wrong,) = found(server, set_to)
        assert wrong.startswith(f"failure: box format {box_format}: in 6 of 6 probes")
        assert f"--set box_format={box_format}" in wrong
        (right,) = found(server, box_format)
        assert right.startswith(f"ok: box format {box_format}: in 6 of 6 probes")
