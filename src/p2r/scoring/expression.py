"""Expressions (fractions, roots, powers, sums) compared through math-verify, within bounds.

math-verify stops long computations with a signal, which only works in the main thread. Scoring runs in any
thread, so no timeout is used; instead nothing is handed over that could take long: short texts, a closed list
of commands, few and small powers.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction

from p2r.scoring.number import close

MAX_CHARS = 100

_WRAPPER = re.compile(r"\\boxed\{(.*)\}|\$(.*)\$|\\\((.*)\\\)", re.DOTALL)
_SPELT = str.maketrans({"×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "−": "-", "–": "-"})
_PLAIN_ROOT = re.compile(r"(?:√|(?<!\\)\bsqrt)\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?))")
_COMMAND = re.compile(r"\\(?:frac|dfrac|tfrac|sqrt|pi|cdot|times|div|left|right)(?![a-zA-Z])|\\[,! ]")
_ALLOWED = re.compile(r"[\d\s.,+\-*/^=(){}]*")
_LONG_NUMBER = re.compile(r"\d{16,}")
# Of a number, or the square or cube of anything: the 99th power of a sum of roots takes minutes to expand.
_SMALL_POWER = re.compile(
    r"(?<=\d)\s?\^(?:\d{1,2}(?!\d)|\{\s?-?\d{1,2}\s?\}|\{\s?-?\d/\d\s?\})|\^(?:[23](?!\d)|\{[23]\})"
)
_MAX_POWERS = 2
_MAX_DEPTH = 4


def is_expression(text: str) -> bool:
    """Whether a text is an expression that is safe to evaluate."""
    return _to_latex(text) is not None


def same_expression(gold: str, answer: str) -> bool:
    """Whether two expressions are equal in value (`number.close`).

    Takes milliseconds, the first time a second or more (imports); works in any thread. What is not a safe
    expression equals nothing.
    """
    left, right = _value(gold), _value(answer)
    return left is not None and right is not None and close(left, right)


def _value(text: str) -> Fraction | None:
    latex = _to_latex(text)
    if latex is None:
        return None
    # It warns once that no timeout is set; the bounds above are ours.
    logging.getLogger("math_verify.parser").setLevel(logging.ERROR)
    from math_verify import LatexExtractionConfig, parse

    parsed = parse(
        f"${latex}$",
        extraction_config=[LatexExtractionConfig()],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    if not parsed or not getattr(parsed[0], "is_number", False):
        return None
    # Its own `verify` goes on to simplify what differs, which can take minutes; these are numbers, and their
    # digits decide.
    try:
        number = parsed[0].evalf(20)
        return Fraction(str(number)) if number.is_real and number.is_finite else None
    except (ArithmeticError, AttributeError, NotImplementedError, RecursionError, TypeError, ValueError):
        return None


def _to_latex(text: str) -> str | None:
    text = text.strip()
    if len(text) > MAX_CHARS:
        return None
    wrapped = _WRAPPER.fullmatch(text)
    if wrapped:
        text = next(part for part in wrapped.groups() if part is not None)
    text = text.translate(_SPELT).replace("**", "^")
    text = _PLAIN_ROOT.sub(lambda match: rf"\sqrt{{{match[1] or match[2]}}}", text)
    if "=" in text:
        text = text.rpartition("=")[2]
    text = text.strip().rstrip(".")
    return text if _is_safe(text) else None


def _is_safe(text: str) -> bool:
    rest = _COMMAND.sub(" ", text)
    if not _ALLOWED.fullmatch(rest) or _LONG_NUMBER.search(rest) or not re.search(r"\d|\\pi", text):
        return False
    powers = text.count("^")
    if powers > _MAX_POWERS or len(_SMALL_POWER.findall(text)) != powers:
        return False
    depth = deepest = 0
    for char in text:
        depth += (char in "({") - (char in ")}")
        deepest = max(deepest, depth)
    return depth == 0 and deepest <= _MAX_DEPTH
