"""What one line of a run's files holds.

`predictions-MODE.jsonl` has one line for each question that was answered and scored; `failures-MODE.jsonl`
one for each attempt that failed. A question counts as failed while it has a failure and no prediction, so
that asking again is all it takes to mend it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2r.errors import ModelError

if TYPE_CHECKING:
    from p2r.errors import P2RError
    from p2r.evaluation.benchmarks import Chosen
    from p2r.types import Mode, Prediction, Sample, Score

Record = dict[str, Any]

IMAGE = "picture"
JUDGE = "judge"


def scored_record(
    prediction: Prediction, score: Score, sample: Sample, chosen: Chosen, size: tuple[int, int]
) -> Record:
    """A prediction with its question, gold answer and score.

    Beside what `Prediction.to_json` holds: `correct` (None when it could not be scored), `method`
    and `reason` of the score; `gold`, `gold_boxes` (0–1000; None when unknown), `question`, `choices`,
    `answer_type`, `category`, `tags`; `size` of the image in pixels.
    """
    record = prediction.to_json()
    del record["error"]  # those have a file of their own
    boxes = sample.boxes
    return {
        **record,
        "id": chosen.id,
        "correct": score.correct,
        "method": score.method,
        "reason": score.reason,
        "gold": sample.answer,
        "gold_boxes": None if boxes is None else [list(box.as_tuple()) for box in boxes],
        "size": list(size),
        **_about(chosen),
    }


def failure_record(chosen: Chosen, mode: Mode, error: P2RError | str, kind: str = "") -> Record:
    """An attempt that failed: why, and what kind of failure it was.

    `kind` is that of `ModelError`, `image` (it cannot be read) or `judge` (the score could not be had).
    """
    kind = kind or (error.kind if isinstance(error, ModelError) else IMAGE)
    return {"id": chosen.id, "mode": mode, "kind": kind, "error": str(error), **_about(chosen)}


def _about(chosen: Chosen) -> Record:
    sample = chosen.entry.sample
    return {
        "question": sample.question.text,
        "choices": list(sample.question.choices),
        "answer_type": sample.question.answer_type,
        "category": sample.category,
        "tags": dict(chosen.entry.tags),
    }
