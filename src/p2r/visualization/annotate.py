"""Boxes and crops for people: numbered, named, and in the colors of the evidence.

The colors are those of the evidence by name, in calmer shades; each outline has a halo, so that it is visible
on any ground. What models are shown is drawn by `evidence`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw

from p2r.evidence import OUTLINE_COLORS, box_px, outlined_px
from p2r.visualization.text import RGB, Lettering, clean, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.images import ImageSource, RectPx
    from p2r.types import Box

LINE = 4  # width of an outline
HALO = 2  # of white, on both sides of an outline
EDGE = 2 * HALO + LINE + 1  # all of it, with one dark pixel at the outside
FRAME = 5  # width of a crop's frame
HEAD = 32  # height of its upper side, with number and label
TAG = 19  # size of the letters of a tag
TAG_HEIGHT = 32
TAG_MARGIN = 11  # to the left and right of them
MIN_LABELED = 300  # width of an image whose tags have labels
STRIP = 6.0  # an image that is longer than this (long over short side) is cut into parts
MAX_PARTS = 24
SLIT = 10  # between two parts

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


def shade(index: int) -> RGB:
    """The color of the box with this index."""
    return SHADES[OUTLINE_COLORS[index % len(OUTLINE_COLORS)][0]]


def _ink_on(color: RGB) -> RGB:
    red, green, blue = color
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else WHITE


# --- sizes -----------------------------------------------------------------------------------------------


def _parts(size: tuple[int, int]) -> tuple[int, int]:
    # Rows and columns, one of which is 1: a long strip is cut into parts that together are no strip any more.
    shape = size[0] / size[1]
    if shape > STRIP:
        return min(MAX_PARTS, round(math.sqrt(shape / 2))), 1
    return (1, min(MAX_PARTS, round(math.sqrt(1 / shape)))) if shape < 1 / STRIP else (1, 1)


def inscribed(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """The largest `(width, height)` within `room` that has the shape of `size`."""
    scale = min(room[0] / size[0], room[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def fitted(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """The largest `(width, height)` within `room` at which `annotated` shows an image of `size`."""
    rows, columns = _parts(size)
    slits = SLIT * (columns - 1), SLIT * (rows - 1)
    room_of_part = (room[0] - slits[0]) // columns, (room[1] - slits[1]) // rows
    width, height = inscribed((size[0] * columns, size[1] * rows), room_of_part)
    return columns * width + slits[0], rows * height + slits[1]


# --- the whole image -------------------------------------------------------------------------------------


def annotated(
    letters: Lettering,
    source: ImageSource,
    boxes: Sequence[Box],
    size: tuple[int, int],
    image: int = 0,
    regions: Sequence[Box] = (),
) -> PIL.Image.Image:
    """The whole image, each box outlined and tagged with its number and label; a strip is cut into parts.

    `size` is that of the result; see `fitted`. Boxes of other images than the one with the index `image` are
    left out; they have numbers too. Thin lines show regions, such as those of closer looks.
    """
    numbers = [number for number, box in enumerate(boxes) if box.image == image]
    rows, columns = _parts(source.size)
    width = max(1, (size[0] - SLIT * (columns - 1)) // columns)
    height = max(1, (size[1] - SLIT * (rows - 1)) // rows)
    corners = [(width * row, height * column) for row in range(rows) for column in range(columns)]
    parts = [(x, y, x + width, y + height) for x, y in corners]
    plain = source.overview((width * rows, height * columns)).to_pil()
    draw = PIL.ImageDraw.Draw(plain)
    for region in regions:
        x0, y0, x1, y1 = box_px(region, plain.size)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=WHITE)
        draw.rectangle((x0 + 1, y0 + 1, x1 - 2, y1 - 2), outline=DARK)
    drawn = _drawn(plain, letters, [boxes[number] for number in numbers], parts, numbers)
    if len(parts) == 1:
        return drawn
    stack = PIL.Image.new("RGB", size, WHITE)
    for index, part in enumerate(parts):
        at = (0, index * (height + SLIT)) if rows > 1 else (index * (width + SLIT), 0)
        stack.paste(drawn.crop(part), at)
    return stack


def _drawn(
    plain: PIL.Image.Image,
    letters: Lettering,
    boxes: Sequence[Box],
    parts: Sequence[RectPx],
    numbers: Sequence[int],
) -> PIL.Image.Image:
    # The numbers of the boxes count from 0, and decide their colors.
    inside = [outlined_px(box, plain.size, LINE) for box in boxes]
    rects = [_grown(rect, EDGE) for rect in inside]
    tags = _tags(letters, boxes, rects, parts, numbers)
    image = plain.copy()
    draw = PIL.ImageDraw.Draw(image)
    for index, (_, tag) in tags.items():
        # A tag that found no room beside its box is tied to it.
        ends = [_nearest(tag, rects[index]), _nearest(rects[index], tag)]
        draw.line(ends, WHITE, LINE + 2)
        draw.line(ends, shade(numbers[index]), LINE - 1)
    # Around the boxes, and not inside smaller ones, as in the evidence.
    for index in sorted(range(len(boxes)), key=lambda index: (boxes[index].area, index), reverse=True):
        layers = (EDGE, DARK), (EDGE - 1, WHITE), (HALO + LINE, shade(numbers[index])), (HALO, WHITE)
        for margin, color in layers:
            image.paste(color, _grown(inside[index], margin))
        image.paste(plain.crop(inside[index]), inside[index])
    for index, (line, tag) in tags.items():
        rounded(image, tag, 7, WHITE)
        color = shade(numbers[index])
        rounded(image, _grown(tag, -HALO), 6, color)
        at = (tag[0] + TAG_MARGIN, (tag[1] + tag[3]) // 2)
        letters.write(image, at, line, TAG, _ink_on(color), bold=True)
    return image


def _tags(
    letters: Lettering,
    boxes: Sequence[Box],
    rects: Sequence[RectPx],
    parts: Sequence[RectPx],
    numbers: Sequence[int],
) -> dict[int, tuple[str, RectPx]]:
    # What is written at each box, and where: its number alone if the label has no room; nothing in a part
    # that is smaller than a tag.
    width = parts[0][2] - parts[0][0]
    tags: dict[int, tuple[str, RectPx]] = {}
    for index, box in enumerate(boxes):
        part = max(parts, key=lambda part: _overlap(part, rects[index]))
        others = [*rects, *(tag for _, tag in tags.values())]
        least = math.inf
        number = str(numbers[index] + 1)
        for text in (f"{number} {clean(box.label)}", number) if width >= MIN_LABELED else (number,):
            (line,) = letters.lines(text, TAG, min(260, width // 2), most=1)
            tag = (letters.width(line, TAG) + 2 * TAG_MARGIN, TAG_HEIGHT)
            for place in _places(tag, rects[index]):
                # No place outside of the part, and none that hides much of the box itself. The nearest that
                # hides no box and no tag; else the one that hides the smallest share of them.
                if _overlap(place, part) < _area(place) or 4 * _overlap(place, rects[index]) > _area(
                    rects[index]
                ):
                    continue
                hidden = sum(_overlap(place, other) / _area(other) for other in others)
                if hidden < least:
                    least, tags[index] = hidden, (line, place)
                if hidden == 0:
                    break
            if least == 0:
                break
    return tags


def _places(tag: tuple[int, int], rect: RectPx) -> Iterator[RectPx]:
    width, height = tag
    x0, y0, x1, y1 = rect
    middle = (x0 + x1 - width) // 2, (y0 + y1 - height) // 2
    lefts, tops = (x0, x1 - width, middle[0]), (y0, y1 - height, middle[1])
    corners = [(left, top) for top in (y0 - height, y1) for left in lefts]
    corners += [(left, top) for left in (x1, x0 - width) for top in tops]
    for distance in range(24, 600, 24):
        for turn in range(16):
            angle = 2 * math.pi * turn / 16
            # On an ellipse around the box, on which the tag just does not touch it at distance 0.
            across = ((x1 - x0 + width) / 2 + distance) * math.sin(angle)
            down = ((y1 - y0 + height) / 2 + distance) * math.cos(angle)
            corners.append((round(middle[0] + across), round(middle[1] - down)))
    corners += [(x0 + EDGE, y0 + EDGE), (x1 - EDGE - width, y1 - EDGE - height)]
    for left, top in corners:
        yield left, top, left + width, top + height


def _overlap(one: RectPx, other: RectPx) -> int:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, across) * max(0, down)


def _area(rect: RectPx) -> int:
    return (rect[2] - rect[0]) * (rect[3] - rect[1])


def _grown(rect: RectPx, margin: int) -> RectPx:
    return rect[0] - margin, rect[1] - margin, rect[2] + margin, rect[3] + margin


def _nearest(rect: RectPx, other: RectPx) -> tuple[int, int]:
    # The point of a rectangle that is nearest to the middle of another.
    x, y = (other[0] + other[2]) // 2, (other[1] + other[3]) // 2
    return min(max(x, rect[0]), rect[2] - 1), min(max(y, rect[1]), rect[3] - 1)


# --- a crop ----------------------------------------------------------------------------------------------


def framed(
    letters: Lettering, source: ImageSource, region_px: RectPx, title: str, index: int, size: tuple[int, int]
) -> PIL.Image.Image:
    """A crop in a frame of the color of its box (of this index), with as much of a title as fits.

    `size` is that of the crop within its frame, which adds `FRAME` and `HEAD`.
    """
    crop = source.region(region_px, size).to_pil()
    image = PIL.Image.new("RGB", (size[0] + 2 * FRAME, size[1] + FRAME + HEAD), shade(index))
    image.paste(crop, (FRAME, HEAD))
    (line,) = letters.lines(title, TAG, size[0], most=1)
    letters.write(image, (FRAME + 4, HEAD // 2), line, TAG, _ink_on(shade(index)), bold=True)
    return image
