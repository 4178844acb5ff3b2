"""Options and instructions in the text of a question, as people, benchmarks and harnesses write them.

Which color is the glove?        Which color is the glove? (A) red (B) blue
A. red
B. blue
Answer with the option's letter from the given choices directly.

The server, the command line and the readers of benchmarks share this reader, so that they show a model the
same question in the same way.

Options have letters from A on, without a gap. At the start of a line a mark is `A.`, `(A)`, `[A]`, `A)`,
`A:` or `A -`, also in bold, behind a bullet or the word "Option", in lower case or in full-width forms. A
bare `A` counts only where every line down to the end has the next letter. Within a line a mark is `(A)`,
`[A]`, `A)`, `A.` or `A:` behind the end of a sentence: "What is written at (A) and at (B)?" has no options.

An instruction is a sentence that only says how to answer: it mentions an answer, an option or a choice, and
all of its words are words of instructions. A sentence with any other word belongs to the question.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from p2r.types import LETTERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Split a text into the question and its options, A, B, … in order; `()` where it has none.

    Instructions before, between and behind the question and its options are left out, and so are the label
    "Question:" and headings such as "Options:". Other text behind the options belongs to the question. From
    a text without options only sentences that request a letter are left out. The options are as
    `legal_choices` gives them. The question is empty where there is nothing but options.

    Letters that repeat or are missing make options unreadable: such a text has none.
    """
    narrow = text.translate(_NARROW)
    marks = _lettered_lines(narrow) or _bare_lines(narrow)
    within = not marks
    marks = marks or _within_a_line(narrow)
    if not marks:
        return _without_instructions(text, only_letters=True).strip(), ()
    options = [text[mark.end : after.start] for mark, after in pairwise(marks)]
    last, behind = _split_last(text[marks[-1].end :])
    body = _LABEL.sub("", _without_instructions(text[: marks[0].start])).strip()
    behind = _LABEL.sub("", _without_instructions(behind, even_all=True)).strip()
    question = "\n".join(part for part in (body, behind) if part)
    return question, legal_choices([_tidy(option, within=within) for option in [*options, last]])


def reply_format(text: str) -> str:
    r"""The form of reply that a text demands, with `$LETTER` in the place of the letter; empty for none.

    "… of the following format: 'ANSWER: $LETTER' (without quotes) …" gives `ANSWER: $LETTER`. A request
    for `\boxed{}` or answer tags gives `\boxed{$LETTER}` or `<answer>$LETTER</answer>`.
    """
    if line := _REPLY_LINE.search(text):
        return rf"{line['words']}: \boxed{{$LETTER}}" if line["box"] else f"{line['words']}: $LETTER"
    if _REPLY_BOX.search(text):
        return r"\boxed{$LETTER}"
    return "<answer>$LETTER</answer>" if _REPLY_TAGS.search(text) else ""


def without_mark(option: str) -> str:
    """One option without its letter, stripped: `(A) red` and `A. red` are `red`."""
    option = option.strip()
    mark = _LINE_MARK.match(option.translate(_NARROW))
    return option[mark.end() :] if mark else option


def without_marks(options: Sequence[str]) -> list[str]:
    """The options of a list without their letters, stripped; bare ones (`A red`) if each has its own."""
    options = [option.strip() for option in options]
    bare = [_BARE_MARK.match(option) for option in options]
    if all(mark and mark[1] == letter for mark, letter in zip(bare, LETTERS, strict=False)):
        return [option[1:].strip() for option in options]
    return [without_mark(option) for option in options]


def legal_choices(found: Sequence[str]) -> tuple[str, ...]:
    """Options as a `Question` takes them, in place, each on one line: empty ones become a dash.

    Benchmarks contain such rows, and their letters must not change. Nothing that holds a letter is added: the
    reader of answers would take it for an option.
    """
    return tuple(" ".join(option.split()) or "—" for option in found)


class _Mark(NamedTuple):
    letter: str
    start: int
    end: int


def _marks(pattern: re.Pattern[str], text: str) -> list[_Mark]:
    return [_Mark(match[match.lastindex or 0], *match.span()) for match in pattern.finditer(text)]


def _lettered_lines(text: str) -> list[_Mark]:
    found = _marks(_LINE_MARK, text)
    return _last_run(found, LETTERS) or _last_run(found, LETTERS.lower())


def _last_run(marks: Sequence[_Mark], letters: str) -> list[_Mark]:
    """The marks from the last A on, if they are two or more in order; earlier ones belong to the question."""
    run = [mark for mark in marks if mark.letter in letters]
    found = "".join(mark.letter for mark in run)
    start = max(found.rfind(letters[0]), 0)
    return run[start:] if len(found) - start >= 2 and letters.startswith(found[start:]) else []


def _bare_lines(text: str) -> list[_Mark]:
    run: list[_Mark] = []
    position = 0
    for line in _LINE.findall(text):
        mark = _BARE_MARK.match(line)
        if mark and mark[1] == "A":
            run = []
        if mark and mark[1] == LETTERS[len(run) : len(run) + 1]:
            run.append(_Mark(mark[1], position, position + mark.end()))
        elif line.strip() and not _is_instruction(line):
            run = []
        position += len(line)
    return run if len(run) >= 2 else []


def _within_a_line(text: str) -> list[_Mark]:
    for pattern in _WITHIN:
        found = _marks(pattern, text)
        for letters in (LETTERS, LETTERS.lower()):
            run: list[_Mark] = []
            for mark in found:
                wanted = letters[len(run) : len(run) + 1]
                if mark.letter == wanted and (run or _may_begin(text, mark)):
                    run.append(mark)
            if len(run) >= 2 and _are_options(text, run):
                return run
    return []


def _may_begin(text: str, mark: _Mark) -> bool:
    asked = text[: mark.start].rstrip()
    return not asked or asked[-1] in _ENDS or "\n" in text[len(asked) : mark.start]


def _are_options(text: str, run: Sequence[_Mark]) -> bool:
    """Whether marks within a line precede options, and not things that a sentence mentions."""
    lines = {mark.start for mark in _marks(_LINE_MARK, text) if mark.start >= run[0].start}
    if not lines <= {mark.start for mark in run}:
        return False  # a letter twice, or one that is missing
    ends = [*(mark.start for mark in run[1:]), len(text)]
    options = [text[mark.end : end].strip() for mark, end in zip(run, ends, strict=True)]
    if any(_CONNECTIVE.match(option) for option in options):
        return False
    if text[: run[0].start].rstrip().endswith("?"):
        return True
    return not any(option.endswith(" and") for option in options) and not _ASKS_BEHIND.search(options[-1])


def _split_last(text: str) -> tuple[str, str]:
    """The last option, and the text behind it.

    A blank line ends the option, and so does a line that begins as instructions do. In the option's own line
    the instructions at its end are cut off. Its first words are always the option.
    """
    lines = _LINE.findall(text)
    end = next((number for number, line in enumerate(lines) if number and _begins_new_text(line)), len(lines))
    pieces = list(_sentences("".join(lines[:end])))
    while len(pieces) > 1 and pieces[-1][1]:
        pieces.pop()
    option = "".join(piece for piece, _ in pieces)
    return option, text[len(option) :]


def _begins_new_text(line: str) -> bool:
    """Whether a line does not continue an option."""
    asks = line[:1].isupper() and line.rstrip().endswith("?")
    return not line.strip() or asks or bool(_BEGINS_ANEW.match(line)) or _is_instruction(line)


def _tidy(option: str, *, within: bool) -> str:
    option = " ".join(option.split())
    if option.endswith("**") and option.count("**") % 2:
        option = option[:-2]
    return _SEPARATOR.sub("", option) if within else option


def _without_instructions(text: str, *, only_letters: bool = False, even_all: bool = False) -> str:
    """The text without its instructions; as it was if it holds nothing else, unless `even_all`."""
    others = "".join(piece for piece, instruction in _sentences(text, only_letters) if not instruction)
    return others if even_all or others.strip() else text


def _sentences(text: str, only_letters: bool = False) -> Iterator[tuple[str, bool]]:
    """The sentences of a text, which add up to it, and whether each is an instruction or continues one."""
    starts = [0, *(match.start() for match in _SENTENCE_START.finditer(text)), len(text)]
    instruction = False
    for start, end in pairwise(starts):
        if start < end:
            sentence = text[start:end]
            if sentence.strip():
                instruction = _is_instruction(sentence, only_letters, continued=instruction)
            elif sentence.count("\n") > 1:
                instruction = False
            yield sentence, instruction


def _is_instruction(sentence: str, only_letters: bool = False, *, continued: bool = False) -> bool:
    """Whether a sentence only says how to answer; with `only_letters`, that the answer is a letter."""
    sentence = sentence.strip().translate(_NARROW)
    if sentence.endswith("?"):
        return False
    if _CHINESE.match(sentence):
        return True
    words = {word for word in _WORD.findall(sentence.lower()) if len(word) > 1}
    speaks_of_answers = words & _KEY_WORDS and (not only_letters or words & {"letter", "letters"})
    goes_on = continued and not any(char.isdecimal() for char in sentence)
    return bool(speaks_of_answers or goes_on) and words <= _INSTRUCTION_WORDS


# Full-width forms and typographic quotation marks, one character for one.
_NARROW = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    | {"、": ".", "。": ".", "【": "[", "】": "]", "’": "'", "‘": "'", "“": '"', "”": '"', "\u3000": " "}
)

_BRACKETS = r"(?:\(([A-Za-z])\.?\)|\[([A-Za-z])\]|<([A-Za-z])>|\{([A-Za-z])\})"
_LINE_MARK = re.compile(
    r"^[ \t]*(?:[-*+•·▪>][ \t]+)?[*_`]{0,3}(?:(?:[Oo]ption|[Cc]hoice)[ \t]+)?"
    rf"(?:{_BRACKETS}|([A-Za-z])[*_`]{{0,3}}(?:\.?\)|[.:\]]|[ \t]+[-–—=](?=[ \t])))"
    r"[*_`]{0,3}(?:[.:](?=\s))?[ \t]*",
    re.MULTILINE,
)
_BARE_MARK = re.compile(r"[ \t]*(?:\*\*)?([A-Z])(?:\*\*)?(?:[ \t]+(?=\S)|\s*$)")
_WITHIN = [
    re.compile(rf"{before}[*_`]{{0,3}}(?:[Oo]ption )?{mark}[*_`]{{0,3}}(?:[.:](?=\s))?\s*")
    for before, mark in (
        (r"(?<![A-Za-z0-9_])", _BRACKETS),
        (r"(?<!\S)", r"([A-Za-z])\.?\)"),
        (r"(?<!\S)", r"([A-Za-z])\.(?![A-Za-z]\.)"),
        (r"(?<!\S)", r"([A-Za-z]):"),
    )
]
_ENDS = ".?!:;)]\"'"
_CONNECTIVE = re.compile(r"(?:and|or|vs|versus)\b|[,;]|[.?!]*$")
_ASKS_BEHIND = re.compile(r"[.!]\s.*\?$", re.DOTALL)
_SEPARATOR = re.compile(r" ?[,;|/·•](?: (?:or|and))?$| or$")

_LABEL = re.compile(
    r"^[ \t]*(?:Hint:[ \t]*)?(?:[*_]{0,2}Question[*_]{0,2}[ \t]*:[*_]{0,2}[ \t]*|$)", re.MULTILINE
)
# A line that begins so does not continue an option.
_BEGINS_ANEW = re.compile(
    r"[ \t]*(?:ANSWER|Answer|Respond|Reply|Select|Choose|Pick|Please|Note|Hint|Question|Remember|Only|Output"
    r"|Give|Provide|Return|Explain|Think|First|Do not|Don't|Let's|Your|If"
    r"|The (?:best|correct|right|final|answer))\b"
)
# A sentence begins on a new line, behind the end of another, and before words that begin an instruction.
_SENTENCE_START = re.compile(
    r"^|(?<=[.!?;])\s+(?=\S)|(?<=[.!?;][\"')\]])\s+(?=\S)|(?<=[。？！])(?=.)"
    r"|(?<=\s)(?=Options:|Choices:|(?:Please|Answer|Respond|Reply|Select|Choose|Pick"
    r"|The (?:choices|options|possible|best|correct|answer))\b)",
    re.MULTILINE,
)

_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_SPEAKS_OF_ANSWERS = """
    answer answers answering choice choices choose option option's options pick reply respond response select
    selecting
"""
_OTHER_WORDS = """
    about above according additional after an and any anything appropriate are as at available avoid based
    be been before being below best between boxed briefly by can capital capitalized carefully character
    consider considering content correct corresponding directly do don't each eg else enclose enclosed end
    english entire exact exactly example explain explanation explanations final finally first focus follow
    following for form format from give given here hint id image images in include including indicate
    input inside is it its itself just key last let let's letter letters line lines list listed lowercase
    make mark may me more most multi multiple must my need no not note nothing now of on once one only or
    other output perform photo phrase picture pictures please possible preceding process provide provided
    put question questions quotes reasoning return right same should show shown simply single solely solve
    state step steps strictly suitable sure tag tags tasked text than that the then there these think this
    those to two uppercase use using valid video videos we where will with within without word words write
    yes you your
"""
_KEY_WORDS = frozenset(_SPEAKS_OF_ANSWERS.split())
_INSTRUCTION_WORDS = _KEY_WORDS.union(_OTHER_WORDS.split())
_CHINESE = re.compile(
    r"请.*(?:选项|字母).*(?:回答|作答)|请.*(?:回答|作答|选择|给出|输出).*(?:字母|选项)"
    r"|根据.{0,8}选择.*答案|只需.*(?:选项|字母)|(?:最佳)?答案[为是]?:$|选项.{0,4}:$"
)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")

_REPLY_LINE = re.compile(
    r"(?P<words>(?i:(?:the )?(?:final )?answer))\s?[:：]\s?(?P<box>\$?\\boxed\{)?[\[<{(]?\$?"
    r"(?:LETTERS?\b|(?:(?:selected|your|the) )?(?i:option|letter|choice)s?\b(?=\s?[\]>})]))"
)
_REPLY_BOX = re.compile(r"\\boxed\s?\{")
_REPLY_TAGS = re.compile(r"<answer>.{0,40}?</answer>", re.DOTALL)
