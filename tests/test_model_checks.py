"""Checks of a model: the box format that it writes, and whether the largest request fits its context."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import PIL.Image
import pytest

from p2r.model_checks import check_model
from p2r.models.base import Completion
from p2r.nano import WEIGHTS
from p2r.settings import PixelBudget, Settings, TokenLimits
from p2r.types import Box
from tests.fake_model import FakeModel, said, shown
from tests.grounding import WRITERS, qwen3, right_reply, unit
from tests.servers import Server, body, completion, dead_url, status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.checks import CheckResult
    from p2r.models.base import Message
    from p2r.types import BoxFormat
    from tests.fake_model import Reply
    from tests.grounding import Writer
    from tests.servers import Exchange

SMALL = Settings(budget=PixelBudget(overview_max_pixels=65_536, crop_max_pixels=65_536))


def model_that_writes(perceive: Writer | Reply) -> FakeModel:
    """A model that writes the objects' places in one format, whatever the prompt says."""

    def answer(messages: Sequence[Message]) -> Reply:
        text = said(messages)
        if "list of boxes" not in text:
            return "<think>Seen.</think><answer>A</answer>"
        if not callable(perceive):
            return perceive
        (overview,) = shown(messages)
        return right_reply(text, perceive, overview.size)

    return FakeModel(answer)


def look(model: FakeModel | str, settings: Settings = SMALL) -> dict[str, CheckResult]:
    found = asyncio.run(check_model(model, settings))
    return {finding.name.rpartition(" ")[2]: finding for finding in found}


@pytest.mark.parametrize(
    ("written", "budget"),
    [
        *((name, SMALL.budget) for name in WRITERS),
        ("pixels", PixelBudget(overview_max_pixels=600_000)),  # about 1000 pixels wide
    ],
)
def test_the_probe_distinguishes_the_box_formats(written: BoxFormat, budget: PixelBudget) -> None:
    model = model_that_writes(WRITERS[written])
    boxes = look(model, replace(SMALL, budget=budget, box_format=written))["boxes"]
    assert boxes.state == "ok"
    assert boxes.detail.startswith(
        f"box format {written}: in 6 of 6 probes the crop shows the object (mean IoU "
    )


@pytest.mark.parametrize(
    ("written", "chosen"),
    [("pixels", "qwen3"), ("gemini", "qwen3"), ("qwen3", "gemini"), ("unit", "pixels")],
)
def test_another_format_than_the_one_that_is_set_is_a_failure(written: BoxFormat, chosen: BoxFormat) -> None:
    boxes = look(model_that_writes(WRITERS[written]), replace(SMALL, box_format=chosen))["boxes"]
    # The formats of 0–1000 take shares too, so that those are in order with more than one.
    best = "qwen3" if written == "unit" else written
    assert boxes.state == "failure"
    assert f"box format {best}: in 6 of 6 probes" in boxes.detail
    assert boxes.detail.endswith(f"but {chosen} is set (0 of 6)")
    assert boxes.hint.startswith(f"--set box_format={best}")


def test_shares_are_in_order_with_the_default_format() -> None:
    assert look(model_that_writes(unit))["boxes"].state == "ok"


@pytest.mark.parametrize(
    ("written", "detail", "hint"),
    [
        (
            '[{"bbox_2d": [10, 20, 30, 40], "label": "a"}]',
            "no box format fits: in at most 0 of 6",
            "not ground",
        ),
        ("I see a tag.", "6 replies without a box, 0 for the whole image", "does not write boxes"),
        ("[]", "0 replies without a box, 6 for the whole image", "not ground"),
        (
            Completion("<think>Where", 9, 96, "length"),
            "6 of 6 replies were cut at max_tokens.perceive = 96 while",
            "off",
        ),
        (
            Completion("Well, let us", 9, 96, "length"),
            "6 of 6 replies were cut at max_tokens.perceive = 96",
            "off",
        ),
    ],
)
def test_a_model_that_does_not_ground_is_reported(written: Reply, detail: str, hint: str) -> None:
    settings = replace(SMALL, max_tokens=TokenLimits(perceive=96))
    boxes = look(model_that_writes(written), settings)["boxes"]
    assert boxes.state == "warning"
    assert detail in boxes.detail
    assert hint in boxes.hint


def test_an_answer_that_is_cut_off_is_reported() -> None:
    model = FakeModel(lambda _: Completion("<think>Well", 9, 2048, "length"))
    answers = look(model)["answers"]
    assert answers.state == "warning"
    assert "cut at max_tokens.reason = 2048" in answers.detail
    assert ",thinking_tokens=4096" in answers.hint


@pytest.mark.long
def test_nano_grounds_in_its_own_format() -> None:
    found = {finding.name: finding for finding in asyncio.run(check_model("nano"))}
    assert {name: finding.state for name, finding in found.items()} == {
        "nano answers": "ok",
        "nano boxes": "ok",
        "nano budgets": "ok",
    }
    assert found["nano boxes"].detail.startswith("box format qwen3: ")


@pytest.mark.long
def test_nano_is_asked_in_another_format_and_doctor_notices() -> None:
    settings = replace(Settings.load(WEIGHTS / "nano"), box_format="gemini")
    found = {finding.name: finding for finding in asyncio.run(check_model("nano", settings))}
    assert found["nano boxes"].state == "failure"
    assert found["nano boxes"].hint.startswith("--set box_format=qwen3")


# The context window.


def served(context: int, *, shrinks: int = 1, **entry: object) -> Server:
    """Counts a token for 32 × 32 pixels and refuses what is more than its context, as vLLM does."""

    def behave(exchange: Exchange) -> None:
        uris = re.findall(r"data:image/\w+;base64,([^\"]+)", json.dumps(exchange.body))
        sizes = [PIL.Image.open(BytesIO(base64.b64decode(uri))).size for uri in uris]
        prompt = 100 + sum(width * height for width, height in sizes) // 1024 // shrinks
        if prompt + exchange.body["max_tokens"] > context:
            status(400, message=f"the maximum context length is {context} tokens")(exchange)
            return
        fine = completion(f"<think>Seen.</think><answer>A</answer>{qwen3(Box(1, 2, 30, 40), 0, 0)}")
        fine["usage"]["prompt_tokens"] = prompt
        body(json.dumps(fine))(exchange)

    return Server([behave], models=[{"id": "served", **entry}])


LARGE = Settings(budget=PixelBudget(262_144, 262_144), max_tokens=TokenLimits(64, 128))


@pytest.mark.parametrize("context", [1024, 1200])
def test_budgets_that_are_too_large_for_the_context_are_one_failure(context: int) -> None:
    # 1200: the images and one token fit, the whole reply does not.
    with served(context, max_model_len=context) as server:
        found = look(f"{server.url}#served", LARGE)
        budgets = found["budgets"]
        assert (found["answers"].state, budgets.state) == ("ok", "failure")
        assert budgets.detail.startswith("an 8K image with 3 crops is 1")
        assert budgets.detail.endswith(f"more than the context window of {context}")
        assert budgets.hint.startswith(
            f"--set budget.context_tokens={context} --set budget.text_tokens=640; or "
        )
        # What it advises is enough.
        advised = replace(LARGE.budget, context_tokens=context, text_tokens=640)
        again = look(f"{server.url}#served", replace(LARGE, budget=advised))["budgets"]
        assert again.state == "ok"


def test_a_context_too_small_for_any_question_is_one_failure_with_its_cause() -> None:
    with served(2048, max_model_len=2048) as server:
        (finding,) = asyncio.run(check_model(f"{server.url}#served", Settings()))
    assert (finding.name, finding.state) == (f"{server.url}#served budgets", "failure")
    assert "more than the context window of 2048" in finding.detail
    assert "--max-model-len), or lower max_tokens.perceive and max_tokens.reason" in finding.hint


def test_other_refusals_are_not_attributed_to_the_context() -> None:
    with Server(
        [status(400, message="no such field")], models=[{"id": "served", "max_model_len": 10**6}]
    ) as server:
        (finding,) = asyncio.run(check_model(f"{server.url}#served", SMALL))
    assert finding.name.endswith("answers")
    assert "no such field" in finding.detail


def test_a_server_that_does_not_say_its_context_is_asked_for_the_largest_request() -> None:
    with served(100_000) as server:
        budgets = look(f"{server.url}#served")["budgets"]
    assert budgets.state == "ok"
    assert budgets.detail.startswith("an 8K image with 3 crops is 340 tokens, 240 of them images; up to 2048")


def test_a_server_that_shrinks_images_is_reported() -> None:
    with served(100_000, shrinks=10) as server:
        budgets = look(f"{server.url}#served")["budgets"]
    assert budgets.state == "warning"
    assert "is sent as 240 tokens of 32² pixels, but the server counts 124:" in budgets.detail


def test_a_server_that_is_not_there_is_one_failure() -> None:
    (finding,) = asyncio.run(check_model(f"{dead_url()}#served", SMALL))
    assert finding.state == "failure"
    assert "start the server" in finding.hint


def test_the_context_of_a_checkpoint_is_known() -> None:
    settings = Settings.load(WEIGHTS / "nano")
    settings = replace(settings, max_tokens=TokenLimits(96, 4_000, 16))
    (finding,) = asyncio.run(check_model("nano", settings))
    assert (finding.name, finding.state) == ("nano budgets", "failure")
    assert "context window of 1024" in finding.detail
