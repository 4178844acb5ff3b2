"""What the vision tower learns: to find what a name says, and to tell what is at a place.

Each scene says where its targets are, what they are called and what is written on them. A visual token at
such a place predicts the name, the writing and the box; the name, as a query, finds its place among all
tokens. It is what contrastive pretraining does for a real model, done densely. The heads are dropped
afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from scripts.nano.build import number_tokens
from scripts.nano.rows import EVERYWHERE, NAME, VALUE

if TYPE_CHECKING:
    from scripts.nano.pool import Images, Pool
    from scripts.nano.tally import Tally

# Writing is learned last and matters most.
_NAME, _VALUE, _BOX, _PLACE = 1.0, 2.0, 0.6, 1.0
_SCALE = 4.0
# The spread of a box's corner in its soft label, in thousandths.
_BLUR = 12.0


class SeeHead(nn.Module):
    """Scores merged tokens against word embeddings."""

    def __init__(self, words: nn.Embedding, tokenizer: Any) -> None:
        super().__init__()
        hidden = words.embedding_dim
        # Not a submodule: the language model's own.
        self._words = [words]
        self.names = nn.Linear(hidden, NAME * hidden)
        self.values = nn.Linear(hidden, VALUE * hidden)
        self.corners = nn.Linear(hidden, 4 * hidden)
        self.query = nn.Linear(hidden, hidden)
        numbers = number_tokens(tokenizer)
        self.register_buffer("numbers", torch.tensor([numbers[value] for value in sorted(numbers)]))
        self.register_buffer("steps", torch.tensor(sorted(numbers), dtype=torch.float32))

    def losses(
        self, pool: Pool, tokens: torch.Tensor, images: Images, tally: Tally, prefix: str
    ) -> torch.Tensor:
        """The loss of the things of images.

        Args:
            pool: sends arrays to the device.
            tokens: (n, room, hidden), those of `images`.
            images: with their things.
            tally: takes the shares that are right, by world.
            prefix: of the names in the tally.
        """
        words = self._words[0].weight
        image, slot = np.nonzero(images.things["cell"] != -1)
        if not len(image):
            return tokens.sum() * 0
        things = images.things[image, slot]
        where = pool.send(image)
        group = pool.send(images.worlds[image])
        cells = pool.send(things["cell"].astype(np.int64))
        seen = functional.layer_norm(tokens.float(), tokens.shape[-1:])
        used = pool.send((images.grids[:, 0] * images.grids[:, 1]).numpy())
        valid = torch.arange(tokens.shape[1], device=tokens.device) < used[:, None]
        held = seen[where, cells.clamp_min(0)]
        if (things["cell"] == EVERYWHERE).any():
            mean = (seen * valid[..., None]).sum(1) / used[:, None]
            held = torch.where((cells == EVERYWHERE)[:, None], mean[where], held)
        loss = tokens.new_zeros((), dtype=torch.float32)
        named = np.flatnonzero(things["name"][:, 0] >= 0)
        if len(named):
            loss = loss + _NAME * self._written(
                pool, self.names, held, things["name"], named, group, tally, f"{prefix} name"
            )
            pick = pool.send(named)
            ids = pool.send(things["name"][named].astype(np.int64))
            there = (ids >= 0)[..., None]
            query = (words[ids.clamp_min(0)] * there).sum(1) / there.sum(1)
            scores = _SCALE * (self.query(query)[:, None].float() * seen[where[pick]]).sum(-1)
            scores = scores.masked_fill(~valid[where[pick]], -1e4)
            aim = cells[pick]
            loss = loss + _PLACE * functional.cross_entropy(scores, aim)
            tally.add(f"{prefix} place", group[pick], (scores.argmax(-1) == aim).float())
        valued = np.flatnonzero(things["value"][:, 0] >= 0)
        if len(valued):
            loss = loss + _VALUE * self._written(
                pool, self.values, held, things["value"], valued, group, tally, f"{prefix} value"
            )
        boxed = np.flatnonzero(things["box"][:, 0] >= 0)
        if len(boxed):
            pick = pool.send(boxed)
            gold = pool.send(things["box"][boxed].astype(np.float32))
            steps = self.get_buffer("steps")
            scores = self._scores(self.corners, held[pick], words[self.get_buffer("numbers")])
            soft = torch.softmax(-0.5 * ((steps - gold[..., None]) / _BLUR) ** 2, dim=-1)
            loss = loss + _BOX * functional.cross_entropy(scores.flatten(0, 1), soft.flatten(0, 1))
            error = (steps[scores.argmax(-1)] - gold).abs().mean(-1)
            tally.add(f"{prefix} corner error", group[pick], error)
        return loss

    def _scores(self, head: nn.Linear, held: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        out = head(held).view(len(held), -1, held.shape[-1])
        scores: torch.Tensor = (_SCALE * (out @ words.T)).float()
        return scores

    def _written(
        self,
        pool: Pool,
        head: nn.Linear,
        held: torch.Tensor,
        ids: np.ndarray,
        which: np.ndarray,
        group: torch.Tensor,
        tally: Tally,
        name: str,
    ) -> torch.Tensor:
        pick = pool.send(which)
        gold = pool.send(ids[which].astype(np.int64))
        scores = self._scores(head, held[pick], self._words[0].weight)
        loss = functional.cross_entropy(scores.flatten(0, 1), gold.flatten(), ignore_index=-1)
        right = ((scores.argmax(-1) == gold) | (gold < 0)).all(-1)
        tally.add(name, group[pick], right.float())
        return loss


def augmented(cells: torch.Tensor) -> torch.Tensor:
    """Cells as floats in −1…1 with a random brightness, contrast, tint and noise for each image."""
    count, room, _ = cells.shape
    pixels = cells.view(count, room, 4, 3, -1).float().div_(127.5).sub_(1)
    device = cells.device
    gain = 1 + 0.12 * torch.randn(count, 1, 1, 1, 1, device=device).clamp_(-2, 2)
    tint = 1 + 0.04 * torch.randn(count, 1, 1, 3, 1, device=device).clamp_(-2, 2)
    shift = 0.08 * torch.randn(count, 1, 1, 1, 1, device=device).clamp_(-2, 2)
    pixels = pixels * (gain * tint) + shift
    pixels = pixels + 0.03 * torch.rand(count, 1, 1, 1, 1, device=device) * torch.randn_like(pixels)
    return pixels.clamp_(-1, 1).view(count, room, -1)
