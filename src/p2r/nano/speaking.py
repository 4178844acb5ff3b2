"""Stage 2: the language model learns both roles from the frozen tower's tokens.

Each step holds one batch of perceive lessons and one of answers (reason with crops, think, direct), so that
lengths within a batch are alike. The losses cover the target only.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from p2r.nano.gaze import gaze_loss, watched
from p2r.nano.tower import CELL, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.nano.classroom import Classroom, Lesson, Task
    from p2r.nano.loop import Metrics
    from p2r.nano.scenepack import ScenePack

# Lessons of each side in a step.
_LOOKS, _ANSWERS = 40, 14
# The weight of the loss on attention.
_GAZE = 0.5


def encode_pack(visual: Any, pack: ScenePack, hidden: int) -> torch.Tensor:
    """The visual tokens of every picture of a pack: float16, (all tokens, hidden)."""
    tokens = torch.empty(int(pack.starts[-1]) // (3 * CELL**2), hidden, dtype=torch.float16)
    by_size: dict[tuple[int, int], list[int]] = {}
    for number, (width, height) in enumerate(pack.sizes.tolist()):
        by_size.setdefault((width, height), []).append(number)
    with torch.no_grad():
        for numbers in by_size.values():
            for begin in range(0, len(numbers), 16):
                chunk = numbers[begin : begin + 16]
                stack = torch.from_numpy(np.stack([pack.picture(number) for number in chunk]))
                for number, row in zip(chunk, encode(visual, [stack])[0], strict=True):
                    start = int(pack.starts[number]) // (3 * CELL**2)
                    tokens[start : start + len(row)] = row.half()
    return tokens


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


def study(
    model: Any, room: Classroom, tokens: torch.Tensor, lessons: Sequence[Lesson], share: float
) -> Metrics:
    """Accumulate the gradients of one batch, weighted by `share`; returns its loss and hit rates."""
    config = model.config
    length = max(len(lesson.prompt) + len(lesson.target) for lesson in lessons)
    ids = torch.zeros(len(lessons), length, dtype=torch.long)
    wanted = torch.full((len(lessons), length), -100)
    places = torch.zeros(3, len(lessons), length, dtype=torch.long)
    spans: list[torch.Tensor] = []
    for row, lesson in enumerate(lessons):
        both = lesson.prompt + lesson.target
        ids[row, : len(both)] = torch.tensor(both)
        # Position t predicts token t + 1.
        wanted[row, len(lesson.prompt) - 1 : len(both) - 1] = torch.tensor(lesson.target)
        places[:, row, : len(both)] = torch.from_numpy(
            place_ids(lesson, room.pack.sizes, config.image_token_id)
        )
        for number in lesson.pictures:
            start, stop = (int(room.pack.starts[number + k]) // (3 * CELL**2) for k in (0, 1))
            spans.append(tokens[start:stop])
    words = model.model.language_model.embed_tokens
    embedded = words(ids)
    visual = torch.cat(spans).float()
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
    metrics: Metrics = {"gaze_finding" if lessons[0].task == "perceive" else "gaze_reading": hit}
    for task in {lesson.task for lesson in lessons}:
        rows = torch.tensor([lesson.task == task for lesson in lessons])
        each = functional.cross_entropy(logits[rows[owner]], gold[rows[owner]]) if rows.any() else loss
        metrics[f"loss_{task}"] = float(each.detach())
        metrics[f"exact_{task}"] = float((wrong[rows] == 0).float().mean())
    return metrics


def speak_step(model: Any, room: Classroom, tokens: torch.Tensor, number: int) -> Metrics:
    """One step: a batch of perceive lessons and one of answers (reason with crops, think, direct).

    Args:
        model: nano.
        room: the lessons.
        tokens: the visual tokens of the room's pack.
        number: the step, which seeds its lessons.
    """
    rng = random.Random(f"speak-{number}")
    looks = [room.lesson("perceive", rng.randrange(room.scenes), rng) for _ in range(_LOOKS)]
    kinds: tuple[Task, ...] = (*("reason",) * 6, "think", "direct")
    answers = [room.lesson(rng.choice(kinds), rng.randrange(room.scenes), rng) for _ in range(_ANSWERS)]
    return {**study(model, room, tokens, looks, 0.6), **study(model, room, tokens, answers, 0.4)}
