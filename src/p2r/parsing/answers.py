"""The reasoner's text → `Answer`. Nothing here raises, and only the model's text is read.

`read_answer` takes the last closed answer tag after the thinking. For a choice question `read_option` then
reads the option: by its letter, by its exact text, or by a sentence that names one (`statements`). A text
that names two different options, or none, or denies one, has no answer; the reason says which.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from p2r.parsing.statements import options_equal_to, read_statement, stated_letters
from p2r.parsing.thinking import boxed, mark_boxes, plain, split_thinking, without_tokens
from p2r.types import Answer

if TYPE_CHECKING:
    from p2r.types import Question

MAX_OPTION_CHARS = 10_000  # a longer text is not the name of an option

# The values of `Answer.reason` that do not mention options.
UNCLOSED_THINKING = "the thinking never ends"
NO_ANSWER_TAG = "no closed answer tag after the thinking"
EMPTY_ANSWER = "the answer is empty"

_TAG = r"answer\s{0,8}>"
_ANSWER_TAG = re.compile(rf"</?{_TAG}", re.IGNORECASE)
_ANSWER = re.compile(rf"<{_TAG}((?:[^<]|<(?!/?{_TAG}))*+)</{_TAG}", re.IGNORECASE)


def read_answer(text: str, question: Question, *, bare: bool = False) -> Answer:
    """Read a reasoner's text; never raises.

    Thinking that never closes gives an answer only if a closed answer tag ends the text.

    Args:
        text: what the model wrote.
        question: decides the form of the answer, and the letters.
        bare: the whole text after any thinking is the answer unless it holds a closed answer tag
            (mode `direct`).
    """
    _, thinking, after = split_thinking(text)
    tagged = list(_ANSWER.finditer(thinking if after is None else after))
    last = tagged[-1] if tagged else None
    if after is None:
        if last is None or without_tokens(thinking[last.end() :]).strip():
            return Answer(None, thinking, UNCLOSED_THINKING, text)
        thinking = thinking[: last.start()].strip()
    if last is not None:
        content = last[1]
    elif bare and after is not None:
        content = _ANSWER_TAG.sub(" ", after)
    else:
        return Answer(None, thinking, NO_ANSWER_TAG, text)
    boxes = set() if question.choices else set(boxed(mark_boxes(content)))
    # Of a free answer with one box, only what the box holds.
    content = boxes.pop() if len(boxes) == 1 else without_tokens(content).strip()
    if not content:
        return Answer(None, thinking, EMPTY_ANSWER, text)
    if not question.choices:
        return Answer(content, thinking, "", text)
    letter, reason = read_option(content, question)
    return Answer(letter, thinking, reason, text)


def read_option(text: str, question: Question) -> tuple[str | None, str]:
    """Which of the question's own options a text names; never raises.

    In this order: the letter alone ("B", "(b)", "Option B."); the exact text of one option; the letter with
    exactly that text ("B. red"); a sentence that names one option ("The answer is B", "It is red.").

    Returns:
        `(letter, "")`, or `(None, why)`.
    """
    if not question.choices:
        return None, "the question has no options"
    if len(text) > MAX_OPTION_CHARS:
        return None, f"{len(text)} characters are too many for the name of an option"
    text = plain(text)
    options = {
        letter: plain(choice) for letter, choice in zip(question.letters, question.choices, strict=True)
    }
    alone = _ALONE.fullmatch(text)
    if alone and alone[1].upper() in options:
        return alone[1].upper(), ""
    same = options_equal_to(text, options)
    if len(same) == 1 and not any(letter not in same for _, letter in stated_letters(text, options)):
        return same.pop(), ""
    pair = _LETTER_AND_TEXT.fullmatch(text)
    if pair and (letter := pair[1].upper()) in options:
        same = options_equal_to(pair[2], options)
        if letter in same:
            return letter, ""
        if same:
            return None, f"names more than one option: {', '.join(sorted(same | {letter}))}"
    return read_statement(text, options)


_EDGE = r"[\s.,;:!?\"'()\[\]{}<>\ue000\ue001]*+"
_NOUN = rf"(?:(?i:(?:the\s)?(?:option|choice|letter|answer))\b{_EDGE})?"
_ALONE = re.compile(rf"{_EDGE}{_NOUN}([A-Za-z]){_EDGE}")
# The sign between letter and text is needed: "A red car" is no "A. red car".
_LETTER_AND_TEXT = re.compile(
    rf"{_EDGE}{_NOUN}([A-Za-z])(?:\s?[.):\]}}>,=\ue001]+\s?|\s?[-–—]+\s|\s(?=[\"'(]))+(.+)", re.DOTALL
)
