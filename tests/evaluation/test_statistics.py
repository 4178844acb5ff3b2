"""Uncertainty, compared with values computed by hand, from the literature, and from scipy if installed."""

from __future__ import annotations

import math
import random

import pytest

from p2r.evaluation.statistics import (
    Z,
    clustered_wilson,
    mcnemar_p,
    paired_difference,
    tango,
    wilson,
)


def test_the_critical_value_is_the_familiar_one():
    assert pytest.approx(1.959964, abs=1e-6) == Z


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        # Newcombe 1998 (one proportion), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_published_values(correct, n, low, high):
    assert list(wilson(correct, n)) == [pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5)]


def test_wilson_by_hand_for_one_of_two():
    z2 = Z**2
    half = math.sqrt(z2 * (0.25 / 2 + z2 / 16)) / (1 + z2 / 2)
    assert list(wilson(1, 2)) == [pytest.approx(0.5 - half), pytest.approx(0.5 + half)]


def test_wilson_without_questions_is_0_to_1_and_stays_within_bounds():
    assert wilson(0, 0) == (0.0, 1.0)
    for n in (1, 5, 500):
        assert wilson(0, n)[0] == 0.0
        assert wilson(n, n)[1] == 1.0


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (0, 5, 2 / 32),  # both tails of five coins that fall the same way
        (1, 7, 2 * 9 / 256),  # 1 + 8 ways of at most one in eight; 0.0703 in Fagerland 2014
        (3, 3, 1.0),
        (10, 0, 2 / 1024),
    ],
)
def test_mcnemar_by_hand(only_first, only_second, p):
    assert mcnemar_p(only_first, only_second) == pytest.approx(p)
    assert mcnemar_p(only_second, only_first) == pytest.approx(p)


def test_mcnemar_with_many_questions_does_not_overflow():
    assert mcnemar_p(5_000, 5_000) == 1.0
    assert 0 <= mcnemar_p(4_000, 6_000) < 1e-80


@pytest.mark.long
def test_mcnemar_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats", reason="scipy is a cross-check only")
    for only_first, only_second in [(1, 7), (12, 30), (40, 41), (0, 9)]:
        expected = stats.binomtest(only_first, only_first + only_second).pvalue
        assert mcnemar_p(only_first, only_second) == pytest.approx(expected)


@pytest.mark.long
def test_wilson_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats", reason="scipy is a cross-check only")
    for correct, n in [(0, 7), (3, 10), (179, 191), (499, 500)]:
        interval = stats.binomtest(correct, n).proportion_ci(method="wilson")
        assert list(wilson(correct, n)) == [pytest.approx(interval.low), pytest.approx(interval.high)]


def test_tango_agrees_with_the_literature():
    # Airway hyper-responsiveness before and after a transplant: 1 both, 1 and 7 discordant, 12 neither;
    # Fagerland, Lydersen and Laake 2014 give −0.517 to −0.026 for Tango's interval.
    low, high = tango(1, 7, 21)
    assert low == pytest.approx(-0.517, abs=5e-4)
    assert high == pytest.approx(-0.026, abs=5e-4)


def test_tango_ends_are_where_the_score_test_just_rejects():
    # The test's variance by brute force: the likeliest share of lost questions on a fine grid.
    gained, lost, n = 12, 5, 60
    for end in tango(gained, lost, n):
        grid = [k / 20_000 for k in range(1, 20_000)]
        feasible = [q for q in grid if q + end > 0 and 2 * q + end < 1]

        def log_likelihood(q: float, end: float = end) -> float:
            return (
                gained * math.log(q + end)
                + lost * math.log(q)
                + (n - gained - lost) * math.log(1 - 2 * q - end)
            )

        q = max(feasible, key=log_likelihood)
        score = (gained - lost - n * end) / math.sqrt(n * (2 * q + end * (1 - end)))
        assert abs(score) == pytest.approx(Z, abs=1e-3)


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(0, 0, 30), (5, 0, 5), (0, 5, 5), (3, 2, 400), (200, 200, 400)]
)
def test_tango_holds_the_difference_and_mirrors(gained, lost, n):
    low, high = tango(gained, lost, n)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    mirrored = tango(lost, gained, n)
    assert [-high, -low] == pytest.approx(mirrored, abs=1e-9)


def test_tango_has_its_nominal_coverage():
    draw = random.Random(0)
    n, p_gain, p_loss, covered, rounds = 100, 0.15, 0.05, 0, 400
    for _ in range(rounds):
        throws = [draw.random() for _ in range(n)]
        gained = sum(t < p_gain for t in throws)
        lost = sum(p_gain <= t < p_gain + p_loss for t in throws)
        low, high = tango(gained, lost, n)
        covered += low <= p_gain - p_loss <= high
    assert 0.92 <= covered / rounds <= 0.98


def test_paired_difference_counts_question_by_question():
    first = [True, True, False, False, True, False]
    second = [True, False, True, True, True, True]
    result = paired_difference(first, second)
    assert (result.n, result.only_first, result.only_second) == (6, 1, 3)
    assert result.difference == pytest.approx(2 / 6)
    assert result.ci95 == tango(3, 1, 6)
    assert result.p == pytest.approx(2 * 5 / 16)
    with pytest.raises(ValueError, match="argument 2"):
        paired_difference([True], [])


def test_rotations_that_always_agree_count_once():
    # 50 questions in four rotations, each all right or all wrong: as good as 50 questions, not 200.
    clusters = [[k % 2 == 0] * 4 for k in range(50)]
    low, high = clustered_wilson(clusters)
    plain_low, plain_high = wilson(25, 50)
    assert high - low == pytest.approx(plain_high - plain_low, rel=0.02)


def test_independent_answers_are_worth_about_their_number():
    draw = random.Random(1)
    clusters = [[draw.random() < 0.6 for _ in range(4)] for _ in range(500)]
    correct = sum(map(sum, clusters))
    low, high = clustered_wilson(clusters)
    plain_low, plain_high = wilson(correct, 2000)
    assert high - low == pytest.approx(plain_high - plain_low, rel=0.1)


def test_clusters_without_spread_fall_back_to_their_number():
    assert clustered_wilson([[True] * 4] * 10) == wilson(10, 10)
    assert clustered_wilson([]) == (0.0, 1.0)
