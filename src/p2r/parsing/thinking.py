"""Where the thinking of a reply begins and ends."""

from __future__ import annotations

import re
from typing import NamedTuple

THINK_TAG = re.compile(r"<(/?)think\s{0,8}>", re.IGNORECASE)


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
    tags = list(THINK_TAG.finditer(text))
    if not tags:
        return ThinkingSplit("", "", text)
    first, last = tags[0], tags[-1]
    opened = not first[1]
    before = text[: first.start()] if opened else ""
    start = first.end() if opened else 0
    if not last[1]:
        return ThinkingSplit(before, text[start:].strip(), None)
    return ThinkingSplit(before, text[start : last.start()].strip(), text[last.end() :])
