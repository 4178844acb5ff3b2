"""Options and instructions in the text of a question: found, left out, or unchanged."""

from __future__ import annotations

import time

import pytest

from p2r.parsing.options import (
    legal_choices,
    reply_format,
    split_options,
    without_mark,
    without_marks,
)
from p2r.types import LETTERS

HOW = "Answer with the option's letter from the given choices directly."


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
        ("What?\nA.\nB. blue", "What?", ("—", "blue")),
        ("What?\n\n\nA. red\n\nB. blue\n\n", "What?", ("red", "blue")),
        ("What?\r\nA. red\r\nB. blue\r\n", "What?", ("red", "blue")),
        ("The sum is: The choices are listed below:\n(A) 1\n(B) 2", "The sum is:", ("1", "2")),
        (f"{HOW}\n\n46. Which?\nA. red\nB. blue", "46. Which?", ("red", "blue")),
        ("What? (A) red \N{MIDDLE DOT} (B) blue", "What?", ("red", "blue")),
        ("What?\nA re\x1dd\nB blue", "What?", ("re d", "blue")),
        (f"{HOW}\n\n下列选项正确的是:\nA. x\nB. y", "下列选项正确的是:", ("x", "y")),
        ("Name its color. A. red B. blue", "Name its color.", ("red", "blue")),
        ("Where? A. U.S. B. U.K.", "Where?", ("U.S.", "U.K.")),
        ("Which plan? (A) Plan A (B) Plan B", "Which plan?", ("Plan A", "Plan B")),
        ("什么颜色？（A）红色（B）蓝色", "什么颜色？", ("红色", "蓝色")),
        ("A. red\nB. blue\nWhich color is it?", "Which color is it?", ("red", "blue")),
        ("What?\nA. x\nB. what\n  for?", "What?", ("x", "what for?")),
        ("What?\nA. x\nB. y\nIf unsure, choose B.", "What?\nIf unsure, choose B.", ("x", "y")),
        ("A: Hi!\nB: Bye!\nWho left?\nA. he\nB. she", "A: Hi!\nB: Bye!\nWho left?", ("he", "she")),
    ],
)
def test_questions_that_carry_their_options(text: str, question: str, options: tuple[str, ...]) -> None:
    assert split_options(text) == (question, options)


@pytest.mark.parametrize(
    "marked",
    [
        "a) red\nb) blue",
        "(a) red\n(b) blue",
        "a. red\nb. blue",
        "**A.** red\n**B.** blue",
        "**A**. red\n**B**. blue",
        "**A. red**\n**B. blue**",
        "**(A)** red\n**(B)** blue",
        "- A: red\n- B: blue",
        "* A. red\n* B. blue",
        "• (A) red\n• (B) blue",
        "  A. red\n\tB. blue",
        "A.red\nB.blue",
        "[A] red\n[B] blue",
        "A] red\nB] blue",
        "A - red\nB - blue",
        "A \N{EN DASH} red\nB \N{EN DASH} blue",
        "Option A: red\nOption B: blue",
        "(A): red\n(B): blue",
        "\N{FULLWIDTH LEFT PARENTHESIS}A\N{FULLWIDTH RIGHT PARENTHESIS}red\n"
        "\N{FULLWIDTH LEFT PARENTHESIS}B\N{FULLWIDTH RIGHT PARENTHESIS}blue",
        "\N{FULLWIDTH LATIN CAPITAL LETTER A}\N{FULLWIDTH FULL STOP}red\n"
        "\N{FULLWIDTH LATIN CAPITAL LETTER B}\N{FULLWIDTH FULL STOP}blue",
        "A\N{IDEOGRAPHIC COMMA}red\nB\N{IDEOGRAPHIC COMMA}blue",
        "A.) red\nB.) blue",
        "(A.) red\n(B.) blue",
        "<A> red\n<B> blue",
        "{A} red\n{B} blue",
        "`A.` red\n`B.` blue",
        "A red\nB blue",
        "A. red B. blue",
        "A. red, B. blue",
        "A) red; B) blue",
        "A: red B: blue",
        "(a) red (b) blue",
        "(A) red or (B) blue",
        "A. red\n\nB. blue",
        "Options:\nA. red\nB. blue",
        "Options: A. red B. blue",
        "Choices:\n(A) red\n(B) blue",
        "The choices are listed below:\n(A) red\n(B) blue",
        "Select from the following choices.\n(A) red\n(B) blue",
        "Here are the options:\nA. red\nB. blue",
    ],
)
@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_marks_of_every_shape(between: str, marked: str) -> None:
    for question in (
        "What color is the glove?",
        "What color is the glove? (Look twice.)",
        "Name its color",
    ):
        assert split_options(f"{question}{between}{marked}") == (question, ("red", "blue"))


@pytest.mark.parametrize(
    "marked",
    [
        "(A) red (B) blue",
        "(a) red (b) blue",
        "[A] red [B] blue",
        "A. red B. blue",
        "A. red, B. blue",
        "A) red; B) blue",
        "a) red b) blue",
        "A: red B: blue",
        "**A.** red **B.** blue",
        "(A) red or (B) blue",
        "A. red\nB. blue",
        "Options: A. red B. blue",
        "Options:\n(A) red\n(B) blue",
        "Choices: (A) red (B) blue",
        "The choices are listed below:\n(A) red\n(B) blue",
        "A.red B.blue",
        "(A)red (B)blue",
    ],
)
def test_marks_within_the_line_of_the_question(marked: str) -> None:
    for question in ("What color is the glove?", "What color is the glove? (Look twice.)"):
        assert split_options(f"{question} {marked}") == (question, ("red", "blue"))


@pytest.mark.parametrize(
    "text",
    [
        "How many?",
        "What is vitamin (A)?",
        "Is A. Smith there?",
        "Is A. Smith there or B. Jones?",
        "What?\nB. red\nC. blue",
        "What is written at (A) and what is written at (B) in the image?",
        "Is the sign at (A) larger than the one at (B), or than that at (C)?",
        "Which door is open? The one at (A) or the one at (B)?",
        "There are two doors. (A) is left and (B) is right. Which is open?",
        "There are two doors: (A) is left, (B) is right. Which is open?",
        "Which is larger? (A) or (B)?",
        "Which two of the points are red? (A) and (B)?",
        "What is the distance from A to B?",
        "A man and a dog are in the image. B is written on a wall. Where?",
        "What does the board say at 10 A.M. and at 5 P.M.?",
        "Which letter is on the answer sheet?",
        "Read the letters in the image.",
        "What is written on it? Read the letters on the sign.",
    ],
)
def test_what_has_no_options_is_left_alone(text: str) -> None:
    assert split_options(text) == (text, ())


@pytest.mark.parametrize(
    "text",
    [
        "What?\nA. red\nB. green\nB. blue\nD. white",
        "What?\nA. red\nB. green\nD. white",
        "What?\nA. red\nB. green\nA. blue\nD. white",
        "What? (A) red\n(B) green\n(B) blue",
    ],
)
def test_letters_that_repeat_or_are_missing_make_options_unreadable(text: str) -> None:
    assert split_options(text) == (text, ())


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("A Cast iron\nB Polished steel\nC Wood", ("Cast iron", "Polished steel", "Wood")),
        ("A 9\nB 12", ("9", "12")),
        ("A. Bright gold B. Matte black", ("Bright gold", "Matte black")),
        ("A. one B. two\nC. three D. four", ("one", "two", "three", "four")),
        ("A. John F. Kennedy\nB. Franklin D. Roosevelt", ("John F. Kennedy", "Franklin D. Roosevelt")),
        ("A. red\nB. A. Smith", ("red", "A. Smith")),
        ("A. 0.5\nB. .5\nC. 1.", ("0.5", ".5", "1.")),
        ("A. 10:30\nB. 9:15", ("10:30", "9:15")),
        ("A. **STOP**\nB. GO", ("**STOP**", "GO")),
        ("A\nB\nC", ("—", "—", "—")),
    ],
)
def test_cells_and_texts_of_options(options: str, found: tuple[str, ...]) -> None:
    assert split_options(options) == ("", found)
    assert split_options(f"Which?\n{options}") == ("Which?", found)


def test_a_line_without_a_letter_makes_bare_letters_words() -> None:
    text = "What happens?\nA man goes by\nB is written\nand more"
    assert split_options(text) == (text, ())


def test_there_are_as_many_options_as_letters() -> None:
    lines = [f"{letter}. {letter * 2}" for letter in LETTERS]
    text = "Which?\n" + "\n".join(lines)
    assert split_options(text) == ("Which?", tuple(letter * 2 for letter in LETTERS))
    assert split_options(text + "\nA. again") == (text + "\nA. again", ())


@pytest.mark.parametrize(
    "instruction",
    [
        HOW,
        "Answer with the option letter from the given choices directly.",
        "Answer with the option\N{RIGHT SINGLE QUOTATION MARK}s letter from the given choices directly.",
        "Answer the option letter directly.",  # lmms-eval, HR-Bench
        "Select the best answer to the above multiple-choice question based on the image. Respond with "
        "only the "
        "letter (A, B, C, D, or E) of the correct option.\nThe best answer is: ",  # MME-RealWorld
        "Select the best answer to the above multiple-choice question based on the image. Respond with "
        "only the "
        "letter (A, B, C, D, or E) of the correct option. \nThe best answer is:",
        "Please select the correct answer from the options above. \n",  # VLMEvalKit
        "Answer with the correct option's letter directly. \n",  # VLMEvalKit, TreeBench
        "Select the best answer to the above multiple-choice question based on the image. After the "
        "reasoning "
        "process, respond with only the letter of the correct option between <answer> and </answer>.",
        "Answer with the option letter only.",
        "Only give the best option.\nBest option: (",
        "Give me the answer letter directly. The best answer is:",
        "Answer the question with A, B, C, or D.",
        "Please answer directly with only the letter of the correct option and nothing else.",
        "Respond with only one letter: A, B, C, D, or E.",
        "Answer the question using a single word or phrase.",
        "Think step by step and give your final answer in \\boxed{Answer} format.",
        "First please perform reasoning, and think step by step to provide best answer to the following "
        "question with the option's letter (A or B) from the given choices.",
        "Please reasoning step by step and select the correct answer with the option letter from the options "
        "above.",
        "Output only a single letter corresponding to the correct answer. Do not output any explanation.",
        "Your answer should be one of the options letters only: a, b, c or d (just the letter itself).",
        "Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.",
        "Provide your reasoning between the <think> and </think> tags, and then give your final answer "
        "between "
        "the <answer> and </answer> tags.",
        "Reply only to the corresponding option.\nAnswer:",
        "answer directly with the letter",
        "Answer:",
        "请直接使用所提供的选项字母作为答案回答。",
        "根据图像选择上述多项选择题的最佳答案。只需回答正确选项的字母（A, B, C, D 或 E）。\n最佳答案为：",
    ],
)
@pytest.mark.parametrize(
    "options", ["A. x\nB. The image does not feature it.", "(A) x (B) The image does not feature it."]
)
def test_instructions_around_the_options_are_left_out(options: str, instruction: str) -> None:
    found = ("What is it?", ("x", "The image does not feature it."))
    assert split_options(f"What is it?\n{options}\n{instruction}") == found
    assert split_options(f"What is it?\n{options}\n\n{instruction}\n{HOW}") == found
    assert split_options(f"{instruction}\nWhat is it?\n{options}") == found
    assert split_options(f"{instruction}\n\nWhat is it?\n\n{options}\n\n{instruction}") == found
    assert split_options(f"What is it?\n{instruction}\n{options}") == found
    assert split_options(f"What is it? {options} {instruction}") == found


@pytest.mark.parametrize(
    "text",
    [
        # inspect_ai's multiple_choice(), without and with chain of thought, and with several right answers
        "Answer the following multiple choice question. The entire content of your response should be of the "
        "following format: 'ANSWER: $LETTER' (without quotes) where LETTER is one of A,B,C.\n\nWhat is "
        "it?\n\n"
        "A) a tool\nB) a flag\nC) a dog",
        "Answer the following multiple choice question. The last line of your response should be of the "
        "following format: 'ANSWER: $LETTER' (without quotes) where LETTER is one of A,B,C. Think step by "
        "step "
        "before answering.\n\nWhat is it?\n\nA) a tool\nB) a flag\nC) a dog",
        "Answer the following multiple choice question where multiple answers may be correct. The entire "
        "content "
        "of your response should be of the following format: 'ANSWER: $LETTERS' (without quotes) where "
        "LETTERS "
        "is one or more of A,B,C.\n\nWhat is it?\n\nA) a tool\nB) a flag\nC) a dog",
        # VLMEvalKit's multiple-choice prompt
        "Question: What is it?\nOptions:\nA. a tool\nB. a flag\nC. a dog\nPlease select the correct "
        "answer from "
        "the options above. \n",
        # MathVista's, which VLMEvalKit keeps
        "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the "
        "end.\n"
        "Question: What is it?\nChoices:\n(A) a tool\n(B) a flag\n(C) a dog",
        # lmms-eval's MME-RealWorld, and TreeBench's own script
        "What is it? The choices are listed below:\n(A) a tool\n(B) a flag\n(C) a dog\nSelect the best "
        "answer to "
        "the above multiple-choice question based on the image. Respond with only the letter (A, B, C, D, "
        "or E) "
        "of the correct option.\nThe best answer is: ",
        "What is it? Options:\nA. a tool\nB. a flag\nC. a dog\nSelect the best answer to the above "
        "multiple-choice question based on the image. After the reasoning process, respond with only the "
        "letter "
        "of the correct option between <answer> and </answer>.",
        # Markdown
        "**Question:** What is it?\n\n**Options:**\n- **A)** a tool\n- **B)** a flag\n- **C)** a dog\n\n"
        "**Answer with the letter only.**",
        # options before the question
        "Options:\nA. a tool\nB. a flag\nC. a dog\n\nQuestion: What is it?",
        "A. a tool\nB. a flag\nC. a dog\n\nWhat is it?\n\nAnswer:",
    ],
)
def test_prompts_of_harnesses(text: str) -> None:
    question, options = split_options(text)
    assert options == ("a tool", "a flag", "a dog")
    assert question.removeprefix("Options:\n") == "What is it?"


def test_a_hint_and_other_text_belong_to_the_question() -> None:
    text = "Hint: Look at the left door.\nQuestion: What is it?\nOptions:\nA. x\nB. y\nPlease mind the light."
    assert split_options(text) == (
        "Hint: Look at the left door.\nWhat is it?\nPlease mind the light.",
        ("x", "y"),
    )


@pytest.mark.parametrize(
    "option",
    [
        "Answer the phone.",
        "Please answer with the letter.",
        "Select the best option.",
        "The answer is not in the image.",
        "None of the above choices",
        "It is red. It is not an option for the man.",
    ],
)
def test_an_option_that_sounds_like_an_instruction_stays(option: str) -> None:
    text = f"What does it say?\nA. {option}\nB. {option[::-1]}\nC. {option}"
    assert split_options(f"{text}\n{HOW}")[1][0] == option
    assert split_options(f"What does it say?\nA. x\nB. {option}\n{HOW}")[1] == ("x", option)


@pytest.mark.parametrize(
    "question",
    [
        "Choose the option that describes the color of the glove.",
        "Select the best answer.",
        "Look at the door. Select the option that names its color.",
        "Which option is the right answer?",
        "What is the answer to the sum on the board?",
    ],
)
def test_a_question_that_sounds_like_an_instruction_stays(question: str) -> None:
    assert split_options(f"{question}\nA. x\nB. y\n{HOW}") == (question, ("x", "y"))


@pytest.mark.parametrize(
    "instruction",
    [
        HOW,
        "Answer with the option letter from the given choices.",
        "Please respond with only the letter of the correct option.",
        "answer directly with the letter",
    ],
)
def test_without_options_only_the_request_for_a_letter_is_left_out(instruction: str) -> None:
    assert split_options(f"What?\n{instruction}\n") == ("What?", ())
    assert split_options(f"What? {instruction}\n\n{instruction}\n") == ("What?", ())
    kept = "How many windows are lit? Answer with an Arabic numeral."
    assert split_options(kept) == (kept, ())


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("… following format: 'ANSWER: $LETTER' (without quotes) where …", "ANSWER: $LETTER"),
        ("… 'ANSWER: $LETTERS' (without quotes) where LETTERS is …", "ANSWER: $LETTER"),
        ('… should be: "Answer: [letter]".', "Answer: $LETTER"),
        ("… this format: 'Answer: \\boxed{$LETTER}' (without quotes), where …", "Answer: \\boxed{$LETTER}"),
        ("… this format: 'Answer: $\\boxed{LETTER}$' (without quotes), where …", "Answer: \\boxed{$LETTER}"),
        ("… give your final answer in \\boxed{Answer} format.", "\\boxed{$LETTER}"),
        ("… the letter between <answer> and </answer>.", "<answer>$LETTER</answer>"),
        (HOW, ""),
        ("What is the answer: the letter or the number?", ""),
        ("The best answer is:", ""),
    ],
)
def test_the_form_of_reply_that_is_demanded(text: str, form: str) -> None:
    assert reply_format(f"What is it?\n{text}") == form


def test_long_texts_take_no_time() -> None:
    how = "answer with the letter\n"
    for text in (
        " " * 20_000,
        "answer " * 3_000,
        how * 500,
        how * 500 + "x",
        "\n" * 20_000 + "x",
        "(A) " * 5_000,
        "A. B. " * 3_000,
        "A x\nB y\n" * 2_000,
        "A. x\nB. " + "Answer. " * 2_000,
        "**" * 10_000,
        "<answer>" * 2_000,
        "? " * 10_000,
        "A. x\nB. y\n" + "a\n" * 5_000,
        "What? A. x B. y" + " " * 10_000 + "z",
    ):
        begin_s = time.process_time()
        split_options(text)
        reply_format(text)
        assert time.process_time() - begin_s < 0.5


@pytest.mark.parametrize("option", ["(A) red", "A. red", " B) red", "C: red", "- **D.** red", "red"])
def test_an_option_without_its_letter(option: str) -> None:
    assert without_mark(option) == "red"


def test_only_the_letter_that_begins_an_option_goes() -> None:
    assert without_mark("red\nA. blue") == "red\nA. blue"


def test_bare_letters_of_a_list_go_only_if_all_are_there() -> None:
    assert without_marks(["A red", "B blue"]) == ["red", "blue"]
    assert without_marks(["A red door", "a blue one"]) == ["A red door", "a blue one"]
    assert without_marks(["(A) red", "(B) blue", " C. 5"]) == ["red", "blue", "5"]


def test_odd_options_stay_in_place_and_become_legal() -> None:
    found = ("Blue", "—", "blue", "Blue", "a b")
    assert legal_choices(["Blue", "", "blue", "Blue", " a\n  b"]) == found
