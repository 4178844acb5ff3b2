"""A prediction as plain data: what `p2r answer --json` prints and what result files hold."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2r.types import Box, Prediction


def box_record(box: Box) -> dict[str, Any]:
    """A box as `{"box": [x0, y0, x1, y1], "label": …}`, 0–1000."""
    return {"box": list(box.as_tuple()), "label": box.label}


def prediction_record(prediction: Prediction) -> dict[str, Any]:
    """Everything in a prediction, as data that `json.dumps` takes.

    `perception` is the perceiver's raw text and `outcome` what was read from it; both are None where no
    perceiver was asked.
    """
    perception = prediction.perception
    return {
        "id": prediction.id,
        "mode": prediction.mode,
        "status": prediction.status,
        "answer": prediction.answer,
        "boxes": [box_record(box) for box in prediction.boxes],
        "crops_px": [list(rect) for rect in prediction.crops_px],
        "thinking": prediction.thinking,
        "text": prediction.text,
        "perception": perception.text if perception else None,
        "outcome": perception.outcome if perception else None,
        "dropped": list(perception.dropped) if perception else [],
        "usage": asdict(prediction.usage),
        "seconds": {stage: round(seconds, 4) for stage, seconds in prediction.seconds.items()},
        "model": prediction.model,
        "reasoner": prediction.reasoner,
        "digest": prediction.digest,
        "truncated": prediction.truncated,
        "notes": list(prediction.notes),
        "error": prediction.error,
    }
