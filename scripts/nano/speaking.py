"""What the language model learns: to write the targets of rows, and where to look while it writes.

From texts alone, a model this small needs thousands of steps before it finds out that the word *red* in the
question and the token of the red tag in the image belong together (docs/results.md). So heads of two layers
are supervised: while a coordinate is written, one reads the name that the question gives, a later one the
visual token of that object; likewise for what is read and concluded (the aims of `scripts.nano.rows`). It
teaches where to look; what to write is left to the usual loss.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from scripts.nano.rows import CROP_CELLS, CROPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from scripts.nano.pool import Pool

    Batch = dict[str, Any]


def word_and_cell_layers(language: Any) -> tuple[int, int]:
    """The layers whose first heads are supervised: one reads words, a later one a visual token."""
    layers = len(language.layers)
    return 1, min(layers - 1, 3 if layers > 4 else 2)


def with_crops(pool: Pool, scenes: np.ndarray, overviews: torch.Tensor, crops: torch.Tensor) -> torch.Tensor:
    """The visual tokens of rows that show evidence.

    Args:
        pool: which crops a scene has.
        scenes: (n,), of the rows.
        overviews: (n, OVERVIEW_CELLS, hidden).
        crops: (all crops of these scenes, CROP_CELLS, hidden), in the order of the scenes.

    Returns:
        (n, OVERVIEW_CELLS + CROPS · CROP_CELLS, hidden), zero where a scene has fewer crops.
    """
    import numpy as np

    counts = pool.crop_count[scenes]
    row = np.repeat(np.arange(len(scenes)), counts)
    number = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = crops.new_zeros(len(scenes) * CROPS, CROP_CELLS, crops.shape[-1])
    table = table.index_copy(0, pool.send(row * CROPS + number), crops)
    return torch.cat([overviews, table.view(len(scenes), CROPS * CROP_CELLS, -1)], dim=1)


def embedded(language: Any, ids: torch.Tensor, source: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
    """Word embeddings, with visual tokens at their placeholders: (n, length, hidden).

    Args:
        language: the language model.
        ids, source: int64, (n, length); source is −1 for text.
        visual: (n, visual tokens of a row, hidden).
    """
    words = language.embed_tokens(ids)
    # Text reads somewhere too, without effect: spread out, as gradients to one place wait for each other.
    spread = torch.arange(ids.shape[1], device=ids.device) % visual.shape[1]
    index = torch.where(source >= 0, source, spread)[..., None].expand(-1, -1, visual.shape[-1])
    return torch.where((source >= 0)[..., None], torch.gather(visual, 1, index).to(words.dtype), words)


def language_losses(
    language: Any, batch: Batch, visual: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The losses of each row.

    Args:
        language: the language model.
        batch: of `scripts.nano.pool.batch_of`.
        visual: (n, visual tokens of a row, hidden).

    Returns:
        text: (n,), the mean cross-entropy of the target's tokens.
        aims: (), the mean cross-entropy of the supervised heads with where they should look.
        exact: (n,), whether every token is right.
        looked: (), the mean attention on the right visual token or word.
    """
    inputs = embedded(language, batch["ids"], batch["source"], visual)
    # Padding is on the right, where a causal model never looks back at it: no mask is needed.
    with watched(language) as seen:
        hidden = language(
            inputs_embeds=inputs, position_ids=batch["places"].transpose(0, 1), use_cache=False
        )[0]
    target = batch["target"]
    steps = torch.arange(target.shape[1], device=target.device)
    where = (batch["start"][:, None] + steps).clamp_max(hidden.shape[1] - 1)
    picked = torch.gather(hidden, 1, where[..., None].expand(-1, -1, hidden.shape[-1]))
    logits = (picked @ language.embed_tokens.weight.T.to(picked.dtype)).float()
    wanted = target >= 0
    each = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="none")
    text = each.view(target.shape).sum(1) / wanted.sum(1)
    exact = ((logits.argmax(-1) == target) | ~wanted).all(1).float()
    aims, looked = aim_loss(language, seen, batch["aims"])
    return text, aims, exact, looked


@contextmanager
def watched(language: Any) -> Iterator[dict[int, tuple[torch.Tensor, Any]]]:
    """Collects what enters the attention of the supervised layers: hidden states and rotations."""
    seen: dict[int, tuple[torch.Tensor, Any]] = {}

    def keep(index: int) -> Any:
        def hook(_module: Any, args: Any, kwargs: Any) -> None:
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            seen[index] = (hidden, kwargs["position_embeddings"])

        return hook

    handles = [
        language.layers[index].self_attn.register_forward_pre_hook(keep(index), with_kwargs=True)
        for index in word_and_cell_layers(language)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def log_attention(
    attention: Any,
    hidden: torch.Tensor,
    turns: tuple[torch.Tensor, torch.Tensor],
    head: int,
    places: torch.Tensor,
) -> torch.Tensor:
    """The logarithm of one head's attention at some positions.

    Args:
        attention: a layer's `self_attn`.
        hidden: (n, length, hidden), what enters it.
        turns: cosines and sines, each (n, length, head size).
        head: its number.
        places: int64, (n, k), the positions that look.

    Returns:
        float32, (n, k, length).
    """
    size = attention.head_dim
    shared = head // attention.num_key_value_groups
    own, other = slice(head * size, (head + 1) * size), slice(shared * size, (shared + 1) * size)
    queries = torch.gather(hidden, 1, places[..., None].expand(-1, -1, hidden.shape[-1]))
    queries = attention.q_norm(functional.linear(queries, attention.q_proj.weight[own]))
    keys = attention.k_norm(functional.linear(hidden, attention.k_proj.weight[other]))
    cosines, sines = (turn.expand(len(hidden), -1, -1) for turn in turns)
    at = places[..., None].expand(-1, -1, size)
    queries = _turned(queries, torch.gather(cosines, 1, at), torch.gather(sines, 1, at))
    keys = _turned(keys, cosines, sines)
    scores = (queries @ keys.transpose(1, 2)).float() * attention.scaling
    later = torch.arange(hidden.shape[1], device=hidden.device) > places[..., None]
    return torch.log_softmax(scores.masked_fill(later, -1e4), dim=-1)


def _turned(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * cosines + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sines


def aim_loss(
    language: Any, seen: dict[int, tuple[torch.Tensor, Any]], aims: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross-entropy of the supervised heads with where they should look, and their mean attention there.

    Args:
        language: the language model.
        seen: from `watched`.
        aims: int64, (n, aims, 6).
    """
    places = aims[..., 0].clamp_min(0)
    word_layer, cell_layer = word_and_cell_layers(language)
    wanted = (
        (word_layer, 0, aims[..., 1], aims[..., 2]),
        (word_layer, 1, aims[..., 3], aims[..., 4]),
        (cell_layer, 0, aims[..., 5], aims[..., 5] + 1),
    )
    loss = torch.zeros((), device=aims.device)
    looked = torch.zeros((), device=aims.device)
    for layer, head, start, end in wanted:
        attention = language.layers[layer].self_attn
        if head >= attention.config.num_attention_heads:
            continue
        there = (aims[..., 0] >= 0) & (start >= 0)
        logs = log_attention(attention, *seen[layer], head, places)
        where = torch.arange(logs.shape[-1], device=logs.device)
        inside = (where >= start[..., None]) & (where < end[..., None])
        # An aim that is not there would have nothing to add up.
        inside = inside | ~there[..., None]
        log_sum = torch.logsumexp(logs.masked_fill(~inside, -1e4), dim=-1)
        count = there.sum().clamp_min(1)
        loss = loss - torch.where(there, log_sum, 0.0).sum() / count / len(wanted)
        looked = torch.where(there, log_sum, -torch.inf).exp().sum().detach() / count
    return loss, looked


@torch.no_grad()
def greedy(language: Any, batch: Batch, visual: torch.Tensor, end: int, most: int) -> list[list[int]]:
    """The most likely continuation of each row's prompt, up to `end`.

    Every token is a new forward without a cache: at this size that takes a second on a GPU.
    """
    start = batch["start"]
    rows = torch.arange(len(start), device=start.device)
    length = int(start.max()) + 1 + most
    room = (len(start), length)
    ids = torch.zeros(room, dtype=torch.long, device=start.device)
    source = torch.full(room, -1, dtype=torch.long, device=start.device)
    shown = min(length, batch["ids"].shape[1])
    prompt = torch.arange(length, device=start.device) <= start[:, None]
    ids[:, :shown] = torch.where(prompt[:, :shown], batch["ids"][:, :shown], 0)
    source[:, :shown] = torch.where(prompt[:, :shown], batch["source"][:, :shown], -1)
    last = batch["places"][rows, :, start]
    places = last[:, :, None] + (torch.arange(length, device=start.device) - start[:, None])[:, None]
    places[:, :, :shown] = torch.where(
        prompt[:, None, :shown], batch["places"][:, :, :shown], places[:, :, :shown]
    )
    ended = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    written = []
    for step in range(most):
        used = int(start.max()) + 1 + step
        inputs = embedded(language, ids[:, :used], source[:, :used], visual)
        hidden = language(
            inputs_embeds=inputs, position_ids=places[:, :, :used].transpose(0, 1), use_cache=False
        )[0]
        newest = hidden[rows, start + step]
        token = (newest @ language.embed_tokens.weight.T.to(newest.dtype)).float().argmax(-1)
        token = torch.where(ended, end, token)
        written.append(token)
        ended = ended | (token == end)
        if step + 1 < most:
            ids[rows, start + step + 1] = token
        if step % 8 == 7 and bool(ended.all()):
            break
    texts: list[list[int]] = torch.stack(written, 1).tolist()
    return [row[: row.index(end)] if end in row else row for row in texts]
