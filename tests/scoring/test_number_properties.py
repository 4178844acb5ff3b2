"""Right ways to say a number are right and wrong ones are not, made from their meaning.

Each example is about forty answers. The slow run has over 100,000 right and over 100,000 wrong ones:
`pytest -m slow tests/scoring/test_number_properties.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from p2r.scoring import score
from p2r.types import Answer, Question, Sample
from tests.scoring.spelled_numbers import KINDS, right_answers, wrong_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.types import AnswerType


def examples(count: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=checks
    )


def wrongly_scored(
    pairs: list[tuple[str, str]], kinds: Sequence[AnswerType], right: bool
) -> list[tuple[str, str]]:
    async def scores() -> list[tuple[str, str]]:
        found = []
        for gold, answer in pairs:
            for kind in kinds:
                sample = Sample(Question("x.png", "How many?", (), kind), gold)
                if (await score(Answer(answer), sample)).correct is not right:
                    found.append((gold, answer))
        return found

    return asyncio.run(scores())


@given(right_answers())
@examples(15)
def test_right_answers(pairs: list[tuple[str, str]]) -> None:
    assert wrongly_scored(pairs, ["number"], right=True) == []


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_answers(kind: str) -> None:
    check_wrong_answers(kind, 3)


@pytest.mark.long
@given(right_answers())
@examples(50)
def test_more_right_answers(pairs: list[tuple[str, str]]) -> None:
    assert wrongly_scored(pairs, ["number"], right=True) == []


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_more_wrong_answers(kind: str) -> None:
    check_wrong_answers(kind, 25)


@pytest.mark.slow
@given(right_answers())
@examples(3_000)
def test_100_000_right_answers(pairs: list[tuple[str, str]]) -> None:
    assert wrongly_scored(pairs, ["number"], right=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_100_000_wrong_answers(kind: str) -> None:
    check_wrong_answers(kind, 3_000 // len(KINDS))


def check_wrong_answers(kind: str, count: int) -> None:
    @given(wrong_answers(kind))
    @examples(count)
    def check(pairs: list[tuple[str, str]]) -> None:
        assert wrongly_scored(pairs, ["number", "free"], right=False) == []

    check()
