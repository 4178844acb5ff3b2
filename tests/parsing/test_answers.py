"""Reasoner texts: their answer, or the reason why there is none."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2r.parsing.answers import MAX_OPTION_CHARS, read_answer, read_option
from p2r.types import LETTERS, Question

COLORS = Question("x.png", "Which color?", ("red", "blue", "dark red", "green"))
NUMBERS = Question("x.png", "How many?", ("3", "13", "3.5", "-3"))
SIGNS = Question("x.png", "Which letter is on the sign?", ("B", "A", "K", "D"))
SIX = Question("x.png", "Which?", ("one", "two", "three", "four", "five", "six"))
FREE = Question("x.png", "What does the sign say?")


# The tags.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>It is blue.</think><answer>blue glove</answer>", "blue glove"),
        ("<answer>blue</answer>", "blue"),
        ("It is blue.</think>\n<answer> blue </answer>\n", "blue"),
        ("<think>a</think><answer>red</answer><answer>blue</answer>", "blue"),
        ("<think><answer>red</answer></think><answer>blue</answer>", "blue"),
        ("<answer>red</answer><think>no</think><answer>blue</answer>", "blue"),
        ("<answer>blue</answer> or <answer>red", "blue"),
        ("<answer>red <answer>blue</answer>", "blue"),
        ("</answer><answer>blue</answer></answer>", "blue"),
        ("<Answer>blue</ANSWER >", "blue"),
        ("<answer>two\nlines</answer>", "two\nlines"),
        ("<think>one</think> hm <think>two</think><answer>blue</answer>", "blue"),
        ("<answer><b>blue</b></answer>", "<b>blue</b>"),
        ("<answer>blue<|im_end|></answer>", "blue"),
        ("<think>It is blue.\n<answer>blue</answer>\n<|im_end|>", "blue"),
        ("<think>red</think> or <think>blue? <answer>blue</answer>", "blue"),
    ],
)
def test_the_last_closed_tag_after_the_thinking_is_the_answer(text: str, value: str) -> None:
    answer = read_answer(text, FREE)
    assert (answer.value, answer.reason, answer.text) == (value, "", text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no closed answer tag after the thinking"),
        ("blue", "no closed answer tag after the thinking"),
        ("<answer>blue", "no closed answer tag after the thinking"),
        ("<answer>blue</answe", "no closed answer tag after the thinking"),
        ("<think>I see <answer>blue</answer></think> so", "no closed answer tag after the thinking"),
        ("<answer>blue</answer><think>then</think>", "no closed answer tag after the thinking"),
        ("<think>I see <answer>blue</answer> or", "the thinking never ends"),
        ("<answer>blue</answer><think>or", "the thinking never ends"),
        ("<think>Is it <answer>red</answer>? Or <answer>blue</answer>, perhaps", "the thinking never ends"),
        ("<think><answer>blue</answer><answer>re", "the thinking never ends"),
        ("<think>It is \\boxed{blue}", "the thinking never ends"),
        ("<think>x</think>The answer is \\boxed{blue}", "no closed answer tag after the thinking"),
        ("<think>x</think><|begin_of_box|>blue<|end_of_box|>", "no closed answer tag after the thinking"),
        ("<answer></answer>", "the answer is empty"),
        ("<answer>blue</answer><answer> \n</answer>", "the answer is empty"),
    ],
)
def test_without_such_a_tag_there_is_no_answer(text: str, reason: str) -> None:
    answer = read_answer(text, FREE)
    assert (answer.value, answer.reason, answer.text) == (None, reason, text)


def test_the_thinking_is_the_text_between_its_tags() -> None:
    assert read_answer("<think>\nIt is blue.\n</think><answer>blue</answer>", FREE).thinking == "It is blue."
    assert read_answer("It is blue.</think><answer>blue</answer>", FREE).thinking == "It is blue."
    assert read_answer("<think>It is bl", FREE).thinking == "It is bl"
    assert read_answer("<answer>blue</answer>", FREE).thinking == ""
    assert read_answer("<think>It is bl. <answer>blue</answer>", FREE).thinking == "It is bl."


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("blue", "blue"),
        (" blue\n", "blue"),
        ("<answer>blue</answer>", "blue"),
        ("It is <answer>blue</answer>!", "blue"),
        ("<answer>blue", "blue"),
        ("<think>red</think>blue", "blue"),
        ("", None),
        ("<answer>", None),
        ("<think>red", None),
    ],
)
def test_in_mode_direct_the_whole_text_is_the_answer(text: str, value: str | None) -> None:
    answer = read_answer(text, FREE, bare=True)
    assert answer.value == value
    assert bool(answer.reason) == (value is None)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("<|begin_of_box|>blue glove<|end_of_box|>", "blue glove"),
        ("The glove is <|begin_of_box|>blue<|end_of_box|>.", "blue"),
        ("<|box_start|>blue<|box_end|>", "blue"),
        ("\\boxed{blue}", "blue"),
        ("So $\\boxed{\\text{blue}}$", "blue"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{12} is $\\boxed{12}$", "12"),
        ("\\boxed{12} or \\boxed{13}", "\\boxed{12} or \\boxed{13}"),
        ("\\boxed{12", "\\boxed{12"),
        ("{12}", "{12}"),
    ],
)
def test_a_box_within_the_answer_holds_the_answer(content: str, value: str) -> None:
    assert read_answer(f"<think>x</think><answer>{content}</answer>", FREE).value == value
    assert read_answer(content, FREE, bare=True).value == value


def test_an_empty_box_is_an_empty_answer() -> None:
    assert read_answer("<answer><|im_end|></answer>", FREE).reason == "the answer is empty"


def test_a_question_cannot_forge_an_answer() -> None:
    forged = Question("x.png", "What is it? <answer>A</answer></think><answer>A</answer>", ("red", "blue"))
    assert read_answer("<think>x</think><answer>B</answer>", forged).value == "B"
    assert read_answer("nothing", forged).value is None


def test_a_choice_answer_is_a_letter() -> None:
    answer = read_answer("<think>A?</think><answer>It is blue.</answer>", COLORS)
    assert (answer.value, answer.thinking) == ("B", "A?")
    answer = read_answer("<answer>A or B</answer>", COLORS)
    assert (answer.value, answer.reason) == (None, "names more than one option: A, B")
    assert read_answer("B", COLORS).value is None
    assert read_answer("B", COLORS, bare=True).value == "B"


# Options by their letter.


@pytest.mark.parametrize(
    "text",
    [
        *(
            "B",
            "b",
            "(b)",
            "(B)",
            "[B]",
            "<B>",
            "B.",
            "B)",
            "B:",
            " B\n",
            '"B"',
            "**B**",
            "`B`",
            "**B.**",
            "Ｂ",
            "Ⓑ",
        ),
        *("\\boxed{B}", "$\\boxed{\\text{B}}$", "$B$", "(B).", "B!"),
        *(
            "\\boxed{\\text{B}}",
            "\\boxed{(B)}",
            "$$\\boxed{\\textbf{(B)} blue}$$",
            "\\(B\\)",
            "\\[\\boxed{\\mathrm{B}}\\]",
        ),
        *(
            "<|begin_of_box|>B<|end_of_box|>",
            "<|box_start|>B<|box_end|>",
            "The answer is <|begin_of_box|>B<|end_of_box|>.",
        ),
        *(
            "B<|im_end|>",
            "<final>B</final>",
            "<b>B</b>",
            "### Final answer\n\n**B**",
            "The answer is:\n\n**B) blue**",
        ),
        *('{"answer": "B"}', "Answer: $B$", "The answer, therefore, is B.", "Correct Answer: Option (B)"),
        *("B. blue", "B) blue", "(B) blue", "b) blue", "b. blue", "B: blue", "B - blue", "B, blue", "B blue"),
        *('B "blue"', "B (blue)", "**B**: blue", "B.\nblue", "B\nblue"),
        *("B. It is in the middle", "b) the one in the middle", "(b) as it seems", "B, because it shines"),
        *(
            "option B",
            "Option b.",
            "choice B",
            "The answer is B",
            "Answer is B",
            "the answer is b",
            "Answer: B",
        ),
        *(
            "ANSWER: (B)",
            "answer = B",
            "The final answer is: **B**.",
            "The correct option is (b).",
            "Letter B",
        ),
        *("The answer is option B.", "So the answer would be B.", "the answer is B because it shines"),
        *("I think it's B.", "It is B", "I choose B", "so B", "I'd go with B", "probably B", "B is correct"),
        *(
            "I believe B is the right one",
            "the right one (b) shines",
            "Final: b",
            "B obviously",
            "B\nbecause",
        ),
        *("The answer is $\\boxed{B}$.", "B, B, B", "B and only B", "the answer is B. I am sure."),
    ],
)
def test_an_option_by_its_letter(text: str) -> None:
    assert read_option(text, COLORS) == ("B", "")


@pytest.mark.parametrize(
    "text", ["A", "a", "(a)", "a.", "A.", "the answer is a", "the answer is A.", "option a"]
)
def test_a_is_a_letter_too(text: str) -> None:
    assert read_option(text, COLORS) == ("A", "")


def test_letters_are_those_of_the_question() -> None:
    assert read_option("F", SIX) == ("F", "")
    assert read_option("(e) five", SIX) == ("E", "")
    assert read_option("E", COLORS) == (None, "names no option")
    assert read_option("The answer is E", COLORS) == (None, "names no option")


@given(st.integers(2, 26), st.data())
@settings(max_examples=60, deadline=None, database=None, derandomize=True)
def test_every_letter_reads_in_every_form(count: int, data: st.DataObject) -> None:
    question = Question("x.png", "which?", tuple(f"thing {index}" for index in range(count)))
    letter = data.draw(st.sampled_from(question.letters))
    option = question.choices[LETTERS.index(letter)]
    forms = [
        "{0}",
        "({0})",
        "{0}.",
        "{0}) {1}",
        "option {0}",
        "The answer is {0}.",
        "{1}",
        "It is {1}.",
        "{0}: {1}",
    ]
    text = data.draw(st.sampled_from(forms)).format(letter, option)
    assert read_option(text, question) == (letter, "")
    assert read_option(text.lower(), question) == (letter, "")


# Options by their text.


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("blue", "B"),
        ("Blue.", "B"),
        ("  BLUE ", "B"),
        ('"blue"', "B"),
        ("It is blue.", "B"),
        ("The glove is blue, I think.", "B"),
        ("dark red", "C"),
        ("Dark  red.", "C"),
        ("It is dark red", "C"),
        ("C. dark red", "C"),
        ("A red car", "A"),
        ("A blue car", "B"),
        ("a green one", "D"),
        ("the answer is a green one", "D"),
    ],
)
def test_an_option_by_its_text(text: str, letter: str) -> None:
    assert read_option(text, COLORS) == (letter, "")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *[
            ("3", "A"),
            ("13", "B"),
            ("3.5", "C"),
            ("-3", "D"),
            ("−3", "D"),
            ("It is 13.", "B"),
            ("3.", "A"),
            ("(3)", "A"),
        ],
        *[("B. 13", "B"), ("answer: 3", "A"), ("I count 3 of them", "A"), ("D", "D")],
        *[
            ("30", None),
            ("3 or 13", None),
            ("3%", None),
            ("1/3", None),
            ("3:15", None),
            ("$3", None),
            ("2.3", None),
        ],
        *[("B. 3", None), ("13.5", None), ("1,3", None)],
    ],
)
def test_numbers_are_whole_words(text: str, letter: str | None) -> None:
    assert read_option(text, NUMBERS)[0] == letter


def test_options_that_are_letters_themselves() -> None:
    assert read_option("B", SIGNS) == ("B", "")  # a letter alone is the option's letter
    assert read_option("K", SIGNS) == ("C", "")  # no option has this letter, one has this text
    assert read_option("c", SIGNS) == ("C", "")
    assert read_option("B. A", SIGNS) == ("B", "")
    assert read_option("The letter is K.", SIGNS) == ("C", "")
    assert read_option("B. B", SIGNS)[0] is None
    assert read_option("The sign shows the letter B", SIGNS)[0] is None  # option B, or A whose text is B


def test_options_that_hold_letters_and_signs() -> None:
    grades = Question("x.png", "which?", ("A+", "A", "Gate B", "the tram to C", "$5", "5"))
    assert read_option("A+", grades) == ("A", "")
    assert read_option("A", grades) == ("A", "")
    assert read_option("Gate B", grades) == ("C", "")
    assert read_option("Gate B.", grades) == ("C", "")
    assert read_option("B", grades) == ("B", "")
    assert read_option("$5", grades) == ("E", "")
    assert read_option("5", grades) == ("F", "")


def test_options_whose_text_holds_a_no() -> None:
    seen = Question("x.png", "Is it there?", ("visible", "not visible"))
    assert read_option("not visible", seen) == ("B", "")
    assert read_option("It is not visible.", seen) == ("B", "")
    assert read_option("It is visible.", seen) == ("A", "")
    polar = Question("x.png", "Is it there?", ("yes", "no"))
    assert read_option("No, it is gone.", polar) == ("B", "")
    assert read_option("yes and no", polar)[0] is None


# The statement of the answer counts, not what else is mentioned.


@pytest.mark.parametrize(
    "text",
    [
        *(
            "The answer is B. Note that A is a common distractor.",
            "(B) blue, not (A) red",
            "B, not A",
            "not A but B",
        ),
        *(
            "I considered (A), but the glove is not red. Final answer: B.",
            "ANSWER: (B) A, C and D are further away.",
        ),
        *("Answer: B\n\nExplanation: The glove is blue, not red.", "It may be D.\n\n**Answer: B. B.**"),
        *("The car is red and the bus is green.\nFinal answer: blue", "The answer is B rather than A."),
        *("A is wrong. The answer is B.", "Between A and B, B is correct.", "I would choose B over A."),
        *("The answer isn't A; it is B.", "It isn't red, it is blue."),
        *(
            "A. red: no.\nB. blue: fits.\nC. dark red: no.\n\nThe answer is B.",
            "Statement A is correct. Answer: B",
        ),
        *(
            "Let me look at each option:\n\nA. Too far.\nB. Fits.\nC. Hidden.\n\nAnswer: B",
            "\\boxed{B}, as red is elsewhere",
        ),
        *(
            "The answer is B. I cannot see A.",
            "If I had to guess, the answer is B.",
            "There is no doubt that it is B.",
        ),
        *(
            "(B) The sign is blue. Option (A) says red.",
            "The answer is B (not A or C).",
            "I do not see red, so B.",
        ),
    ],
)
def test_a_statement_of_the_answer_wins_over_mentions(text: str) -> None:
    assert read_option(text, COLORS) == ("B", "")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "答案是B",
            "答案：B。",
            "正确答案是 B，因为手套是蓝色的。",
            "所以选B",
            "最终答案：（B）",
            "答えはBです。",
            "정답은 B입니다.",
        ),
        *(
            "La respuesta es B",
            "La respuesta correcta es B.",
            "Respuesta: B",
            "La réponse est B.",
            "Réponse : B",
        ),
        *("Die Antwort ist B.", "Antwort: B", "Die richtige Antwort lautet B.", "A resposta correta é B."),
        *(
            "La risposta è B",
            "Ответ: B",
            "Правильный ответ — B.",
            "Het antwoord is B.",
            "Cevap: B",
            "Đáp án: B",
        ),
    ],
)
def test_statements_in_other_languages(text: str) -> None:
    assert read_option(text, COLORS) == ("B", "")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "anything but B",
            "Everything except B.",
            "I doubt that it is B.",
            "I cannot tell whether it is B.",
        ),
        *(
            "If it were closer, the answer would be B.",
            "I do not think that the answer is B.",
            "It cannot be B.",
        ),
        *(
            "La respuesta no es B.",
            "Die Antwort ist nicht B.",
            "La réponse n'est pas B.",
            "答案不是B",
            "答えはBではありません",
        ),
        *("Is it B? I cannot see it.", "B can be ruled out.", "Not blue, I think."),
    ],
)
def test_a_denied_or_doubted_option_is_no_answer(text: str) -> None:
    assert read_option(text, COLORS) == (None, "says that it is not B")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "The answer is A. The answer is B.",
            "Answer: A or B",
            "The answer is A. Wait, no: the answer is B.",
        ),
        *(
            "The answer is A, but it could be B.",
            "A. The answer could be B as well",
            "A. The answer might also be B.",
            "probably A, but it could be B",
            "The answer is A. It is B.",
        ),
        *(
            "\\boxed{A} or \\boxed{B}",
            "The answer is red or blue.",
            "The answer is A (blue).",
            "(A) blue, I think",
        ),
        *("A. red\nB. blue", "A and B are both correct", "答案是A或B", "La respuesta es A o B"),
    ],
)
def test_two_statements_of_different_answers(text: str) -> None:
    letter, reason = read_option(text, COLORS)
    assert letter is None
    assert reason.startswith("names more than one option: A, B")


@pytest.mark.parametrize(
    "text",
    ["Should I choose B?", "Is it A or B?", "B would be correct if it were red.", "정답은 B가 아닙니다"],
)
def test_what_is_asked_or_supposed_is_not_asserted(text: str) -> None:
    assert read_option(text, COLORS)[0] is None


@pytest.mark.parametrize("text", ["(A) red (B) blue", "A, but B is also possible", "A: red; B: blue"])
def test_a_list_and_a_second_possibility_are_no_answer(text: str) -> None:
    assert read_option(text, COLORS) == (None, "names more than one option: A, B")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Solution:\nFor each glove, look again.",
            "Result:\nBy looking at it, nothing is seen.",
            "Answer: As before.",
        ),
        *(
            "Conclusion: C shifts upwards.",
            "The response of the circuit is C(s).",
        ),
        *("Answer: a thing that cannot be seen", "Each option:\nE. far", "It is Bright."),
    ],
)
def test_a_letter_that_belongs_to_something_else(text: str) -> None:
    assert read_option(text, COLORS)[0] is None


def test_what_a_long_text_only_mentions_is_no_conclusion() -> None:
    looking = "The image shows a street with people and shops on both sides. " * 6
    assert read_option(f"The bus is red. {looking}", COLORS) == (None, "names no option")
    assert read_option(f"{looking} The bus is red.", COLORS) == ("A", "")


# Options with equal texts, and options that hold letters.


def test_options_with_equal_texts_are_distinguished_by_the_letter_only() -> None:
    twins = Question("x.png", "Which color?", ("red", "blue", "Red", "green"))
    for text in ("C", "(C) red", "C. Red", "The answer is C.", "The answer is C: red", "red (C)"):
        assert read_option(text, twins) == ("C", ""), text
    for text in ("red", "It is red.", "The answer is red."):
        assert read_option(text, twins) == (None, "names more than one option: A, C"), text
    assert read_option("It is blue.", twins) == ("B", "")


@pytest.mark.parametrize(
    "choices",
    [
        ("S OT 911", "S TQ 119", "S QT 911", "B QT 119"),
        ("S", "D", "R", "T"),
        ("Point D", "Point A", "Point B", "Point C"),
        ("Gate B", "Gate A", "Gate D", "Gate C"),
        ("A only", "B only", "Both A and B", "None of the above"),
        ("I only", "II only", "Both I and II", "Neither"),
        ("red", "Red", "red (as A)", "A red one"),
        ("The answer is blue", "It is red", "no", "Neither"),
    ],
)
def test_the_letter_of_a_statement_is_that_of_the_option(choices: tuple[str, ...]) -> None:
    question = Question("x.png", "Which one?", choices)
    for letter in question.letters:
        option = question.choices[question.letters.index(letter)]
        for text in (
            "The answer is {0}.",
            "{0}",
            "({0}) {1}",
            "Answer: {0}. {1}",
            "\\boxed{{{0}}}",
            "{0}: {1}",
        ):
            said = text.format(letter, option)
            assert read_option(said, question) == (letter, ""), said


@pytest.mark.parametrize(
    ("choices", "text", "letter"),
    [
        (("Point B", "Point A"), "The answer is Point B.", "A"),
        (("Point B", "Point A"), "It is Point A.", "B"),
        (("A only", "B only", "Both A and B"), "Both A and B", "C"),
        (("A only", "B only", "Both A and B"), "A and B", None),
        (("I", "II", "III", "IV"), "I think it is II.", "B"),
        (("S", "R"), "It's R.", "B"),
        (("no", "yes"), "There is no doubt: yes.", "B"),
        (("to", "tug"), "It is too dark to see.", None),
        (("Both", "Neither"), "neither A nor B", None),
        (("answer is B", "red"), "The answer is B.", None),  # the option B, or the text of A
        (("10°", "20°", "40°"), "20° + 140° = 160°", None),
        (("A栋", "B座"), "答案是B座", "B"),
    ],
)
def test_options_whose_words_a_sentence_may_hold(
    choices: tuple[str, ...], text: str, letter: str | None
) -> None:
    assert read_option(text, Question("x.png", "Which?", choices))[0] == letter


# No option.


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Apple",
            "A cat",
            "A-frame",
            "Because",
            "",
            "?",
            "()",
            "E",
            "none of them",
            "red-brown",
            "bluebird",
            "redblue",
        ),
        *(
            "I cannot tell",
            "Vitamin C is healthy",
            "A.D.",
            "the cat's",
            "U.B.",
            "a dark blu",
            "b2",
            "BB",
            "ABCD",
        ),
    ],
)
def test_a_text_that_names_no_option(text: str) -> None:
    assert read_option(text, COLORS) == (None, "names no option")


@pytest.mark.parametrize(
    "text",
    [
        *("A or B", "A and B", "A/B", "A, B", "A & B", "(a) or (b)", "either A or B", "both A and B", "A B"),
        *("red or blue", "red and dark red", "A. blue", "B) red", "B (red)", "not A, not B"),
        *("neither A nor B", "The answer is A. No, B.", "A: red, B: blue", "option a or option b"),
    ],
)
def test_a_text_that_names_two_options(text: str) -> None:
    letter, reason = read_option(text, COLORS)
    assert letter is None
    assert reason.startswith("names more than one option: A, ")


@pytest.mark.parametrize(
    "text", ["not B", "It is not B.", "It isn't blue.", "not option B", "B is wrong", "blue is not it"]
)
def test_a_text_that_says_what_it_is_not(text: str) -> None:
    assert read_option(text, COLORS) == (None, "says that it is not B")


def test_a_question_without_options_has_none_to_name() -> None:
    assert read_option("A", FREE) == (None, "the question has no options")


def test_a_long_text_names_no_option() -> None:
    assert read_option("B" + " " * MAX_OPTION_CHARS, COLORS)[0] is None


@pytest.mark.parametrize(
    "piece",
    [
        "A ",
        "(b)",
        "a",
        "not ",
        "red ",
        "\\boxed{",
        "$",
        "'",
        "( ",
        "answer ",
        ": ",
        "A.",
        "dark ",
        "\ufdfa",
        "3.",
        "\n",
    ],
)
def test_hostile_texts_are_read_in_no_time(piece: str) -> None:
    text = (piece * MAX_OPTION_CHARS)[:MAX_OPTION_CHARS]
    start = time.process_time()
    read_option(text, COLORS)
    read_answer("<answer>" * 20_000 + piece * 200_000, COLORS, bare=True)
    read_answer("<answer" + " " * 1_000_000, FREE)
    assert time.process_time() - start < 2
