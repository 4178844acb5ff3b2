"""What makes a list of boxes worth nothing, whatever is answered from it (paper, perception reward)."""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.settings import Settings
    from p2r.training.recipe import Gates
    from p2r.types import Box, Perception

Gate = Literal["", "malformed", "overlap", "label"]

_EXAMPLE_LABEL = re.compile(r'"label"\s*:\s*"([^"]*)"')


def closed_gate(perception: Perception, gates: Gates, placeholders: frozenset[str] = frozenset()) -> Gate:
    """The gate that sets the reward to 0, or "" when none does.

    Args:
        perception: what was read from the perceiver's text.
        gates: which gates there are.
        placeholders: labels that only repeat the prompt's example, as `placeholder_labels` finds them.
    """
    if gates.malformed and perception.outcome == "malformed":
        return "malformed"
    # Repeated boxes count once as evidence, but a perceiver earns nothing by repeating them.
    written = (*perception.boxes, *perception.repeats)
    if gates.overlap is not None and overlaps(written, gates.overlap):
        return "overlap"
    if gates.label and any(not _plain(box.label) or _plain(box.label) in placeholders for box in written):
        return "label"
    return ""


def overlaps(boxes: Sequence[Box], most: float) -> bool:
    """Whether two boxes have an IoU above `most`."""
    return any(one.iou(other) > most for one, other in combinations(boxes, 2))


def placeholder_labels(settings: Settings) -> frozenset[str]:
    """The labels in the examples of the perceiver's prompt."""
    prompt = settings.prompts.for_boxes(settings.box_format).perceive
    return frozenset(_plain(label) for label in _EXAMPLE_LABEL.findall(prompt))


def _plain(label: str) -> str:
    return " ".join(label.casefold().split())
