"""The value of a number in digits or of an expression: fractions, roots, powers, the four operations.

Plain text and LaTeX. Exact (fractions) but for roots and π, which have `PLACES` decimal places. Bounded:
texts are short, nesting, exponents and the size of a power are limited, so nothing here is slow.

Numbers beside one another are no product: `2(3)` and `1 3` have no value. Only a root, π or, as a mixed
number, a proper fraction may follow its number: `2\\sqrt{2}`, `3\\frac{1}{2}`, `1 1/2`.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

from p2r.scoring.tokens import NotOneNumber, Token, Tokens

PLACES = 40
MAX_DEPTH = 6
MAX_EXPONENT = 99
MAX_BITS = 5_000
MAX_DEGREE = 9

PI = Fraction("3.14159265358979323846264338327950288419716939937510")
ROOTS = ("\\sqrt", "√", "sqrt")
STARTS = {"(", "{", "+", "-", "√", "π", "sqrt", "pi", "\\frac", "\\sqrt"}
_SEVERAL = "names several numbers"


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

    def _sum(self) -> Fraction:
        value = self._product()
        while operator := self._tokens.accept("+", "-"):
            if not operator.glued and self._tokens.peek().glued:  # "+3 +4": two numbers with their signs
                raise NotOneNumber(_SEVERAL)
            if operator.text == "-":
                self._differs, self.plain = True, False
                value -= self._product()
            else:
                self._compute()
                value += self._product()
        return value

    def _product(self) -> Fraction:
        sign = self._tokens.accept("+", "-")
        first = self._tokens.peek()
        value = self._power()
        divided = False
        while operator := self._tokens.accept("×", "·", "*", "÷", "/"):
            if operator.text in "÷/":
                if divided:  # 3/4/2024
                    raise NotOneNumber(_SEVERAL)
                divided = True
                second = self._tokens.peek()
                below = self._power()
                if not (operator.text == "/" and _is_whole(first) and _is_whole(second)):
                    self._compute()
                value = _quotient(value, below)
            elif self._is_power_of_ten() and first.kind == "number":
                value *= self._power()
                self.code_like = True
            else:
                self._compute()
                value *= self._power()
        return -value if sign and sign.text == "-" else value

    def _compute(self) -> None:
        self._computes, self.plain = True, False

    def _is_power_of_ten(self) -> bool:
        ten, caret = self._tokens.peek(), self._tokens.peek(1)
        return ten.text == "10" and caret.text in ("^", "**")

    def _power(self) -> Fraction:
        ten = self._is_power_of_ten()
        value = self._atom()
        if not self._tokens.accept("^", "**"):
            return value
        if not ten:
            self._compute()
        self.code_like = True
        if self._tokens.peek().text in ("{", "("):
            exponent = self._atom()
        else:
            sign = self._tokens.accept("-", "+")
            exponent = self._number(self._tokens.take())
            exponent = -exponent if sign and sign.text == "-" else exponent
        return _raise(value, exponent)

    def _atom(self) -> Fraction:
        token = self._tokens.take()
        if token.kind == "number":
            value = self._number(token)
            following = self._tokens.peek()
            if _is_whole(token) and (following.text == "\\frac" or self._is_fraction()):
                part = self._atom() if following.text == "\\frac" else self._fraction()
                if not 0 < part < 1:
                    raise NotOneNumber(_SEVERAL)
                value += part
            return value * self._irrational()
        if token.text in ("(", "{"):
            return self._group("}" if token.text == "{" else ")")
        if token.text == "\\frac":
            self._computes = True  # no range or date is written with it
            above = self._argument()
            return _quotient(above, self._argument()) * self._irrational()
        if token.text in ROOTS:
            self._compute()
            degree = Fraction(2)
            if token.text == "\\sqrt" and self._tokens.accept("["):
                degree = self._number(self._tokens.take())
                if not self._tokens.accept("]"):
                    raise NotOneNumber("an open bracket")
            return _root(self._argument(whole=token.text != "\\sqrt"), degree)
        if token.text in ("π", "pi"):
            self._compute()
            return PI
        raise NotOneNumber("names no number")

    def _irrational(self) -> Fraction:
        """The root or π that the number before it is a multiple of, else 1."""
        return self._atom() if self._tokens.peek().text in (*ROOTS, "π") else Fraction(1)

    def _number(self, token: Token) -> Fraction:
        if token.kind != "number":
            raise NotOneNumber("names no number")
        if self._depth and token.is_pair:
            raise NotOneNumber(_SEVERAL)
        self.code_like |= token.code_like
        return token.value

    def _is_fraction(self) -> bool:
        above, slash, below = (self._tokens.peek(ahead) for ahead in range(3))
        return _is_whole(above) and slash.text == "/" and _is_whole(below)

    def _fraction(self) -> Fraction:
        above, _, below = (self._tokens.take() for _ in range(3))
        if self._tokens.peek().text == "/":
            raise NotOneNumber(_SEVERAL)
        return _quotient(above.value, below.value)

    def _group(self, close: str) -> Fraction:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotOneNumber("nested too deeply")
        value = self._sum()
        if not self._tokens.accept(close):
            raise NotOneNumber("an open bracket")
        self._depth -= 1
        return value

    def _argument(self, *, whole: bool = False) -> Fraction:
        """A group, or one digit, as LaTeX has it (`\\frac12` is a half), or a whole number (`√16`)."""
        token = self._tokens.take()
        if token.text in ("(", "{"):
            return self._group("}" if token.text == "{" else ")")
        if whole:
            return self._number(token)
        if not _is_whole(token):
            raise NotOneNumber("names no number")
        if len(token.text) > 1:
            rest = token.text[1:]
            self._tokens.place -= 1
            self._tokens.tokens[self._tokens.place] = token._replace(text=rest, raw=rest, glued=True)
        return Fraction(int(token.text[0]))


def _is_whole(token: Token) -> bool:
    return token.kind == "number" and token.text.isdecimal()


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
