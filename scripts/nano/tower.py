"""The vision tower on batches of images: the mathematics of transformers' forward, faster on a CPU.

Two things are slow in the stock forward: the patch embedding as a `Conv3d` (its kernel is its stride, so
it is a linear layer; and both frames of a still image are equal, so their kernels add up), and attention
called once for each image (here: once for all images of one size). tests/nano/test_tower.py compares
the two forwards.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scripts.nano.scenepack import ScenePack

    # Numbers of a pack's images → their visual tokens, each (tokens, hidden).
    TokenLookup = Callable[[Sequence[int]], list[torch.Tensor]]

PATCH = 16
CELL = 32


def patches_of(images: torch.Tensor) -> torch.Tensor:
    """Cut images into patches in the order of 2×2 merge blocks.

    Args:
        images: uint8, (n, height, width, 3), sides multiples of 32.

    Returns:
        float32 in −1…1, (n, patches, 768), each patch as (channel, row, column).
    """
    count, height, width, _ = images.shape
    blocks = images.view(count, height // CELL, 2, PATCH, width // CELL, 2, PATCH, 3)
    ordered = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(count, -1, 3 * PATCH * PATCH)
    return ordered.float().div_(127.5).sub_(1)


def encode(visual: Any, groups: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Visual tokens of images grouped by size.

    Args:
        visual: the model's vision tower (`model.model.visual`).
        groups: each uint8, (n, height, width, 3); one size a group.

    Returns:
        For each group the merged tokens, (n, height·width / 32², hidden of the language model). Deepstack
        features are not computed: nano's are zero until its tower is unfrozen.
    """
    shapes = [(group.shape[0], group.shape[1] // PATCH, group.shape[2] // PATCH) for group in groups]
    rows = torch.cat([patches_of(group).flatten(0, 1) for group in groups])
    kernel = visual.patch_embed.proj.weight.sum(dim=2).flatten(1)
    hidden = functional.linear(rows, kernel, visual.patch_embed.proj.bias)
    places, cosines, sines = zip(
        *(_positions(visual, rows_, columns) for _, rows_, columns in shapes), strict=True
    )
    hidden = hidden + torch.cat(
        [
            (visual.pos_embed(indices) * weights[:, :, None]).sum(1).repeat(count, 1)
            for (count, _, _), (indices, weights) in zip(shapes, places, strict=True)
        ]
    )
    turn = [(cos[None, None], sin[None, None]) for cos, sin in zip(cosines, sines, strict=True)]
    for block in visual.blocks:
        hidden = hidden + _attend(block.attn, block.norm1(hidden), shapes, turn)
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged = visual.merger(hidden)
    sizes = [count * height * width // 4 for count, height, width in shapes]
    return [
        part.view(shape[0], -1, merged.shape[-1])
        for part, shape in zip(merged.split(sizes), shapes, strict=True)
    ]


def encode_pack(visual: Any, pack: ScenePack, hidden: int) -> torch.Tensor:
    """The visual tokens of every image of a pack: float16, (all tokens, hidden)."""
    tokens = torch.empty(int(pack.starts[-1]) // (3 * CELL**2), hidden, dtype=torch.float16)
    by_size: dict[tuple[int, int], list[int]] = {}
    for number, (width, height) in enumerate(pack.sizes.tolist()):
        by_size.setdefault((width, height), []).append(number)
    with torch.no_grad():
        for numbers in by_size.values():
            for begin in range(0, len(numbers), 16):
                chunk = numbers[begin : begin + 16]
                stack = torch.from_numpy(np.stack([pack.image(number) for number in chunk]))
                for number, row in zip(chunk, encode(visual, [stack])[0], strict=True):
                    start = int(pack.starts[number]) // (3 * CELL**2)
                    tokens[start : start + len(row)] = row.half()
    return tokens


def token_lookup(tokens: torch.Tensor, pack: ScenePack) -> TokenLookup:
    """Looks images up in `tokens`, as `encode_pack` makes them."""
    starts = pack.starts // (3 * CELL**2)
    return lambda numbers: [tokens[int(starts[n]) : int(starts[n + 1])].float() for n in numbers]


def _attend(
    attention: Any,
    hidden: torch.Tensor,
    shapes: list[tuple[int, int, int]],
    turn: list[tuple[torch.Tensor, torch.Tensor]],
) -> torch.Tensor:
    projected = attention.qkv(hidden)
    sizes = [count * height * width for count, height, width in shapes]
    outputs = []
    for part, (count, _, _), (cos, sin) in zip(projected.split(sizes), shapes, turn, strict=True):
        query, key, value = (
            part.view(count, -1, 3, attention.num_heads, attention.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        )
        query = query * cos + _rotate(query) * sin
        key = key * cos + _rotate(key) * sin
        scores = (query @ key.transpose(-1, -2)) * attention.scaling
        outputs.append((scores.softmax(-1) @ value).transpose(1, 2).reshape(-1, hidden.shape[-1]))
    return attention.proj(torch.cat(outputs))  # type: ignore[no-any-return]


def _rotate(x: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def _positions(visual: Any, height: int, width: int) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Position-embedding taps and rotations of one image size (in patches)."""
    indices, weights = _taps(visual.num_grid_per_side, height, width)
    cos, sin = visual.rotary_pos_emb(weights, _place(height, width))
    return (indices, weights), cos, sin


@functools.lru_cache(maxsize=64)
def _taps(side: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    from transformers.vision_utils import get_vision_interpolation_indices_and_weights

    grid = torch.tensor([[1, height, width]])
    taps: tuple[torch.Tensor, torch.Tensor] = get_vision_interpolation_indices_and_weights(
        grid, num_grid_per_side=side, mode="bilinear", align_corners=True, spatial_merge_size=2
    )
    return taps


@functools.lru_cache(maxsize=64)
def _place(height: int, width: int) -> torch.Tensor:
    from transformers.vision_utils import get_vision_position_ids

    places: torch.Tensor = get_vision_position_ids(torch.tensor([[1, height, width]]), 2)
    return places
