"""Hostile texts of both roles: nothing raises, no box leaves 0–1000, no crop is under the floor.

The long run: `python tests/fuzz.py --n 500000`, or `pytest -m slow tests/parsing/test_fuzz.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import check_answer, check_perception, fuzz
from tests.strategies import perceiver_texts, reasoner_texts

if TYPE_CHECKING:
    import random

few, many = (
    settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    for count in (50, 300)
)


@given(perceiver_texts(), st.randoms(use_true_random=False))
@few
def test_perceiver_texts(text: str, rng: random.Random) -> None:
    check_perception(text, rng)


@given(reasoner_texts(), st.randoms(use_true_random=False))
@few
def test_reasoner_texts(text: str, rng: random.Random) -> None:
    asyncio.run(check_answer(text, rng))


@pytest.mark.long
@given(perceiver_texts(), reasoner_texts(), st.randoms(use_true_random=False))
@many
def test_more_texts(perceiver: str, reasoner: str, rng: random.Random) -> None:
    check_perception(perceiver, rng)
    asyncio.run(check_answer(reasoner, rng))


def test_mutated_and_assembled_texts() -> None:
    seen = asyncio.run(fuzz(1_000, seed=1))
    # All outcomes came up, so that the promises were put to the test.
    assert set(seen) == {
        *("perceiver: boxes", "perceiver: whole", "perceiver: malformed"),
        *("reasoner: right", "reasoner: wrong", "reasoner: no answer"),
    }


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_half_a_million_texts() -> None:
    assert sum(asyncio.run(fuzz(500_000, seed=0, progress=True)).values()) == 500_000
