"""A role in training gets byte for byte the messages of every other entry point.

Evaluation and the server ask through the same `P2R` (tests/evaluation, tests/serving).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from p2r.pipeline import P2R
from p2r.settings import PixelBudget, Settings
from p2r.training.data import RolloutDataset, image_cache
from p2r.types import Box, Question, Sample
from tests.fake_model import FakeModel, said, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Message
    from p2r.training.recipe import Role
    from p2r.types import BoxFormat, Mode

SETTINGS = Settings(
    budget=PixelBudget(overview_max_pixels=160 * 160, crop_max_pixels=96 * 96, min_pixels=1024)
)
BOXES = (Box(100, 100, 300, 300, "bus"), Box(600, 0, 900, 200, "car"))
WRITTEN = (
    '[{"bbox_2d": [100, 100, 300, 300], "label": "bus"}, {"bbox_2d": [600, 0, 900, 200], "label": "car"}]'
)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)


QUESTIONS = [
    Question(noise(640, 480), "Which color?", ("red", "blue"), id="choice"),
    Question(noise(300, 500), "How many $? <|im_end|>", answer_type="number", id="number"),
    Question(noise(333, 222), "Who is it?", id="free"),
]


def asked(
    question: Question, mode: Mode, perceived: str, settings: Settings = SETTINGS
) -> list[tuple[Message, ...]]:
    """What a model is asked by the pipeline, call by call."""
    model = FakeModel(lambda messages: perceived if "of boxes" in said(messages) else "<answer>A</answer>")
    asyncio.run(P2R(model, settings=settings).predict(question, mode))
    return [call.messages for call in model.calls]


def same(ours: Sequence[Message], theirs: Sequence[Message]) -> None:
    assert [message.role for message in ours] == [message.role for message in theirs]
    assert said(ours) == said(theirs)
    assert [one.pixels.tobytes() for one in shown(ours)] == [one.pixels.tobytes() for one in shown(theirs)]
    assert [one.size for one in shown(ours)] == [one.size for one in shown(theirs)]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
@pytest.mark.parametrize(
    ("role", "mode", "call", "boxes", "perceived"),
    [
        ("perceiver", "p2r", 0, (), WRITTEN),
        ("reasoner", "p2r", 1, BOXES, WRITTEN),
        ("reasoner", "p2r", 1, (), "[]"),
        ("reasoner", "p2r", 1, (), "I see nothing"),
        ("think", "think", 0, (), ""),
        ("direct", "direct", 0, (), ""),
    ],
)
def test_a_role_is_shown_what_the_pipeline_shows(
    question: Question, role: Role, mode: Mode, call: int, boxes: tuple[Box, ...], perceived: str
) -> None:
    samples = [Sample(question, "A")]
    rows = RolloutDataset(samples, SETTINGS, image_cache(samples, SETTINGS, 2), {0: boxes})
    same(rows.messages(role, 0), asked(question, mode, perceived)[call])


@pytest.mark.parametrize(
    ("box_format", "written"),
    [
        # The overview of 640 × 480 pixels is sent with 160 × 128.
        ("pixels", '[{"bbox_2d": [16, 12.8, 48, 38.4], "label": "bus"}]'),
        ("gemini", '[{"box_2d": [100, 100, 300, 300], "label": "bus"}]'),
        ("unit", '[{"bbox_2d": [0.1, 0.1, 0.3, 0.3], "label": "bus"}]'),
    ],
)
def test_a_role_is_asked_and_read_in_the_box_format_of_the_model(box_format: BoxFormat, written: str) -> None:
    settings = replace(SETTINGS, box_format=box_format)
    question = QUESTIONS[0]
    samples = [Sample(question, "A")]
    images = image_cache(samples, settings, 2)
    rows = RolloutDataset(samples, settings, images)
    perceive, reason = asked(question, "p2r", written, settings)
    same(rows.messages("perceiver", 0), perceive)
    (box,) = rows.perception(0, written).boxes
    assert box.as_tuple() == pytest.approx((100, 100, 300, 300))
    rows.boxes[0] = (box,)
    same(rows.messages("reasoner", 0), reason)


def test_an_image_is_opened_once_for_a_group_and_dropped_later() -> None:
    samples = [Sample(question, "A") for question in QUESTIONS]
    images = image_cache(samples, SETTINGS, keep=2)
    first = images(0)
    assert images(0) is first
    assert images(1) is not first
    assert images(0) is first
    images(2)
    assert images(0) is first
    images(1)
    images(2)
    assert images(0) is not first
