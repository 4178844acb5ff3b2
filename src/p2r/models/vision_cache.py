"""Encodes each distinct image once while the vision tower is frozen; on a CPU that is a quarter of a step.

A prompt is read by every completion of its group, by the rollout, by the reference and by the update. With a
tower that does not change they all see the same features.

Nothing here knows a model family. A tower is taken when a probe shows that its features can be cut apart by
image and put together again; any other tower keeps encoding everything.
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
    """The features of the last images, for towers with the same frozen weights.

    Args:
        keep: how many images.
    """

    def __init__(self, keep: int = 1_024) -> None:
        self._keep = keep
        self._known: OrderedDict[tuple[int, ...], _Features] = OrderedDict()
        self._kind: Any = None  # of what the towers return

    def attach(self, tower: Any) -> bool:
        """Let a vision tower look here first; False when it is of a kind that cannot, and is left alone.

        Args:
            tower: in float32 on a CPU, called as those of the Qwen-VL families; no weight of it is trained.
        """
        if not _cuts_by_image(tower):
            return False
        tower.forward = self._looking_up(tower.forward, tower.spatial_merge_size**2)
        return True

    def _looking_up(self, encode: Callable[..., Any], merged: int) -> Callable[..., Any]:
        def forward(hidden_states: torch.Tensor, grid_thw: torch.Tensor, **kwargs: Any) -> Any:
            images = torch.split(hidden_states, grid_thw.prod(-1).tolist())
            keys = [
                (*grid, hash(image.numpy().tobytes()))
                for grid, image in zip(grid_thw.tolist(), images, strict=True)
            ]
            new = {key: position for position, key in enumerate(keys) if key not in self._known}
            if new:
                places = list(new.values())
                with torch.no_grad():
                    output = encode(
                        torch.cat([images[place] for place in places]), grid_thw[places], **kwargs
                    )
                self._kind = type(output)
                rows = [len(images[place]) // merged for place in places]
                self._known.update(zip(new, _cut(output, rows), strict=True))
            found = [self._known[key] for key in keys]
            for key in keys:
                self._known.move_to_end(key)
            while len(self._known) > self._keep:
                self._known.popitem(last=False)
            return self._kind(**_join(found))

        return forward


def _cut(output: Any, rows: Sequence[int]) -> list[_Features]:
    """What a tower returns, by image: its features after merging; what came before is read by nobody."""
    cut: list[_Features] = [{} for _ in rows]
    for name, value in output.items():
        if name == "last_hidden_state":
            continue
        levels = [value] if isinstance(value, torch.Tensor) else value
        parts = [torch.split(level, list(rows)) for level in levels]
        for one, found in zip(cut, zip(*parts, strict=True), strict=True):
            one[name] = found[0] if isinstance(value, torch.Tensor) else list(found)
    return cut


def _join(found: Sequence[_Features]) -> _Features:
    joined: _Features = {}
    for name, first in found[0].items():
        values = [features[name] for features in found]
        joined[name] = (
            torch.cat(values)
            if isinstance(first, torch.Tensor)
            else [torch.cat(level) for level in zip(*values, strict=True)]
        )
    return joined


def _cuts_by_image(tower: Any) -> bool:
    """Whether two small images encoded together have the features that each of them has alone."""
    try:
        config, side = tower.config, tower.spatial_merge_size
        values = config.in_channels * config.temporal_patch_size * config.patch_size**2
        grids = torch.tensor([[1, side, side], [1, side, 2 * side]])
        counts = grids.prod(-1).tolist()
        pixels = torch.linspace(-1, 1, sum(counts) * values).reshape(sum(counts), values)
        rows = [count // side**2 for count in counts]
        with torch.no_grad():
            together = _cut(tower(pixels, grid_thw=grids), rows)
            alone = [
                _cut(tower(image, grid_thw=grid[None]), [count])[0]
                for image, grid, count in zip(torch.split(pixels, counts), grids, rows, strict=True)
            ]
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    except Exception:  # noqa: BLE001 - whatever an unknown tower raises says that it is unknown
        return False
    return "pooler_output" in alone[0]
