"""Where the language model should look while it writes: a loss on attention, for warm-up only.

From texts alone, a model this small needs thousands of steps before it finds out that the word *red* in the
question and the token of the red tag in the image belong together (docs/results.md). So heads of two layers
are supervised: while a coordinate is written, one reads the color that the question names, a later one the
cell of the image that holds that object; likewise for digits, results and options (`attention_targets`). It
teaches where to look; what to write is left to the usual loss.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The layers whose first head is supervised: one reads the question's word, a later one the image's cell.
WORD_LAYER, CELL_LAYER = 1, 2


@dataclass(frozen=True, slots=True)
class AttentionTarget:
    """What matters while the token at `position` is the newest.

    Attributes:
        position, words, cell: positions in the example's token sequence. The heads of the first supervised
            layer look at `words`, one each; the first head of the second one looks at `cell`.
    """

    position: int
    words: tuple[int, ...]
    cell: int


@contextmanager
def watched(language: Any) -> Iterator[dict[int, torch.Tensor]]:
    """Collects the attention weights, (n, heads, length, length), of the supervised layers of one forward.

    The language model must run with `eager` attention: no other implementation has the weights.
    """
    seen: dict[int, torch.Tensor] = {}

    def keep(index: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
            seen[index] = output[1]

        return hook

    handles = [
        language.layers[index].self_attn.register_forward_hook(keep(index))
        for index in (WORD_LAYER, CELL_LAYER)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def attention_loss(
    seen: dict[int, torch.Tensor], attention: Sequence[Sequence[AttentionTarget]]
) -> tuple[torch.Tensor, float]:
    """The cross-entropy of the supervised heads with where they should look.

    Args:
        seen: from `watched`.
        attention: those of each row of the batch.

    Returns:
        The mean cross-entropy of both heads, and the mean attention on the right cell.
    """
    each = [(row, aim) for row, some in enumerate(attention) for aim in some]
    if not each:
        return torch.zeros(()), float("nan")
    words = torch.tensor([(r, k, g.position, word) for r, g in each for k, word in enumerate(g.words)])
    cells = torch.tensor([(r, 0, g.position, g.cell) for r, g in each])
    on_word = seen[WORD_LAYER][tuple(words.T)]
    on_cell = seen[CELL_LAYER][tuple(cells.T)]
    loss = -(on_word.clamp_min(1e-6).log().mean() + on_cell.clamp_min(1e-6).log().mean()) / 2
    return loss, float(on_cell.detach().mean())
