"""The text of an answer → tokens: numbers in digits, words, signs and LaTeX commands.

Only markup is removed here (emphasis, paired quotes, LaTeX wrappers, invisible characters). A character
without a rule remains as a token, so that the reader refuses it.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from p2r.parsing.number_words import UNITS
from p2r.parsing.thinking import CJK, PLAIN_MARKS, replace_edges

MAX_CHARS = 200
SEVERAL, NONE = "names several numbers", "names no number"  # reasons of `NotOneNumber`


class NotOneNumber(Exception):  # noqa: N818 - it says what the text is
    """The text is not one number; the message says why."""


class Token(NamedTuple):
    """A piece of a text.

    Attributes:
        kind: "number", "word", "command" (LaTeX) or "sign"; "end" behind the last token.
        text: in lower case; a number without thousands separators and with a decimal point.
        raw: as written.
        glued: no space precedes it.
        code_like: a number with a leading zero or an exponent.
    """

    kind: str
    text: str
    raw: str
    glued: bool
    code_like: bool = False

    @property
    def is_pair(self) -> bool:
        """Whether it has a decimal comma, which between brackets separates: `(3,4)` is a point."""
        return self.kind == "number" and "," in self.raw and "." in self.text and "." not in self.raw

    @property
    def is_whole(self) -> bool:
        """Whether it is a number of digits only."""
        return self.kind == "number" and self.text.isdecimal()

    @property
    def value(self) -> Fraction:
        """The value of a number."""
        return Fraction(self.text)


END = Token("end", "", "", glued=False)


class Tokens:
    """A sequence of tokens and a place in it. After the last one comes `END`, any number of times."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.place = 0

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or one behind it."""
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else END

    def take(self) -> Token:
        """The next token; the place is then behind it."""
        token = self.peek()
        self.place += 1
        return token

    def accept(self, *texts: str) -> Token | None:
        """The next token, taken, if it is one of these words or signs, else None."""
        token = self.peek()
        return self.take() if token.kind not in ("number", "end") and token.text in texts else None

    def sign(self) -> int:
        """-1 for a minus at this place, else 1. Takes a plus, too."""
        sign = self.accept("+", "-")
        return -1 if sign and sign.text == "-" else 1


def tokenize(text: str) -> list[Token]:
    """The tokens of a text.

    Raises:
        NotOneNumber: the text is too long, its direction is overridden, a number has misplaced separators, or
            a digit follows a letter.
    """
    # The markup of a long text is not worth the work.
    plain = _plain(text) if len(text) <= 5 * MAX_CHARS else text
    if len(plain) > MAX_CHARS:
        raise NotOneNumber(f"{len(plain)} characters are too many for a number")
    tokens: list[Token] = []
    for match in _TOKEN.finditer(plain):
        kind, raw = match.lastgroup or "", match[0].strip(" ")
        glued = match.start() > 0 and plain[match.start() - 1] not in " \n" and not match[0].startswith(" ")
        if kind != "digits":
            tokens.append(Token(kind, raw.casefold(), raw, glued))
            continue
        if glued and tokens[-1].kind == "word":
            word = tokens[-1]
            if (unit := word.text + raw) in UNITS:
                tokens[-1] = Token("word", unit, unit, word.glued)
                continue
            if not (word.glued and word.text in UNITS):  # "1h30m"
                raise NotOneNumber(f"{(word.raw + raw)[:20]!r} is a code, not a number")
        tokens.append(_number(match, raw, glued=glued))
    return tokens


def _number(match: re.Match[str], raw: str, *, glued: bool) -> Token:
    digits, exponent = match["mantissa"], match["exponent"]
    for form, separators in _DIGITS:
        if form.fullmatch(digits):
            digits = digits.translate(separators)
            break
    else:
        raise NotOneNumber(SEVERAL)
    text = f"{digits}e{exponent}" if exponent else digits
    return Token("number", text, raw, glued, bool(exponent or re.match(r"0\d", digits)))


def _plain(text: str) -> str:
    if _OVERRIDE.search(text):
        raise NotOneNumber("the direction of the text is overridden")
    text = _SUPERSCRIPT.sub(_raised, _BESIDE_FRACTION.sub(" ", _INVISIBLE.sub("", text)))
    text = unicodedata.normalize("NFC", "".join(map(_compatible, text))).translate(_SIGNS)
    lines = (" ".join(line.split()) for line in text.replace("\\\\", "\n").splitlines())
    # Boxes and styles go: `\boxed{\frac{1}{2}} \text{ cm}` is `\frac{1}{2} cm`.
    text = replace_edges(_WRAPPER_EDGE, _gap, "\n".join(line for line in lines if line))
    text = text.replace("{,}", ",").replace("\\!", "").replace("\\%", "%").replace("\\$", "\ue000")
    text = _TEX_SPACE.sub(" ", text)
    for pattern in (_TEX_MATHS, _EMPHASIS, _EMPHASIS, _QUOTED):
        text = pattern.sub(lambda match: f" {match[match.lastindex or 0]} ", text)
    for pattern, plainer in _REWRITTEN:
        text = pattern.sub(plainer, text)
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


def _raised(match: re.Match[str]) -> str:
    return "^{" + unicodedata.normalize("NFKC", match[0]).replace("−", "-") + "}"


def _compatible(char: str) -> str:
    """A character in its plain form, unless that would make a number of its own (①, Ⅻ, ₂)."""
    if char.isascii():
        return char
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", char)
    if unicodedata.decomposition(char).startswith("<fraction>"):
        return plain
    is_number = unicodedata.category(char) in ("No", "Nl") or plain[:1].isdecimal()
    return char if is_number else plain


def _gap(edge: re.Match[str]) -> str:
    """A space in place of a wrapper's edge beside a letter or a digit."""
    text, start, end = edge.string, edge.start(), edge.end()
    return " " if text[start - 1 : start].isalnum() or text[end : end + 1].isalnum() else ""


_OVERRIDE = re.compile("[\u202d\u202e]")
_INVISIBLE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202c\u2060-\u2064\u2066-\u2069\ufe0f\ufeff]")
_SUPERSCRIPT = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_BESIDE_FRACTION = re.compile(r"(?<=[\d¼-¾⅐-⅞])(?=[¼-¾⅐-⅞])|(?<=[¼-¾⅐-⅞])(?=\d)")  # 1½ is not 11/2
_SIGNS = str.maketrans(
    {
        **PLAIN_MARKS,
        **dict.fromkeys("·⋅∙・", "·"),
        **dict.fromkeys("✕✖⨯", "×"),
        **dict.fromkeys("⁄∕", "/"),
        "٪": "%",
        "٫": ".",
        "٬": "'",
        "。": ". ",
        "、": ", ",
        "،": ", ",
        "∗": "*",
    }
)
_WRAPPER_EDGE = re.compile(
    r"\\(?:boxed|fbox|text(?:bf|it|rm|tt|sf)?|math(?:bf|it|rm|tt|sf)|mbox|operatorname)\s?\{|[{}]"
)
_TEX_SPACE = re.compile(
    r"\\[,;:> ]|\\q?quad(?![a-zA-Z])|\\displaystyle(?![a-zA-Z])|\\(?:left|right)(?![a-zA-Z])"
    r"|(?<=[\d}])~(?=[a-zA-Z\\])"
)
_TEX_MATHS = re.compile(r"\${1,2}([^$]*)\${1,2}(?!\d)|\\\((.*?)\\\)|\\\[(.*?)\\\]", re.DOTALL)
_EMPHASIS = re.compile(r"(?<![\w*`])(?:\*{1,3}|_{1,3}|`{1,3})(?=[^\s*_`])([^*_`]*)(?:\*+|_+|`+)(?![\w*`])")
_QUOTED = re.compile(r"(?<!\w)\"([^\"]*)\"(?!\w)|(?<![\w'])'([^']*)'(?!\w)")
_REWRITTEN = (
    (re.compile("\ue000"), "$"),
    (re.compile(rf"(?<=[{CJK}])(?=[\da-zA-Z(\\$€£¥+-])|(?<=\d)(?=[{CJK}])"), " "),
    (re.compile(r" +(?=[.;!](?:\s|$))"), ""),
    (re.compile(r"^#{1,6} ?", re.MULTILINE), ""),
    (re.compile(r"\b[Nn]os?\. ?(?=\d)"), "number "),
    (re.compile(r"\b[Uu][Ss] ?(?=\$)"), ""),
    (re.compile(r"\^ ?\{? ?\\circ ?\}?|\\(?:circ|degree)(?![a-zA-Z])"), "°"),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\times(?![a-zA-Z])|(?<=\d) ?[xX] ?(?=10 ?(?:\^|\*\*))"), "×"),
    (re.compile(r"\\cdot(?![a-zA-Z])"), "·"),
    (re.compile(r"\\div(?![a-zA-Z])"), "÷"),
    (re.compile(r"\\pi(?![a-zA-Z])"), "π"),
    (re.compile(r"\bper cent\b", re.IGNORECASE), "percent"),
    # "5 ft. 3 in.": no end of a sentence.
    (re.compile(r"\b(ft|in|lbs?|oz|hrs?|mins?|secs?|yd|[ckm]?m|k?g)\.(?= ?\d|$)"), r"\1"),
    (re.compile(r"\b(?:minus|negative) (?=[\w.$€£¥])", re.IGNORECASE), "-"),
    # "twenty-one" and "12-inch" are words beside one another; "B-12" is not.
    (re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])|(?<=\d)-(?=[^\W\d_]{2})"), " "),
)
_TOKEN = re.compile(
    r"""(?P<digits>(?P<mantissa>[1-9]\d{0,2}(?:\ \d{3})+(?:[.,]\d+)?(?![.,']?\d)(?!\ ?[/:-]\ ?\d)
            |(?:\d+|(?<![\d.])\.\d+)(?:[.,]\d+|'\d{3}(?!\d))*)
         (?:[eE](?P<exponent>[-+]?\d{1,2})(?!\d))?)
      |(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)
      |(?P<command>\\(?:[a-zA-Z]+|.))
      |(?P<sign>\*\*|[^\ ])""",
    re.VERBOSE | re.DOTALL,
)
# How digits may be written, and what their separators are in a plain number; the first that fits.
_DIGITS = tuple(
    (re.compile(form), str.maketrans(separators))
    for form, separators in (
        (r"[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}(?:\.\d+)?", {",": ""}),  # also Indian: 12,34,567
        (r"\d{1,3}(?:(?: \d{3})+|(?:'\d{3})+)(?:[.,]\d+)?", {" ": "", "'": "", ",": "."}),
        (r"[1-9]\d{0,2}(?:\.\d{3})+,\d+|[1-9]\d{0,2}(?:\.\d{3}){2,}", {".": "", ",": "."}),
        (r"(?:0|[1-9]\d*),\d+", {",": "."}),
        (r"\d+(?:\.\d+)?|\.\d+", {}),
    )
)
