"""Stage `speak`: the language model learns both roles from the frozen tower's tokens.

Each step holds a batch of perceive examples, one of answers (reason with crops, think, direct) and, later,
one of drills, so that lengths within a batch are alike. The losses cover the target only.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from scripts.nano.attention_loss import attention_loss, watched
from scripts.nano.tower import CELL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.nano.loop import Metrics
    from scripts.nano.sft_data import Example, ExampleBuilder, Task
    from scripts.nano.tower import TokenLookup

# Examples of a step, up to a step: perceive examples, answers, drills. Finding takes more of them at first,
# concluding later.
_MIXES: tuple[tuple[float, tuple[int, int, int]], ...] = (
    (1_300, (40, 14, 0)),
    (2_200, (12, 44, 0)),
    (2_600, (10, 40, 64)),
    (math.inf, (10, 40, 20)),
)
# What a drill weighs, where an example with images weighs one.
_DRILL = 0.3
# The weight of the loss on attention.
_ATTENTION = 0.5


def place_ids(example: Example, sizes: np.ndarray, image_token: int) -> np.ndarray:
    """Interleaved-MRoPE positions of an example: int64, (3, length); the same as transformers computes."""
    ids = np.array(example.prompt + example.target)
    places = np.empty((3, len(ids)), np.int64)
    pads = np.flatnonzero(ids == image_token)
    cursor, position, used = 0, 0, 0
    for number in example.images:
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


def accumulate_gradients(
    model: Any, builder: ExampleBuilder, lookup: TokenLookup, examples: Sequence[Example], share: float
) -> Metrics:
    """Accumulate the gradients of one batch, weighted by `share`; returns its loss and hit rates."""
    config = model.config
    length = max(len(example.prompt) + len(example.target) for example in examples)
    ids = torch.zeros(len(examples), length, dtype=torch.long)
    wanted = torch.full((len(examples), length), -100)
    places = torch.zeros(3, len(examples), length, dtype=torch.long)
    for row, example in enumerate(examples):
        both = example.prompt + example.target
        ids[row, : len(both)] = torch.tensor(both)
        # Position t predicts token t + 1.
        wanted[row, len(example.prompt) - 1 : len(both) - 1] = torch.tensor(example.target)
        places[:, row, : len(both)] = torch.from_numpy(
            place_ids(example, builder.pack.sizes, config.image_token_id)
        )
    words = model.model.language_model.embed_tokens
    embedded = words(ids)
    if numbers := [number for example in examples for number in example.images]:
        visual = torch.cat(lookup(numbers))
        embedded = embedded.masked_scatter((ids == config.image_token_id)[..., None], visual)
    # Padding stands on the right, where a causal model never looks back at it: no mask is needed.
    with watched(model.model.language_model) as seen:
        hidden = model.model.language_model(inputs_embeds=embedded, position_ids=places, use_cache=False)[0]
    supervised = wanted >= 0
    logits = hidden[supervised] @ words.weight.T
    gold = wanted[supervised]
    loss = functional.cross_entropy(logits, gold)
    attention, hit = attention_loss(seen, [example.attention for example in examples])
    (share * (loss + _ATTENTION * attention)).backward()  # type: ignore[no-untyped-call]
    right = logits.argmax(-1) == gold
    owner = supervised.nonzero()[:, 0]
    wrong = torch.zeros(len(examples)).index_add_(0, owner, (~right).float())
    names = {"perceive": "attention_finding", "drill": "attention_concluding"}
    metrics: Metrics = {names.get(examples[0].task, "attention_reading"): hit}
    for task in {example.task for example in examples}:
        rows = torch.tensor([example.task == task for example in examples])
        each = functional.cross_entropy(logits[rows[owner]], gold[rows[owner]]) if rows.any() else loss
        metrics[f"loss_{task}"] = float(each.detach())
        metrics[f"exact_{task}"] = float((wrong[rows] == 0).float().mean())
    return metrics


def language_step(model: Any, builder: ExampleBuilder, lookup: TokenLookup, number: int) -> Metrics:
    """One step of the language model on a frozen tower.

    Args:
        model: nano.
        builder: the examples.
        lookup: the visual tokens of the builder's pack.
        number: the step, which seeds its examples.
    """
    finding, answering, drilled = next(mix for end, mix in _MIXES if number < end)
    rng = random.Random(f"speak-{number}")
    kinds: tuple[Task, ...] = (*("reason",) * 6, "think", "direct")
    batches = (
        [builder.example("perceive", rng.randrange(builder.scenes), rng) for _ in range(finding)],
        [builder.example(rng.choice(kinds), builder.answerable(rng), rng) for _ in range(answering)],
        [builder.drill(rng) for _ in range(drilled)],
    )
    weights = (finding, answering, _DRILL * drilled)
    metrics: Metrics = {}
    for examples, weight in zip(batches, weights, strict=True):
        if examples:
            metrics |= accumulate_gradients(model, builder, lookup, examples, weight / sum(weights))
    return metrics
