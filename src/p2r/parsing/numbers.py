"""A text → one quantity, and when two quantities are the same. The rules are in docs/scoring.md.

The whole text must be understood: a number (in digits, in words or as an expression), its unit, and words
that do not change it (`number_words`). Anything else makes the text "not one number". Values are exact
(fractions, never floats), and lengths, nesting and exponents are bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise

from p2r.parsing.expressions import STARTS, Expression, read_number_words
from p2r.parsing.number_tokens import END, NONE, SEVERAL, NotOneNumber, Token, Tokens, tokenize
from p2r.parsing.number_words import (
    CURRENCIES,
    FRACTIONS,
    LOWER_CASE,
    NUMBER_WORDS,
    ORDINALS,
    PERCENT,
    SCALES,
    UNIT_PHRASES,
    UNITS,
    content_words,
    may_follow,
    may_name,
    may_precede,
)

TOLERANCE = Fraction(1, 10**6)
_RESTATES = {"yes", "so", "thus", "therefore", "hence", "then"}


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number and what is written around it.

    Attributes:
        value: exact; `50%` has the value 50.
        percent: a percent sign or word follows.
        unit: a key of `UNITS`; empty when none is known.
        words: what else is written, without filler.
        code_like: written as codes are (a leading zero, an exponent) or as an expression: no number among
            free texts.
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
    """The one quantity that a text names, or why there is none; of an equation, the result."""
    try:
        return _read(tokenize(text))
    except NotOneNumber as reason:
        return str(reason)


def same_quantity(gold: Quantity, given: Quantity, *, strict: bool = False) -> bool:
    """Whether two quantities are the same.

    Args:
        strict: for free-form answers, where "12 red" is not "12 blue": codes are not numbers, and at most one
            word may be on one side only.
    """
    if strict:
        if gold.code_like or given.code_like:
            return False
        words = gold.words + given.words
        if gold.words != given.words and ((gold.words and given.words) or len(words) > 1):
            return False
    left, right = gold.value, given.value
    if gold.unit and given.unit:
        (dimension, size), (other, other_size) = UNITS[gold.unit], UNITS[given.unit]
        if dimension != other:
            return False
        left, right = left * size, right * other_size
    if _close(left, right):
        return True
    # A percentage compared with a plain number: 50% is 0.5.
    if gold.percent and not given.percent:
        return _close(left / 100, right)
    return given.percent and not gold.percent and _close(left, right / 100)


def _close(left: Fraction, right: Fraction) -> bool:
    """Whether two values are the same within a millionth, of one and of the larger value."""
    return abs(left - right) <= TOLERANCE * min(Fraction(1), max(abs(left), abs(right)))


# A text is one statement, or several that say the same.


def _read(tokens: list[Token]) -> Quantity:
    found: Quantity | None = None
    bare = 0
    for statement in _statements(tokens):
        if may_precede([token.raw for token in statement]):  # "Yes." "Answer:"
            continue
        quantity, is_bare = _statement(statement)
        bare += is_bare
        # "13 13" and "13\n13" are lists.
        if found and (bare > 1 or not same_quantity(found, quantity)):
            raise NotOneNumber(SEVERAL)
        found = found or quantity
    if found is None:
        raise NotOneNumber(NONE)
    return found


def _statements(tokens: list[Token]) -> list[list[Token]]:
    """The sentences and lines, and what is said again: "12 cars, yes 12"."""
    statements: list[list[Token]] = [[]]
    for token, after in pairwise([*tokens, END]):
        current = statements[-1]
        stops = token.text in (".", ";", "!") and token.glued and not after.glued
        if stops and token.text == "!" and current and current[-1].kind == "number":
            raise NotOneNumber("a factorial or an exclamation")
        restates = current and token.text == "," and after.text in _RESTATES
        if stops or restates or (token.text == "\n" and not (current and current[-1].text == ":")):
            statements.append([])
        elif token.text != "\n":
            current.append(token)
    return [statement for statement in statements if statement]


def _statement(statement: list[Token]) -> tuple[Quantity, bool]:
    """The quantity of one statement or equation, and whether nothing is written around it."""
    sides: list[list[Token]] = [[]]
    for token in statement:
        if token.text == "=":
            sides.append([])
        else:
            sides[-1].append(token)
    named = len(sides) > 1 and may_name([token.raw for token in sides[0]])
    is_equation = len(sides) > 1 + named
    *others, result = [_Side(side, is_equation=is_equation) for side in sides[named:]]
    if not all(same_quantity(side.quantity, result.quantity) for side in others):
        raise NotOneNumber("the sides of the equation differ")
    return result.quantity, result.bare and not (named or is_equation)


class _Side(Tokens):
    """One side of an equation, or a whole statement.

    Attributes:
        quantity: what it names.
        bare: nothing is written around it.
        in_digits: the number has digits.
    """

    def __init__(self, tokens: list[Token], *, is_equation: bool) -> None:
        super().__init__(_without_brackets(tokens))
        before: list[str] = []
        while not self._starts_number():
            token = self.take()
            if token.kind == "end":
                raise NotOneNumber(NONE)
            before.append(token.raw)
        if not may_precede(before):
            raise NotOneNumber(f"{' '.join(before)[-40:]!r} before a number")
        start = self.peek()
        if before and start.text in "+-" and (start.glued or not self.peek(1).glued):
            raise NotOneNumber(f"{start.raw!r} between a word and a number")
        quantity = self._sum_of_units(is_equation=is_equation)
        self.in_digits = any(token.kind == "number" for token in self.tokens[: self.place])
        behind = self._behind(quantity)
        self.bare = not before and not behind
        self.quantity = replace(quantity, words=content_words([*before, *behind]))

    def _starts_number(self) -> bool:
        token, after = self.peek(), self.peek(1)
        if token.text in ("a", "an"):
            return after.text in SCALES or after.text in FRACTIONS
        known = token.text in STARTS or token.text in CURRENCIES or token.text in NUMBER_WORDS
        return known or token.kind == "number" or token.text in ("half", "point")

    # The number and its units.

    def _sum_of_units(self, *, is_equation: bool) -> Quantity:
        """One quantity, or several of falling units: "1 hour 30 minutes" is 90 minutes."""
        total = self._quantity(is_equation=is_equation)
        while total.unit:
            place = self.place
            self.accept("and")
            if self.peek().kind != "number" and self.peek().text not in NUMBER_WORDS:
                self.place = place
                break
            part = self._quantity(is_equation=False, after=total.unit)
            if not part.unit:
                raise NotOneNumber(SEVERAL)
            (dimension, size), (other, other_size) = UNITS[total.unit], UNITS[part.unit]
            if dimension != other or part.value * other_size >= size or total.value < 0:
                raise NotOneNumber(SEVERAL)
            total = replace(part, value=total.value * size / other_size + part.value)
        return total

    def _quantity(self, *, is_equation: bool, after: str = "") -> Quantity:
        sign = self.accept("-", "+")
        currency = self.accept(*CURRENCIES)
        sign = sign or self.accept("-", "+")  # $-5
        code_like, plain = False, True
        value = read_number_words(self)
        if value is None:
            if sign and not currency:  # the sign of the first term
                self.place -= 1
                sign = None
            read = Expression(self)
            if read.range_like and not is_equation:
                raise NotOneNumber("a range, a date or a difference")
            value, plain, code_like = read.value, read.plain, read.code_like
        if currency and not plain:
            raise NotOneNumber(SEVERAL)
        if sign and sign.text == "-":
            value = -value
        if not plain and self.peek().glued:  # "-34 + 12x"
            raise NotOneNumber(f"{self.peek().raw!r} behind an expression")
        percent = bool(self.accept(*PERCENT))
        unit = "" if percent else self._unit(after)
        if currency and unit and UNITS[unit][0] != UNITS[currency.text][0]:
            raise NotOneNumber(SEVERAL)
        if ((unit or percent) and not plain) or (currency and percent):
            raise NotOneNumber("an expression with a unit")
        if currency and not unit:
            unit = currency.text
        return Quantity(value, percent, unit, code_like=code_like or not plain)

    def _unit(self, after: str) -> str:
        """The unit at this place, or an empty text. Takes ordinals and the x of "2x", too."""
        token = self.peek()
        if token.glued and token.text in (*ORDINALS, "x") and not self.peek(1).glued:
            self.take()
            return ""
        if token.text in "'\"" and token.glued and token.kind == "sign":
            self.take()
            return "ft" if token.text == "'" else "in"
        if after in ("h", "hr", "hrs", "hour", "hours") and token.raw == "m":
            self.take()
            return "min"
        for length in (3, 2):
            phrase = " ".join(self.peek(ahead).text for ahead in range(length))
            if phrase in UNIT_PHRASES:
                self.place += length
                return UNIT_PHRASES[phrase]
        known = token.text in UNITS and (token.text not in LOWER_CASE or token.raw == token.text)
        if token.text == "in":  # "12 in the image"
            known = self.peek(1).kind in ("end", "number") or self.peek(1).text == "("
        if not known:
            if token.glued and token.kind == "word":
                raise NotOneNumber(f"{token.raw[:20]!r} behind a number is a code")
            return ""
        self.take()
        if self.peek().text in ("per", "/"):
            raise NotOneNumber("a rate whose unit is not known")
        if not self.accept("^"):
            return token.text
        power = "".join(self.take().text for _ in range(3 if self.peek().text == "{" else 1))
        if (unit := token.text + power.strip("{}")) not in UNITS:
            raise NotOneNumber("a power of a unit")
        return unit

    # What follows.

    def _behind(self, quantity: Quantity) -> list[str]:
        words = self._words()
        if self.peek().text == "(" and not self.peek().glued:
            words += self._in_brackets(quantity)
            if self.peek().glued:
                raise NotOneNumber(f"{self.peek().raw[:20]!r} behind a number")
            words += self._words()
        following = self.peek()
        if following.kind == "number" or following.text in (*NUMBER_WORDS, ",", ":", "/"):
            raise NotOneNumber(SEVERAL)
        if following.kind != "end":
            raise NotOneNumber(f"{following.raw!r} behind a number")
        if not may_follow(words):
            raise NotOneNumber(f"{' '.join(words)[:40]!r} behind a number")
        return words

    def _words(self) -> list[str]:
        words: list[str] = []
        while self.peek().kind == "word" and self.peek().text not in NUMBER_WORDS:
            words.append(self.take().raw)
        return words

    def _in_brackets(self, quantity: Quantity) -> list[str]:
        """Behind a number, brackets hold what is counted, or the number in another form: "thirteen (13)"."""
        start = self.place + 1
        while (token := self.take()).text != ")":
            if token.kind == "end":
                raise NotOneNumber("an open bracket")
        tokens = self.tokens[start : self.place - 1]
        words = [token.raw for token in tokens]
        if all(token.kind == "word" for token in tokens) and may_follow(words):
            return words
        other = _Side(tokens, is_equation=False)
        other_form = other.in_digits != self.in_digits or other.quantity.unit != quantity.unit
        if not other_form or not same_quantity(quantity, other.quantity):
            raise NotOneNumber(SEVERAL)
        return []


def _without_brackets(tokens: list[Token]) -> list[Token]:
    """What brackets around all of it hold: `(13)`, `[13 cm]`."""
    while len(tokens) > 2 and tokens[0].text + tokens[-1].text in ("()", "[]"):
        depths = list(accumulate((token.text in "([") - (token.text in ")]") for token in tokens))
        if 0 in depths[:-1]:
            break
        if any(token.is_pair for token in tokens):
            raise NotOneNumber(SEVERAL)
        tokens = tokens[1:-1]
    return tokens
