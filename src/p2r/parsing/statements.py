"""Which option a sentence asserts.

Every mention of an option, by letter or by text, has a strength:

- `ANSWER`: a statement of the answer. "The answer is B", "I choose B", a box.
- `CORRECT`: "B is correct".
- `CLAIM`: a statement that does not say "answer". "It is B", "so B", a letter that is a sentence of its own.
- `NAMED`: named as an option, or by its text. "(b)", "option B", "It is blue".
- `BARE`: a letter that may be anything. "Vitamin C".

A mention that is denied ("not B", "B is wrong", "whether B", "anything but B") asserts nothing. Of the
others, the statements of the answer count, with their corrections; else what is said to be correct; else
the letter that the text starts with ("(B) blue, …"); else every mention. What counts must name one and the
same option.
"""

from __future__ import annotations

import re
from itertools import chain, pairwise
from typing import TYPE_CHECKING, NamedTuple

from p2r.parsing import _statement_patterns as patterns
from p2r.parsing._statement_patterns import ANSWER, BARE, CLAIM, CORRECT, MASK, NAMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

WINDOW = 80  # characters around a mention in which a denial is looked for
CONCLUSION = 300  # characters at the end of a text in which an option that is only mentioned counts


class Mention(NamedTuple):
    """A mention of an option.

    Attributes:
        letters: the options that it may mean; several where options have equal texts.
        start, end: where it is.
        strength: `BARE`, `NAMED`, `CLAIM`, `CORRECT` or `ANSWER`.
        by_text: by the option's text, not by its letter.
    """

    letters: frozenset[str]
    start: int
    end: int
    strength: int
    by_text: bool = False


def read_statement(text: str, options: Mapping[str, str]) -> tuple[str | None, str]:
    """The option that a text asserts: `(letter, "")`, or `(None, why)`; never raises.

    Args:
        text: as `thinking.plain` returns it.
        options: letter → text of the option, likewise.
    """
    texts = _text_mentions(text, options)
    masked = text
    for mention in texts:  # what an option's text says is not read again as letters
        masked = masked[: mention.start] + MASK * (mention.end - mention.start) + masked[mention.end :]
    mentions = _joined_pairs(_mentions(text, masked, texts, options), masked, options)
    denied = _denied(mentions, masked)
    held = [mention for mention in mentions if mention not in denied]
    named = _what_counts(held, masked, options)
    letters = [mention.letters for mention in named]
    if named and len(common := frozenset.intersection(*letters)) == 1:
        return next(iter(common)), ""
    union = frozenset[str]().union(*(letters or [mention.letters for mention in mentions]))
    if len(union) > 1 and (named or denied or not any(mention.strength for mention in held)):
        return None, f"names more than one option: {', '.join(sorted(union))}"
    if denied and union:
        return None, f"says that it is not {next(iter(union))}"
    return None, "names no option"


def options_equal_to(text: str, options: Mapping[str, str]) -> set[str]:
    """The options whose text this is, apart from case and, if none is equal, punctuation at the ends."""
    text = text.casefold()
    exact = {letter for letter, option in options.items() if option.casefold() == text}
    if exact or not (text := text.strip(patterns.EDGES)):
        return exact
    return {letter for letter, option in options.items() if option.casefold().strip(patterns.EDGES) == text}


# What counts.


def _what_counts(held: Sequence[Mention], masked: str, options: Mapping[str, str]) -> list[Mention]:
    strongest = max((mention.strength for mention in held), default=BARE)
    if strongest >= CORRECT:
        stated = [mention for mention in held if mention.strength == strongest]
        # "The answer is A. No, it is B." takes the answer back.
        after = stated[-1].end
        claims = [mention for mention in held if mention.strength >= CLAIM and mention.start >= after]
        return [*stated, *claims, *_alternatives(stated, held, masked)]
    if lead := _lead(held, masked):
        claims = [
            mention
            for mention in held
            if mention is not lead and (mention.strength == CLAIM or _is_labeled(mention, masked))
        ]
        return [lead, *claims, *_same_sentence(lead, held, masked), *_alternatives([lead], held, masked)]
    # What a long text only mentions, it does not conclude, unless it ends with it.
    last = max((mention.end for mention in held if mention.strength == strongest), default=0)
    if strongest == BARE or len(masked) - last > CONCLUSION:
        return []
    # "Gate B" may be the option B, or mention an option whose text contains a B.
    spoken = [
        Mention(frozenset(letter), mention.start, mention.end, BARE)
        for mention in held
        if not mention.by_text
        for letter, option in options.items()
        if letter not in mention.letters and any(_has_letter(option, own) for own in mention.letters)
    ]
    return [*held, *spoken]


def _lead(held: Sequence[Mention], masked: str) -> Mention | None:
    """The letter that the text starts with, as "B. …" or "(b) …"; not the first of a list of options."""
    found = patterns.LEAD.match(masked)
    start = found.start(1) if found else -1
    return next((mention for mention in held if mention.start <= start < mention.end), None)


def _is_labeled(mention: Mention, masked: str) -> bool:
    """Whether a letter starts a part, as in "A: red, B: blue", or is beside its own text."""
    if mention.by_text:
        return False
    starts = patterns.PART_START.search(masked, max(0, mention.start - 8), mention.start)
    return mention.end - mention.start > 1 or bool(starts and patterns.LABEL.match(masked, mention.start))


def _same_sentence(lead: Mention, held: Sequence[Mention], masked: str) -> list[Mention]:
    """Option texts in the sentence of the lead, where they mention other options only."""
    stop = patterns.SENTENCE_END.search(masked, lead.end)
    end = stop.start() if stop else len(masked)
    found = [mention for mention in held if mention.by_text and lead.end <= mention.start < end]
    return [] if any(mention.letters & lead.letters for mention in found) else found


def _alternatives(chosen: Iterable[Mention], held: Sequence[Mention], masked: str) -> list[Mention]:
    """Mentions that an "or", "and" or comma puts beside a chosen one."""
    chosen = set(chosen)
    found = []
    for left, right in pairwise(held):
        if (left in chosen or right in chosen) and patterns.OR.fullmatch(masked, left.end, right.start):
            found += [left, right]
    return found


# Denials.


def _denied(mentions: Sequence[Mention], masked: str) -> set[Mention]:
    denied: set[Mention] = set()
    for previous, mention in zip([None, *mentions], mentions, strict=False):
        spread = previous in denied and patterns.OR.fullmatch(masked, previous.end, mention.start)
        if spread or _is_denied_before(masked, mention) or _is_denied_after(masked, mention):
            denied.add(mention)
    return denied


def _is_denied_before(masked: str, mention: Mention) -> bool:
    before = masked[max(0, mention.start - WINDOW) : mention.start]
    sentence = before[max((end.end() for end in patterns.SENTENCE_END.finditer(before)), default=0) :]
    clause = sentence[max((end.end() for end in patterns.CLAUSE_END.finditer(sentence)), default=0) :]
    return bool(patterns.DENIAL.search(clause) or patterns.SUPPOSITION.match(sentence))


def _is_denied_after(masked: str, mention: Mention) -> bool:
    end = mention.end + WINDOW
    stop = patterns.SENTENCE_END.search(masked, mention.end, end)
    is_question = stop is not None and stop[0] == "?"
    return is_question or bool(patterns.DENIED_AFTER.match(masked, mention.end, end))


# Mentions.


def _mentions(text: str, masked: str, texts: Sequence[Mention], options: Mapping[str, str]) -> list[Mention]:
    """All mentions in order; where several patterns see one, the strongest counts."""
    at = {mention.start: mention for mention in texts}
    listed = _listed(masked)

    def see(mention: Mention) -> None:
        if mention.start in listed:
            mention = mention._replace(strength=min(mention.strength, NAMED))
        if mention.start not in at or at[mention.start].strength < mention.strength:
            at[mention.start] = mention

    for mention in _seen(masked, dict(at), options):
        see(mention)
    # Of an option whose text is "is B" and the statement "The answer is B", either may be meant.
    for start, letter in stated_letters(text, options):
        for mention in texts:
            if mention.start < start < mention.end:
                see(Mention(frozenset(letter), start, start + 1, ANSWER))
                see(mention._replace(strength=ANSWER))
    for box in patterns.BOX.finditer(masked):
        inside = [mention for mention in at.values() if box.start() <= mention.start < box.end()]
        for mention in inside:
            if len(inside) == 1 or mention.strength > BARE:
                see(mention._replace(strength=ANSWER))
    return sorted(at.values(), key=lambda mention: mention.start)


def _seen(masked: str, texts: Mapping[int, Mention], options: Mapping[str, str]) -> Iterator[Mention]:
    """What the patterns see: letters of options, and texts, which are `MASK` now."""
    for strength, seen in patterns.PATTERNS.items():
        for match in chain.from_iterable(pattern.finditer(masked) for pattern in seen):
            start, end = match.span(match.lastindex or 0)
            letter = masked[start].upper()
            if letter == MASK:
                if start in texts:
                    yield texts[start]._replace(strength=strength)
            elif letter in options and not _is_word(masked, start):
                yield Mention(frozenset(letter), start, end, strength)


def _text_mentions(text: str, options: Mapping[str, str]) -> list[Mention]:
    found: dict[tuple[int, int], set[str]] = {}
    for letter, option in options.items():
        name = option.strip(patterns.EDGES).upper()
        if name in options or not name:
            continue  # the text "B" or "(b)" of another option than B: a letter means the letter
        for match in _whole_words(option).finditer(text):
            if len(option) > 1 or not _is_word(text, match.start()):
                found.setdefault(match.span(), set()).add(letter)
    outermost: list[Mention] = []
    for (start, end), letters in sorted(found.items(), key=lambda one: (one[0][0], -one[0][1])):
        if not outermost or end > outermost[-1].end:
            outermost.append(Mention(frozenset(letters), start, end, NAMED, by_text=True))
    return outermost


def _whole_words(option: str) -> re.Pattern[str]:
    # "3" is neither in "13", "3.5", "-3", "1/3" nor "3%"; "red" is not in "red-brown".
    before = r"(?<![\w$€£])(?<!\w[-'])" + (r"(?<![-−+])(?<!\d[.,:/])" if option[0].isdecimal() else "")
    after = r"(?!\w|['-]\w)" + (r"(?![%°])(?![.,:/]\d)" if option[-1].isdecimal() else "")
    if any(char.isdecimal() for char in option):  # nor a number in a calculation
        before, after = before + r"(?<![+*/×÷-]\s)", after + r"(?!\)?\s?[+*/×÷]|\)?\s-\s)"
    if option.casefold() in patterns.FUNCTION_WORDS:  # "no" in "no doubt", "neither" in "neither (A) nor (B)"
        after += r"(?!\s\w|\s\(\w\)\s(?:n?or|and)\b)"
    # One letter is a name: the option "S" is not in "it's".
    return re.compile(before + re.escape(option) + after, 0 if len(option) == 1 else re.IGNORECASE)


def _joined_pairs(mentions: Sequence[Mention], masked: str, options: Mapping[str, str]) -> list[Mention]:
    """Letter and text side by side, as in "(B) blue" and "blue (B)", made one mention.

    If they contradict each other, "(A) blue", both get the higher strength.
    """
    joined: list[Mention] = []
    for mention in mentions:
        last = joined[-1] if joined else None
        beside = last and patterns.BESIDE.fullmatch(masked, last.end, mention.start)
        if last and beside:
            strength = max(last.strength, mention.strength)
            if last.by_text != mention.by_text:
                common = last.letters & mention.letters
            else:  # a text that is a letter itself: "B. D"
                common = frozenset(one for one in last.letters if options[one].upper() in mention.letters)
            if common:
                joined[-1] = Mention(common, last.start, mention.end, strength)
                continue
            # But "B. Red is elsewhere" starts another sentence.
            apart = patterns.NEW_SENTENCE.match(beside[0]) and not patterns.AT_END.match(masked, mention.end)
            if last.by_text != mention.by_text and not apart:
                joined[-1] = last._replace(strength=strength)
                mention = mention._replace(strength=strength)
        joined.append(mention)
    return joined


def _listed(masked: str) -> set[int]:
    """Where lines start with letters in order, "A. …", "B. …": a list of the options, no answer."""
    labels = [match.start(1) for match in patterns.LABELLED_LINE.finditer(masked)]
    pairs = [pair for pair in pairwise(labels) if ord(masked[pair[1]]) == ord(masked[pair[0]]) + 1]
    return set(chain.from_iterable(pairs))


def stated_letters(text: str, options: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Where a text states a letter of an option as the answer, and which; no matter whose text it is in."""
    for pattern in (*patterns.PATTERNS[ANSWER], patterns.STATES_A_LETTER):
        for match in pattern.finditer(text):
            start = match.start(match.lastindex or 0)
            if text[start].upper() in options and not _is_word(text, start):
                yield start, text[start].upper()


def _is_word(text: str, start: int) -> bool:
    """Whether an A is the article or an I the pronoun: a word follows that could be its own."""
    if text[start] == "A" and not patterns.SENTENCE_START.search(text, max(0, start - 8), start):
        return False
    return text[start] in "aAI" and bool(patterns.NEXT_WORD.match(text, start + 1))


def _has_letter(option: str, letter: str) -> bool:
    found = (match.start() for match in patterns.STANDALONE.finditer(option) if match[1] == letter)
    return any(not _is_word(option, start) for start in found)
