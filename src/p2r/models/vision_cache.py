"""Each distinct image is encoded once: in a call of the vision tower, and in all calls while it is frozen.

A prompt is read by every completion of its group: in the rollout, by the reference and in the update. Within
a call this changes nothing, not even the gradient: that of an image is the sum over its readers. A tower of
any family is taken when a probe shows that its features can be split by image and joined again.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

if TYPE_CHECKING:
    from collections.abc import Sequence

# What a tower returns for one image: a `ModelOutput`, whose tensors have a row for each of its tokens.
_Features = Any


class VisionFeatureCache:
    """The features of the images seen last, for towers with the same weights (up to their precision).

    Args:
        room: bytes of features that are kept. An image of 2,048 tokens has 42 MB in a bfloat16 Qwen3-VL-4B.
    """

    def __init__(self, room: int = 2 << 30) -> None:
        self._room = room
        self._size = 0
        self._features: dict[tuple[Any, ...], _Features] = {}  # that used last is the last

    def get(self, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], _Features]:
        """Those of the images that it has."""
        found = {key: self._features.pop(key) for key in dict.fromkeys(keys) if key in self._features}
        self._features |= found
        return found

    def put(self, features: dict[tuple[Any, ...], _Features]) -> None:
        """Keep copies, and drop those that were used least recently."""
        for key, one in features.items():
            # A part of a tensor keeps the whole tensor in memory.
            self._features[key] = tree_map(torch.clone, one)
            self._size += _bytes(one)
        while self._size > self._room:
            self._size -= _bytes(self._features.pop(next(iter(self._features))))


def encode_once(tower: Any, cache: VisionFeatureCache | None = None) -> bool:
    """Let a vision tower encode each image once; False when it cannot, and the tower stays as it is.

    Args:
        tower: called as those of the Qwen-VL families.
        cache: for a tower whose weights never change: its images are encoded once in all calls, without
            gradients. No process may then wait for another one within the tower, as those of sharded weights
            do. None: once in each call.
    """
    if not _splits_by_image(tower):
        return False
    encode, merged, precision = tower.forward, tower.spatial_merge_size**2, next(tower.parameters()).dtype

    def forward(hidden_states: torch.Tensor, grid_thw: torch.Tensor, **kwargs: Any) -> Any:
        grids = grid_thw.tolist()
        images = torch.split(hidden_states, [math.prod(grid) for grid in grids])
        # Features of another precision are other features.
        form = precision, torch.is_autocast_enabled(hidden_states.device.type)
        keys = [(_hash(image), *grid, *form) for image, grid in zip(images, grids, strict=True)]
        features = {} if cache is None else cache.get(keys)
        new = {key: place for place, key in enumerate(keys) if key not in features}
        if cache is None and len(new) == len(keys):
            return encode(hidden_states, grid_thw, **kwargs)
        if new:
            places = list(new.values())
            with torch.set_grad_enabled(cache is None and torch.is_grad_enabled()):
                output = encode(torch.cat([images[one] for one in places]), grid_thw[places], **kwargs)
            parts = _split(output, [len(images[one]) // merged for one in places])
            features |= (encoded := dict(zip(new, parts, strict=True)))
            if cache is not None:
                cache.put(encoded)
        return tree_map(lambda *rows: torch.cat(rows), *(features[key] for key in keys))

    tower.forward = forward
    return True


def _split(output: Any, rows: Sequence[int]) -> list[_Features]:
    """The features of each image. Nothing reads those before merging, `last_hidden_state`."""
    merged = type(output)(**{name: value for name, value in output.items() if name != "last_hidden_state"})

    def part(start: int, length: int) -> _Features:
        return tree_map(lambda tensor: tensor.narrow(0, start, length), merged)

    return list(map(part, accumulate(rows, initial=0), rows))


def _bytes(features: _Features) -> int:
    return sum(tensor.nbytes for tensor in tree_leaves(features))


def _hash(image: torch.Tensor) -> int:
    """Of the pixels of an image, shape (patches, values), in any precision.

    On a GPU the pixels stay there (50 MB an image): what is copied and hashed is two sums for each patch.
    """
    words = image.detach().contiguous().view(torch.int32)
    if not words.is_cpu:
        words = _patch_sums(words).cpu()
    return hash(words.numpy().tobytes())


def _patch_sums(words: torch.Tensor) -> torch.Tensor:
    """Two sums modulo 2^64 of the words of each patch times random odd factors, shape (2, patches).

    Both are equal for two different patches with a probability of at most 2^-66. Sums of integers do not
    depend on their order, and so not on the device or on what else is in the batch.
    """
    own = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**63), 2**63 - 1, (2, words.shape[-1]), generator=own) | 1
    return torch.stack([(words * row).sum(-1) for row in factors.to(words.device)])


def _splits_by_image(tower: Any) -> bool:
    """Whether two small images encoded together have the features that each of them has alone."""
    try:
        weight, config, side = next(tower.parameters()), tower.config, tower.spatial_merge_size
        values = config.in_channels * config.temporal_patch_size * config.patch_size**2
        grids = torch.tensor([[1, side, side], [1, side, 2 * side]], device=weight.device)
        patches = grids.prod(-1).tolist()
        pixels = torch.linspace(-1, 1, sum(patches) * values).reshape(sum(patches), values).to(weight)
        with torch.no_grad():
            together = _split(tower(pixels, grid_thw=grids), [1, 2])
            for image, grid, rows, expected in zip(
                torch.split(pixels, patches), grids, [1, 2], together, strict=True
            ):
                (alone,) = _split(tower(image, grid_thw=grid[None]), [rows])
                for left, right in zip(tree_leaves(expected), tree_leaves(alone), strict=True):
                    apart = torch.linalg.vector_norm((left - right).float())
                    if not apart <= torch.finfo(left.dtype).eps ** 0.5 * right.float().norm():
                        return False
    except Exception:  # noqa: BLE001 - any exception means an unknown tower
        return False
    return "pooler_output" in together[0]
