"""Is the answer right? One scorer for training, evaluation and the command line (docs/scoring.md).

Importing this loads no model and no algebra; math-verify is imported when a number needs it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from p2r.errors import ModelError
from p2r.scoring.choice import score_choice
from p2r.scoring.expression import is_expression, same_expression
from p2r.scoring.number import Quantity, read_quantity, same_quantity
from p2r.scoring.text import same_text
from p2r.types import Score

if TYPE_CHECKING:
    from p2r.scoring.judge import Judge
    from p2r.types import Answer, Sample

__all__ = ["score"]


async def score(answer: Answer, sample: Sample, judge: Judge | None = None) -> Score:
    """Score one answer.

    `choice`: equal letters. `number`: equal text, equal quantity, or equal expression (math-verify).
    `free`: equal text after normalisation (gold or any alias), the same number, or the judge's yes.

    Args:
        answer: as read by `read_answer`; without a value it is wrong.
        sample: the question and its gold answer.
        judge: asked only about free-form answers that do not match, and about gold "numbers" that are none.

    Returns:
        `correct` is None, *no score*, when it could not be decided: the judge failed or was unclear, or the
        gold answer is not of the question's type. Never raises for what a model wrote or a judge did.
    """
    kind = sample.question.answer_type
    if kind == "choice":
        return score_choice(answer, sample)
    if answer.value is None:
        return Score(False, "number" if kind == "number" else "exact", answer.reason or "no answer")
    if any(same_text(gold, answer.value) for gold in (sample.answer, *sample.aliases)):
        return Score(True, "exact")
    if kind == "number":
        return await _score_number(answer.value, sample, judge)
    return await _score_free(answer.value, sample, judge)


async def _score_number(value: str, sample: Sample, judge: Judge | None) -> Score:
    gold, given = read_quantity(sample.answer), read_quantity(value)
    if isinstance(gold, Quantity) and isinstance(given, Quantity):
        right = same_quantity(gold, given)
        return Score(right, "number", "" if right else f"{given}, not {gold}")
    if isinstance(gold, str) and not is_expression(sample.answer):
        if judge is not None:
            return await _ask(value, sample, judge)
        return Score(None, "number", f"the gold answer {sample.answer[:80]!r} is not a number: {gold}")
    if is_expression(value) and is_expression(sample.answer):
        # In a thread: algebra takes up to tenths of a second, and the first import of it seconds.
        right = await asyncio.to_thread(same_expression, sample.answer, value)
        return Score(right, "number", "" if right else "the expressions differ")
    return Score(False, "number", given if isinstance(given, str) else "the expressions differ")


async def _score_free(value: str, sample: Sample, judge: Judge | None) -> Score:
    given = read_quantity(value)
    for text in (sample.answer, *sample.aliases):
        gold = read_quantity(text)
        if (
            isinstance(gold, Quantity)
            and isinstance(given, Quantity)
            and same_quantity(gold, given, strict=True)
        ):
            return Score(True, "number")
    if judge is None:
        return Score(False, "exact", "no exact match; no judge is configured")
    return await _ask(value, sample, judge)


async def _ask(value: str, sample: Sample, judge: Judge) -> Score:
    gold = " or ".join((sample.answer, *sample.aliases))
    try:
        verdict = await judge.verdict(sample.question.text, gold, value)
    except ModelError as error:
        return Score(None, "judge", f"the judge failed: {error}")
    if verdict is None:
        return Score(None, "judge", "the judge said neither yes nor no")
    return Score(verdict, "judge", f"the judge said {'yes' if verdict else 'no'}")
