"""Loose JSON → boxes as a model wrote them: which shapes of lists and objects are boxes, and their labels.

Nothing is scaled or clamped here; parse.py does that. Every item that could have been a box and is not gets a
reason.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from p2r.loose_json import LooseList, LooseObject, Value, Word, read_number

MAX_REASONS = 32
MAX_LABEL_CHARS = 200

_BOX_KEYS = {"bbox2d", "bbox", "box", "box2d", "boundingbox", "coordinates", "coords", "rect", "xyxy"}
_LIST_KEYS = {"bboxes", "boxes", "bboxes2d", "boxes2d", "boundingboxes"}
_LABEL_KEYS = ("label", "name", "description", "object", "text", "class", "category")
_CORNER_KEYS = (
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
)
_SIZE_KEYS = (("x", "y", "width", "height"), ("x", "y", "w", "h"))
_KEY_NOISE = re.compile(r"[\W_]+")


class WrittenBox(NamedTuple):
    """Four finite numbers that a model wrote as a box.

    Attributes:
        number: which item of the text it was, from 1; reasons name it.
        corners: `(x0, y0, x1, y1)` as written: any scale, any order.
        label: cleaned; empty when none was given.
    """

    number: int
    corners: tuple[float, float, float, float]
    label: str


class BoxReader:
    """Collects written boxes, and a reason for each item that is none.

    Its recursion is bounded by the depth that loose JSON allows.

    Attributes:
        items: how many items looked like a box, good or bad.
        empty_lists: how many lists were empty on purpose.
        boxes: the good ones, in the order written.
    """

    def __init__(self) -> None:
        self.items = 0
        self.empty_lists = 0
        self.boxes: list[WrittenBox] = []
        self._reasons: list[str] = []
        self._unsaid = 0

    def say(self, reason: str) -> None:
        """Add a reason; after `MAX_REASONS` they are only counted."""
        if len(self._reasons) < MAX_REASONS:
            self._reasons.append(reason)
        else:
            self._unsaid += 1

    @property
    def reasons(self) -> tuple[str, ...]:
        """All reasons so far."""
        more = (f"and {self._unsaid} more",) if self._unsaid else ()
        return (*self._reasons, *more)

    def visit(self, value: LooseList | LooseObject, label: str = "") -> None:
        """Read every box in a list or an object; `label` is for boxes that have none of their own."""
        if isinstance(value, LooseObject):
            self._visit_object(value, label)
            return
        nested = [item for item in value.items if isinstance(item, LooseList | LooseObject)]
        if nested:
            self._visit_nested(value, nested, label)
        elif value.items:
            self._visit_scalars(value, label)
        elif value.closed:
            self.empty_lists += 1

    def _visit_scalars(self, node: LooseList, label: str) -> None:
        if any(isinstance(item, Word) for item in node.items):
            if any(isinstance(item, float) for item in node.items):
                self.say("words in brackets are no box")
            return
        texts = [item for item in node.items if isinstance(item, str) and _as_number(item) is None]
        if len(texts) == len(node.items):
            self._refuse(f"{_show(texts[0])} is no box")
        elif len(texts) == 1:  # [x0, y0, x1, y1, "label"]
            self._accept([item for item in node.items if item is not texts[0]], _clean(texts[0]), node.closed)
        else:
            self._accept(node.items, label, node.closed)

    def _visit_nested(self, node: LooseList, nested: list[LooseList | LooseObject], label: str) -> None:
        points = _two_points(node.items)
        if points:
            self._accept(points, label, node.closed)
            return
        scalars = [item for item in node.items if not isinstance(item, LooseList | LooseObject | Word)]
        if len(nested) == 1 and len(scalars) == 1 and isinstance(scalars[0], str):
            label = _clean(scalars[0])  # [[x0, y0, x1, y1], "label"]
        else:
            for item in scalars:
                self._refuse(f"{_show(item)} is no box")
        for part in nested:
            if isinstance(part, LooseList) and part.closed and not part.items:
                self._refuse("an empty list is no box")
            else:
                self.visit(part, label)

    def _visit_object(self, node: LooseObject, label: str) -> None:
        pairs = [(_key(key), value) for key, value in node.pairs]
        boxes = [(key, value) for key, value in pairs if key in _BOX_KEYS | _LIST_KEYS]
        parts = [
            value
            for key, value in pairs
            if isinstance(value, LooseList | LooseObject)
            and key not in _BOX_KEYS | _LIST_KEYS
            and key not in _LABEL_KEYS
        ]
        corners = _named_corners(dict(pairs))
        labels = self._labels(pairs) or [label]
        if corners:
            self._accept(corners, labels[0], closed=True)
        for position, (key, value) in enumerate(boxes):
            # Two boxes in one object (a forgotten brace) have a label each; otherwise they share one.
            own = labels[position if len(labels) == len(boxes) else 0]
            self._visit_box_value(key, value, own)
        for part in parts:
            self.visit(part, labels[0])
        if pairs and not (corners or boxes or parts):
            self._refuse("an object without a box" if node.closed else "an object cut off before its box")

    def _visit_box_value(self, key: str, value: Value, label: str) -> None:
        if isinstance(value, LooseList) and value.closed and not value.items and key in _BOX_KEYS:
            self._refuse("a box without coordinates")
        elif isinstance(value, LooseList | LooseObject):
            self.visit(value, label)
        elif isinstance(value, str):  # "100, 200, 300, 400"
            parts: list[Value] = []
            parts += value[:MAX_LABEL_CHARS].strip("[](){} \t\r\n").replace(",", " ").split()
            self._accept(parts, label, closed=True)
        else:
            self._refuse(f"{_show(value)} is no box")

    def _labels(self, pairs: list[tuple[str, Value]]) -> list[str]:
        written = [value for key, value in pairs if key == "label"]
        written = written or [value for key, value in pairs if key in _LABEL_KEYS][:1]
        labels = []
        for value in written:
            if not isinstance(value, str) or isinstance(value, Word):
                self.say(f"the label {_show(value)} is not a text")
                value = ""
            elif len(value) > MAX_LABEL_CHARS:
                self.say(f"a label was cut to {MAX_LABEL_CHARS} characters")
            labels.append(_clean(value))
        return labels

    def _refuse(self, reason: str) -> None:
        self.items += 1
        self.say(f"item {self.items}: {reason}")

    def _accept(self, values: list[Value], label: str, closed: bool) -> None:
        if not closed:
            self._refuse("cut off within its coordinates")
            return
        corners: list[float] = []
        for value in values:
            number = _as_number(value)
            if number is None or not math.isfinite(number):
                self._refuse(f"{_show(value)} is not a {'number' if number is None else 'finite number'}")
                return
            corners.append(number)
        if len(corners) != 4:
            self._refuse(f"a box has 4 numbers, not {len(corners)}")
            return
        self.items += 1
        x0, y0, x1, y1 = corners
        self.boxes.append(WrittenBox(self.items, (x0, y0, x1, y1), label))


def _key(key: str) -> str:
    return _KEY_NOISE.sub("", key[:MAX_LABEL_CHARS]).casefold()


def _as_number(value: Value) -> float | None:
    if isinstance(value, float):
        return value
    return read_number(value.strip()) if isinstance(value, str) and not isinstance(value, Word) else None


def _two_points(items: list[Value]) -> list[Value]:
    # [[x0, y0], [x1, y1]] as four values, else nothing.
    if len(items) != 2:
        return []
    values: list[Value] = []
    for item in items:
        if not isinstance(item, LooseList) or len(item.items) != 2:
            return []
        values += item.items
    return values if all(_as_number(value) is not None for value in values) else []


def _named_corners(values: dict[str, Value]) -> list[Value]:
    for keys in _CORNER_KEYS:
        if all(key in values for key in keys):
            return [values[key] for key in keys]
    for keys in _SIZE_KEYS:
        if all(key in values for key in keys):
            x, y, width, height = (_as_number(values[key]) for key in keys)
            if x is None or y is None or width is None or height is None:
                return [values[key] for key in keys]  # `_accept` names the one that is no number
            return [x, y, x + width, y + height]
    return []


def _clean(label: str) -> str:
    # Lone surrogates cannot be written to a file, and unprintable characters not to a terminal.
    text = label[:MAX_LABEL_CHARS].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _show(value: Value) -> str:
    if isinstance(value, LooseList):
        return "a list"
    if isinstance(value, LooseObject):
        return "an object"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else repr(_clean(value))
    return text if len(text) <= 40 else text[:39] + "…"
