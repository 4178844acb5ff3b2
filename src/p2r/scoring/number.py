"""A text → one quantity, and when two quantities are the same. The rules are in docs/scoring.md.

The whole text must be understood: a number (in digits, in words or as an expression), its unit, and words
that leave it as it is (`phrases`). Anything else makes the text "not one number". Exact (fractions, never
floats), and safe for hostile texts: lengths, nesting and exponents are bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate

from p2r.scoring import expression
from p2r.scoring.number_words import read_number_words
from p2r.scoring.phrases import content_words, may_name, may_stand_before, may_stand_behind
from p2r.scoring.tokens import NotOneNumber, Token, Tokens, tokenize
from p2r.scoring.units import (
    CURRENCIES,
    FRACTIONS,
    LOWER_CASE,
    NUMBER_WORDS,
    ORDINALS,
    PERCENT,
    SCALES,
    UNIT_PHRASES,
    UNITS,
)

TOLERANCE = Fraction(1, 10**6)
_SEVERAL = "names several numbers"
_NONE = "names no number"
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
        return _text(tokenize(text))
    except NotOneNumber as reason:
        return str(reason)


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


# A text is one statement, or several that say the same.


def _text(tokens: list[Token]) -> Quantity:
    found: Quantity | None = None
    bare = 0
    for statement in _statements(tokens):
        if may_stand_before([token.raw for token in statement]):  # "Yes." "Answer:"
            continue
        quantity, is_bare = _statement(statement)
        bare += is_bare
        # "13 13" and "13\n13" are lists.
        if found and (bare > 1 or not same_quantity(found, quantity)):
            raise NotOneNumber(_SEVERAL)
        found = found or quantity
    if found is None:
        raise NotOneNumber(_NONE)
    return found


def _statements(tokens: list[Token]) -> list[list[Token]]:
    """The sentences and lines, and what is said again: "12 cars, yes 12"."""
    statements: list[list[Token]] = [[]]
    for place, token in enumerate(tokens):
        after = tokens[place + 1] if place + 1 < len(tokens) else None
        if token.text == "\n":
            if statements[-1] and statements[-1][-1].text != ":":
                statements.append([])
        elif token.text in (".", ";", "!") and token.glued and not (after and after.glued):
            if token.text == "!" and tokens[place - 1].kind == "number":
                raise NotOneNumber("a factorial or an exclamation")
            statements.append([])
        elif token.text == "," and after and after.text in _RESTATES and statements[-1]:
            statements.append([])
        else:
            statements[-1].append(token)
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
    if named:
        sides = sides[1:]
    is_equation = len(sides) > 1
    read = [_Side(side, is_equation=is_equation) for side in sides]
    for side in read[:-1]:
        if not same_quantity(side.quantity, read[-1].quantity):
            raise NotOneNumber("the sides of the equation differ")
    return read[-1].quantity, read[-1].bare and not (named or is_equation)


class _Side:
    """One side of an equation, or a whole statement.

    Attributes:
        quantity: what it names.
        bare: nothing is written around it.
    """

    def __init__(self, tokens: list[Token], *, is_equation: bool) -> None:
        self._tokens = Tokens(_without_brackets(tokens))
        before: list[str] = []
        while not self._starts_number():
            token = self._tokens.take()
            if token.kind == "end":
                raise NotOneNumber(_NONE)
            before.append(token.raw)
        if not may_stand_before(before):
            raise NotOneNumber(f"{' '.join(before)[-40:]!r} before a number")
        start = self._tokens.peek()
        if before and start.text in "+-" and (start.glued or not self._tokens.peek(1).glued):
            raise NotOneNumber(f"{start.raw!r} between a word and a number")
        quantity = self._sum_of_units(is_equation=is_equation)
        self._in_digits = any(token.kind == "number" for token in self._tokens.tokens[: self._tokens.place])
        behind = self._behind(quantity)
        self.bare = not before and not behind
        self.quantity = replace(quantity, words=content_words([*before, *behind]))

    def _starts_number(self) -> bool:
        token, after = self._tokens.peek(), self._tokens.peek(1)
        if token.kind == "number" or token.text in expression.STARTS or token.text in CURRENCIES:
            return True
        if token.text in ("a", "an"):
            return after.text in SCALES or after.text in FRACTIONS
        return token.text in NUMBER_WORDS or token.text in ("half", "point")

    # The number and its units.

    def _sum_of_units(self, *, is_equation: bool) -> Quantity:
        """One quantity, or several of falling units: "1 hour 30 minutes" is 90 minutes."""
        total = self._quantity(is_equation=is_equation)
        while total.unit:
            place = self._tokens.place
            self._tokens.accept("and")
            if self._tokens.peek().kind != "number" and self._tokens.peek().text not in NUMBER_WORDS:
                self._tokens.place = place
                break
            part = self._quantity(is_equation=False, after=total.unit)
            if not part.unit:
                raise NotOneNumber(_SEVERAL)
            (dimension, factor), (other, other_factor) = UNITS[total.unit], UNITS[part.unit]
            whole = total.value * factor / other_factor
            if dimension != other or part.value * other_factor >= factor or total.value < 0:
                raise NotOneNumber(_SEVERAL)
            total = replace(part, value=whole + part.value)
        return total

    def _quantity(self, *, is_equation: bool, after: str = "") -> Quantity:
        tokens = self._tokens
        sign = tokens.accept("-", "+")
        currency = tokens.accept(*CURRENCIES)
        sign = sign or tokens.accept("-", "+")  # $-5
        code_like, plain = False, True
        number = read_number_words(tokens)
        if number is None:
            if sign and not currency:  # the sign of the first term
                tokens.place -= 1
            read = expression.Expression(tokens)
            if read.range_like and not is_equation:
                raise NotOneNumber("a range, a date or a difference")
            number, plain, code_like = read.value, read.plain, read.code_like
            sign = sign if currency else None
        if currency and not plain:
            raise NotOneNumber(_SEVERAL)
        number = -number if sign and sign.text == "-" else number
        if not plain and tokens.peek().glued:  # "-34 + 12x"
            raise NotOneNumber(f"{tokens.peek().raw!r} behind an expression")
        percent = bool(tokens.accept(*PERCENT))
        unit = "" if percent else self._unit(after)
        if currency and unit and UNITS[unit][0] != UNITS[currency.text][0]:
            raise NotOneNumber(_SEVERAL)
        if ((unit or percent) and not plain) or (currency and percent):
            raise NotOneNumber("an expression with a unit")
        return Quantity(
            number, percent, unit or (currency.text if currency else ""), (), code_like or not plain
        )

    def _unit(self, after: str) -> str:
        """The unit at this place, if there is one. Takes ordinals and the x of "2x", too."""
        tokens = self._tokens
        token = tokens.peek()
        if token.glued and token.text in (*ORDINALS, "x") and not tokens.peek(1).glued:
            tokens.take()
            return ""
        if token.text in "'\"" and token.glued and token.kind == "sign":
            tokens.take()
            return "ft" if token.text == "'" else "in"
        if after in ("h", "hr", "hrs", "hour", "hours") and token.raw == "m":
            tokens.take()
            return "min"
        for length in (3, 2):
            phrase = " ".join(tokens.peek(ahead).text for ahead in range(length))
            if phrase in UNIT_PHRASES:
                tokens.place += length
                return UNIT_PHRASES[phrase]
        known = token.text in UNITS and (token.text not in LOWER_CASE or token.raw == token.text)
        # "12 in the image"
        if (
            known
            and token.text == "in"
            and not (tokens.peek(1).kind in ("end", "number") or tokens.peek(1).text == "(")
        ):
            known = False
        if not known:
            if token.glued and token.kind == "word":
                raise NotOneNumber(f"{token.raw[:20]!r} behind a number is a code")
            return ""
        tokens.take()
        if tokens.peek().text == "per" or tokens.peek().text == "/":
            raise NotOneNumber("a rate whose unit is not known")
        if tokens.accept("^"):
            power = "".join(tokens.take().text for _ in range(3 if tokens.peek().text == "{" else 1))
            if (named := token.text + power.strip("{}")) not in UNITS:
                raise NotOneNumber("a power of a unit")
            return named
        return token.text

    # What stands behind.

    def _behind(self, quantity: Quantity) -> list[str]:
        tokens = self._tokens
        words = self._words()
        if tokens.peek().text == "(" and not tokens.peek().glued:
            words += self._in_brackets(quantity)
            if tokens.peek().glued:
                raise NotOneNumber(f"{tokens.peek().raw[:20]!r} behind a number")
            words += self._words()
        following = tokens.peek()
        if following.kind == "number" or following.text in (*NUMBER_WORDS, ",", ":", "/"):
            raise NotOneNumber(_SEVERAL)
        if following.kind != "end":
            raise NotOneNumber(f"{following.raw!r} behind a number")
        if not may_stand_behind(words):
            raise NotOneNumber(f"{' '.join(words)[:40]!r} behind a number")
        return words

    def _words(self) -> list[str]:
        words: list[str] = []
        while self._tokens.peek().kind == "word" and self._tokens.peek().text not in NUMBER_WORDS:
            words.append(self._tokens.take().raw)
        return words

    def _in_brackets(self, quantity: Quantity) -> list[str]:
        """Behind a number, brackets hold what is counted, or the number in another form: "thirteen (13)"."""
        start = self._tokens.place + 1
        while (token := self._tokens.take()).text != ")":
            if token.kind == "end":
                raise NotOneNumber("an open bracket")
        tokens = self._tokens.tokens[start : self._tokens.place - 1]
        words = [token.raw for token in tokens]
        if all(token.kind == "word" for token in tokens) and may_stand_behind(words):
            return words
        other = _Side(tokens, is_equation=False)
        other_form = other._in_digits != self._in_digits or other.quantity.unit != quantity.unit
        if not other_form or not same_quantity(quantity, other.quantity):
            raise NotOneNumber(_SEVERAL)
        return []


def _without_brackets(tokens: list[Token]) -> list[Token]:
    """What brackets around all of it hold: `(13)`, `[13 cm]`."""
    while len(tokens) > 2 and tokens[0].text + tokens[-1].text in ("()", "[]"):
        depths = list(accumulate((token.text in "([") - (token.text in ")]") for token in tokens))
        if 0 in depths[:-1]:
            break
        if any(token.is_pair for token in tokens):
            raise NotOneNumber(_SEVERAL)
        tokens = tokens[1:-1]
    return tokens
