"""Uncertainty of accuracies: one proportion, two proportions of the same questions, clustered questions.

Methods, all two-sided at 95 %:

- one accuracy: Wilson's score interval (Wilson 1927); it stays within 0–1 and works near both ends;
- two modes on the same questions: Tango's score interval of the paired difference (Tango 1998) and the exact
  McNemar test, which use the discordant questions only;
- questions that are not independent (the rotations of HR-Bench): Wilson's interval with the effective number
  of questions, from the between-cluster variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Z = NormalDist().inv_cdf(0.975)  # 1.96


def wilson(correct: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion, 0–1; `(0, 1)` when nothing was counted.

    `correct` and `n` may be fractions: an effective number of questions is one.
    """
    if n <= 0:
        return (0.0, 1.0)
    share = correct / n
    center = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    # The ends are exact where nothing or everything is right; elsewhere rounding must not leave 0–1.
    low = max(0.0, center - half) if correct else 0.0
    return (low, min(1.0, center + half) if correct < n else 1.0)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """The exact two-sided p of McNemar's test: are gains and losses equally likely?"""
    discordant = only_first + only_second
    ways, tail = 1, 0  # ways: discordant over k; math.comb for each k would be slow
    for k in range(min(only_first, only_second) + 1):
        tail += ways
        ways = ways * (discordant - k) // (k + 1)
    return min(1.0, 2 * tail / (1 << discordant))


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How two sets of answers to the same questions differ."""

    n: int  # questions that both were scored on
    only_first: int  # discordant questions
    only_second: int
    difference: float  # accuracy of the second minus that of the first, −1 to 1
    ci95: tuple[float, float]  # Tango's interval of the difference
    p: float  # exact McNemar p


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> PairedDifference:
    """Compare two lists of right and wrong, question by question.

    Raises:
        ValueError: the lists differ in length.
    """
    pairs = list(zip(first, second, strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    n = len(pairs)
    difference = (only_second - only_first) / n if n else 0.0
    interval, p = tango(only_second, only_first, n), mcnemar_p(only_first, only_second)
    return PairedDifference(n, only_first, only_second, difference, interval, p)


def tango(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Tango's score interval of `(gained − lost) / n`, −1 to 1; `(−1, 1)` when nothing was counted.

    The interval holds every difference that the score test does not reject. The test's statistic falls as
    the difference grows, so each end is found by bisection.

    Args:
        gained, lost: discordant questions in favor of and against the second of two.
        n: all questions.
    """
    if n <= 0:
        return (-1.0, 1.0)

    def score(difference: float) -> float:
        # The nuisance share (of lost questions) that is most likely under this difference.
        a = 2 * n
        b = -gained - lost + (2 * n - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        nuisance = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * nuisance + difference * (1 - difference))
        gap = gained - lost - n * difference
        if variance <= 0:
            return math.copysign(math.inf, gap) if gap else 0.0
        return gap / math.sqrt(variance)

    return (_crossing(score, Z), _crossing(score, -Z))


def _crossing(falling: Callable[[float], float], level: float) -> float:
    """Where a falling function of −1…1 passes `level`."""
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if falling(middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def clustered_wilson(clusters: Sequence[Sequence[bool]]) -> tuple[float, float]:
    """Wilson's interval when the answers within a cluster are not independent.

    The variance between clusters gives the effective number of questions, at most that of the answers.
    """
    groups = [group for group in clusters if group]
    n = sum(len(group) for group in groups)
    correct = sum(sum(group) for group in groups)
    if len(groups) < 2 or correct in (0, n):
        return wilson(correct / n * len(groups), len(groups)) if n else (0.0, 1.0)
    share = correct / n
    spread = sum((sum(group) - share * len(group)) ** 2 for group in groups)
    variance = len(groups) / (len(groups) - 1) * spread / (n * n)
    effective = min(float(n), share * (1 - share) / variance) if variance else float(n)
    return wilson(share * effective, effective)
