"""Text and rounded shapes on images: a font that has the characters, and lines that fit a width."""

from __future__ import annotations

import bisect
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PIL.ImageFont import FreeTypeFont

RGB = tuple[int, int, int]

# Pillow's own font knows little beyond ASCII; these are found by name where they are installed.
_WIDER_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "arial.ttf",
    "msgothic.ttc",
)
_NO_LETTER = "\U0010ffff"


@cache
def _font(name: str, size: int) -> FreeTypeFont | None:
    try:
        font = PIL.ImageFont.truetype(name, size) if name else PIL.ImageFont.load_default(size)
    except OSError:
        return None
    return font if isinstance(font, PIL.ImageFont.FreeTypeFont) else None


@cache
def _knows(name: str, letter: str) -> bool:
    font = _font(name, 16)
    return font is not None and bytes(font.getmask(letter)) != bytes(font.getmask(_NO_LETTER))


def clean(text: str) -> str:
    """The text on one line, without control characters and lone surrogates."""
    text = unicodedata.normalize("NFC", text.encode(errors="replace").decode())
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


class Lettering:
    """Writes with one font: Pillow's own, or the installed one that has most letters of the texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        letters = set(clean(" ".join(texts))) - {" "}
        names = ("", *_WIDER_FONTS)
        self._name = max(names, key=lambda name: sum(_knows(name, letter) for letter in letters))

    def _sized(self, size: int) -> FreeTypeFont:
        font = _font(self._name, size)
        assert font is not None  # noqa: S101 - it was opened when it was chosen
        return font

    def width(self, text: str, size: int) -> int:
        """The width of a line, in pixels."""
        return round(self._sized(size).getlength(text))

    def lines(self, text: str, size: int, width: int, most: int) -> list[str]:
        """The text in at most `most` lines of at most `width` pixels; an ellipsis replaces the rest."""
        font, rest = self._sized(size), clean(text)
        lines: list[str] = []
        while rest and len(lines) < most:
            # At least one letter fits; by bisection, because texts may be long.
            counts = range(1, min(len(rest), max(1, width)) + 1)
            count = max(1, bisect.bisect_right(counts, float(width), key=lambda n: font.getlength(rest[:n])))
            # Break at a space if there is one; languages without spaces break anywhere.
            space = rest.rfind(" ", 0, count + 1)
            cut = space if count < len(rest) and space > 0 else count
            lines.append(rest[:cut].rstrip())
            rest = rest[cut:].lstrip()
        if rest:
            last = lines[-1]
            while last and self.width(f"{last}…", size) > width:
                last = last[:-1]
            lines[-1] = f"{last.rstrip()}…"
        return lines

    def write(
        self,
        image: PIL.Image.Image,
        at: tuple[int, int],
        text: str,
        size: int,
        ink: RGB,
        *,
        bold: bool = False,
    ) -> None:
        """Write one line; `at` is the left end of its middle."""
        stroke = 0.5 if bold else 0
        PIL.ImageDraw.Draw(image).text(at, text, ink, self._sized(size), "lm", stroke_width=stroke)


def rounded(image: PIL.Image.Image, rect: tuple[int, int, int, int], radius: int, fill: RGB) -> None:
    """Fill a rectangle (half-open pixels) with round corners, smoothly."""
    x0, y0, x1, y1 = rect
    fine = 4
    mask = PIL.Image.new("L", ((x1 - x0) * fine, (y1 - y0) * fine))
    area = (0, 0, mask.width - 1, mask.height - 1)
    PIL.ImageDraw.Draw(mask).rounded_rectangle(area, radius * fine, fill=255)
    image.paste(fill, rect, mask.reduce(fine))
