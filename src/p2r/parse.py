"""The perceiver's text → `Perception`. Total: a model's text is hostile input, and nothing here raises.

What counts, and what is dropped or mended with a reason (each is shown in tests/test_parse.py):

- Boxes outside a <think> block, in any list or object, fenced or in prose, complete or cut off. A box whose
  coordinates are complete counts even if its label was cut off.
- Shapes: {"bbox_2d": [x0, y0, x1, y1], "label": "…"} with the usual variants of its keys and wrappers; bare
  lists of four; two corner points; {"x1", "y1", "x2", "y2"}; {"x", "y", "width", "height"}; numbers in
  quotes. Booleans and null are not numbers.
- Scale: if every coordinate of the whole text lies in 0–1, all are shares and are multiplied by 1000.
- Swapped corners are put in order. What sticks out of 0–1000 is clamped; what lies outside is dropped.
- A side shorter than `MIN_SIDE` is widened around its middle; a single point is dropped.
- At most `MAX_BOXES` boxes of the first `MAX_CHARS` characters.

The outcome is `whole` for `[]`, bare or wrapped as in {"boxes": []}, if no other item attempts a box.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from p2r.loose_json import read_loose_json
from p2r.types import Box, Perception
from p2r.written_boxes import BoxReader, WrittenBox

MAX_BOXES = 32
MAX_CHARS = 50_000
MIN_SIDE = 1.0  # 0–1000: 8 pixels of an 8K picture

_THINK_TAG = re.compile(r"<(/?)think\s{0,8}>", re.IGNORECASE)
_ESCAPED_JSON = re.compile(r'[\[{]\s{0,8}\\"')  # JSON that was encoded twice


class ThinkingSplit(NamedTuple):
    """A text split at its thinking.

    Attributes:
        before: what precedes the first <think>; empty without one.
        thinking: from the first <think> (or the start, where the chat template opened it) to the last
            </think>, or to the end.
        after: what follows the thinking; None when the thinking never ends.
    """

    before: str
    thinking: str
    after: str | None


def split_thinking(text: str) -> ThinkingSplit:
    """Split a text at its <think> tags; without any, all of it is `after`."""
    tags = list(_THINK_TAG.finditer(text))
    if not tags:
        return ThinkingSplit("", "", text)
    first, last = tags[0], tags[-1]
    opened = not first[1]
    before = text[: first.start()] if opened else ""
    start = first.end() if opened else 0
    if not last[1]:
        return ThinkingSplit(before, text[start:].strip(), None)
    return ThinkingSplit(before, text[start : last.start()].strip(), text[last.end() :])


def parse_perception(text: str) -> Perception:
    """Read a perceiver's text; never raises.

    Returns:
        The outcome, the usable boxes (0–1000, in the order written, at most `MAX_BOXES`), one reason for each
        thing that was left out or mended, and the text.
    """
    before, thinking, after = split_thinking(text)
    visible = f"{before} {after or ''}".strip()
    reader = BoxReader()
    if len(visible) > MAX_CHARS:
        reader.say(f"only the first {MAX_CHARS} of {len(visible)} characters were read")
        visible = visible[:MAX_CHARS]
    if _ESCAPED_JSON.search(visible):
        visible = visible.replace('\\"', '"')
    found = read_loose_json(visible)
    for note in found.notes:
        reader.say(note)
    for root in found.roots:
        reader.visit(root)
    boxes = _place(reader)
    if boxes:
        return Perception("boxes", boxes, reader.reasons, text)
    if reader.empty_lists and not reader.items:
        return Perception("whole", (), reader.reasons, text)
    if not reader.items:
        if after is None:
            reader.say("the thinking never ends")
        elif visible:
            reader.say("no JSON list of boxes")
        else:
            reader.say("nothing after the thinking" if thinking else "the text is empty")
    return Perception("malformed", (), reader.reasons, text)


def _place(reader: BoxReader) -> tuple[Box, ...]:
    written = reader.boxes
    if written and all(0 <= value <= 1 for entry in written for value in entry.corners):
        reader.say("coordinates within 0–1 were read as shares of the picture")
        written = [_scaled(entry) for entry in written]
    boxes: list[Box] = []
    for position, entry in enumerate(written):
        if len(boxes) == MAX_BOXES:
            reader.say(f"{len(written) - position} more boxes after the first {MAX_BOXES}")
            break
        box = _place_one(entry, reader)
        if box is not None:
            boxes.append(box)
    return tuple(boxes)


def _scaled(entry: WrittenBox) -> WrittenBox:
    x0, y0, x1, y1 = (value * 1000 for value in entry.corners)
    return entry._replace(corners=(x0, y0, x1, y1))


def _place_one(entry: WrittenBox, reader: BoxReader) -> Box | None:
    where = f"item {entry.number}"
    x0, y0, x1, y1 = entry.corners
    if x0 > x1 or y0 > y1:
        reader.say(f"{where}: swapped corners were put in order")
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    if x0 == x1 and y0 == y1:
        reader.say(f"{where}: a point, not a box")
        return None
    if x1 <= 0 or y1 <= 0 or x0 >= 1000 or y0 >= 1000:
        reader.say(f"{where}: lies outside 0–1000")
        return None
    if min(x0, y0) < 0 or max(x1, y1) > 1000:
        reader.say(f"{where}: clamped to 0–1000")
    x0, x1 = max(0.0, x0), min(1000.0, x1)
    y0, y1 = max(0.0, y0), min(1000.0, y1)
    if min(x1 - x0, y1 - y0) < MIN_SIDE:
        reader.say(f"{where}: a side below {MIN_SIDE:g} was widened")
    x0, x1 = _widened(x0, x1)
    y0, y1 = _widened(y0, y1)
    return Box(x0, y0, x1, y1, entry.label)


def _widened(start: float, end: float) -> tuple[float, float]:
    if end - start < MIN_SIDE:
        start = min(max(0.0, (start + end - MIN_SIDE) / 2), 1000 - MIN_SIDE)
        end = start + MIN_SIDE
    # Thousandths are finer than a pixel of any picture, and hide the noise of binary fractions.
    return round(start, 3), round(end, 3)
