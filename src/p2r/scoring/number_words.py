"""Numbers in words: "one hundred and one", "three and a half", "two thirds", "2.5 million", "12k"."""

from __future__ import annotations

from fractions import Fraction

from p2r.scoring.tokens import NotOneNumber, Tokens
from p2r.scoring.units import DIGITS, FRACTIONS, PERCENT, SCALES, TEENS, TENS, UNITS

_SMALL = {*DIGITS, *TEENS, *TENS}
_COUNTS = {"a": 1, "an": 1, **DIGITS, **TEENS}
_NONE, _SEVERAL = "names no number", "names several numbers"


def read_number_words(tokens: Tokens) -> Fraction | None:
    """The number in words, or in digits with a scale, at this place; None for digits alone and for signs.

    Raises:
        NotOneNumber: there are other words, or parts that do not fall, as in "two thousand three thousand".
    """
    token, after = tokens.peek(), tokens.peek(1)
    if token.kind == "number" and not (after.text in SCALES or (after.glued and after.text == "k")):
        return None
    if token.kind not in ("number", "word") or token.text in ("sqrt", "pi"):
        return None
    fraction = _fraction(tokens)
    if fraction is not None:
        return fraction
    total, last = Fraction(0), 0
    while True:
        group, scale = _group(tokens), _scale(tokens)
        if last and scale >= last:
            raise NotOneNumber(_SEVERAL)
        total, last = total + group * scale, scale
        if scale == 1 or not _goes_on(tokens):
            break
    place = tokens.place
    part = _fraction(tokens) if tokens.accept("and") else None
    if part is None:
        tokens.place = place
        return total
    return (total + part) * (_scale(tokens) if last == 1 else 1)  # "two and a half million"


def _scale(tokens: Tokens) -> int:
    scale = 1
    while tokens.peek().text in SCALES:
        scale *= SCALES[tokens.take().text]
    return scale


def _goes_on(tokens: Tokens) -> bool:
    """Whether a smaller part follows, as in "two thousand (and) five" and "1 million 200 thousand"."""
    joined = tokens.peek().text == "and"
    following, after = tokens.peek(joined), tokens.peek(joined + 1)
    if following.text not in _SMALL and (joined or following.kind != "number" or after.text not in SCALES):
        return False
    tokens.place += joined
    return True


def _group(tokens: Tokens) -> Fraction:
    """Digits before a scale, or words below ten thousand ("twelve hundred"), with decimals."""
    token = tokens.peek()
    if token.kind == "number":
        tokens.take()
        return token.value * (1000 if tokens.accept("k") else 1)
    if tokens.accept("a", "an"):
        return Fraction(_hundreds(tokens, 1))
    if token.text in SCALES:  # "thousand" without its article
        return Fraction(_hundreds(tokens, 1))
    value = _below_hundred(tokens)
    if value is None and token.text != "point":
        raise NotOneNumber(_NONE)
    if not tokens.accept("point"):
        return Fraction(_hundreds(tokens, value or 0))
    digits = ""
    while tokens.peek().text in DIGITS:
        digits += str(DIGITS[tokens.take().text])
    if not digits:
        raise NotOneNumber(_NONE)
    return Fraction(f"{value or 0}.{digits}")


def _hundreds(tokens: Tokens, value: int) -> int:
    """The value itself, or so many hundreds and what is added to them."""
    if not tokens.accept("hundred"):
        return value
    if tokens.peek().text == "and" and tokens.peek(1).text in _SMALL:
        tokens.take()
    total = 100 * value + (_below_hundred(tokens) or 0)
    if tokens.peek().text == "hundred":
        raise NotOneNumber(_SEVERAL)
    return total


def _below_hundred(tokens: Tokens) -> int | None:
    word = tokens.peek().text
    if word not in _SMALL:
        return None
    tokens.take()
    if word not in TENS:
        return DIGITS.get(word, TEENS.get(word))
    one = DIGITS.get(tokens.peek().text, 0)
    tokens.place += bool(one)
    return TENS[word] + one


def _fraction(tokens: Tokens) -> Fraction | None:
    """A fraction in words at this place: "half", "a quarter", "two thirds", "half a million"."""
    token, after = tokens.peek(), tokens.peek(1)
    if tokens.accept("half"):
        if tokens.accept("a", "an") and tokens.peek().text not in {*SCALES, *UNITS}:
            raise NotOneNumber(_NONE)
        return Fraction(_scale(tokens), 2)
    if token.text not in _COUNTS or after.text not in FRACTIONS:
        return None
    tokens.place += 2
    following = tokens.peek()
    ends = {"of", "is", "are", "in", "on", *SCALES, *PERCENT, *UNITS}
    if FRACTIONS[after.text] > 2 and following.kind == "word" and following.text not in ends:
        raise NotOneNumber("an ordinal, not a fraction")  # "a third car"
    return Fraction(_COUNTS[token.text], FRACTIONS[after.text])
