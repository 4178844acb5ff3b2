"""Stage 1: the vision tower learns to see, before any language.

Every merged token whose cell holds the center of a thing predicts what it is, what is written on it and where
it is; the others predict the ground. The classes are scored against the language model's own word embeddings,
so that a token of a red tag starts near the word *red*: what contrastive pretraining does for a real model,
done densely. The extra heads are dropped afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from p2r.scenes.tags import CODE_LETTERS, COLORS, DIGITS, GROUNDS
from scripts.nano.build import number_tokens
from scripts.nano.glyph_data import SIDE, SIZES, GlyphImages
from scripts.nano.tower import CELL, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scripts.nano.glyph_data import Distance

_SCALE = 25.0
# Writing is learned last and matters most.
_WEIGHTS = {"digit": 2.0, "letter1": 1.5, "letter2": 1.5}
# The groups of one step: how far, how many images; each group has one size.
_GROUPS: tuple[tuple[Distance, int], ...] = (("near", 12), ("near", 12), ("far", 16))


class GlyphHead(nn.Module):
    """Scores merged tokens against word embeddings; (tokens, hidden) → losses and hit rates."""

    def __init__(self, embeddings: nn.Embedding, tokenizer: Any) -> None:
        super().__init__()
        hidden = embeddings.embedding_dim
        self.embeddings = embeddings
        self.presence = nn.Linear(hidden, 3)
        self.letters = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.corners = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(4))
        numbers = number_tokens(tokenizer)
        words: Mapping[str, tuple[str, ...]] = {
            "colors": tuple(COLORS),
            "grounds": tuple(GROUNDS),
            "digits": tuple(DIGITS),
            "letters_": tuple(CODE_LETTERS),
            "numbers": tuple(str(value) for value in sorted(numbers)),
        }
        for name, group in words.items():
            ids = [tokenizer.encode(word, add_special_tokens=False) for word in group]
            if any(len(one) != 1 for one in ids):
                raise ValueError(f"the tokenizer splits one of {group}")
            self.register_buffer(name, torch.tensor([one[0] for one in ids]), persistent=False)

    def _score(self, tokens: torch.Tensor, words: str) -> torch.Tensor:
        scores: torch.Tensor = _SCALE * tokens @ self.embeddings(self.get_buffer(words)).T
        return scores

    def forward(
        self,
        tokens: torch.Tensor,
        names: torch.Tensor,
        places: torch.Tensor,
        grounds: torch.Tensor,
        near: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Losses of tokens (n, hidden).

        Args:
            tokens: merged visual tokens.
            names: int64, (n, 4), as `GlyphImages.names`; color −1 where the cell holds no center.
            places: float32, (n, 4), box corners 0–1000; NaN where it holds none.
            grounds: int64, (n,).
            near: bool, (n,): whether writing is readable.
        """
        held = names[:, 0] >= 0
        plate = names[:, 1] == 1
        kind = torch.where(held, 1 + plate.long(), 0)
        seen = tokens[held]
        tag_near, plate_near = held & ~plate & near, held & plate & near
        logits = {
            "kind": (self.presence(tokens), kind),
            "color": (self._score(seen, "colors"), names[held, 0]),
            "ground": (self._score(tokens[~held], "grounds"), grounds[~held]),
            "digit": (self._score(tokens[tag_near], "digits"), names[tag_near, 2]),
            "letter1": (
                self._score(self.letters[0](tokens[plate_near]), "letters_"),
                names[plate_near, 2],
            ),
            "letter2": (
                self._score(self.letters[1](tokens[plate_near]), "letters_"),
                names[plate_near, 3],
            ),
        }
        # A far image has nothing to read, and a window may hold no plate.
        logits = {name: pair for name, pair in logits.items() if len(pair[1])}
        losses = {
            name: _WEIGHTS.get(name, 1.0) * functional.cross_entropy(*pair) for name, pair in logits.items()
        }
        hits = {
            name: (score.argmax(-1) == gold).float().mean().item() for name, (score, gold) in logits.items()
        }
        steps = torch.arange(0, 1001, 10, device=tokens.device)
        error = torch.zeros(())
        for side, corner in enumerate(self.corners):
            gold = places[held, side]
            soft = torch.softmax(-0.5 * ((steps - gold[:, None]) / 12) ** 2, dim=-1)
            scores = self._score(corner(seen), "numbers")
            losses[f"corner{side}"] = 0.15 * functional.cross_entropy(scores, soft)
            error = error + (steps[scores.argmax(-1)] - gold).abs().mean().detach() / 4
        hits["corner_error"] = error.item()
        return sum(losses.values(), torch.zeros(())), hits


def vision_step(
    visual: nn.Module, head: GlyphHead, glyphs: GlyphImages, rng: np.random.Generator
) -> dict[str, float]:
    """Accumulate the gradients of one step; returns mean hit rates."""
    totals: dict[str, list[float]] = {}
    for distance, images in _GROUPS:
        sizes = SIZES[distance]
        width, height = list(sizes)[rng.choice(len(sizes), p=list(sizes.values()))]
        rows = rng.choice(np.flatnonzero(glyphs.near == (distance == "near")), images)
        pixels, names, places = windows(glyphs, rows, (width, height), rng)
        tokens = encode(visual, [torch.from_numpy(pixels)])[0]
        cells = tokens.shape[1]
        loss, hits = head(
            tokens.flatten(0, 1),
            torch.from_numpy(names).view(-1, 4),
            torch.from_numpy(places).view(-1, 4),
            torch.from_numpy(glyphs.grounds[rows].astype(np.int64)).repeat_interleave(cells),
            torch.from_numpy(glyphs.near[rows]).repeat_interleave(cells),
        )
        (loss / len(_GROUPS)).backward()
        for name, value in {f"loss_{distance}": loss.item(), **hits}.items():
            totals.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in totals.items()}


def windows(
    glyphs: GlyphImages, rows: np.ndarray, size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random windows of glyphs and, for each of their cells, the thing whose center it holds.

    Returns:
        pixels: uint8, (n, height, width, 3).
        names: int64, (n, cells, 4), −1 where a cell holds no center.
        places: float32, (n, cells, 4), corners 0–1000 relative to the window.
    """
    width, height = size
    columns = width // CELL
    cells = columns * (height // CELL)
    pixels = np.empty((len(rows), height, width, 3), np.uint8)
    names = np.full((len(rows), cells, 4), -1, np.int64)
    places = np.full((len(rows), cells, 4), np.nan, np.float32)
    for position, row in enumerate(rows):
        left, top = rng.integers(0, SIDE - width + 1), rng.integers(0, SIDE - height + 1)
        pixels[position] = glyphs.pixels[row, top : top + height, left : left + width]
        boxes = glyphs.boxes[row] - np.array([left, top, left, top], np.float32)
        center_x, center_y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        for thing in np.flatnonzero(
            (center_x >= 0) & (center_x < width) & (center_y >= 0) & (center_y < height)
        ):
            cell = int(center_y[thing] // CELL) * columns + int(center_x[thing] // CELL)
            names[position, cell] = glyphs.names[row, thing]
            scale = np.array([1000 / width, 1000 / height] * 2, np.float32)
            places[position, cell] = np.clip(boxes[thing] * scale, 0, 1000)
    return pixels, names, places
