"""Options in the text of a question: what is found, what is left alone."""

from __future__ import annotations

import time

import pytest

from p2r.types import LETTERS
from p2r.written_options import split_options, without_instruction, without_mark


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("What?\n(A) red\n(B) blue", "What?", ("red", "blue")),
        ("What?\nA. red\nB. blue\nC. the\n  green one", "What?", ("red", "blue", "the green one")),
        ("What?\nA) red\nB) blue", "What?", ("red", "blue")),
        ("What?\nA: red\nB: blue", "What?", ("red", "blue")),
        ("What? (A) red (B) blue (C) none", "What?", ("red", "blue", "none")),
        ("Is A. Smith here?\nA. yes\nB. no", "Is A. Smith here?", ("yes", "no")),
        ("A. red\nB. blue", "", ("red", "blue")),
        ("What?\nA.\nB. blue", "What?", ("", "blue")),
        ("What is vitamin (A)?", "What is vitamin (A)?", ()),
        ("Is A. Smith there?", "Is A. Smith there?", ()),
        ("What?\nB. red\nC. blue", "What?\nB. red\nC. blue", ()),
        ("How many?", "How many?", ()),
    ],
)
def test_questions_that_carry_their_options(text: str, question: str, options: tuple[str, ...]) -> None:
    assert split_options(text) == (question, options)


def test_there_are_as_many_options_as_letters() -> None:
    lines = [f"{letter}. {letter * 2}" for letter in LETTERS]
    _, options = split_options("Which?\n" + "\n".join([*lines, "A. again"]))
    assert options == (*(letter * 2 for letter in LETTERS[:-1]), "ZZ A. again")


@pytest.mark.parametrize(
    "instruction",
    [
        "Answer with the option's letter from the given choices directly.",
        "Answer with the option letter from the given choices.",
        "Please respond with only the letter of the correct option.",
        "answer directly with the letter",
    ],
)
def test_how_to_answer_is_left_out(instruction: str) -> None:
    assert without_instruction(f"What?\n{instruction}\n") == "What?"
    assert split_options(f"What?\nA. x\nB. y\n{instruction}") == ("What?", ("x", "y"))


def test_harnesses_add_their_own_instruction() -> None:
    how = "Answer with the option's letter from the given choices directly."
    assert split_options(f"What?\n(A) x\n(B) y\n{how}\n{how}") == ("What?", ("x", "y"))
    assert split_options(f"What? {how}\n\n{how}\n") == ("What?", ())


def test_long_texts_take_no_time() -> None:
    how = "answer with the letter\n"
    for text in (" " * 200_000, "answer " * 30_000, how * 5_000, how * 5_000 + "x", "\n" * 200_000 + "x"):
        begin_s = time.perf_counter()
        split_options(text)
        assert time.perf_counter() - begin_s < 1


def test_a_question_about_letters_is_left_alone() -> None:
    text = "Which letter is on the answer sheet?"
    assert without_instruction(text) == text


@pytest.mark.parametrize("option", ["(A) red", "A. red", " B) red", "C: red", "red"])
def test_an_option_without_its_letter(option: str) -> None:
    assert without_mark(option) == "red"


def test_only_the_letter_that_begins_an_option_goes() -> None:
    assert without_mark("red\nA. blue") == "red\nA. blue"
