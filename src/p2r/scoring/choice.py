"""Choice questions: the option letters are equal, or they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2r.types import Score

if TYPE_CHECKING:
    from p2r.types import Answer, Sample


def score_choice(answer: Answer, sample: Sample) -> Score:
    """Compare option letters.

    A gold answer that is no letter of the question is a fault of the data: no score, never a wrong answer.
    """
    letters = sample.question.letters
    gold = sample.answer.strip().upper()
    if len(gold) != 1 or gold not in letters:
        return Score(None, "choice", f"the gold answer {sample.answer!r} is not one of {letters}")
    if answer.value is None:
        return Score(False, "choice", answer.reason or "no answer")
    right = answer.value.strip().upper() == gold
    return Score(right, "choice", "" if right else f"{answer.value}, not {gold}")
