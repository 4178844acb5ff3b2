"""The frozen perceiver's boxes for a reasoner phase: computed once, kept as JSON lines, never twice.

A line is keyed by a digest of the perceiver's weights, the settings and the question, so that boxes of other
weights are never taken for these. Each process perceives its share of the samples and writes its own file.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, ModelError
from p2r.models.base import Sampling
from p2r.parsing.perception import parse_perception
from p2r.prompts import perceive_messages
from p2r.runs.journal import Journal, read_lines
from p2r.types import Box

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from p2r.runs.failures import FailureMonitor
    from p2r.settings import Settings
    from p2r.training.frozen import FrozenRole
    from p2r.training.rows import Looks
    from p2r.types import Perception, Sample

_ATTEMPTS = 3


def boxes_files(folder: Path) -> list[Path]:
    """The files of all processes."""
    return sorted(folder.glob("boxes-*.jsonl"))


def box_key(sample: Sample, settings: Settings, weights: str) -> str:
    """What a line of boxes holds for: sixteen hex digits."""
    question = sample.question
    parts = (weights, settings.digest, question.id, question.text, *question.choices)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


async def perceive_samples(
    frozen: FrozenRole,
    samples: Sequence[Sample],
    wanted: Sequence[int],
    *,
    settings: Settings,
    looks: Looks,
    weights: str,
    path: Path,
    batch: int,
    health: FailureMonitor,
    on_done: Callable[[int], None] | None = None,
) -> None:
    """Ask the frozen perceiver about the samples that no file beside `path` answers yet.

    Raises:
        ModelError: too many calls fail, or one fails again and again.
        InputError: an image cannot be read, or the disk is full.
    """
    known = {row.get("key") for file in boxes_files(path.parent) for row in read_lines(file)}
    missing = [index for index in wanted if box_key(samples[index], settings, weights) not in known]
    sampling = Sampling(settings.max_tokens.perceive)
    with Journal(path) as journal:
        for _ in range(_ATTEMPTS):
            failed: list[tuple[int, ModelError]] = []
            for start in range(0, len(missing), batch):
                chunk = missing[start : start + batch]
                conversations = [
                    perceive_messages(
                        settings.prompts,
                        samples[index].question,
                        looks(index).overview,
                        settings.box_format,
                    )
                    for index in chunk
                ]
                for index, reply in zip(
                    chunk, await frozen.complete_all(conversations, sampling), strict=True
                ):
                    if isinstance(reply, ModelError):
                        failed.append((index, reply))
                        health.note_failure(str(reply))
                        continue
                    health.note_success()
                    size = looks(index).overview.size
                    perception = parse_perception(reply.text, settings.box_format, size)
                    journal.append(
                        _row(samples[index], perception, box_key(samples[index], settings, weights))
                    )
                journal.sync()
                if on_done:
                    on_done(min(start + batch, len(missing)))
            if not failed:
                return
            missing = [index for index, _ in failed]
    index, error = failed[0]
    raise ModelError(
        f"the frozen perceiver failed {_ATTEMPTS} times on {len(failed)} samples, for example "
        f"{samples[index].question.id}: {error}; the same command asks only about those again",
        kind=error.kind,
    )


def read_boxes(
    folder: Path, samples: Sequence[Sample], wanted: Sequence[int], settings: Settings, weights: str
) -> dict[int, tuple[Box, ...]]:
    """The boxes of the wanted samples, by index.

    Raises:
        InputError: one is missing.
    """
    rows = {row["key"]: row for file in boxes_files(folder) for row in read_lines(file)}
    found = {}
    for index in wanted:
        row = rows.get(box_key(samples[index], settings, weights))
        if row is None:
            raise InputError(f"{folder}: the boxes of sample {samples[index].question.id} are missing")
        found[index] = tuple(_box(entry) for entry in row["boxes"])
    return found


def _row(sample: Sample, perception: Perception, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "id": sample.question.id,
        "outcome": perception.outcome,
        "boxes": [box.to_json() for box in perception.boxes],
        "text": perception.text,
    }


def _box(entry: dict[str, Any]) -> Box:
    x0, y0, x1, y1 = entry["box"]
    return Box(x0, y0, x1, y1, entry["label"])
