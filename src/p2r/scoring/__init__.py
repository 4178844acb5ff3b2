"""Scores answers: one scorer for training, evaluation and the command line (docs/scoring.md).

`judge` asks a model about free-form answers, `localization` compares boxes. Importing this loads no model.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from p2r.errors import ModelError
from p2r.parsing.numbers import Quantity, read_quantity, same_quantity
from p2r.parsing.thinking import PLAIN_MARKS
from p2r.types import Score

if TYPE_CHECKING:
    from p2r.scoring.judge import Judge
    from p2r.types import Answer, Sample

__all__ = ["normalize", "same_text", "score"]


async def score(answer: Answer, sample: Sample, judge: Judge | None = None) -> Score:
    """Score one answer.

    `choice`: equal letters. `number`: the same quantity. `free`: equal text after normalization, the same
    number, or the judge's yes. Texts and numbers are those of the gold answer or of any alias.

    Args:
        answer: as read by `read_answer`; without a value it is wrong.
        sample: the question and its gold answer.
        judge: gets only free-form answers that do not match, and answers to gold "numbers" that are none.

    Returns:
        `correct` is None, *no score*, when it could not be decided: the judge failed or was unclear, or the
        gold answer is not of the question's type. Never raises for what a model wrote or a judge did.
    """
    kind = sample.question.answer_type
    if kind == "choice":
        return _score_choice(answer, sample)
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


def _score_choice(answer: Answer, sample: Sample) -> Score:
    letters, gold = sample.question.letters, sample.answer.strip().upper()
    if len(gold) != 1 or gold not in letters:  # a fault of the data
        return Score(None, "choice", f"the gold answer {sample.answer!r} is not one of {letters}")
    if answer.value is None:
        return Score(False, "choice", answer.reason or "no answer")
    right = answer.value.strip().upper() == gold
    return Score(right, "choice", "" if right else f"{answer.value}, not {gold}")


async def _ask(value: str, sample: Sample, judge: Judge) -> Score:
    gold = " or ".join((sample.answer, *sample.aliases))
    try:
        verdict = await judge.verdict(sample.question.text, gold, value)
    except ModelError as error:
        return Score(None, "judge", f"the judge failed: {error}")
    if verdict is None:
        return Score(None, "judge", "the judge said neither yes nor no")
    return Score(verdict, "judge", f"the judge said {'yes' if verdict else 'no'}")


def same_text(gold: str, answer: str) -> bool:
    """Whether two texts are equal after normalization."""
    if len(answer) > 20 * len(gold) + 1_000:  # not worth the work; no normalization shortens that much
        return False
    return normalize(gold) == normalize(answer)


def normalize(text: str) -> str:
    """A text without case, prose punctuation, articles and a leading "the answer is".

    Compatibility characters are unified (NFKC), hyphens between words become spaces, white space becomes
    single spaces. Never empty unless the text is.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).translate(_PLAIN_SIGNS).casefold().split())
    bare = _HYPHEN.sub(" ", _PREFIX.sub("", plain, count=1))
    bare = _SILENT_MARK.sub("", _SPACING_MARK.sub(" ", bare))
    return _ARTICLE.sub("", " ".join(bare.split())) or plain


_PLAIN_SIGNS = str.maketrans({**PLAIN_MARKS, "`": "'", **dict.fromkeys("*\u200b\u200c\u200d\ufeff\u00ad")})
_PREFIX = re.compile(r"(?:(?:so|thus|therefore),? )?(?:the )?(?:final )?answer(?: is|:| is:) (?=\S)")
# Signs with a meaning (+ - # % $ @ & / = < >) remain, and so do those within numbers.
_SPACING_MARK = re.compile(r"[!?;()\[\]{}]|[,:](?!\d)")
_SILENT_MARK = re.compile(r"[\"']|\.(?!\d)")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
# "A 12" may be a code: an article is followed by a word.
_ARTICLE = re.compile(r"\b(?:an?|the) (?=[^\W\d_]{2})")
