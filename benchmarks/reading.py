"""Accuracy of the reader of answers on real questions: every phrasing × every option of every question.

    python benchmarks/reading.py --questions mmmu.jsonl --questions own.jsonl
    python benchmarks/reading.py --benchmark treebench=TreeBench.tsv --benchmark vstar=vstar.parquet
    python benchmarks/reading.py --questions mmmu.jsonl --letters 3 --seed 1   # three options a question

A file of `--questions` has one JSON object a line with `question` and `choices` (docs/scoring.md; no
image is opened). Without either, only the questions of `HARD` below are used: options that contain letters,
units, other options, denials and quoted answers.

Each phrasing is labeled with the option that it asserts, or with none. A reading is *right* when it gives
that option, or none where none is asserted; *no answer* when it gives none although one is asserted; and
*wrong* when it gives another option, or any where none is asserted. Exit code 1 if a reading is wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.benchmarks.base import Entry
from p2r.parsing.answers import read_answer
from p2r.types import LETTERS, Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# {L} is the asserted option's letter, {l} in lower case, {T} its text; {O} and {P} are letter and text of
# another option, and {Q} is the letter of a third one.
ASSERTING: dict[str, tuple[str, ...]] = {
    "letter": (
        "{L}",
        "{l}",
        "({L})",
        "({l})",
        "[{L}]",
        "{L}.",
        "{L})",
        "{L}:",
        " {L}\n",
        '"{L}"',
        "<{L}>",
        "{L}!",
    ),
    "markup": (
        "**{L}**",
        "**{L}.**",
        "**{L}. {T}**",
        "`{L}`",
        "$\\boxed{{{L}}}$",
        "\\boxed{{{L}}}",
        "\\[\\boxed{{\\text{{{L}}}}}\\]",
        "\\boxed{{({L})}}",
        "$$\\boxed{{\\textbf{{({L})}}}}$$",
        "\\(\\boxed{{\\mathrm{{{L}}}}}\\)",
        "<|begin_of_box|>{L}<|end_of_box|>",
        "<|box_start|>{L}<|box_end|>",
        "The answer is <|begin_of_box|>{L}<|end_of_box|>.",
        "So the final answer is $\\boxed{{{L}}}$.",
        "Looking at the crop, it fits best.\n\n\\boxed{{{L}}}",
        "### {L}",
        "### Final Answer\n\n**{L}**",
        "<b>{L}</b>",
        "<final>{L}</final>",
        "{L}<|im_end|>",
        "\\boxed{{{L}}} because {P} is not what is shown",
    ),
    "letter and text": (
        "{L}. {T}",
        "({L}) {T}",
        "{L}) {T}",
        "{L}: {T}",
        "{L} - {T}",
        "{L}, {T}",
        "{l}) {T}",
        "**{L}.** {T}",
        "Option {L}: {T}",
        "{L}\n{T}",
        "The answer is {L}. {T}",
        "The answer is ({L}) {T}.",
        "Answer: {L}) {T}",
        "The correct answer is:\n\n**{L}) {T}**",
    ),
    "text": (
        "{T}",
        "{T}.",
        '"{T}"',
        "**{T}**",
        "The answer is {T}.",
        "Answer: {T}",
        "It is {T}.",
        "The answer is: {T}",
    ),
    "sentence": (
        "The answer is {L}",
        "The answer is {L}.",
        "the answer is {l}",
        "Answer: {L}",
        "ANSWER: ({L})",
        "answer: {l}",
        "Answer: **{L}**",
        "**Answer:** {L}",
        "Answer\n{L}",
        "Final answer: {L}",
        "The final answer is: **{L}**.",
        "The correct answer is {L}.",
        "The correct option is ({l}).",
        "The best choice is option {L}.",
        "The answer is option {L}.",
        "So the answer would be {L}.",
        "Therefore, the answer must be ({L}).",
        "Thus the correct choice is {L}",
        "The most likely answer is {L}.",
        "The answer to the question is {L}.",
        "Based on the image, the answer is {L}.",
        "Based on the visible evidence, the correct option would be **{L}**.",
        "My answer: {L}",
        "My final choice is {L}.",
        "I choose {L}.",
        "I would go with {L}.",
        "I'd pick ({L}).",
        "I think it's {L}.",
        "I believe the answer is {L}.",
        "It is {L}.",
        "It must be {L}",
        "probably {L}",
        "so {L}",
        "Option {L}.",
        "Option {L} is correct.",
        "({L}) is the correct answer.",
        "{L} is the best answer",
        "{L} is correct, because it shows most clearly.",
        "{L}, because it is what I see",
        "{L} because that is what the image shows",
        '{{"answer": "{L}"}}',
        "Answer = {L}",
        "The answer is clearly {L}, as the close-up shows.",
    ),
    "anchored": (
        "The answer is {L}. Note that {O} is a common distractor.",
        "I considered ({O}), but the close-up does not show it. Final answer: {L}.",
        "({L}) {T}, not ({O}) {P}",
        "{L}, not {O}",
        "not {O} but {L}",
        "{L}. Option {O} would need a closer look.",
        "Answer: {L}\n\nExplanation: {O} is what one might expect at first sight.",
        "Answer: {L}\n\nExplanation: the first close-up rules out {O} and {Q}.",
        "It looks like {O} at first.\n\n**Answer: {L}. {L}.**",
        "Option {O} says {P}. Option {Q} is further away.\n\nAnswer: {L}",
        "{O} is wrong. The answer is {L}.",
        "The answer is not {O}. The answer is {L}.",
        "The answer isn't {O}; it is {L}.",
        "Between {O} and {L}, {L} is correct.",
        "ANSWER: ({L}) {O}, {Q} and others are elsewhere.",
        "The answer is {L} rather than {O}.",
        "The answer is {L}, not {O}.",
        "I would choose {L} over {O}.",
        "{O}) {P}: no match in the close-up.\n{L}) {T}: matches.\n\nThe correct answer is {L}.",
        "Let me look at each option. {O} is ruled out. {Q} cannot be seen. Therefore the answer is {L}.",
    ),
    "other languages": (
        "答案是{L}",
        "答案：{L}",
        "正确答案是 {L}。",
        "正确答案是{L}，因为最清楚。",
        "所以选{L}。",
        "最终答案：（{L}）",
        "答えは{L}です。",
        "정답은 {L}입니다.",
        "La respuesta es {L}",
        "La respuesta correcta es {L}.",
        "Respuesta: {L}",
        "La réponse est {L}.",
        "Réponse : {L}",
        "Die Antwort ist {L}.",
        "Antwort: {L}",
        "Die richtige Antwort lautet {L}.",
        "A resposta correta é {L}.",
        "La risposta è {L}",
        "Ответ: {L}",
        "Правильный ответ — {L}.",
        "Het antwoord is {L}.",
        "Cevap: {L}",
        "Đáp án: {L}",
        "Jawaban: {L}",
    ),
}
# No option is asserted here.
SILENT: dict[str, tuple[str, ...]] = {
    "denied": (
        "not {L}",
        "It is not {L}.",
        "{L} is wrong",
        "({L}) is incorrect.",
        "The answer is not {L}.",
        "The answer cannot be {L}.",
        "I do not think that the answer is {L}.",
        "anything but {L}",
        "Everything except {L}.",
        "neither {L} nor {O}",
        "It is neither ({L}) nor ({O}).",
        "Not {L}, {O} or {Q}.",
        "I can rule out {L}.",
        "It cannot be {L} or {O}.",
        "La respuesta no es {L}.",
        "Die Antwort ist nicht {L}.",
        "答案不是{L}",
        "答えは{L}ではありません",
        "It is not {T}.",
        "I doubt that it is {L}.",
    ),
    "undecided": (
        "{L} or {O}",
        "{L} and {O}",
        "{L}/{O}",
        "{L}, {O}",
        "({L}) or ({O})",
        "Answer: {L} or {O}",
        "The answer is {L} and {O}.",
        "The answer is either {L} or {O}.",
        "The answer is {L} or maybe {O}.",
        "{L} and {O} are both correct.",
        "The answer is {L}. The answer is {O}.",
        "The answer is {L}. No, {O}.",
        "The answer is {L}. Wait, it is {O}.",
        "The answer is {L}, but it could also be {O}.",
        "probably {L}, but it could be {O}",
        "{L}. {T}\n{O}. {P}",
        "({L}) {T} ({O}) {P}",
        "I cannot tell whether it is {L}.",
        "I do not know if the answer is {L}.",
        "If it were closer, the answer would be {L}.",
        "Is it {L}? I cannot see it.",
        "\\boxed{{{L}}} or \\boxed{{{O}}}",
        "答案是{L}或{O}",
        "La respuesta es {L} o {O}",
    ),
    "silent": (
        "I cannot tell.",
        "Nothing of that kind is visible.",
        "",
        "The image is too dark to see anything.",
        "Let me look at the close-up again.",
        "Solution:\nFor this one needs to look at the close-up again.",
        "Result:\nBy looking alone, nothing can be seen.",
        "Answer: As before, nothing can be seen.",
        "Answer: a thing that cannot be seen",
        "The answer is In fact unclear.",
        "Answers\n- i. unclear",
        "Let me look at each option:\n\nA. Perhaps.\nB. Perhaps.",
        "The options are:\nA) Perhaps.\nB) Perhaps.\nThe answer is unclear.",
        "I am a model. I see an image.",
    ),
}
# The forms of a reply: with an answer tag after thinking that mentions another option, and bare.
TAGGED = "<think>At first sight it is {O}. The answer might be {O}.</think>\n<answer>{said}</answer>"

# Options that are hard to distinguish from statements about options.
HARD: tuple[tuple[str, ...], ...] = (
    ("S OT 911", "S TQ 119", "S QT 911", "B QT 119", "This image doesn't feature the plate number."),
    ("LB MA 864", "S EV 4201", "S FC 311", "A PC 311"),
    ("Point A", "Point C", "Point D", "Point B"),
    ("Gate B", "Gate A", "Gate D", "Gate C"),
    ("A only", "B only", "Both A and B", "Neither A nor B"),
    ("I only", "II only", "Both I and II", "Neither I nor II"),
    ("I", "II", "III", "IV"),
    ("S", "D", "R", "T", "P"),
    ("B", "A", "K", "D"),
    ("None of the above", "All of the above", "A and B", "It cannot be determined"),
    ("red", "dark red", "not red", "red and blue"),
    ("visible", "not visible", "partly visible", "no"),
    ("yes", "no"),
    ("yes", "no", "not sure"),
    ("3", "13", "3.5", "-3", "1/3", "3%"),
    ("3 m", "3 cm", "3.5 m", "30 m"),
    ("$5", "5", "5%", "5 °C"),
    ("135°", "140°", "145°", "150°"),
    ("the answer is B", "answer is A", "option C", "no answer"),
    ("The answer is A.", "The answer is B.", "The answer is C.", "The answer is D."),
    ("red", "blue", "Red", "green"),
    ("red", "red", "red", "blue"),
    ("A red car", "I am a sign", "a cat", "An exit"),
    ("Vitamin A", "Vitamin C", "Vitamin D", "Vitamin K"),
    ("the one on the left", "the one on the right", "the left", "the right one"),
    ("(A)", "(B)", "(C)", "(D)"),
    ("A+", "A", "B-", "C"),
    ("Cannot be seen", "It is not A", "It is B", "is C"),
    ("红色", "蓝色", "A栋", "B座"),
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    ("x > 5", "x < 5", "$x^2$", "\\frac{1}{2}"),
    ("Apple", "Banana.", "C. Cherry", "D"),
)


def main() -> int:
    """Read everything; 1 if a reading is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--benchmark", action="append", default=[], metavar="NAME=DATA")
    parser.add_argument("--letters", type=int, default=0, help="options of each question (default: all)")
    parser.add_argument(
        "--limit", type=int, default=0, help="questions of each file, drawn at random (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--show", type=int, default=10, help="examples of each family that were not read right"
    )
    arguments = parser.parse_args()

    random_ = random.Random(arguments.seed)
    sources: list[tuple[str, list[tuple[str, ...]]]] = [("hard", list(HARD))]
    sources += [(path.name, list(listed(path))) for path in arguments.questions]
    sources += [(entry, list(of_benchmark(entry))) for entry in arguments.benchmark]
    counts: Counter[tuple[str, str]] = Counter()
    totals: Counter[str] = Counter()
    shown: Counter[tuple[str, str]] = Counter()
    start = time.monotonic()
    for name, choices in sources:
        if arguments.limit and name != "hard" and len(choices) > arguments.limit:
            choices = random_.sample(choices, arguments.limit)
        before = sum(totals.values())
        for options in choices:
            for family, said, expected, got in readings(options, random_, arguments.letters):
                outcome = "right" if got == expected else "no answer" if got is None else "wrong"
                counts[family, outcome] += 1
                totals[outcome] += 1
                if outcome != "right" and shown[family, outcome] < arguments.show:
                    shown[family, outcome] += 1
                    print(f"{outcome} [{family}] {said!r} of {options}: {got}, expected {expected}")
        print(f"{name}: {len(choices)} questions, {sum(totals.values()) - before} readings")
    print(f"\n{'family':24} {'right':>9} {'no answer':>10} {'wrong':>6}")
    for family in dict.fromkeys(family for family, _ in counts):
        print(
            f"{family:24} {counts[family, 'right']:9} {counts[family, 'no answer']:10} "
            f"{counts[family, 'wrong']:6}"
        )
    print(f"{'all':24} {totals['right']:9} {totals['no answer']:10} {totals['wrong']:6}")
    print(f"{sum(totals.values())} readings in {time.monotonic() - start:.0f} s")
    return 1 if totals["wrong"] else 0


def listed(path: Path) -> Iterator[tuple[str, ...]]:
    """The options of the choice questions in a JSONL file."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and (choices := json.loads(line).get("choices")):
            yield tuple(map(str, choices))


def of_benchmark(entry: str) -> Iterator[tuple[str, ...]]:
    """The options of the choice questions of `NAME=DATA`, one of `p2r eval`'s benchmarks."""
    name, _, data = entry.partition("=")
    for row in open_benchmark(name, data or None).entries():
        if isinstance(row, Entry) and row.sample.question.choices:
            yield row.sample.question.choices


def readings(
    choices: Sequence[str], random_: random.Random, most: int
) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Family, text, expected letter and letter read, for every phrasing of every option of one question."""
    question = Question(b"", "Which one?", tuple(choices))
    letters = list(question.letters)
    texts = {bare(choice) for choice in choices}
    if most and len(letters) > most:
        letters = sorted(random_.sample(letters, most))
    for letter in letters:
        others = [other for other in question.letters if other != letter]
        random_.shuffle(others)
        names = {
            "L": letter,
            "l": letter.lower(),
            "T": text_of(question, letter),
            "O": others[0],
            "P": text_of(question, others[0]),
            "Q": others[-1],
        }
        phrasings = [(family, one, True) for family, texts in ASSERTING.items() for one in texts]
        phrasings += [(family, one, False) for family, texts in SILENT.items() for one in texts]
        for family, phrasing, asserts in phrasings:
            said = phrasing.format(**names)
            expected = letter if asserts else None
            if not fair(phrasing, family, question, letter) or (not asserts and bare(said) in texts):
                continue
            tagged = TAGGED.replace("{O}", others[0]).replace("{said}", said)
            yield family, tagged, expected, read_answer(tagged, question).value
            yield family, said, expected, read_answer(said, question, bare=True).value


def text_of(question: Question, letter: str) -> str:
    return question.choices[LETTERS.index(letter)]


_TWO_LETTERS = re.compile(r"\b[A-Z] (?:and|or) [A-Z]\b")


def fair(phrasing: str, family: str, question: Question, letter: str) -> bool:
    """Whether the label of a phrasing is valid for this question.

    The text of an option asserts it only if no other option may be meant by the same words: one with an equal
    text, or one whose letter the text is or mentions. A denial by text is one unless an option is that
    denial.
    """
    same = [
        one for one in question.letters if bare(text_of(question, one)) == bare(text_of(question, letter))
    ]
    if family == "text":
        text = text_of(question, letter)
        spoken = re.search(r"(?i:answer|option|choice|is)\s[(]?([A-Z])\b", text)
        return len(same) == 1 and not re.fullmatch(r"\W*[A-Za-z]\W*", text) and not spoken
    if family == "silent":
        return all(bare(text) not in phrasing.casefold() for text in question.choices if len(bare(text)) > 1)
    if family == "undecided" and text_of(question, letter).strip(".,()").upper() in question.letters:
        return False
    if family == "undecided" and any(_TWO_LETTERS.search(text) for text in question.choices):
        return False  # "A and B" may be the option of that text
    if phrasing == "It is not {T}.":
        return all("not" not in text and text.casefold() != "no" for text in question.choices)
    return True


def bare(text: str) -> str:
    return text.casefold().strip(" .,;:!?\"'()[]{}<>*`")


if __name__ == "__main__":
    sys.exit(main())
