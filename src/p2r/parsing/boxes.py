"""Lenient JSON → boxes as a model wrote them: which shapes of lists and objects are boxes, and their labels.

`perception` scales and clamps them. Every item that could have been a box and is not has a reason.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from p2r.parsing.lenient_json import LenientList, LenientObject, Nested, Value, Word, read_number

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_REASONS = 32
MAX_LABEL_CHARS = 200

_BOX_KEYS = {"bbox2d", "bbox", "box", "box2d", "boundingbox", "coordinates", "coords", "rect", "xyxy"}
_LIST_KEYS = {"bboxes", "boxes", "bboxes2d", "boxes2d", "boundingboxes"}
_IMAGE_KEYS = {"image", "imageid", "imageindex", "imagenumber", "img", "imgid", "picture", "page"}
_IMAGE_TEXT = re.compile(r"\D{0,12}?(\d{1,6})", re.ASCII)  # `Image 2`
# Words in a key whose text names the thing, the best first. Compared without a plural's "s".
_NAME_WORDS = (
    *("label", "name", "title", "caption", "phrase", "ref", "reference", "tag", "class", "category"),
    *("object", "entity", "element", "item", "target", "evidence", "description", "text", "content", "type"),
)
_RANKS = {word.rstrip("s"): rank for rank, word in enumerate(_NAME_WORDS)}
# How a word in a key begins whose value is a place, not a name.
_PLACES = ("box", "bbox", "coord", "rect", "region", "position", "location", "corner", "bound", "xyxy")
_CORNER_KEYS = (
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("minx", "miny", "maxx", "maxy"),
    ("left", "top", "right", "bottom"),
)
_SIZE_KEYS = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
_POINT_KEYS = (("topleft", "bottomright"), ("lefttop", "rightbottom"), ("start", "end"), ("min", "max"))
_ALL_POINT_KEYS = {key for keys in _POINT_KEYS for key in keys}
_KEY_NOISE = re.compile(r"[\W_]+")
_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TAG = re.compile(r"<[|｜/]{0,2}+[A-Za-z][^<>]{0,400}+>")
_PUNCTUATION = re.compile(r"[\[\](){}<>,;|\s]+")


class WrittenBox(NamedTuple):
    """Four finite numbers that a model wrote as a box.

    Attributes:
        number: which item of the text it was, from 1; reasons name it.
        corners: four numbers as written: any scale, any order.
        label: cleaned; empty when none was given.
        named: each number was named, so that the corners are `(x0, y0, x1, y1)` in every box format.
        image: the number of its image as written, from 1; None where none was given.
    """

    number: int
    corners: tuple[float, float, float, float]
    label: str
    named: bool = False
    image: float | None = None


class BoxCollector:
    """Collects written boxes, and a reason for each item that is none.

    Its recursion is bounded by the depth that lenient JSON allows.

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
        self._image: float | None = None  # of what is being visited

    def say(self, reason: str) -> None:
        """Add a reason."""
        self._reasons.append(reason)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The first `MAX_REASONS` reasons, and the number of the others."""
        more = len(self._reasons) - MAX_REASONS
        return (*self._reasons[:MAX_REASONS], *([f"and {more} more"] if more > 0 else []))

    def refuse(self, reason: str) -> None:
        """Count an item that is no box, and say why."""
        self.items += 1
        self.say(f"item {self.items}: {reason}")

    def accept(
        self, values: Sequence[Value], label: str, *, closed: bool = True, named: bool = False
    ) -> None:
        """Take values as a box if they are four finite numbers, else refuse them.

        Args:
            values: numbers, or texts that are numbers.
            label: cleaned.
            closed: the list did not end with the text; its last number may be cut off otherwise.
            named: as in `WrittenBox`.
        """
        if not closed:
            self.refuse("cut off within its coordinates")
            return
        corners: list[float] = []
        for value in values:
            number = as_number(value)
            if number is None or not math.isfinite(number):
                self.refuse(f"{_show(value)} is not a {'number' if number is None else 'finite number'}")
                return
            corners.append(number)
        if len(corners) != 4:
            self.refuse(f"a box has 4 numbers, not {len(corners)}")
            return
        self.items += 1
        x0, y0, x1, y1 = corners
        self.boxes.append(WrittenBox(self.items, (x0, y0, x1, y1), label, named, self._image))

    def accept_named(self, pairs: Sequence[tuple[str, Value]], label: str) -> bool:
        """Take numbers with names such as x1 and y1 as a box; False if these are no names of corners."""
        corners = _named_corners({_key(key): value for key, value in pairs})
        if corners:
            self.accept(corners, label, named=True)
        return bool(corners)

    def visit(self, value: Nested, label: str = "") -> None:
        """Read every box in a list or an object; `label` is for boxes that have none of their own."""
        if isinstance(value, LenientObject):
            self._visit_object(value, label)
        elif any(isinstance(item, Nested) for item in value.items):
            self._visit_nested(value, label)
        elif value.items:
            self._visit_scalars(value, label)
        elif value.closed:
            self.empty_lists += 1

    def _visit_scalars(self, node: LenientList, label: str) -> None:
        if any(isinstance(item, Word) for item in node.items):
            if any(isinstance(item, float) for item in node.items):
                self.say("words in brackets are no box")
            return
        texts = [item for item in node.items if isinstance(item, str) and as_number(item) is None]
        if len(texts) == len(node.items):
            written = [numbers for numbers in map(box_numbers, texts) if _is_box(numbers)]
            for numbers in written:  # ["100, 200, 300, 400"]
                self.accept(numbers, label)
            if not written:
                self.refuse(f"{_show(texts[0])} is no box")
        elif len(texts) == 1:  # [x0, y0, x1, y1, "label"]
            values = [item for item in node.items if item is not texts[0]]
            self.accept(values, clean_label(texts[0]), closed=node.closed)
        else:
            self.accept(node.items, label, closed=node.closed)

    def _visit_nested(self, node: LenientList, label: str) -> None:
        if points := two_points(node.items):
            self.accept(points, label, closed=node.closed)
            return
        nested = [item for item in node.items if isinstance(item, Nested)]
        scalars = [item for item in node.items if not isinstance(item, Nested | Word)]
        if len(nested) == 1 and len(scalars) == 1 and isinstance(scalars[0], str):
            label = clean_label(scalars[0])  # [[x0, y0, x1, y1], "label"]
        else:
            for item in scalars:
                self.refuse(f"{_show(item)} is no box")
        for part in nested:
            if _is_empty_list(part):
                self.refuse("an empty list is no box")
            else:
                self.visit(part, label)

    def _visit_object(self, node: LenientObject, label: str) -> None:
        # What is inside an object with the number of an image is in that image.
        outer = self._image
        named = (_image_number(value) for name, value in node.items if _key(name) in _IMAGE_KEYS)
        self._image = next((number for number in named if number is not None), outer)
        self._visit_entries(node, label)
        self._image = outer

    def _visit_entries(self, node: LenientObject, label: str) -> None:
        entries = [_Entry.read(name, value) for name, value in node.items]
        boxes = [entry for entry in entries if entry.is_box]
        corners = _named_corners({entry.key: entry.value for entry in entries})
        labels = self._labels(entries, alone=bool(corners) or len(boxes) == 1) or [label]
        if corners:
            self.accept(corners, labels[0], named=True)
        if len(boxes) == 1 and (parallel := _parallel(boxes[0].value, labels)):
            boxes = [boxes[0]._replace(value=part) for part in parallel]
        for position, box in enumerate(boxes):
            # Two boxes in one object (a forgotten brace) have a label each; otherwise they share one.
            self._visit_box_value(box, labels[position if len(labels) == len(boxes) else 0])
        others = [entry for entry in entries if not (entry.is_box or entry.is_label)]
        parts = [(entry, entry.value) for entry in others if isinstance(entry.value, Nested)]
        parts = [(entry, value) for entry, value in parts if not (corners and entry.key in _ALL_POINT_KEYS)]
        for entry, value in parts:
            own = labels[0]
            if not (own or entry.is_place) and isinstance(value, LenientList) and _is_box(value.items):
                own = clean_label(entry.name)  # {"bus": [x0, y0, x1, y1]}
            self.visit(value, own)
        if entries and not (corners or boxes or parts):
            self.refuse("an object without a box" if node.closed else "an object cut off before its box")

    def _visit_box_value(self, box: _Entry, label: str) -> None:
        value = box.value
        if _is_empty_list(value) and box.key in _BOX_KEYS:
            self.refuse("a box without coordinates")
        elif isinstance(value, Nested):
            self.visit(value, label)
        elif isinstance(value, str):  # "100, 200, 300, 400"
            self.accept(box_numbers(value[:MAX_LABEL_CHARS]), label)
        else:
            self.refuse(f"{_show(value)} is no box")

    def _labels(self, entries: list[_Entry], *, alone: bool) -> list[str]:
        """The labels in an object: the texts under the key that looks most like a name.

        If no key does, and the object is `alone` in holding a box, its only text is the label.
        """
        ranked = [entry for entry in entries if entry.rank is not None]
        named = [entry for entry in ranked if any(text.strip() for text in entry.texts)]
        if not named:
            for entry in ranked:
                # `label` itself is never anything else; other keys may also hold numbers, lists or objects.
                if not entry.texts and (entry.key == "label" or not isinstance(entry.value, Nested)):
                    self.say(f"the label {_show(entry.value)} is not a text")
                    break
            others = [text for entry in entries if not entry.is_place for text in entry.texts]
            others = [text for text in others if as_number(text) is None]
            return [self._label(others[0])] if alone and len(others) == 1 else []
        best = min(named, key=lambda entry: entry.rank or 0).key
        chosen = [entry for entry in ranked if entry.key == best]
        if len(chosen) == 1:
            return [self._label(text) for text in chosen[0].texts]
        labels = []
        for entry in chosen:  # one key several times: a label for each of several boxes
            if not entry.texts:
                self.say(f"the label {_show(entry.value)} is not a text")
            labels.append(self._label(entry.texts[0] if entry.texts else ""))
        return labels

    def _label(self, text: str) -> str:
        if len(text) > MAX_LABEL_CHARS:
            self.say(f"a label was cut to {MAX_LABEL_CHARS} characters")
        return clean_label(text)


class _Entry(NamedTuple):
    """An entry of an object.

    Attributes:
        name: the key as written.
        key: the key without case and punctuation.
        value: as read.
        texts: the value if it is a text, or a list of nothing but texts; else empty.
        is_box: the key names a box, or a list of boxes.
        is_place: the key says that the value is a place.
        rank: how well the key names a thing, 0 for best; None when it does not.
    """

    name: str
    key: str
    value: Value
    texts: list[str]
    is_box: bool
    is_place: bool
    rank: int | None

    @classmethod
    def read(cls, name: str, value: Value) -> _Entry:
        key = _key(name)
        values = value.items if isinstance(value, LenientList) else [value]
        texts = [one for one in values if isinstance(one, str) and not isinstance(one, Word)]
        words = _WORD.findall(_CAMEL.sub(" ", name[:MAX_LABEL_CHARS]).casefold())
        is_box = key in _BOX_KEYS or key in _LIST_KEYS
        is_place = is_box or any(word.startswith(_PLACES) for word in words)
        ranks = [] if is_place else [_RANKS[one] for word in words if (one := word.rstrip("s")) in _RANKS]
        texts = texts if len(texts) == len(values) else []
        return cls(name, key, value, texts, is_box, is_place, min(ranks, default=None))

    @property
    def is_label(self) -> bool:
        return self.key == "label" or (self.rank is not None and bool(self.texts))


def as_number(value: Value) -> float | None:
    """The number that a value is or says; None for anything else."""
    if isinstance(value, float):
        return value
    return read_number(value.strip()) if isinstance(value, str) and not isinstance(value, Word) else None


def box_numbers(text: str) -> Sequence[Value]:
    """The words of a text that says one box or more, without tags, brackets and commas."""
    return _PUNCTUATION.sub(" ", _TAG.sub(" ", text)).split()


def clean_label(label: str) -> str:
    """A label on one line, at most `MAX_LABEL_CHARS` long."""
    # Lone surrogates cannot be written to a file, and unprintable characters not to a terminal.
    text = label[:MAX_LABEL_CHARS].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def two_points(items: Sequence[Value]) -> list[Value]:
    """The four values of `[[x0, y0], [x1, y1]]`; empty for anything else."""
    points = [item.items for item in items if isinstance(item, LenientList) and len(item.items) == 2]
    values = [value for point in points for value in point]
    return values if len(items) == len(points) == 2 and _is_box(values) else []


def _key(name: str) -> str:
    return _KEY_NOISE.sub("", name[:MAX_LABEL_CHARS]).casefold()


def _image_number(value: Value) -> float | None:
    """The number of an image, written as 2, "2" or "Image 2"."""
    if isinstance(value, float):
        return value
    written = _IMAGE_TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(written[1]) if written else None


def _is_box(values: Sequence[Value]) -> bool:
    return len(values) == 4 and all(as_number(value) is not None for value in values)


def _is_empty_list(value: Value) -> bool:
    return isinstance(value, LenientList) and value.closed and not value.items


def _parallel(value: Value, labels: list[str]) -> list[Value]:
    """The boxes of {"bboxes": [[…], […]], "labels": ["…", "…"]}, else nothing."""
    if not isinstance(value, LenientList) or len(labels) < 2 or len(value.items) != len(labels):
        return []
    return value.items if all(isinstance(part, Nested) for part in value.items) else []


def _named_corners(values: dict[str, Value]) -> list[Value]:
    """`[x0, y0, x1, y1]` of an object whose keys say which number is which, else nothing."""
    for keys in _CORNER_KEYS:
        if all(key in values for key in keys):
            return [values[key] for key in keys]
    for keys in _SIZE_KEYS:
        if all(key in values for key in keys):
            x, y, width, height = (as_number(values[key]) for key in keys)
            if x is None or y is None or width is None or height is None:
                return [values[key] for key in keys]  # `accept` names the one that is no number
            return [x, y, x + width, y + height]
    for first, last in _POINT_KEYS:
        if first in values and last in values:
            return [*_named_point(values[first]), *_named_point(values[last])]
    return []


def _named_point(value: Value) -> list[Value]:
    """The values of {"x": …, "y": …}, or of the pair [x, y]."""
    if isinstance(value, LenientObject):
        named = {_key(key): part for key, part in value.items}
        return [named["x"], named["y"]] if "x" in named and "y" in named else []
    return value.items if isinstance(value, LenientList) else []


def _show(value: Value) -> str:
    if isinstance(value, Nested):
        return "a list" if isinstance(value, LenientList) else "an object"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f"{value:g}" if isinstance(value, float) else repr(clean_label(value))
    return text if len(text) <= 40 else text[:39] + "…"
