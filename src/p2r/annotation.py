"""Boxes and crops as people like to see them: numbered, named, and in the colours of the evidence.

The colours are those of the evidence by name, in calmer shades.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import PIL.Image

from p2r.evidence import OUTLINE_COLOURS, box_px
from p2r.lettering import RGB, Lettering, clean, rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.images import ImageSource
    from p2r.types import Box, RectPx

LINE = 4  # width of an outline
FRAME = 5  # width of a crop's frame
TAG = 19  # size of the letters of a tag

DARK: RGB = (31, 35, 40)
WHITE: RGB = (255, 255, 255)
SHADES: dict[str, RGB] = {
    "red": (224, 49, 49),
    "green": (47, 158, 68),
    "blue": (28, 110, 242),
    "yellow": (250, 204, 21),
    "orange": (253, 126, 20),
    "purple": (132, 60, 190),
    "cyan": (21, 190, 207),
    "magenta": (214, 51, 172),
}


def annotated(
    letters: Lettering, source: ImageSource, boxes: Sequence[Box], size: tuple[int, int]
) -> PIL.Image.Image:
    """The whole picture at `size`, each box outlined and tagged with its number and label.

    Raises:
        InputError: the picture is damaged.
    """
    picture = source.overview(size).to_pil()
    rects = [box_px(box, size) for box in boxes]
    for index, rect in reversed(list(enumerate(rects))):
        # Around the box, as in the evidence.
        inside = picture.crop(rect)
        x0, y0, x1, y1 = rect
        picture.paste(shade(index), (x0 - LINE, y0 - LINE, x1 + LINE, y1 + LINE))
        picture.paste(inside, (x0, y0))
    taken: list[RectPx] = []
    for index, (box, rect) in enumerate(zip(boxes, rects, strict=True)):
        text = f"{index + 1} {clean(box.label)}" if size[0] >= 300 else str(index + 1)
        (line,) = letters.lines(text, TAG, 260, most=1)
        tag = _free_place((letters.width(line, TAG) + 18, 28), rect, size, taken)
        rounded(picture, tag, 6, shade(index))
        at = (tag[0] + 9, (tag[1] + tag[3]) // 2)
        letters.write(picture, at, line, TAG, _ink_on(shade(index)), bold=True)
        taken.append(tag)
    return picture


def _free_place(tag: tuple[int, int], rect: RectPx, size: tuple[int, int], taken: Sequence[RectPx]) -> RectPx:
    # Above the box if there is room, else at the first free place around it, else somewhere inside.
    width, height = tag
    x0, y0, x1, y1 = rect
    tops, lefts = (y0 - LINE - height, y1 + LINE), (x0 - LINE, x1 + LINE - width)
    places = [(left, top) for top in tops for left in lefts]
    places += [(x1 + LINE, y0 - LINE), (x0 - LINE - width, y0 - LINE), (x0, y0), (x0, y1 - height)]
    tags = [(left, top, left + width, top + height) for left, top in places]
    inside = [tag for tag in tags if min(tag) >= 0 and tag[2] <= size[0] and tag[3] <= size[1]]
    free = [tag for tag in inside if not any(_meet(tag, other) for other in taken)]
    if free or inside:
        return (free or inside)[0]
    left, top = max(0, min(x0, size[0] - width)), max(0, min(y0, size[1] - height))
    return left, top, left + width, top + height


def _meet(one: RectPx, other: RectPx) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def framed(
    letters: Lettering, source: ImageSource, region_px: RectPx, index: int, size: tuple[int, int]
) -> PIL.Image.Image:
    """A crop in the frame of its box's colour, with its number; `size` includes the frame.

    Raises:
        InputError: the picture is damaged.
    """
    inner = source.region(region_px, (size[0] - 2 * FRAME, size[1] - 2 * FRAME)).to_pil()
    picture = PIL.Image.new("RGB", size, shade(index))
    picture.paste(inner, (FRAME, FRAME))
    picture.paste(shade(index), (0, 0, 34, 34))
    letters.write(picture, (12, 18), str(index + 1), 20, _ink_on(shade(index)), bold=True)
    return picture


def shade(index: int) -> RGB:
    """The colour of the box with this index."""
    return SHADES[OUTLINE_COLOURS[index % len(OUTLINE_COLOURS)][0]]


def _ink_on(colour: RGB) -> RGB:
    red, green, blue = colour
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else WHITE
