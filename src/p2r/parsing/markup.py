"""Text without the marks that models put around an answer, as in `**B**` and `\\boxed{B}`.

A box is the one mark that carries a meaning, "this is my answer". `mark_boxes` turns every kind of box, also
`<|begin_of_box|>B<|end_of_box|>`, into one pair of signs, `BOX_OPEN` and `BOX_CLOSE`.
"""

from __future__ import annotations

import re
import unicodedata

BOX_OPEN, BOX_CLOSE = "\ue000", "\ue001"
CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # Chinese, Japanese and Korean signs, as a part of a pattern

_TOKEN = re.compile(r"<\|[A-Za-z_]{1,40}\|>|</s>|<end_of_turn>")
_BOX_EDGE = re.compile(
    r"\\(?:boxed|fbox|framebox)\s?\{|<\|(?:begin_of_box|box_start)\|>|<\|(?:end_of_box|box_end)\|>|\\?[{}]"
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
    parts: list[str] = []
    braces: list[bool] = []  # whether each open brace is that of a box
    last = 0
    for edge in _BOX_EDGE.finditer(text):
        sign = edge[0]
        if sign in ("{", "\\{", "\\}"):
            if sign == "{":
                braces.append(False)
            continue
        if sign == "}":
            if not (braces and braces.pop()):
                continue
            mark = BOX_CLOSE
        elif sign.startswith("\\"):
            braces.append(True)
            mark = BOX_OPEN
        else:
            mark = BOX_CLOSE if "end" in sign else BOX_OPEN
        parts += (text[last : edge.start()], mark)
        last = edge.end()
    return "".join((*parts, text[last:]))


def boxed(marked: str) -> list[str]:
    """What the boxes of a text from `mark_boxes` hold, in order, without TeX styles and empty ones."""
    contents = (_without_style(content).strip() for content in _BOX.findall(marked))
    return [content for content in contents if content]


def plain(text: str) -> str:
    """The text in compatibility form, without markup and with its boxes marked.

    `**B**`, `$\\text{B}$` and a full-width B are B. Lines are stripped and separated by one line break. A
    letter next to a Chinese, Japanese or Korean sign, or to TeX mathematics, stands apart.
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
