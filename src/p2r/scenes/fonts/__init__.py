"""The fonts of the scenes: each split has its own, so that no face of a test scene was seen in training.

scripts/fonts.py makes the files; LICENSES.txt says what they were made from.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import ImageFont

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Kind = Literal["sans", "plate", "mono", "segment"]


@dataclass(frozen=True, slots=True)
class Font:
    """A font file of one split: bold `sans`, narrow `plate`, typewriter `mono` or seven-`segment` digits."""

    file: str

    @property
    def split(self) -> str:
        """The split that it belongs to."""
        return self.file.split("-")[0]

    @property
    def kind(self) -> str:
        """A `Kind`."""
        return self.file.split("-")[1]

    def at(self, pixels: float) -> ImageFont.FreeTypeFont:
        """The font at a size in pixels."""
        return _load(self.file, max(1.0, pixels if pixels < 40 else float(round(pixels))))

    def cap_height(self) -> float:
        """The height of its capitals and digits at size 1."""
        return _cap_height(self.file)

    def width(self, text: str) -> float:
        """The width of a text whose capitals have height 1."""
        return _width(self.file, text) / self.cap_height()


_MEASURED = 200.0


@functools.lru_cache(maxsize=256)
def _load(file: str, pixels: float) -> ImageFont.FreeTypeFont:
    # Basic layout: with the other one, what a text looks like would depend on the system's libraries.
    path = Path(__file__).with_name(file)
    return ImageFont.truetype(str(path), pixels, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=1024)
def _width(file: str, text: str) -> float:
    return _load(file, _MEASURED).getlength(text) / _MEASURED


@functools.lru_cache
def _cap_height(file: str) -> float:
    _, top, _, bottom = _load(file, _MEASURED).getbbox("8", anchor="ls")
    return (bottom - top) / _MEASURED


FONTS: dict[Split, tuple[Font, ...]] = {
    split: tuple(Font(path.name) for path in sorted(Path(__file__).parent.glob(f"{split}-*.?tf")))
    for split in SPLITS
}


def pick(rng: random.Random, fonts: Sequence[Font], kind: Kind) -> Font:
    """A font of a kind."""
    return rng.choice([font for font in fonts if font.kind == kind])
