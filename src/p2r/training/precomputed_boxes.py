"""The frozen perceiver's boxes for a reasoner phase: computed once, and written as JSON lines.

A line has a key: a digest of the perceiver's weights, the settings and the question, so that boxes of other
weights are never used for these. Each process perceives its share of the samples and writes its own file.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, ModelError
from p2r.models.base import Sampling
from p2r.runs.journal import Journal, read_lines
from p2r.types import Box

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from p2r.models.base import Completion
    from p2r.runs.failures import FailureMonitor
    from p2r.training.data import RolloutDataset
    from p2r.training.frozen import FrozenRole

_ATTEMPTS = 3


async def perceive_samples(
    frozen: FrozenRole,
    dataset: RolloutDataset,
    wanted: Sequence[int],
    *,
    weights: str,
    path: Path,
    batch: int,
    monitor: FailureMonitor,
    on_done: Callable[[int], None] | None = None,
) -> None:
    """Ask the frozen perceiver about the samples whose boxes are in no file beside `path` yet.

    Raises:
        ModelError: too many calls fail, or one fails again and again.
        InputError: an image cannot be read, or the disk is full.
    """
    asked = replace(dataset, role="perceiver")
    known = _known(path.parent)
    missing = [index for index in wanted if _key(asked, index, weights) not in known]
    sampling = Sampling(asked.settings.max_tokens.perceive)

    def row(index: int, reply: Completion) -> dict[str, Any]:
        perception = asked.perception(index, reply.text)
        return {
            "key": _key(asked, index, weights),
            "id": asked.samples[index].question.id,
            "outcome": perception.outcome,
            "boxes": [box.to_json() for box in perception.boxes],
            "text": perception.text,
        }

    with Journal(path) as journal:
        for _ in range(_ATTEMPTS):
            failed: dict[int, ModelError] = {}
            for start in range(0, len(missing), batch):
                chunk = missing[start : start + batch]
                replies = await frozen.complete_all([asked.messages(index) for index in chunk], sampling)
                for index, reply in zip(chunk, replies, strict=True):
                    if isinstance(reply, ModelError):
                        failed[index] = reply
                        monitor.note_failure(str(reply))
                    else:
                        monitor.note_success()
                        journal.append(row(index, reply))
                journal.sync()
                if on_done:
                    on_done(min(start + batch, len(missing)))
            if not failed:
                return
            missing = list(failed)
    index, error = next(iter(failed.items()))
    raise ModelError(
        f"the frozen perceiver failed {_ATTEMPTS} times on {len(failed)} samples, for example "
        f"{asked.samples[index].question.id}: {error}; the same command tries only those again",
        kind=error.kind,
    )


def read_boxes(
    folder: Path, dataset: RolloutDataset, wanted: Sequence[int], weights: str
) -> dict[int, tuple[Box, ...]]:
    """The boxes of the wanted samples, by index.

    Raises:
        InputError: one is missing.
    """
    rows = _known(folder)
    found = {}
    for index in wanted:
        row = rows.get(_key(dataset, index, weights))
        if row is None:
            name = dataset.samples[index].question.id
            raise InputError(f"{folder}: the boxes of sample {name} are missing")
        found[index] = tuple(Box.from_json(entry) for entry in row["boxes"])
    return found


def _known(folder: Path) -> dict[str, dict[str, Any]]:
    """Key → line, of the files of all processes."""
    return {row["key"]: row for file in sorted(folder.glob("boxes-*.jsonl")) for row in read_lines(file)}


def _key(dataset: RolloutDataset, index: int, weights: str) -> str:
    question = dataset.samples[index].question
    parts = (weights, dataset.settings.digest, question.id, question.text, *question.choices)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
