"""A reader of almost-JSON: finds lists and objects anywhere in a model's text.

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
    """A list; `closed` is False when the text ended inside it. An outermost one is `text[start:end]`."""

    start: int
    end: int
    items: list[Value] = field(default_factory=list)
    closed: bool = False


@dataclass(slots=True)
class LenientObject:
    """An object as pairs of key and value in the order written, with repeated keys; else as `LenientList`."""

    start: int
    end: int
    items: list[tuple[str, Value]] = field(default_factory=list)
    closed: bool = False


Nested = LenientList | LenientObject
Value: TypeAlias = Nested | Word | str | float | bool | None


@dataclass(slots=True)
class _Frame:
    """A list or object that is being read, and the key whose value follows."""

    node: Nested
    ends_with: str
    key: str = ""
    wants_value: bool = False

    def add(self, value: Value) -> None:
        if isinstance(self.node, LenientList):
            self.node.items.append(value)
        elif self.wants_value:
            self.node.items.append((self.key, value))
            self.key, self.wants_value = "", False
        elif isinstance(value, str):
            self.key = value
        elif isinstance(value, Nested):
            self.node.items.append(("", value))


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


def read_lenient_json(text: str) -> tuple[list[Nested], list[str]]:
    """Find the outermost lists and objects of a text; never raises.

    Returns:
        The lists and objects, in the order written, and a sentence for each kind of thing that was skipped
        or repaired.
    """
    roots: list[Nested] = []
    notes: list[str] = []
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
            notes.append(f"nesting deeper than {MAX_DEPTH} was skipped")
            position = _skip_nested(text, position)
        elif kind == "open":
            node = (LenientObject if written == "{" else LenientList)(token.start(kind), len(text))
            if stack:
                stack[-1].add(node)
            else:
                roots.append(node)
            stack.append(_Frame(node, _ENDS[written]))
        elif kind == "close":
            notes += _close(written, stack, position)
        elif kind in ("colon", "comma"):
            stack[-1].wants_value = kind == "colon"
        elif kind != "junk":
            stack[-1].add(_scalar(kind, written))
    if stack:
        notes.append("the text ends inside a list or an object")
    return roots, list(dict.fromkeys(notes))


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


def _close(bracket: str, stack: list[_Frame], position: int) -> list[str]:
    """Close the innermost list or object that this bracket ends, and what is inside it; returns notes."""
    if all(frame.ends_with != bracket for frame in stack):
        return []
    notes = []
    while stack[-1].ends_with != bracket:
        node = stack.pop().node
        node.closed = bool(node.items)  # what is empty and has the wrong end is not an empty list on purpose
        notes.append(f"a bracket closed by {bracket!r} was repaired")
    node = stack.pop().node
    node.closed, node.end = True, position
    return notes


def _scalar(kind: str, written: str) -> Value:
    if kind == "number":
        return float(written)  # not int: Python refuses to read integers of more than 4,300 digits
    if kind == "special":
        literal = _LITERALS[written.lstrip("+-").lower()]
        return -literal if isinstance(literal, float) and written.startswith("-") else literal
    if kind == "word":
        return Word(written)
    text = written[1:-1]
    return _ESCAPE.sub(_unescape, text) if kind == "string" and "\\" in text else text


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPED.get(code, code)
