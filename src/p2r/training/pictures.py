"""Encodes each distinct picture once while the vision tower is frozen; on a CPU that is a quarter of a step.

A prompt is read by every completion of its group, by the rollout, by the reference and by the update. With a
tower that does not change they all see the same features.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_Features = tuple[torch.Tensor, tuple[torch.Tensor, ...]]


class KnownPictures:
    """The features of the last pictures, for towers with the same frozen weights.

    Args:
        keep: how many pictures.
    """

    def __init__(self, keep: int = 1_024) -> None:
        self._keep = keep
        self._known: OrderedDict[tuple[int, ...], _Features] = OrderedDict()

    def attach(self, visual: Any) -> None:
        """Let a tower of the Qwen3-VL family look here first.

        Args:
            visual: in float32 on a CPU; none of its weights is trained.
        """
        visual.forward = self._looking_up(visual.forward, visual.spatial_merge_size**2)

    def _looking_up(self, encode: Callable[..., Any], merged: int) -> Callable[..., Any]:
        def forward(hidden_states: torch.Tensor, grid_thw: torch.Tensor, **kwargs: Any) -> Any:
            from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

            pictures = torch.split(hidden_states, grid_thw.prod(-1).tolist())
            keys = [
                (*grid, hash(picture.numpy().tobytes()))
                for grid, picture in zip(grid_thw.tolist(), pictures, strict=True)
            ]
            new = {key: position for position, key in enumerate(keys) if key not in self._known}
            if new:
                places = list(new.values())
                with torch.no_grad():
                    output = encode(
                        torch.cat([pictures[place] for place in places]), grid_thw[places], **kwargs
                    )
                sizes = [len(pictures[place]) // merged for place in places]
                main = output.pooler_output.split(sizes)
                deep = [features.split(sizes) for features in output.deepstack_features]
                for number, key in enumerate(new):
                    self._known[key] = main[number], tuple(features[number] for features in deep)
            found = [self._known[key] for key in keys]
            for key in keys:
                self._known.move_to_end(key)
            while len(self._known) > self._keep:
                self._known.popitem(last=False)
            levels = zip(*(features for _, features in found), strict=True)
            return BaseModelOutputWithDeepstackFeatures(
                pooler_output=torch.cat([features for features, _ in found]),
                deepstack_features=[torch.cat(level) for level in levels],
            )

        return forward
