"""Boxes in the text around JSON: the tags of grounding models, pairs of points, tuples and named numbers.

| written, for example | by |
| --- | --- |
| `<|object_ref_start|>bus<|object_ref_end|><|box_start|>(1,2),(30,40)<|box_end|>` | Qwen2-VL |
| `bus(1,2),(30,40)` | the same from a server, which leaves out special tokens |
| `<ref>bus</ref><box>(1,2),(30,40)</box>`, `<box>1 2 30 40</box>` | Qwen-VL, MiniCPM-V |
| `<ref>bus</ref><box>[[1,2,30,40]]</box>` | InternVL |
| `<|ref|>bus<|/ref|><|det|>[[1,2,30,40]]<|/det|>` | DeepSeek-VL2 |
| `<|box_start|><1><2><30><40><|box_end|>`, `<bbox>1 2 30 40</bbox>` | Rex-Omni, Seed |
| `(1, 2, 30, 40)`; `x1=1, y1=2, x2=30, y2=40`; `bbox: 1, 2, 30, 40` | any |

Other numbers in the text are no boxes. Points and location tokens (`<loc0123>`) are refused with a reason.
Nothing raises, and the time is linear.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from p2r.parsing.boxes import MAX_LABEL_CHARS, as_number, box_numbers, clean_label
from p2r.parsing.lenient_json import NUMBER

if TYPE_CHECKING:
    from p2r.parsing.boxes import BoxCollector

_BOX_TAGS = {"det", "rect", "rectangle", "region"}  # and every name with "box" in it
_LABEL_TAGS = {"phrase", "label", "name", "object"}  # and every name with "ref" in it

_GAP = r"(?:[ \t]*+[,;][ \t]*+|[ \t]++)"
_POINT = rf"\([ \t]*+{NUMBER}{_GAP}{NUMBER}[ \t]*+\)"
_BETWEEN = r"(?:[ \t]*+(?:[,;–—-]|to\b)[ \t]*+|[ \t]++)"
_NAMED = rf"""["'*]{{0,2}}[A-Za-z]\w{{0,9}}+["'*]{{0,2}}\s*+[:=]\s*+["']?{NUMBER}["']?"""
_NAMED_FOUR = rf"(?<!\w){_NAMED}(?:[\s,;*•-]{{1,12}}+{_NAMED}){{3}}"
_TOKEN = re.compile(
    rf"""
      (?P<tag><[|｜/]{{0,2}}+(?P<name>[A-Za-z]\w{{0,31}}+)(?P<rest>[^<>]{{0,400}}+)>)
    | (?P<points>{_POINT}(?:{_BETWEEN}{_POINT})*+)
    | (?P<four>\([ \t]*+{NUMBER}(?:{_GAP}{NUMBER}){{3}}[ \t]*+\))
    | (?P<keyed>\b\w{{0,9}}(?i:box(?:_?2d|es)?)["'*]{{0,2}}\s*+[:=]\s*+(?P<list>{NUMBER}(?:{_GAP}{NUMBER})++))
    | (?P<named>{_NAMED_FOUR})
    """,
    re.VERBOSE,
)
_NUMBERED = re.compile(rf"""([A-Za-z]\w{{0,9}}+)["'*]{{0,2}}\s*+[:=]\s*+["']?({NUMBER})""")
_POINT_ALONE = re.compile(rf"\([ \t]*+({NUMBER}){_GAP}({NUMBER})[ \t]*+\)")
_LOCATION = re.compile(r"(?:loc|bin|patch_index)_?\d+")
_BULLET = re.compile(r"^[\W\d_]+(?=[^\W\d_])")


class MarkupReader:
    """Reads the text before, between and after the JSON of a reply.

    Args:
        boxes: takes the boxes, and reasons.

    Attributes:
        label: of the last label tag, for boxes that have none of their own; JSON that follows included.
    """

    def __init__(self, boxes: BoxCollector) -> None:
        self.label = ""
        self._boxes = boxes
        self._refused: set[str] = set()

    def read(self, text: str) -> None:
        """Read every box in a text without JSON."""
        box_from: int | None = None  # where the content of an open tag begins
        label_from: int | None = None
        last = 0
        for token in _TOKEN.finditer(text):
            if token["tag"]:
                if label_from is not None:
                    self.label = clean_label(text[label_from : token.start()]) or self.label
                    label_from = None
                kind = _tag_kind(token)
                if kind in ("box", "end of box"):
                    if box_from is not None:
                        self._read_content(text[box_from : token.start()], closed=kind == "end of box")
                    opens = kind == "box" and not self._read_attributes(token["rest"])
                    box_from = token.end() if opens else None
                elif kind == "label":
                    label_from = token.end()
                elif kind and kind not in self._refused:
                    self._refused.add(kind)
                    self._boxes.refuse(kind)
            elif box_from is None:
                label = _touching(text, last, token.start()) or self.label
                if token["named"]:
                    self._read_named(token["named"], label)
                elif token["points"]:
                    self._read_points(token["points"], label)
                else:
                    self._boxes.accept(box_numbers(token["list"] or token[0]), label)
            last = token.end()
        if box_from is not None:
            self._read_content(text[box_from:], closed=False)

    def _read_attributes(self, text: str) -> bool:
        return bool(re.search(_NAMED_FOUR, text)) and self._read_named(text, self.label)

    def _read_named(self, text: str, label: str) -> bool:
        """Read `x1=1, y1=2, x2=30, y2=40`; returns whether the names are those of a box."""
        return self._boxes.accept_named(_NUMBERED.findall(text), label)

    def _read_points(self, text: str, label: str) -> None:
        points = list(_POINT_ALONE.finditer(text))
        gaps = [text[one.end() : other.start()].strip() for one, other in pairwise(points)]
        if len(points) == 1:
            self._boxes.say("a point is not a box")
        elif len(points) % 2 == 0 and not set(gaps[::2]) & set(gaps[1::2]):
            # What separates the boxes of a row is not what separates their corners.
            for first, second in zip(points[::2], points[1::2], strict=True):
                self._boxes.accept([*first.groups(), *second.groups()], label)
        else:
            self._boxes.refuse(f"{len(points)} points are not a box")

    def _read_content(self, text: str, *, closed: bool) -> None:
        """Read what a box tag encloses; `closed` is False where the end tag is missing."""
        values = box_numbers(text)
        if not closed or any(as_number(value) is None for value in values):
            items = self._boxes.items
            self.read(text)  # it holds no box tag: no deeper recursion
            if self._boxes.items == items and any(char.isdigit() for char in text):
                self._boxes.refuse("cut off within its coordinates" if not closed else "words are no box")
        elif not values or len(values) % 4:
            self._boxes.refuse(
                f"a box has 4 numbers, not {len(values)}" if values else "a box without coordinates"
            )
        else:
            for start in range(0, len(values), 4):
                self._boxes.accept(values[start : start + 4], self.label)


def _tag_kind(token: re.Match[str]) -> str:
    """`box`, `end of box`, `label`, empty for any other tag, or why what the tag says is refused."""
    name = token["name"].lower()
    closes = "/" in token[0][:3] or "end" in name.split("_")
    if "box" in name or name in _BOX_TAGS:
        return "end of box" if closes else "box"
    if closes:
        return ""
    if "ref" in name or name in _LABEL_TAGS:
        return "label"
    if name in ("point", "points"):
        return "a point is not a box"
    is_location = _LOCATION.fullmatch(name)
    return "location tokens (<loc…>) are not read: ask the model for JSON" if is_location else ""


def _touching(text: str, start: int, end: int) -> str:
    """The words directly before `end` on its line: a label whose special tokens were left out."""
    start = max(start, text.rfind("\n", start, end) + 1, end - MAX_LABEL_CHARS)
    words = text[start:end]
    if words != words.rstrip() or not any(char.isalnum() for char in words):
        return ""
    return clean_label(_BULLET.sub("", words))
