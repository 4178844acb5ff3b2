"""The outcome of each question: the first cause that applies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from p2r.evaluation.records import AnswerRecord
from p2r.scoring.localization import Localization, localize

if TYPE_CHECKING:
    from p2r.evaluation.records import Record

Outcome = Literal[
    "correct", "reasoning", "localization", "wrong", "malformed", "no_answer", "unscored", "failed"
]
MEANING: dict[str, str] = {
    "correct": "right",
    "reasoning": "wrong although the evidence was in the crops",
    "localization": "wrong, and the evidence was not in the crops",
    "wrong": "wrong; where the evidence is, or was looked for, is not known",
    "malformed": "not right, and the perceiver's reply held no usable box",
    "no_answer": "the reply names no answer",
    "unscored": "could not be scored",
    "failed": "a call or the image failed; nothing was answered",
}


def outcome(record: Record) -> Outcome:
    """The outcome of one question in one mode."""
    if not isinstance(record, AnswerRecord):
        return "failed"
    prediction, correct = record.prediction, record.score.correct
    if correct is not False:
        return "correct" if correct else "unscored"
    if prediction.perception and prediction.perception.outcome == "malformed":
        return "malformed"
    if prediction.status == "no_answer":
        return "no_answer"
    found = located(record)
    if found is None:
        return "wrong"
    return "reasoning" if found.complete else "localization"


def located(record: Record) -> Localization | None:
    """How well the evidence was found; None where no crops are made or no gold boxes are known."""
    if not isinstance(record, AnswerRecord) or record.mode != "p2r" or record.gold_boxes is None:
        return None
    prediction = record.prediction
    return localize(record.gold_boxes, prediction.boxes, prediction.crops_px, record.size)
