"""Is the answer right? One scorer for training, evaluation and the command line (docs/scoring.md).

Importing this loads no model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2r.errors import ModelError
from p2r.scoring.choice import score_choice
from p2r.scoring.number import Quantity, read_quantity, same_quantity
from p2r.scoring.text import same_text
from p2r.types import Score

if TYPE_CHECKING:
    from p2r.scoring.judge import Judge
    from p2r.types import Answer, Sample

__all__ = ["score"]


async def score(answer: Answer, sample: Sample, judge: Judge | None = None) -> Score:
    """Score one answer.

    `choice`: equal letters. `number`: the same quantity. `free`: equal text after normalization, the same
    number, or the judge's yes. Texts and numbers are those of the gold answer or of any alias.

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
    given = read_quantity(answer.value)
    golds = {text: read_quantity(text) for text in (sample.answer, *sample.aliases)}
    for text, gold in golds.items():
        same = same_text(text, answer.value)
        if isinstance(gold, str):
            if same:
                return Score(True, "exact")
        # Where the gold answer is a number, equal texts are not enough: "1*3" is no 13.
        elif isinstance(given, Quantity) and same_quantity(gold, given, strict=kind == "free" and not same):
            return Score(True, "exact" if same else "number")
    gold = golds[sample.answer]
    if kind == "number" and isinstance(gold, Quantity):
        return Score(False, "number", given if isinstance(given, str) else f"{given}, not {gold}")
    if judge is not None:
        return await _ask(answer.value, sample, judge)
    if kind == "number":
        return Score(None, "number", f"the gold answer {sample.answer[:80]!r} is not a number: {gold}")
    return Score(False, "exact", "no exact match; no judge is configured")


async def _ask(value: str, sample: Sample, judge: Judge) -> Score:
    gold = " or ".join((sample.answer, *sample.aliases))
    try:
        verdict = await judge.verdict(sample.question.text, gold, value)
    except ModelError as error:
        return Score(None, "judge", f"the judge failed: {error}")
    if verdict is None:
        return Score(None, "judge", "the judge said neither yes nor no")
    return Score(verdict, "judge", f"the judge said {'yes' if verdict else 'no'}")
