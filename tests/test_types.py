"""The data types validate their values and are immutable."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings

from p2r import types
from p2r.errors import InputError
from p2r.types import Box, Question, Usage
from tests.strategies import good_boxes

# Boxes.


def test_area_and_center_of_a_box() -> None:
    box = Box(100, 200, 300, 700, "sign")
    assert box.as_tuple() == (100, 200, 300, 700)
    assert [box.area, *box.center] == pytest.approx([0.1, 200, 450])
    assert Box(0, 0, 1000, 1000).area == 1


@pytest.mark.parametrize(
    "corners",
    [
        *[
            (300, 0, 100, 10),
            (0, 10, 10, 5),
            (5, 0, 5, 10),
            (-1, 0, 10, 10),
            (0, 0, 1000.1, 10),
            (0, -5, 10, 10),
        ],
        *[(math.nan, 0, 10, 10), (0, 0, math.inf, 10), (0, math.nan, 10, 10), (0, 0, 10, math.nan)],
    ],
)
def test_corners_out_of_order_or_range_are_refused(corners: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match="within 0–1000"):
        Box(*corners)


def test_intersection_over_union() -> None:
    box = Box(0, 0, 100, 100)
    assert box.iou(box) == 1
    assert box.iou(Box(50, 0, 150, 100)) == pytest.approx(1 / 3)
    assert box.iou(Box(25, 25, 75, 75)) == pytest.approx(1 / 4)
    assert box.iou(Box(100, 0, 200, 100)) == 0  # they touch
    assert box.iou(Box(500, 500, 600, 600)) == 0


@given(good_boxes(), good_boxes())
@settings(max_examples=100, deadline=None, database=None, derandomize=True)
def test_iou_is_symmetric_and_a_share(
    first: tuple[int, int, int, int], second: tuple[int, int, int, int]
) -> None:
    one, other = Box(*first), Box(*second)
    assert 0 <= one.iou(other) <= 1
    assert one.iou(other) == pytest.approx(other.iou(one))
    assert one.iou(one) == pytest.approx(1)


# Questions.


def test_choices_make_a_choice_question() -> None:
    question = Question("x.png", "Which?", (" red ", "blue", "green"))
    assert (question.choices, question.answer_type, question.letters) == (
        ("red", "blue", "green"),
        "choice",
        "ABC",
    )
    assert Question("x.png", "Which?", ("red", "blue"), "choice").answer_type == "choice"
    assert Question("x.png", "How many?", answer_type="number").letters == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", ()), "the question is empty"),
        ((" \n", ()), "the question is empty"),
        (("q", ("red",)), "one choice is none"),
        (("q", ("red", " ")), "a choice is empty"),
        (("q", tuple(map(str, range(27)))), "27 choices: at most 26"),
        (("q", ("red", "blue"), "number"), "takes no choices"),
        (("q", (), "choice"), "at least two choices"),
        (("q", (), "letter"), "unknown answer type 'letter': choice, number or free"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Question("x.png", *arguments)
    assert message in str(caught.value)


def test_options_may_have_equal_texts() -> None:
    question = Question("x.png", "Which?", ("red", "blue", " Red "))
    assert (question.letters, question.option("C")) == ("ABC", "C. Red")


def test_a_question_has_no_place_for_its_answer() -> None:
    assert {field.name for field in dataclasses.fields(Question)} == {
        "image",
        "text",
        "choices",
        "answer_type",
        "id",
    }


# The rest.


def test_usage_adds_up() -> None:
    assert sum([Usage(1, 2, 3), Usage(10, 20, 30)], Usage()) == Usage(11, 22, 33)


@pytest.mark.parametrize(
    "kind",
    [value for value in vars(types).values() if dataclasses.is_dataclass(value)],
    ids=lambda kind: kind.__name__,
)
def test_every_type_is_frozen(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert kind.__doc__
