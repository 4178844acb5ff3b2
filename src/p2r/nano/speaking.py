"""Stage `speak`: the language model learns both roles from the frozen tower's tokens.

Each step holds a batch of perceive lessons, one of answers (reason with crops, think, direct) and, later, one
of drills, so that lengths within a batch are alike. The losses cover the target only.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from p2r.nano.gaze import gaze_loss, watched
from p2r.nano.tower import CELL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.nano.classroom import Classroom, Lesson, Task
    from p2r.nano.looking import Look
    from p2r.nano.loop import Metrics

# Lessons of a step, up to a step: perceive lessons, answers, drills. Finding takes more of them at first,
# concluding later.
_MIXES: tuple[tuple[float, tuple[int, int, int]], ...] = (
    (1_300, (40, 14, 0)),
    (2_200, (12, 44, 0)),
    (2_600, (10, 40, 64)),
    (math.inf, (10, 40, 20)),
)
# What a drill weighs, where a lesson with pictures weighs one.
_DRILL = 0.3
# The weight of the loss on attention.
_GAZE = 0.5


def place_ids(lesson: Lesson, sizes: np.ndarray, image_token: int) -> np.ndarray:
    """Interleaved-MRoPE positions of a lesson: int64, (3, length); the same as transformers computes."""
    ids = np.array(lesson.prompt + lesson.target)
    places = np.empty((3, len(ids)), np.int64)
    pads = np.flatnonzero(ids == image_token)
    cursor, position, used = 0, 0, 0
    for number in lesson.pictures:
        columns, rows = (int(side) // CELL for side in sizes[number])
        begin = int(pads[used])
        places[:, cursor:begin] = position + np.arange(begin - cursor)
        position += begin - cursor
        grid = np.arange(rows * columns)
        places[0, begin : begin + len(grid)] = position
        places[1, begin : begin + len(grid)] = position + grid // columns
        places[2, begin : begin + len(grid)] = position + grid % columns
        cursor, used = begin + len(grid), used + len(grid)
        position += max(rows, columns)
    places[:, cursor:] = position + np.arange(len(ids) - cursor)
    return places


def study(model: Any, room: Classroom, look: Look, lessons: Sequence[Lesson], share: float) -> Metrics:
    """Accumulate the gradients of one batch, weighted by `share`; returns its loss and hit rates."""
    config = model.config
    length = max(len(lesson.prompt) + len(lesson.target) for lesson in lessons)
    ids = torch.zeros(len(lessons), length, dtype=torch.long)
    wanted = torch.full((len(lessons), length), -100)
    places = torch.zeros(3, len(lessons), length, dtype=torch.long)
    for row, lesson in enumerate(lessons):
        both = lesson.prompt + lesson.target
        ids[row, : len(both)] = torch.tensor(both)
        # Position t predicts token t + 1.
        wanted[row, len(lesson.prompt) - 1 : len(both) - 1] = torch.tensor(lesson.target)
        places[:, row, : len(both)] = torch.from_numpy(
            place_ids(lesson, room.pack.sizes, config.image_token_id)
        )
    words = model.model.language_model.embed_tokens
    embedded = words(ids)
    if numbers := [number for lesson in lessons for number in lesson.pictures]:
        visual = torch.cat(look(numbers))
        embedded = embedded.masked_scatter((ids == config.image_token_id)[..., None], visual)
    # Padding stands on the right, where a causal model never looks back at it: no mask is needed.
    with watched(model.model.language_model) as seen:
        hidden = model.model.language_model(inputs_embeds=embedded, position_ids=places, use_cache=False)[0]
    asked = wanted >= 0
    logits = hidden[asked] @ words.weight.T
    gold = wanted[asked]
    loss = functional.cross_entropy(logits, gold)
    gaze, hit = gaze_loss(seen, [lesson.glances for lesson in lessons])
    (share * (loss + _GAZE * gaze)).backward()  # type: ignore[no-untyped-call]
    right = logits.argmax(-1) == gold
    owner = asked.nonzero()[:, 0]
    wrong = torch.zeros(len(lessons)).index_add_(0, owner, (~right).float())
    names = {"perceive": "gaze_finding", "drill": "gaze_concluding"}
    metrics: Metrics = {names.get(lessons[0].task, "gaze_reading"): hit}
    for task in {lesson.task for lesson in lessons}:
        rows = torch.tensor([lesson.task == task for lesson in lessons])
        each = functional.cross_entropy(logits[rows[owner]], gold[rows[owner]]) if rows.any() else loss
        metrics[f"loss_{task}"] = float(each.detach())
        metrics[f"exact_{task}"] = float((wrong[rows] == 0).float().mean())
    return metrics


def speak_step(model: Any, room: Classroom, look: Look, number: int) -> Metrics:
    """One step of the language model on a frozen tower.

    Args:
        model: nano.
        room: the lessons.
        look: the visual tokens of the room's pack.
        number: the step, which seeds its lessons.
    """
    finding, answering, drilled = next(mix for end, mix in _MIXES if number < end)
    rng = random.Random(f"speak-{number}")
    kinds: tuple[Task, ...] = (*("reason",) * 6, "think", "direct")
    batches = (
        [room.lesson("perceive", rng.randrange(room.scenes), rng) for _ in range(finding)],
        [room.lesson(rng.choice(kinds), room.answerable(rng), rng) for _ in range(answering)],
        [room.drill(rng) for _ in range(drilled)],
    )
    weights = (finding, answering, _DRILL * drilled)
    metrics: Metrics = {}
    for lessons, weight in zip(batches, weights, strict=True):
        if lessons:
            metrics |= study(model, room, look, lessons, weight / sum(weights))
    return metrics
