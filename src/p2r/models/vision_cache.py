"""Cache of vision features: each distinct image is encoded once while the vision tower is frozen.

A prompt is read by every completion of its group: in the rollout, by the reference and in the update. With
a tower that does not change all of them get the same features; on a CPU that saves a quarter of a step. A
tower of any family is taken when a probe shows that its features can be split by image and joined again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The features of one image: a tensor of a row for each of its tokens, or a list of them (one for each depth).
_Features = dict[str, Any]


class VisionFeatureCache:
    """The features of the images seen last, for towers with the same frozen weights.

    Args:
        keep: number of images.
    """

    def __init__(self, keep: int = 1_024) -> None:
        self._keep = keep
        self._features: OrderedDict[tuple[int, ...], _Features] = OrderedDict()
        self._output: Any = None  # the class of what the towers return

    def attach(self, tower: Any) -> bool:
        """Put the cache before a vision tower; False when it cannot be, and the tower stays as it is.

        Args:
            tower: in float32 on a CPU, called as those of the Qwen-VL families; no weight of it is trained.
        """
        if not _splits_by_image(tower):
            return False
        tower.forward = self._cached(tower.forward, tower.spatial_merge_size**2)
        return True

    def _cached(self, encode: Callable[..., Any], merged: int) -> Callable[..., Any]:
        def forward(hidden_states: torch.Tensor, grid_thw: torch.Tensor, **kwargs: Any) -> Any:
            images = torch.split(hidden_states, grid_thw.prod(-1).tolist())
            keys = [
                (*grid, hash(image.numpy().tobytes()))
                for grid, image in zip(grid_thw.tolist(), images, strict=True)
            ]
            new = {key: place for place, key in enumerate(keys) if key not in self._features}
            if new:
                places = list(new.values())
                with torch.no_grad():
                    output = encode(torch.cat([images[one] for one in places]), grid_thw[places], **kwargs)
                self._output = type(output)
                rows = [len(images[one]) // merged for one in places]
                self._features.update(zip(new, _split(output, rows), strict=True))
            for key in keys:
                self._features.move_to_end(key)
            joined = _join([self._features[key] for key in keys])
            while len(self._features) > self._keep:
                self._features.popitem(last=False)
            return self._output(**joined)

        return forward


def _split(output: Any, rows: Sequence[int]) -> list[_Features]:
    """The merged features of a tower's output, by image. Nothing reads those before merging."""
    features: list[_Features] = [{} for _ in rows]
    for name, value in output.items():
        if name == "last_hidden_state":
            continue
        if isinstance(value, torch.Tensor):
            parts: Any = torch.split(value, list(rows))
        else:
            parts = map(list, zip(*(torch.split(level, list(rows)) for level in value), strict=True))
        for one, part in zip(features, parts, strict=True):
            one[name] = part
    return features


def _join(images: Sequence[_Features]) -> _Features:
    joined: _Features = {}
    for name in images[0]:
        values = [features[name] for features in images]
        if isinstance(values[0], torch.Tensor):
            joined[name] = torch.cat(values)
        else:
            joined[name] = [torch.cat(level) for level in zip(*values, strict=True)]
    return joined


def _splits_by_image(tower: Any) -> bool:
    """Whether two small images encoded together have the features that each of them has alone."""
    try:
        config, side = tower.config, tower.spatial_merge_size
        values = config.in_channels * config.temporal_patch_size * config.patch_size**2
        grids = torch.tensor([[1, side, side], [1, side, 2 * side]])
        patches = grids.prod(-1).tolist()
        pixels = torch.linspace(-1, 1, sum(patches) * values).reshape(sum(patches), values)
        with torch.no_grad():
            together = _split(tower(pixels, grid_thw=grids), [1, 2])
            for image, grid, rows, expected in zip(
                torch.split(pixels, patches), grids, [1, 2], together, strict=True
            ):
                (alone,) = _split(tower(image, grid_thw=grid[None]), [rows])
                torch.testing.assert_close(expected, alone, rtol=1e-3, atol=1e-4)
    except Exception:  # noqa: BLE001 - any exception means an unknown tower
        return False
    return "pooler_output" in together[0]
