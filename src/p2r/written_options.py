"""Options that stand in the text of a question, as people and benchmarks write them.

Which colour is the glove?        Which colour is the glove? (A) red (B) blue
A. red
B. blue
Answer with the option's letter from the given choices directly.

The server and the readers of benchmarks read them here, so that a harness which asks the server and
`p2r eval` ask one question in one way.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from p2r.types import LETTERS

if TYPE_CHECKING:
    from collections.abc import Iterable

# "A. text", "(A) text", "A) text", "A: text" at the start of a line.
_AT_LINE_START = re.compile(r"^[ \t]*(?:\(([A-Z])\)|([A-Z])[.):])[ \t]*", re.MULTILINE)
# "… (A) text (B) text" within a line.
_IN_A_LINE = re.compile(r"(?<!\S)\(([A-Z])\)\s*")
# How to answer is said by the prompts.
_HOW_TO_ANSWER = re.compile(
    r"\b(?:please\s+)?(?:answer|respond|reply)\s+(?:directly\s+)?with\s+(?:only\s+)?the\s+"
    r"(?:option'?s?\s+)?letters?\b",
    re.IGNORECASE,
)


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Split a text into the question and its options, A, B, … in order; `()` where it has none.

    One option to a line, or all marked `(A)` within a line. An option reaches to the next one. A last line
    that says to answer with a letter is left out either way. The question is empty where the text begins with
    the options.
    """
    text = without_instruction(text)
    for marks in (_AT_LINE_START, _IN_A_LINE):
        run = _in_order(marks.finditer(text))
        if len(run) >= 2:
            ends = [mark.start() for mark in run[1:]] + [len(text)]
            options = (text[mark.end() : end] for mark, end in zip(run, ends, strict=True))
            return text[: run[0].start()].strip(), tuple(" ".join(option.split()) for option in options)
    return text, ()


def without_instruction(text: str) -> str:
    """The text without last lines that say to answer with a letter, stripped.

    There may be several: some harnesses add theirs to the benchmark's.
    """
    text = text.strip()
    while found := _HOW_TO_ANSWER.search(text, text.rfind("\n") + 1):
        text = text[: found.start()].strip()
    return text


def without_mark(option: str) -> str:
    """One option without its letter, stripped: `(A) red` and `A. red` are `red`."""
    option = option.strip()
    mark = _AT_LINE_START.match(option)
    return option[mark.end() :] if mark else option


def _in_order(marks: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    run: list[re.Match[str]] = []
    for mark in marks:
        if len(run) < len(LETTERS) and mark[mark.lastindex or 1] == LETTERS[len(run)]:
            run.append(mark)
    return run
