"""Markup in a model's text: its thinking, special tokens, and what surrounds an answer as in `**B**`.

A box is the one mark around an answer that has a meaning, "this is my answer". `mark_boxes` replaces every
kind of box, such as `\\boxed{B}` and `<|begin_of_box|>B<|end_of_box|>`, by one pair of characters.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

THINK_TAG = re.compile(r"<(/?)think\s{0,8}>", re.IGNORECASE)
BOX_OPEN, BOX_CLOSE = "\ue000", "\ue001"
# Quotation marks and dashes → their plain forms.
PLAIN_MARKS = {
    **dict.fromkeys("‘’‛′´", "'"),
    **dict.fromkeys("“”„″«»", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
}
CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # Chinese, Japanese and Korean, as a part of a pattern


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
    before, start = ("", 0) if first[1] else (text[: first.start()], first.end())
    if not last[1]:
        return ThinkingSplit(before, text[start:].strip(), None)
    return ThinkingSplit(before, text[start : last.start()].strip(), text[last.end() :])


_TOKEN = re.compile(r"<\|[A-Za-z_]{1,40}\|>|</s>|<end_of_turn>")
_BOX_EDGE = re.compile(
    r"\\(?:boxed|fbox|framebox)\s?\{|<\|(?:begin_of_box|box_start)\|>|<\|(?:end_of_box|box_end)\|>|(?<!\\)[{}]"
)
_BOX = re.compile(rf"{BOX_OPEN}([^{BOX_OPEN}{BOX_CLOSE}]*){BOX_CLOSE}")
_TEX_STYLE = re.compile(
    r"\\(?:text(?:bf|it|rm|tt|sf)?|math(?:bf|it|rm|tt|sf)|mbox|operatorname|underline|emph)\s?"
    r"\{([^{}]{0,1000})\}"
)
_TEX_MATHS = re.compile(
    r"\${1,2}([^$]{1,200})\${1,2}(?!\d)|\\\((.{0,200}?)\\\)|\\\[(.{0,200}?)\\\]"
)  # "$5 or $6" is money
_LETTER_BEFORE_MATHS = re.compile(r"(?<![\w\\$])([A-Z])(?=\\\(|\$[^$])")
_PAIRED_TAG = re.compile(r"<(\w{2,20}|[a-z])>([^<>]{0,1000})</\1>")  # <b>B</b>, <final>B</final>
_HEADING = re.compile(r"^#{1,6} ", re.MULTILINE)
_SCRIPT_CHANGE = re.compile(rf"(?<=[{CJK}])(?=[A-Za-z])|(?<=[A-Za-z])(?=[{CJK}])")
_PLAIN_SIGNS = str.maketrans(
    {
        **dict.fromkeys("*`✅✔☑\ufe0f\u200b\u200c\u200d\u200e\u200f\ufeff\u00ad\ufffc"),
        **dict.fromkeys("‘’", "'"),
        **dict.fromkeys("“”„«»「」『』《》【】", '"'),
        "−": "-",
        "。": ". ",
        "、": ", ",
        "।": ". ",
        "،": ", ",
    }
)


def without_tokens(text: str) -> str:
    """The text without special tokens that are no box: `B<|im_end|>` is `B`."""
    return _TOKEN.sub(lambda token: token[0] if "box" in token[0] else "", text)


def mark_boxes(text: str) -> str:
    """The text with `BOX_OPEN` and `BOX_CLOSE` in place of every box, `\\boxed{…}` or native tokens."""
    text = text.replace(BOX_OPEN, " ").replace(BOX_CLOSE, " ")
    return replace_edges(
        _BOX_EDGE, lambda edge: BOX_CLOSE if edge[0] == "}" or "end" in edge[0] else BOX_OPEN, text
    )


def replace_edges(edges: re.Pattern[str], replacement: Callable[[re.Match[str]], str], text: str) -> str:
    """Replace the edges of TeX commands such as `\\boxed{…}`, and leave all other braces.

    Args:
        edges: matches the openings of the commands with their brace, all braces, and other signs to replace.
        replacement: what replaces an edge.
        text: the braces within a command may hold other braces.
    """
    commands: list[bool] = []  # for each open brace, whether it belongs to a command

    def replace(edge: re.Match[str]) -> str:
        sign = edge[0]
        if sign.endswith("{"):
            commands.append(sign != "{")
        if sign == "{" or (sign == "}" and not (commands and commands.pop())):
            return sign
        return replacement(edge)

    return edges.sub(replace, text)


def boxed(marked: str) -> list[str]:
    """What the boxes of a text from `mark_boxes` hold, in order, without TeX styles and empty ones."""
    contents = (_without_style(content).strip() for content in _BOX.findall(marked))
    return [content for content in contents if content]


def plain(text: str) -> str:
    """The text in compatibility form, without markup and with its boxes marked.

    `**B**`, `$\\text{B}$` and a full-width B are B. Lines are stripped and separated by one line break. A
    space separates a letter from Chinese, Japanese or Korean, and from TeX mathematics.
    """
    text = mark_boxes(without_tokens(unicodedata.normalize("NFKC", text)))
    text = _PAIRED_TAG.sub(r"\2", _LETTER_BEFORE_MATHS.sub(r"\1 ", text.translate(_PLAIN_SIGNS)))
    text = _TEX_MATHS.sub(lambda maths: maths[1] or maths[2] or maths[3] or "", _without_style(text))
    lines = (" ".join(line.split()) for line in text.splitlines())
    text = "\n".join(line for line in lines if line)
    return _SCRIPT_CHANGE.sub(" ", _HEADING.sub("", text))


def _without_style(text: str) -> str:
    for _ in range(3):  # as deep as they are nested in practice
        text = _TEX_STYLE.sub(r"\1", text)
    return text
