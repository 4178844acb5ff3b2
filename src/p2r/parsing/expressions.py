"""The value of a number: in digits, as an expression, or in words.

An expression is plain text or LaTeX: fractions, roots, powers and the four operations. Values are exact
(fractions) except for roots and π, which have `PLACES` decimal places. Nesting, exponents and powers are
bounded, so that reading is fast.

Adjacent numbers are no product: `2(3)` and `1 3` have no value. Only a root, π or, as a mixed number, a
proper fraction may follow its number: `2\\sqrt{2}`, `3\\frac{1}{2}`, `1 1/2`.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

from p2r.parsing.number_tokens import NONE, SEVERAL, NotOneNumber, Token, Tokens
from p2r.parsing.number_words import DIGITS, FRACTIONS, PERCENT, SCALES, TEENS, TENS, UNITS

PLACES = 40
MAX_DEPTH = 6
MAX_EXPONENT = 99
MAX_BITS = 5_000
MAX_DEGREE = 9

PI = Fraction("3.14159265358979323846264338327950288419716939937510")
STARTS = {"(", "{", "+", "-", "√", "π", "sqrt", "pi", "\\frac", "\\sqrt"}
_ROOTS = ("\\sqrt", "√", "sqrt")
_OPEN_BRACKET = "an open bracket"


class Expression:
    """One expression, read from a place in `tokens`, which is left behind it.

    Attributes:
        value: the number.
        plain: one number, written as such: digits, a fraction, a mixed number or a power of ten.
        code_like: a leading zero or an exponent; never for a fraction.
        range_like: only differences of numbers, as ranges and dates are written: `12-14`, `2024-05-01`.

    Raises:
        NotOneNumber: there is no number, or something that is none.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.plain, self.code_like = True, False
        self._tokens = tokens
        self._depth = 0
        self._differs = self._computes = False
        self.value = self._sum()
        self.range_like = self._differs and not self._computes

    def _compute(self) -> None:
        self._computes, self.plain = True, False

    def _sum(self) -> Fraction:
        value = self._product()
        while operator := self._tokens.accept("+", "-"):
            if not operator.glued and self._tokens.peek().glued:  # "+3 +4": two numbers with their signs
                raise NotOneNumber(SEVERAL)
            if operator.text == "-":
                self._differs, self.plain = True, False
                value -= self._product()
            else:
                self._compute()
                value += self._product()
        return value

    def _product(self) -> Fraction:
        sign = self._tokens.sign()
        first = self._tokens.peek()
        value = self._power()
        divided = False
        while operator := self._tokens.accept("×", "·", "*", "÷", "/"):
            second, is_power_of_ten = self._tokens.peek(), self._is_power_of_ten()
            if operator.text in "÷/":
                if divided:  # 3/4/2024
                    raise NotOneNumber(SEVERAL)
                divided = True
                value = _quotient(value, self._power())
                plain = operator.text == "/" and first.is_whole and second.is_whole
            else:
                value *= self._power()
                plain = is_power_of_ten and first.kind == "number"
            if not plain:
                self._compute()
        return sign * value

    def _is_power_of_ten(self) -> bool:
        return self._tokens.peek().text == "10" and self._tokens.peek(1).text in ("^", "**")

    def _power(self) -> Fraction:
        is_power_of_ten = self._is_power_of_ten()
        value = self._atom()
        if not self._tokens.accept("^", "**"):
            return value
        if not is_power_of_ten:
            self._compute()
        self.code_like = True
        if self._tokens.peek().text in ("{", "("):
            return _raise(value, self._atom())
        return _raise(value, self._tokens.sign() * self._number(self._tokens.take()))

    def _atom(self) -> Fraction:
        token = self._tokens.take()
        if token.kind == "number":
            value = self._number(token)
            if token.is_whole and (part := self._part()) is not None:
                if not 0 < part < 1:
                    raise NotOneNumber(SEVERAL)
                value += part
            return value * self._irrational()
        if token.text in ("(", "{"):
            return self._group(token)
        if token.text == "\\frac":
            self._computes = True  # no range or date is written with it
            above = self._argument()
            return _quotient(above, self._argument()) * self._irrational()
        if token.text in _ROOTS:
            self._compute()
            degree = Fraction(2)
            if token.text == "\\sqrt" and self._tokens.accept("["):
                degree = self._number(self._tokens.take())
                if not self._tokens.accept("]"):
                    raise NotOneNumber(_OPEN_BRACKET)
            return _root(self._argument(whole=token.text != "\\sqrt"), degree)
        if token.text in ("π", "pi"):
            self._compute()
            return PI
        raise NotOneNumber(NONE)

    def _irrational(self) -> Fraction:
        """The root or π that the number before it is a multiple of, else 1."""
        return self._atom() if self._tokens.peek().text in (*_ROOTS, "π") else Fraction(1)

    def _number(self, token: Token) -> Fraction:
        if token.kind != "number":
            raise NotOneNumber(NONE)
        if self._depth and token.is_pair:
            raise NotOneNumber(SEVERAL)
        self.code_like |= token.code_like
        return token.value

    def _part(self) -> Fraction | None:
        """The fraction of a mixed number."""
        above, slash, below = (self._tokens.peek(ahead) for ahead in range(3))
        if above.text == "\\frac":
            return self._atom()
        if not (above.is_whole and slash.text == "/" and below.is_whole):
            return None
        self._tokens.place += 3
        if self._tokens.peek().text == "/":
            raise NotOneNumber(SEVERAL)
        return _quotient(above.value, below.value)

    def _group(self, opening: Token) -> Fraction:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotOneNumber("nested too deeply")
        value = self._sum()
        if not self._tokens.accept("}" if opening.text == "{" else ")"):
            raise NotOneNumber(_OPEN_BRACKET)
        self._depth -= 1
        return value

    def _argument(self, *, whole: bool = False) -> Fraction:
        """A group, or one digit, as in LaTeX (`\\frac12` is a half), or a whole number (`√16`)."""
        token = self._tokens.take()
        if token.text in ("(", "{"):
            return self._group(token)
        if whole:
            return self._number(token)
        if not token.is_whole:
            raise NotOneNumber(NONE)
        if rest := token.text[1:]:
            self._tokens.place -= 1
            self._tokens.tokens[self._tokens.place] = token._replace(text=rest, raw=rest, glued=True)
        return Fraction(token.text[0])


def _quotient(above: Fraction, below: Fraction) -> Fraction:
    if not below:
        raise NotOneNumber("divides by zero")
    return above / below


def _raise(base: Fraction, exponent: Fraction) -> Fraction:
    power, degree = exponent.numerator, exponent.denominator
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(power) > MAX_EXPONENT or bits * abs(power) > MAX_BITS:
        raise NotOneNumber("the power is too large")
    if power < 0:
        base, power = _quotient(Fraction(1), base), -power
    return _root(base**power, Fraction(degree))


def _root(value: Fraction, degree: Fraction) -> Fraction:
    if degree.denominator != 1 or not 1 <= degree <= MAX_DEGREE:
        raise NotOneNumber("the root is of no small degree")
    if value < 0:
        raise NotOneNumber("the root of a negative number")
    n = int(degree)
    above, below = _whole_root(value.numerator, n), _whole_root(value.denominator, n)
    if above**n == value.numerator and below**n == value.denominator:
        return Fraction(above, below)
    scale = 10**PLACES
    return Fraction(_whole_root(value.numerator * scale**n // value.denominator, n), scale)


def _whole_root(value: int, n: int) -> int:
    """The largest whole number whose n-th power is at most `value`."""
    if n <= 2:
        return value if n == 1 else isqrt(value)
    low, high = 0, 1 << (value.bit_length() // n + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**n <= value else (low, middle - 1)
    return low


# Numbers in words: "one hundred and one", "three and a half", "two thirds", "2.5 million", "12k".

_SMALL = {**DIGITS, **TEENS, **TENS}
_COUNTS = {"a": 1, "an": 1, **DIGITS, **TEENS}


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
    if (fraction := _fraction(tokens)) is not None:
        return fraction
    total, last = Fraction(0), 0
    while True:
        group, scale = _group(tokens), _scale(tokens)
        if last and scale >= last:
            raise NotOneNumber(SEVERAL)
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
    if tokens.accept("a", "an") or token.text in SCALES:  # "a thousand", "thousand"
        return Fraction(_hundreds(tokens, 1))
    value = _below_hundred(tokens)
    if value is None and token.text != "point":
        raise NotOneNumber(NONE)
    if not tokens.accept("point"):
        return Fraction(_hundreds(tokens, value or 0))
    digits = ""
    while tokens.peek().text in DIGITS:
        digits += str(DIGITS[tokens.take().text])
    if not digits:
        raise NotOneNumber(NONE)
    return Fraction(f"{value or 0}.{digits}")


def _hundreds(tokens: Tokens, value: int) -> int:
    """The value itself, or as many hundreds and what is added to them."""
    if not tokens.accept("hundred"):
        return value
    if tokens.peek().text == "and" and tokens.peek(1).text in _SMALL:
        tokens.take()
    total = 100 * value + (_below_hundred(tokens) or 0)
    if tokens.peek().text == "hundred":
        raise NotOneNumber(SEVERAL)
    return total


def _below_hundred(tokens: Tokens) -> int | None:
    value = _SMALL.get(tokens.peek().text)
    if value is not None and tokens.take().text in TENS:
        one = DIGITS.get(tokens.peek().text, 0)
        tokens.place += bool(one)
        value += one
    return value


def _fraction(tokens: Tokens) -> Fraction | None:
    """A fraction in words at this place: "half", "a quarter", "two thirds", "half a million"."""
    token, after = tokens.peek(), tokens.peek(1)
    if tokens.accept("half"):
        if tokens.accept("a", "an") and tokens.peek().text not in {*SCALES, *UNITS}:
            raise NotOneNumber(NONE)
        return Fraction(_scale(tokens), 2)
    if token.text not in _COUNTS or after.text not in FRACTIONS:
        return None
    tokens.place += 2
    following = tokens.peek()
    ends = {"of", "is", "are", "in", "on", *SCALES, *PERCENT, *UNITS}
    if FRACTIONS[after.text] > 2 and following.kind == "word" and following.text not in ends:
        raise NotOneNumber("an ordinal, not a fraction")  # "a third car"
    return Fraction(_COUNTS[token.text], FRACTIONS[after.text])
