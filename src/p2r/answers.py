"""The reasoner's text → `Answer`. Total: nothing here raises, and the model's text is all that is read.

`read_answer` takes the last closed answer tag after the thinking. For a choice question `read_option` then
reads the option: by its letter, by its exact text, or by a sentence that names one. A text that names two
different options, or none, or says which one it is not, has no answer; the reason says which.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from p2r.parse import split_thinking
from p2r.types import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from p2r.types import Question

MAX_OPTION_CHARS = 10_000  # a longer text is not the name of an option

_ANSWER_TAG = re.compile(r"<(/?)answer\s{0,8}>", re.IGNORECASE)


def read_answer(text: str, question: Question, *, bare: bool = False) -> Answer:
    """Read a reasoner's text; never raises.

    Args:
        text: what the model wrote.
        question: decides the form of the answer, and the letters.
        bare: the whole text after any thinking is the answer unless it holds a closed answer tag
            (mode `direct`).
    """
    _, thinking, after = split_thinking(text)
    if after is None:
        return Answer(None, thinking, "the thinking never ends", text)
    content = _last_closed(after)
    if content is None:
        if not bare:
            return Answer(None, thinking, "no closed answer tag after the thinking", text)
        content = _ANSWER_TAG.sub(" ", after).strip()
    if not content:
        return Answer(None, thinking, "the answer is empty", text)
    if not question.choices:
        return Answer(content, thinking, "", text)
    letter, reason = read_option(content, question)
    return Answer(letter, thinking, reason, text)


def _last_closed(text: str) -> str | None:
    start: int | None = None
    content: str | None = None
    for tag in _ANSWER_TAG.finditer(text):
        if not tag[1]:
            start = tag.end()
        elif start is not None:
            content, start = text[start : tag.start()].strip(), None
    return content


def read_option(text: str, question: Question) -> tuple[str | None, str]:
    """Which of the question's own options a text names; never raises.

    In this order: the letter alone ("B", "(b)", "B."); the exact text of one option; the letter with exactly
    that text ("B. red"); a sentence that names one option and no other ("The answer is B", "It is red.").

    Returns:
        `(letter, "")`, or `(None, why)`.
    """
    if not question.choices:
        return None, "the question has no options"
    if len(text) > MAX_OPTION_CHARS:
        return None, f"{len(text)} characters are too many for the name of an option"
    text = _tidy(text)
    options = {
        letter: _tidy(choice) for letter, choice in zip(question.letters, question.choices, strict=True)
    }
    alone = _ALONE.fullmatch(text)
    if alone and alone[1].upper() in options:
        return alone[1].upper(), ""
    same = _options_equal_to(text, options)
    if len(same) == 1:
        return same[0], ""
    pair = _LETTER_AND_TEXT.fullmatch(text)
    if pair and pair[1].upper() in options:
        told = _options_equal_to(pair[2], options)
        if told:
            return _verdict({pair[1].upper()}, set(told), set())
    return _read_sentence(text, options)


def _tidy(text: str) -> str:
    """One line without markup, in compatibility form: `**B**`, `\\boxed{B}` and a full-width B are B."""
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN_MARKS)
    text = _TEX_WRAPPER.sub(r"\1", _TEX_WRAPPER.sub(r"\1", _TEX_MATHS.sub(r"\1", text)))
    # A line break ends a sentence.
    lines = (" ".join(line.split()) for line in text.splitlines())
    return ". ".join(line for line in lines if line)


def _options_equal_to(text: str, options: dict[str, str]) -> list[str]:
    exact = [letter for letter, option in options.items() if option.casefold() == text.casefold()]
    if exact:
        return exact
    bare = text.casefold().strip(_EDGES)
    return [letter for letter, option in options.items() if bare and option.casefold().strip(_EDGES) == bare]


class _Mention(NamedTuple):
    letter: str
    start: int
    end: int


def _read_sentence(text: str, options: dict[str, str]) -> tuple[str | None, str]:
    mentions = _text_mentions(text, options)
    masked = text
    for mention in mentions:  # what an option's text says is not read again as letters
        masked = masked[: mention.start] + _MASK * (mention.end - mention.start) + masked[mention.end :]
    named = {mention.letter for mention in mentions}
    loose: set[str] = set()
    for mention, anchored in _letter_mentions(masked, options):
        mentions.append(mention)
        (named if anchored else loose).add(mention.letter)
        # "Gate B" may be the option B, or speak of an option whose text has a B of its own.
        loose |= {
            letter
            for letter, option in options.items()
            if letter != mention.letter and _has_letter(option, mention.letter)
        }
    denied = {mention.letter for mention in mentions if _is_denied(masked, mention)}
    return _verdict(named, loose, denied)


def _verdict(named: set[str], loose: set[str], denied: set[str]) -> tuple[str | None, str]:
    every = sorted(named | loose)
    if len(every) > 1:
        return None, f"names more than one option: {', '.join(every)}"
    if not named:
        return None, "names no option"
    if denied:
        return None, f"says that it is not {every[0]}"
    return every[0], ""


def _text_mentions(text: str, options: dict[str, str]) -> list[_Mention]:
    found = []
    for letter, option in options.items():
        if option.upper() in options or not option.strip(_EDGES):
            continue  # the text "B" of another option than B: a letter means the letter
        found += [_Mention(letter, *match.span()) for match in _whole_words(option).finditer(text)]
    found.sort(key=lambda mention: (mention.start, -mention.end))
    outermost: list[_Mention] = []
    for mention in found:
        last = outermost[-1] if outermost else None
        same = last and (last.start, last.end) == (mention.start, mention.end)
        if last is None or mention.end > last.end or same:
            outermost.append(mention)
    return outermost


def _whole_words(option: str) -> re.Pattern[str]:
    # "3" is neither in "13", "3.5", "-3", "1/3" nor "3%"; "red" is not in "red-brown".
    before = r"(?<![\w$€£])(?<!\w-)" + (r"(?<![-−+])(?<!\d[.,:/])" if option[0].isdecimal() else "")
    after = r"(?!\w|['-]\w)" + (r"(?![%°])(?![.,:/]\d)" if option[-1].isdecimal() else "")
    return re.compile(before + re.escape(option) + after, re.IGNORECASE)


def _letter_mentions(text: str, options: dict[str, str]) -> Iterator[tuple[_Mention, bool]]:
    """Letters of options, and whether the text says that it means the option."""
    for patterns, anchored in ((_ANCHORED, True), (_LOOSE, False)):
        for pattern in patterns:
            for match in pattern.finditer(text):
                letter = match[1].upper()
                if letter in options and not _is_word(text, match):
                    yield _Mention(letter, *match.span(1)), anchored


def _is_word(text: str, match: re.Match[str]) -> bool:
    """Whether an A is the article or an I the pronoun: a word follows that could be its own."""
    return match[1] in "aAI" and bool(_NEXT_WORD.match(text, match.end(1)))


def _has_letter(option: str, letter: str) -> bool:
    return any(match[1] == letter and not _is_word(option, match) for match in _STANDALONE.finditer(option))


def _is_denied(text: str, mention: _Mention) -> bool:
    before = text[max(0, mention.start - 40) : mention.start]
    after = text[mention.end : mention.end + 40]
    return bool(_DENIED_BEFORE.search(before) or _DENIED_AFTER.match(after))


_MASK = "\ufffc"  # "object replacement": neither a letter nor a sign that an answer holds
_EDGES = " .,;:!?\"'()[]{}<>"
_PLAIN_MARKS = str.maketrans({"*": "", "`": "", "‘": "'", "’": "'", "“": '"', "”": '"', "−": "-"})
_TEX_MATHS = re.compile(r"\$([^$]{1,200})\$(?!\d)")  # but "$5 or $6" is money
_TEX_WRAPPER = re.compile(r"\\(?:boxed|fbox|text|textbf|mathrm|mathbf)\{([^{}]{0,200})\}")

_ALONE = re.compile(r"[\s.,;:!?\"'()\[\]{}<>]*+([A-Za-z])[\s.,;:!?\"'()\[\]{}<>]*+")
# The sign between letter and text is needed: "A red car" is no "A. red car".
_LETTER_AND_TEXT = re.compile(r"[\s\"'(\[{<]*+([A-Za-z])\s?(?:[.):\]}>,=–—-]+\s?|\s(?=[\"'(]))+(.+)")

# What may follow a letter that stands for an option.
_END = r"(?=\s?(?:$|[.,;:!?)\]}\"'/(]|\s[-–—]|(?:because|since|as|is|or|and|but|nor|not)\b))(?!['.]\w)"
_NEXT_WORD = re.compile(rf"\s(?!(?:because|since|as|is|or|and|but|nor|not|[A-Z])\b)[\w{_MASK}]")
_STANDALONE = re.compile(r"(?<![\w'.&-])([A-Z])(?![\w'&]|[.-]\w)")
_ANCHORED = [
    re.compile(pattern)
    for pattern in (
        r"^[\"'(\[{<]{0,3}([A-Za-z])[.):\]}>](?=\s|$)",  # "B. …", "(b) …"
        rf"^[\"'(\[{{<]{{0,3}}([A-Z]){_END}",  # "B, because …"
        r"^([A-Z])\s(?=\w)",  # "B obviously"
        r"(?<!\w)[(\[]\s?([A-Za-z])\s?[)\]]",  # "… (b) …"
        # After a cue, in either case: the answer is B; option b.
        rf"(?i:\b(?:answer|option|choice|letter)\b[\s\"'(:=]{{0,4}}"
        rf"(?:(?:is|be|would be|should be|must be)\b[\s\"'(:]{{0,4}})?(?:option\s|choice\s|letter\s)?)"
        rf"[\"'(\[]{{0,2}}([A-Za-z]){_END}",
        # After a verb: I choose B; so it's B.
        rf"(?i:\b(?:is|it's|be|choose|chose|pick|select|with|say|think|guess|so|thus|therefore)),?\s([A-Z]){_END}",
        r"(?<![\w'.&-])([A-Z])\sis\s(?:the\s)?(?:correct|right|best|answer)",  # "… B is correct"
        r"(?<![\w'.&-])([A-Z])[.!)\]}\"']{0,3}$",  # "probably B."
        r"[:=>→]\s?([A-Za-z])[.!)\]}\"']{0,3}$",  # "final: b"
    )
]
_LOOSE = [_STANDALONE]

_DENIED_BEFORE = re.compile(
    r"(?i:\b(?:not|never|neither|nor|cannot be|except|excluding)|n't)"
    r"(?:\s(?:the|a|an|be|option|choice|answer|letter)){0,3}[\s\"'(]{1,3}$"
)
_DENIED_AFTER = re.compile(
    r"(?i:[\s\"').]{0,3}(?:is|are|was|would be|seems)(?:n't|\s(?:not|wrong|incorrect|false|never))\b)"
)
