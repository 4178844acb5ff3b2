"""A reader of almost-JSON: finds lists and objects in a text that a model wrote, whatever surrounds them.

It takes what `json` refuses: prose and fences around the value, several values, text cut off anywhere,
single quotes, bare keys, missing or trailing commas, `=` for a colon, parentheses for brackets, the wrong
closing bracket, NaN and Infinity, integers of any length. It never raises, does not recurse, and its time is
linear.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TypeAlias

MAX_DEPTH = 32  # deeper nesting is skipped


class Word(str):
    """A bare word: neither a quoted text nor a literal of JSON or Python."""

    __slots__ = ()


@dataclass(slots=True)
class LenientList:
    """A list; `closed` is False when the text ended inside it."""

    items: list[Value] = field(default_factory=list)
    closed: bool = False


@dataclass(slots=True)
class LenientObject:
    """An object, as pairs in the order written; a key may come twice."""

    pairs: list[tuple[str, Value]] = field(default_factory=list)
    closed: bool = False


Value: TypeAlias = LenientList | LenientObject | Word | str | float | bool | None


@dataclass(slots=True)
class Found:
    """What a text holds.

    Attributes:
        roots: the outermost lists and objects, in the order written.
        notes: what was skipped or mended on the way, one sentence each.
    """

    roots: list[Root] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Say something once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


@dataclass(slots=True)
class Root:
    """An outermost list or object, and where it is: `text[start:end]`; to the end if it is cut off."""

    node: LenientList | LenientObject
    start: int
    end: int


@dataclass(slots=True)
class _Frame:
    node: LenientList | LenientObject
    ends_with: str
    key: str = ""
    wants_value: bool = False


# Possessive quantifiers wherever two repetitions meet: without them a long run of digits or of unclosed
# quotes is read again from each of its characters.
NUMBER = r"[-+]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d++)?+(?![\w.])"
_TOKEN = re.compile(
    rf"""\s*+(?:
      (?P<string>"(?:[^"\\]++|\\.)*+")
    | (?P<single>(?<!\w)'[^'\\\n]*+')
    | (?P<number>{NUMBER})
    | (?P<special>[-+]?(?:nan|infinity|inf|null|none|true|false)\b)
    | (?P<word>\w++)
    | (?P<open>[\[{{(])
    | (?P<close>[\]}})])
    | (?P<colon>[:=])
    | (?P<comma>,)
    | (?P<cut>")
    | (?P<junk>.)
    )""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_OPENING = re.compile(r"[\[{]")
_BRACKET = re.compile(r"[\[{(\])}]")
_NUMBER_ALONE = re.compile(NUMBER)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ENDS = {"[": "]", "{": "}", "(": ")"}
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_LITERALS: dict[str, float | bool | None] = {
    "nan": math.nan,
    "inf": math.inf,
    "infinity": math.inf,
    "null": None,
    "none": None,
    "true": True,
    "false": False,
}


def read_lenient_json(text: str) -> Found:
    """Find the outermost lists and objects of a text; never raises."""
    found = Found()
    stack: list[_Frame] = []
    position = 0
    while True:
        if not stack:  # prose: go to the next bracket, or to the end
            opening = _OPENING.search(text, position)
            position = opening.start() if opening else len(text)
        token = _TOKEN.match(text, position)
        if token is None:
            break
        position = token.end()
        kind = token.lastgroup or "junk"
        written = token[kind]
        if kind == "cut":  # a quote that never closes: the rest is inside it
            break
        if kind == "open" and len(stack) == MAX_DEPTH:
            found.note(f"nesting deeper than {MAX_DEPTH} was skipped")
            position = _skip_nested(text, position)
        elif kind == "open":
            _open(written, stack, found, token.start(kind), len(text))
        elif kind == "close":
            _close(written, stack, found, position)
        elif kind == "colon":
            stack[-1].wants_value = True
        elif kind == "comma":
            stack[-1].wants_value = False
        elif kind != "junk":
            _add(stack[-1], _scalar(kind, written))
    if stack:
        found.note("the text ends inside a list or an object")
    return found


def read_number(text: str) -> float | None:
    """The number that a whole text is, else None; infinite when it is too large for a float."""
    return float(text) if _NUMBER_ALONE.fullmatch(text) else None


def _skip_nested(text: str, position: int) -> int:
    depth = 1
    for bracket in _BRACKET.finditer(text, position):
        depth += 1 if bracket[0] in "[{(" else -1
        if depth == 0:
            return bracket.end()
    return len(text)


def _open(bracket: str, stack: list[_Frame], found: Found, start: int, length: int) -> None:
    node = LenientObject() if bracket == "{" else LenientList()
    if stack:
        _add(stack[-1], node)
    else:
        found.roots.append(Root(node, start, length))
    stack.append(_Frame(node, _ENDS[bracket]))


def _close(bracket: str, stack: list[_Frame], found: Found, end: int) -> None:
    if all(frame.ends_with != bracket for frame in stack):
        return
    while stack[-1].ends_with != bracket:
        node = stack.pop().node
        # What is empty and has the wrong end is not an empty list on purpose.
        node.closed = bool(node.items if isinstance(node, LenientList) else node.pairs)
        found.note(f"a bracket closed by {bracket!r} was mended")
    stack.pop().node.closed = True
    if not stack:
        found.roots[-1].end = end


def _add(frame: _Frame, value: Value) -> None:
    node = frame.node
    if isinstance(node, LenientList):
        node.items.append(value)
    elif frame.wants_value:
        node.pairs.append((frame.key, value))
        frame.key, frame.wants_value = "", False
    elif isinstance(value, str):
        frame.key = value
    elif isinstance(value, LenientList | LenientObject):
        node.pairs.append(("", value))


def _scalar(kind: str, written: str) -> Value:
    if kind == "number":
        return float(written)  # not int: Python refuses to read integers of more than 4,300 digits
    if kind == "special":
        literal = _LITERALS[written.lstrip("+-").lower()]
        return -literal if isinstance(literal, float) and written.startswith("-") else literal
    if kind == "word":
        return Word(written)
    return _unescape(written[1:-1]) if kind == "string" else written[1:-1]


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPED.get(code, code)

    return _ESCAPE.sub(replace, text) if "\\" in text else text
