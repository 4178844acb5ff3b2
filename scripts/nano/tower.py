"""The vision tower on batches of cells: the mathematics of transformers' forward, in few large operations.

Three things are slow in the stock forward: the patch embedding as a `Conv3d` (its kernel is its stride, so it
is a linear layer; and both frames of a still image are equal, so their kernels add up), attention called once
for each image, and positions computed anew for each image. Here every image of a batch has the same number of
cells, some of them padding. tests/nano/test_pretraining.py compares the two forwards.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.nn import functional

PATCH = 16
_VALUES = 3 * PATCH * PATCH


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on a device; neither waits for the other."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor


def encode(visual: Any, cells: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
    """Visual tokens of images.

    Args:
        visual: the model's vision tower (`model.model.visual`).
        cells: (n, room, 3072), the four patches of each cell as (channel, row, column): uint8, or −1…1.
        grids: int64 on the CPU, (n, 2), columns and rows of cells of each image; those beyond are padding.

    Returns:
        (n, room, hidden of the language model). Tokens of padding mean nothing. Deepstack features are not
        computed: nano's are zero.
    """
    count, room, _ = cells.shape
    device = cells.device
    pixels = cells if cells.is_floating_point() else cells.float().div_(127.5).sub_(1)
    kernel = visual.patch_embed.proj.weight.sum(dim=2).flatten(1)
    hidden = functional.linear(pixels.view(count, 4 * room, _VALUES), kernel, visual.patch_embed.proj.bias)
    kinds, which = torch.unique(grids, dim=0, return_inverse=True)
    tables = [_table(visual, columns, rows, room, device) for columns, rows in kinds.tolist()]
    taps, places = (torch.stack(part) for part in zip(*tables, strict=True))
    which = send(which, device)
    with torch.autocast(device.type, enabled=False):
        known = (taps @ visual.pos_embed.weight.float())[which]
    # The sums of the blocks stay in float32 where operations are in bfloat16.
    hidden = hidden.float() + known
    angles = places[which]
    cosines, sines = (part[:, None] for part in (angles.cos(), angles.sin()))
    used = 4 * send(grids[:, 0] * grids[:, 1], device)
    mask = (torch.arange(4 * room, device=device) < used[:, None])[:, None, None]
    # Kernels want a mask of full shape; expanding takes no memory.
    mask = mask.expand(count, 1, 4 * room, 4 * room)
    for block in visual.blocks:
        hidden = hidden + _attend(block.attn, block.norm1(hidden), cosines, sines, mask)
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged: torch.Tensor = visual.merger(hidden.reshape(-1, hidden.shape[-1]))
    return merged.view(count, room, -1)


def _attend(
    attention: Any, hidden: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    count, length, width = hidden.shape
    query, key, value = (
        attention.qkv(hidden)
        .view(count, length, 3, attention.num_heads, attention.head_dim)
        .permute(2, 0, 3, 1, 4)
        .unbind(0)
    )
    cosines, sines = cosines.to(query.dtype), sines.to(query.dtype)
    query = query * cosines + _rotate(query) * sines
    key = key * cosines + _rotate(key) * sines
    mixed = functional.scaled_dot_product_attention(query, key, value, mask, scale=attention.scaling)
    projected: torch.Tensor = attention.proj(mixed.transpose(1, 2).reshape(count, length, width))
    return projected


def _rotate(x: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def _table(
    visual: Any, columns: int, rows: int, room: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    width = visual.config.hidden_size // visual.config.num_heads
    return _cached_table(columns, rows, room, visual.num_grid_per_side, width, visual.rotary_pos_emb, device)


@functools.lru_cache(maxsize=1024)
def _cached_table(
    columns: int, rows: int, room: int, side: int, width: int, rotary: Any, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one image size: the position embedding as a matrix, (4·room, side²), and angles, (4·room, width)."""
    from transformers.vision_utils import (
        get_vision_interpolation_indices_and_weights,
        get_vision_position_ids,
    )

    grid = torch.tensor([[1, 2 * rows, 2 * columns]])
    indices, weights = get_vision_interpolation_indices_and_weights(
        grid, num_grid_per_side=side, mode="bilinear", align_corners=True, spatial_merge_size=2
    )
    taps = torch.zeros(4 * room, side * side)
    taps[: len(indices)].scatter_add_(1, indices.cpu(), weights.cpu().float())
    places = get_vision_position_ids(grid, 2).cpu()
    rates = rotary.inv_freq.detach().cpu().float()
    turns = torch.cat([places[:, 0, None] * rates, places[:, 1, None] * rates], dim=-1)
    angles = torch.zeros(4 * room, width)
    angles[: len(turns)] = torch.cat([turns, turns], dim=-1)
    return taps.to(device), angles.to(device)
