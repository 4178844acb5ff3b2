"""Right ways to say a number are right and wrong ones are not, made from their meaning (`spelt_numbers.py`).

The long run, 100,000 of each: `pytest -m slow tests/test_number_properties.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from p2r.scoring import score
from p2r.types import Answer, Question, Sample
from spelt_numbers import right_answers, wrong_answers

if TYPE_CHECKING:
    from p2r.types import AnswerType


def examples(count: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=checks
    )


def correct(gold: str, answer: str, kind: AnswerType) -> bool | None:
    sample = Sample(Question("x.png", "How many?", (), kind), gold)
    return asyncio.run(score(Answer(answer), sample)).correct


@given(right_answers())
@examples(500)
def test_right_answers(pair: tuple[str, str]) -> None:
    assert correct(*pair, "number") is True


@given(wrong_answers())
@examples(1_500)
def test_wrong_answers(pair: tuple[str, str]) -> None:
    assert correct(*pair, "number") is False
    assert correct(*pair, "free") is False


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@given(right_answers())
@examples(100_000)
def test_100_000_right_answers(pair: tuple[str, str]) -> None:
    assert correct(*pair, "number") is True


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@given(wrong_answers())
@examples(100_000)
def test_100_000_wrong_answers(pair: tuple[str, str]) -> None:
    assert correct(*pair, "number") is False
    assert correct(*pair, "free") is False
