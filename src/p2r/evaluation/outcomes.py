"""Why a question came out as it did: one outcome for each, the earliest cause first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from p2r.scoring.localization import Localization, localize
from p2r.types import Box

if TYPE_CHECKING:
    from p2r.evaluation.records import Record

Outcome = Literal[
    "correct", "reasoning", "localization", "wrong", "malformed", "no_answer", "unscored", "failed"
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

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
    """The outcome of one line of `predictions-MODE.jsonl` or `failures-MODE.jsonl`."""
    if "error" in record:
        return "failed"
    if record["correct"]:
        return "correct"
    if record["correct"] is None:
        return "unscored"
    if record["outcome"] == "malformed":
        return "malformed"
    if record["status"] == "no_answer":
        return "no_answer"
    found = located(record)
    if found is None:
        return "wrong"
    return "reasoning" if found.complete else "localization"


def located(record: Record) -> Localization | None:
    """How well the evidence was found; None where no crops are made or no gold boxes are known."""
    gold = record.get("gold_boxes")
    if record["mode"] != "p2r" or gold is None:
        return None
    return localize(
        [Box(*corners) for corners in gold],
        [Box(*box["box"]) for box in record["boxes"]],
        [(x0, y0, x1, y1) for x0, y0, x1, y1 in record["crops_px"]],
        (record["size"][0], record["size"][1]),
    )
