"""Visual tokens of a pack's images, encoded once for a frozen tower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scripts.nano.tower import CELL, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scripts.nano.scenepack import ScenePack

    # Numbers of a pack's images → their visual tokens, each (tokens, hidden).
    TokenLookup = Callable[[Sequence[int]], list[torch.Tensor]]


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
