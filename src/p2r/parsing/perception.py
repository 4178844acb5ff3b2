"""The perceiver's text → `Perception`. A model's text is hostile input, and nothing here raises.

Boxes outside a <think> block count, in JSON of any shape and in the markup of grounding models; the rules
are in docs/scoring.md. Everything that is dropped or repaired has a reason.

Scale and order are those of the box format, which is set for a model and never guessed from a reply. The one
exception: in the formats of 0–1000, if every coordinate of the text lies in 0–1, all are shares and are
multiplied by 1000. As thousandths they would be no boxes.

Of boxes with an IoU of at least `SAME_IOU` only the first counts: the crops, which have context, would show
the same. Different objects rarely overlap that much. Rounding to thousandths changes the IoU by less,
down to boxes with sides of 40.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from p2r.errors import InputError
from p2r.parsing.box_markup import MarkupReader
from p2r.parsing.boxes import BoxCollector, WrittenBox, two_points
from p2r.parsing.lenient_json import LenientList, read_lenient_json
from p2r.parsing.thinking import split_thinking
from p2r.types import BOX_FORMATS, Box, BoxFormat, Perception

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BOXES = 32
MAX_CHARS = 50_000
MIN_SIDE = 1.0  # 0–1000: 8 pixels of an 8K image
SAME_IOU = 0.9
_TOLERANCE = 0.01  # how far beyond its range a coordinate may lie before another box format is suspected

_ESCAPED_JSON = re.compile(r'[\[{]\s{0,8}\\"')  # JSON that was encoded twice


def parse_perception(
    text: str,
    box_format: BoxFormat = "qwen3",
    size: tuple[int, int] | None = None,
    others: Sequence[tuple[int, int]] = (),
) -> Perception:
    """Read a perceiver's text. Never raises, whatever the text is.

    Args:
        text: what the perceiver wrote.
        box_format: how it writes boxes (`Settings.box_format`).
        size: (width, height) of the image as it was sent, in pixels. Needed for the format `pixels`; with
            others it tells whether the coordinates could be pixels.
        others: of the further images that were sent with it. Every box has to name its image then.

    Returns:
        The outcome, the usable boxes (0–1000, in the order written, at most `MAX_BOXES`), one reason for each
        thing that was left out or repaired, and the text.

    Raises:
        InputError: the format is `pixels` and there is no size.
    """
    sizes = (size, *others)
    scales = [_scale(box_format, each) for each in sizes]
    before, thinking, after = split_thinking(text)
    visible = f"{before} {after or ''}".strip()
    found = BoxCollector()
    if len(visible) > MAX_CHARS:
        found.say(f"only the first {MAX_CHARS} of {len(visible)} characters were read")
        visible = visible[:MAX_CHARS]
    if _ESCAPED_JSON.search(visible):
        visible = visible.replace('\\"', '"')
    _collect(visible, found)
    written = found.boxes if len(sizes) == 1 else _with_image(found, len(sizes))
    warning = _warning(written, box_format, sizes)
    if found.boxes and not written and all(box.image is None for box in found.boxes):
        warning = (
            "no box names its image: a model that knows one image only is asked about each by itself with "
            "--set perceive_images=apart"
        )
    first = (warning,) if warning else ()
    boxes, repeats = _place(written, found, box_format, scales)
    if boxes:
        return Perception("boxes", boxes, first + found.reasons, text, repeats, warning)
    if found.empty_lists and not found.items:
        return Perception("whole", (), found.reasons, text)
    if not found.items:
        if after is None:
            found.say("the thinking never ends")
        elif visible:
            found.say("no JSON list of boxes")
        else:
            found.say("nothing after the thinking" if thinking else "the text is empty")
    return Perception("malformed", (), first + found.reasons, text, (), warning)


def merged(perceptions: Sequence[Perception]) -> Perception:
    """The replies about several images as one, if each was about one of them; in their order.

    The first boxes of all images come first, then the second ones, so that each image has its share of the
    crops. An image whose reply is an empty list holds no evidence.
    """
    owned = [[replace(box, image=index) for box in one.boxes] for index, one in enumerate(perceptions)]
    boxes = [box for rank in zip_longest(*owned) for box in rank if box]
    repeats = [replace(box, image=index) for index, one in enumerate(perceptions) for box in one.repeats]
    numbered = list(enumerate(perceptions, start=1))
    warnings = [f"image {number}: {reason}" for number, one in numbered for reason in one.warnings]
    if len(boxes) > MAX_BOXES:
        warnings.append(f"{len(boxes) - MAX_BOXES} more boxes after the first {MAX_BOXES}")
    outcomes = {one.outcome for one in perceptions}
    return Perception(
        next(outcome for outcome in ("boxes", "whole", "malformed") if outcome in outcomes),
        tuple(boxes[:MAX_BOXES]),
        tuple(warnings),
        "\n".join(f"Image {number}: {one.text}" for number, one in numbered),
        tuple(repeats),
        next((one.format_warning for one in perceptions if one.format_warning), ""),
    )


def _collect(visible: str, found: BoxCollector) -> None:
    """Collect what is written as boxes: in JSON, and in the text around it."""
    roots, notes = read_lenient_json(visible)
    for note in notes:
        found.say(note)
    markup = MarkupReader(found)
    position = 0
    paired = False  # with the root before it
    for root, following in zip_longest(roots, roots[1:]):
        markup.read(visible[position : root.start])
        position = root.end
        if paired:
            paired = False
            continue
        # Two lists of two numbers, as in `[1, 2], [30, 40]`, are one box.
        paired = bool(
            following
            and not visible[root.end : following.start].strip(" \t,;")
            and two_points([root, following])
        )
        node = LenientList(root.start, root.end, [root, following], closed=True) if paired else root
        found.visit(node, markup.label)
    markup.read(visible[position:])


class _Scale(NamedTuple):
    """The greatest x and y of a box format, and the name of its range."""

    width: float
    height: float
    name: str


def _scale(box_format: BoxFormat, size: tuple[int, int] | None) -> _Scale:
    if box_format == "unit":
        return _Scale(1, 1, "0–1")
    if box_format != "pixels":
        return _Scale(1000, 1000, "0–1000")
    if size is None:
        raise InputError("box format pixels: the size of the image as it was sent is needed")
    return _Scale(*size, f"{size[0]}×{size[1]} pixels")


def _sides(box: WrittenBox, box_format: BoxFormat) -> tuple[float, float, float, float]:
    """The corners as `(x0, y0, x1, y1)`, in the units of the format."""
    if box_format == "gemini" and not box.named:
        y0, x0, y1, x1 = box.corners
        return x0, y0, x1, y1
    return box.corners


def _with_image(found: BoxCollector, count: int) -> list[WrittenBox]:
    """The boxes that name one of several images; the others have a reason."""
    kept = []
    for box in found.boxes:
        if box.image is None:
            found.say(f"item {box.number}: names none of the {count} images")
        elif box.image not in range(1, count + 1):
            found.say(f"item {box.number}: there is no image {box.image:g}, only 1 to {count}")
        else:
            kept.append(box)
    return kept


def _index(box: WrittenBox, count: int) -> int:
    """The index of the image of a box; that of the only one, whatever the box says."""
    return int(box.image) - 1 if count > 1 and box.image else 0


def _warning(
    written: Sequence[WrittenBox], box_format: BoxFormat, sizes: Sequence[tuple[int, int] | None]
) -> str:
    """Which other formats the coordinates fit, if no box fits the one that is set; else empty."""
    sized = [(box, sizes[_index(box, len(sizes))]) for box in written]
    if not sized or not all(_is_beyond(box, box_format, size) for box, size in sized):
        return ""
    others = [name for name in BOX_FORMATS if name != box_format and not (name == "pixels" and None in sizes)]
    fitting = [name for name in others if not any(_is_beyond(box, name, size) for box, size in sized)]
    if not fitting:
        return ""
    return (
        f"no box fits box format {box_format}, all would fit {' or '.join(fitting)}: "
        f"`p2r doctor --model …` finds out which the model writes, `--set box_format={fitting[0]}` sets it"
    )


def _is_beyond(box: WrittenBox, box_format: BoxFormat, size: tuple[int, int] | None) -> bool:
    """Whether a box is partly outside the range of a format, or is too small to be in it."""
    width, height, _ = _scale(box_format, size)
    sides = zip(_sides(box, box_format), (width, height, width, height), strict=True)
    within = all(-_TOLERANCE <= side / greatest <= 1 + _TOLERANCE for side, greatest in sides)
    return not within or (box_format == "pixels" and _are_shares([box]))


def _place(
    written: Sequence[WrittenBox], found: BoxCollector, box_format: BoxFormat, scales: Sequence[_Scale]
) -> tuple[tuple[Box, ...], tuple[Box, ...]]:
    """The usable boxes, and those that repeat them; each image has a scale."""
    if written and all(one.width == one.height == 1000 for one in scales) and _are_shares(written):
        found.say("coordinates within 0–1 were read as shares of the image")
        scales = [one._replace(width=1, height=1) for one in scales]
    boxes: list[Box] = []
    repeats: list[Box] = []
    for position, one in enumerate(written):
        if len(boxes) == MAX_BOXES:
            found.say(f"{len(written) - position} more boxes after the first {MAX_BOXES}")
            break
        index = _index(one, len(scales))
        box = _place_one(one, found, box_format, scales[index], index)
        if box is not None:
            (repeats if any(box.iou(other) >= SAME_IOU for other in boxes) else boxes).append(box)
    if repeats:
        found.say(f"repeated boxes count once: {len(repeats)} left out")
    return tuple(boxes), tuple(repeats[:MAX_BOXES])


def _are_shares(written: Sequence[WrittenBox]) -> bool:
    return all(0 <= value <= 1 for box in written for value in box.corners)


def _place_one(
    box: WrittenBox, found: BoxCollector, box_format: BoxFormat, scale: _Scale, image: int
) -> Box | None:
    where = f"item {box.number}"
    x0, y0, x1, y1 = _sides(box, box_format)
    x0, x1 = x0 * (1000 / scale.width), x1 * (1000 / scale.width)
    y0, y1 = y0 * (1000 / scale.height), y1 * (1000 / scale.height)
    if x0 > x1 or y0 > y1:
        found.say(f"{where}: swapped corners were put in order")
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    if x0 == x1 and y0 == y1:
        found.say(f"{where}: a point, not a box")
        return None
    if x1 <= 0 or y1 <= 0 or x0 >= 1000 or y0 >= 1000:
        found.say(f"{where}: lies outside {scale.name}")
        return None
    if min(x0, y0) < 0 or max(x1, y1) > 1000:
        found.say(f"{where}: clamped to {scale.name}")
    x0, x1 = max(0.0, x0), min(1000.0, x1)
    y0, y1 = max(0.0, y0), min(1000.0, y1)
    if min(x1 - x0, y1 - y0) < MIN_SIDE:
        found.say(f"{where}: a side below {MIN_SIDE:g} was widened")
    (x0, x1), (y0, y1) = _widened(x0, x1), _widened(y0, y1)
    return Box(x0, y0, x1, y1, box.label, image)


def _widened(start: float, end: float) -> tuple[float, float]:
    if end - start < MIN_SIDE:
        start = min(max(0.0, (start + end - MIN_SIDE) / 2), 1000 - MIN_SIDE)
        end = start + MIN_SIDE
    # Thousandths are finer than a pixel of any image, and hide the noise of binary fractions.
    return round(start, 3), round(end, 3)
