"""A text → one quantity, and when two quantities are the same. The rules are in docs/scoring.md.

Exact (fractions, never floats), and safe for hostile texts: lengths and exponents are bounded, so nothing
here is slow. What is not one plain quantity is left to expression.py.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from p2r.scoring.text import PLAIN_SIGNS
from p2r.scoring.units import NUMBER_WORDS, ORDINALS, PERCENT, SCALES, UNITS

MAX_CHARS = 200
TOLERANCE = Fraction(1, 10**6)


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number and what is written around it.

    Attributes:
        value: exact; `50%` has the value 50.
        percent: a percent sign or word follows.
        unit: a key of `UNITS`; empty when none is known.
        words: what else is written, without filler.
        code_like: written as codes are (a leading zero, an exponent, "A 12"): no number among free texts.
    """

    value: Fraction
    percent: bool = False
    unit: str = ""
    words: tuple[str, ...] = ()
    code_like: bool = False

    def __str__(self) -> str:
        whole = self.value.denominator == 1
        number = str(self.value.numerator) if whole else f"{float(self.value):.6g}"
        return number + ("%" if self.percent else f" {self.unit}" if self.unit else "")


def read_quantity(text: str) -> Quantity | str:
    """The one quantity that a text names, or why there is none; after an equals sign, only the result."""
    plain = _plain(text) if len(text) <= MAX_CHARS else text
    if len(plain) > MAX_CHARS:
        return f"{len(plain)} characters are too many for a number"
    if "\\" in plain or "^" in _POWER_OF_TEN.sub("", plain):
        return "not a plain number"
    if "=" in plain:
        plain = plain.rpartition("=")[2]
    if not any(char.isdecimal() for char in plain):
        plain = _WORD_NUMBER.sub(lambda match: str(NUMBER_WORDS[match[0].replace(" ", "-")]), plain)
    if qualified := _QUALIFIED.search(plain):
        return f"qualified by {qualified[0]!r}"
    if _CLOCK.search(plain):
        return "a time of day"
    found = []
    for match in _NUMBER.finditer(plain):
        quantity = _quantity(plain, match)
        if isinstance(quantity, str):
            return quantity
        found.append(quantity)
    if not found:
        return "names no number"
    first = found[0]
    if any((other.value, other.percent) != (first.value, first.percent) for other in found):
        return "names several numbers"
    return first


def same_quantity(gold: Quantity, given: Quantity, *, strict: bool = False) -> bool:
    """Whether two quantities are the same.

    Args:
        strict: for free-form answers, where "12 red" is not "12 blue": codes are not numbers, and at most one
            word may stand on one side only.
    """
    if strict:
        if gold.code_like or given.code_like:
            return False
        extra = gold.words + given.words
        if gold.words != given.words and ((gold.words and given.words) or len(extra) > 1):
            return False
    left, right = gold.value, given.value
    if gold.unit and given.unit:
        (dimension, factor), (other, other_factor) = UNITS[gold.unit], UNITS[given.unit]
        if dimension != other:
            return False
        left, right = left * factor, right * other_factor
    if close(left, right):
        return True
    # A percentage stands beside a plain number: 50% is 0.5.
    if gold.percent and not given.percent:
        return close(left / 100, right)
    return bool(given.percent and not gold.percent and close(left, right / 100))


def close(left: Fraction, right: Fraction) -> bool:
    """Whether two values are the same within a millionth, of one and of the larger value."""
    size = max(abs(left), abs(right))
    return abs(left - right) <= TOLERANCE * min(Fraction(1), size)


def _plain(text: str) -> str:
    # Compatibility form would read 1½ as 11/2 and 10³ as 103.
    text = _SUPERSCRIPT.sub(lambda match: "^" + unicodedata.normalize("NFKC", match[0]), text)
    text = unicodedata.normalize("NFKC", _VULGAR.sub(r" \g<0>", text)).replace("⁄", "/")
    text = " ".join(text.translate(_SIGNS).casefold().split())
    text = _TEX_MATHS.sub(r"\1", text)
    text = _TEX_WRAPPER.sub(r" \1 ", _TEX_WRAPPER.sub(r" \1 ", text))
    text = text.replace("\\%", "%").replace("\\$", "$").replace("\\,", "").replace("{,}", ",")
    text = re.sub(r"\b(?:minus|negative) (?=\w)", "-", text.replace("per cent", "percent"))
    return " ".join(text.split())


def _quantity(text: str, match: re.Match[str]) -> Quantity | str:
    value = _value(match)
    if isinstance(value, str):
        return value
    if match["sign"] == "-":
        value = -value
    after = text[match.end() :]
    follows = _FOLLOWING.match(after)
    attached = _ATTACHED.match(after)
    word = follows[1] if follows else ""
    if word in SCALES and (word != "k" or attached):
        value, after = value * SCALES[word], after[len(follows[0]) :] if follows else after
        follows, attached = _FOLLOWING.match(after), None
        word = follows[1] if follows else ""
    known = word in UNITS or word in PERCENT
    if attached and not known and word not in ORDINALS and word != "x":
        return f"{match[0].strip()}{attached[0]} is a code, not a number"
    if follows and (known or (attached and word)):
        after = after[len(follows[0]) :]
    currency = (match["currency"] or "").strip()
    around = f"{text[: match.start()]} {after}"
    words = tuple(word for word in _WORD.findall(_NUMBER.sub(" ", around)) if not _FILLER.fullmatch(word))
    unit = word if word in UNITS else currency
    exponent = match["exponent"] or match["power"]
    letter = _LONE_LETTER.search(text[: match.start()])
    code_like = bool(exponent or letter or re.match(r"0\d", match["digits"] or ""))
    return Quantity(value, word in PERCENT, unit, words, code_like)


def _value(match: re.Match[str]) -> Fraction | str:
    if match["over"]:
        below = int(match["under"])
        if below == 0:
            return "divides by zero"
        return int(match["whole"] or 0) + Fraction(int(match["over"]), below)
    digits = match["digits"]
    if _ENGLISH.fullmatch(digits):
        digits = digits.replace(",", "")
    elif _SPACED.fullmatch(digits):
        digits = digits.replace(" ", "").replace("'", "").replace(",", ".")
    elif _CONTINENTAL.fullmatch(digits):
        digits = digits.replace(".", "").replace(",", ".")
    elif not _PLAIN_DIGITS.fullmatch(digits):
        return "names several numbers"
    power = int(match["exponent"] or match["power"] or 0)
    return Fraction(digits) * Fraction(10) ** power


_SIGNS = {**PLAIN_SIGNS, ord("*"): "*", ord("×"): "x", ord("·"): "x", ord("≈"): "="}
_SUPERSCRIPT = re.compile(r"(?<=\d)[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_VULGAR = re.compile(r"(?<=\d)[¼½¾⅐-⅞]")
_TEX_MATHS = re.compile(r"\$([^$]*)\$(?!\d)")  # but "$5 or $6" is money
_TEX_WRAPPER = re.compile(r"\\(?:boxed|text|mathrm|mathbf)\{([^{}]*)\}")
_POWER_OF_TEN = re.compile(r" ?[x*] ?10\^\{?[-+]?\d{1,2}\}?(?!\d)")
_ENGLISH = re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d+)?")  # also Indian: 12,34,567
_SPACED = re.compile(r"\d{1,3}(?:(?: \d{3})+|(?:'\d{3})+)(?:[.,]\d+)?")
_CONTINENTAL = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}|\d+,\d+")
_PLAIN_DIGITS = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_NUMBER = re.compile(
    r"""(?<![\w.])(?<![^\W\d_]-)
    (?:(?<![\d)])(?P<sign>[-+])\ ?)?+
    (?P<currency>[$€£¥]\ ?)?+
    (?:(?:(?P<whole>\d{1,30})\ )?(?P<over>\d{1,30})\ ?/\ ?(?P<under>\d{1,30})(?![\d/.])
      |(?P<digits>\d++(?:[.,'\ ]\d++)*+|\.\d++)
       (?:e(?P<exponent>[-+]?\d{1,2})(?!\w)|\ ?[x*]\ ?10\^\{?(?P<power>[-+]?\d{1,2})\}?)?
    )""",
    re.VERBOSE,
)
_ATTACHED = re.compile(r"[^\W\d_]+|[^\W\d_]*\d")
_FOLLOWING = re.compile(r" ?(m/s|km/h|k?m2|°[cf]?|%|[$€£¥]|[^\W\d_]+)")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_WORD_NUMBER = re.compile(
    r"\b(?:" + "|".join(sorted(NUMBER_WORDS, key=len, reverse=True)).replace("-", "[- ]") + r")\b"
)
_LONE_LETTER = re.compile(r"\b[a-z] ?$")
_CLOCK = re.compile(r"\d:\d")
_QUALIFIED = re.compile(
    r"\b(?:not|never|neither|nor|cannot|can't|isn't|aren't|except|between|at least|at most"
    r"|(?:more|less|fewer|greater|other) than|or (?:more|less|fewer))\b"
)
_FILLER = re.compile(r"the|an?|is|are|was|were|there|its?|i|so|of|in|on|total|final|answer|number")
