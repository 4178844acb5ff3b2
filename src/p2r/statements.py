"""Which option a sentence asserts.

Every mention of an option, by letter or by text, has a strength:

- `ANSWER`: a statement of the answer. "The answer is B", "I choose B", a box.
- `CORRECT`: "B is correct".
- `CLAIM`: a statement that does not say "answer". "It is B", "so B", a letter that is a sentence of its own.
- `NAMED`: named as an option, or by its text. "(b)", "option B", "It is blue".
- `LOOSE`: a letter that may be anything. "Vitamin C".

A mention that is denied ("not B", "B is wrong", "whether B", "anything but B") asserts nothing. Of the others, the
statements of the answer count, and what takes them back; else what is said to be correct; else the letter that the
text starts with ("(B) blue, …"); else every mention. What counts must name one and the same option.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, NamedTuple

from p2r.markup import BOX_CLOSE, BOX_OPEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

LOOSE, NAMED, CLAIM, CORRECT, ANSWER = range(5)
WINDOW = 80  # characters around a mention in which a denial is looked for
CONCLUSION = 300  # characters at the end of a text in which an option that is only mentioned counts


class Mention(NamedTuple):
    """A mention of an option.

    Attributes:
        letters: the options that it may mean; several where options have equal texts.
        start, end: where it is.
        strength: `LOOSE`, `NAMED`, `CLAIM`, `CORRECT` or `ANSWER`.
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
        text: as `markup.plain` returns it.
        options: letter → text of the option, likewise.
    """
    texts = _text_mentions(text, options)
    masked = text
    for mention in texts:  # what an option's text says is not read again as letters
        masked = masked[: mention.start] + _MASK * (mention.end - mention.start) + masked[mention.end :]
    mentions = _joined_pairs(_mentions(text, masked, texts, options), masked, options)
    denied = _denied(mentions, masked)
    held = [mention for mention in mentions if mention not in denied]
    named = _what_counts(held, masked, options)
    letters = [mention.letters for mention in named]
    if named and len(common := frozenset.intersection(*letters)) == 1:
        return next(iter(common)), ""
    union = frozenset[str]().union(*(letters or [mention.letters for mention in [*held, *denied]]))
    if len(union) > 1 and (named or denied or not any(mention.strength for mention in held)):
        return None, f"names more than one option: {', '.join(sorted(union))}"
    if denied and union:
        return None, f"says that it is not {next(iter(union))}"
    return None, "names no option"


def options_equal_to(text: str, options: Mapping[str, str]) -> set[str]:
    """The options whose text this is, apart from case and, if none is equal, punctuation at the ends."""
    exact = {letter for letter, option in options.items() if option.casefold() == text.casefold()}
    bare = text.casefold().strip(_EDGES)
    return exact or {
        letter for letter, option in options.items() if bare and option.casefold().strip(_EDGES) == bare
    }


# What counts.


def _what_counts(held: Sequence[Mention], masked: str, options: Mapping[str, str]) -> list[Mention]:
    strongest = max((mention.strength for mention in held), default=LOOSE)
    if strongest >= CORRECT:
        stated = [mention for mention in held if mention.strength == strongest]
        # "The answer is A. No, it is B." takes the answer back.
        after = stated[-1].end
        claims = [mention for mention in held if mention.strength >= CLAIM and mention.start >= after]
        return [*stated, *claims, *_alternatives(stated, held, masked)]
    lead = _lead(held, masked)
    if lead:
        others = [
            mention
            for mention in held
            if mention is not lead
            and (
                mention.strength == CLAIM or (not mention.by_text and _LABELLED.match(masked, mention.start))
            )
        ]
        return [lead, *others, *_same_sentence(lead, held, masked), *_alternatives([lead], held, masked)]
    # What a long text only mentions, it does not conclude, unless it ends with it.
    if strongest == LOOSE or all(
        len(masked) - mention.end > CONCLUSION for mention in held if mention.strength == strongest
    ):
        return []
    # "Gate B" may be the option B, or speak of an option whose text has a B of its own.
    spoken = [
        Mention(frozenset(letter), mention.start, mention.end, LOOSE)
        for mention in held
        if not mention.by_text
        for letter, option in options.items()
        if letter not in mention.letters and any(_has_letter(option, own) for own in mention.letters)
    ]
    return [*held, *spoken]


def _lead(held: Sequence[Mention], masked: str) -> Mention | None:
    """The letter that the text starts with, as "B. …" or "(b) …"; not the first of a list of options."""
    found = _LEAD.match(masked)
    if not found:
        return None
    return next((mention for mention in held if mention.start <= found.start(1) < mention.end), None)


def _same_sentence(lead: Mention, held: Sequence[Mention], masked: str) -> list[Mention]:
    """Option texts in the sentence of the lead, where they speak of other options only."""
    stop = _SENTENCE_END.search(masked, lead.end)
    end = stop.start() if stop else len(masked)
    found = [mention for mention in held if mention.by_text and lead.end <= mention.start < end]
    return [] if any(mention.letters & lead.letters for mention in found) else found


def _alternatives(chosen: Iterable[Mention], held: Sequence[Mention], masked: str) -> list[Mention]:
    """Mentions that an "or", "and" or comma puts beside a chosen one."""
    places = {mention: place for place, mention in enumerate(held)}
    found = []
    for mention in chosen:
        place = places[mention]
        for left, right in ((place - 1, place), (place, place + 1)):
            if 0 <= left and right < len(held) and _OR.fullmatch(masked, held[left].end, held[right].start):
                found.append(held[left if right == place else right])
    return found


# Denials.


def _denied(mentions: Sequence[Mention], masked: str) -> set[Mention]:
    denied: set[Mention] = set()
    previous: Mention | None = None
    for mention in mentions:
        spread = (
            previous in denied and _OR.fullmatch(masked, previous.end, mention.start) if previous else None
        )
        if spread or _is_denied_before(masked, mention) or _is_denied_after(masked, mention):
            denied.add(mention)
        previous = mention
    return denied


def _is_denied_before(masked: str, mention: Mention) -> bool:
    before = masked[max(0, mention.start - WINDOW) : mention.start]
    sentence = before[max((end.end() for end in _SENTENCE_END.finditer(before)), default=0) :]
    clause = sentence[max((end.end() for end in _CLAUSE_END.finditer(sentence)), default=0) :]
    return bool(_DENIAL.search(clause) or _SUPPOSITION.match(sentence))


def _is_denied_after(masked: str, mention: Mention) -> bool:
    return bool(_DENIED_AFTER.match(masked, mention.end, mention.end + WINDOW))


# Mentions.


def _mentions(text: str, masked: str, texts: Sequence[Mention], options: Mapping[str, str]) -> list[Mention]:
    """All mentions in order; where several patterns see one, the strongest counts."""
    best = {mention.start: mention for mention in texts}

    listed = _listed(masked)

    def see(mention: Mention) -> None:
        if mention.start in listed:
            mention = mention._replace(strength=min(mention.strength, NAMED))
        if mention.start not in best or best[mention.start].strength < mention.strength:
            best[mention.start] = mention

    for strength, patterns in _PATTERNS.items():
        for pattern in patterns:
            for match in pattern.finditer(masked):
                start, end = match.span(_group(match))
                if masked[start] == _MASK:
                    if start in best:
                        see(best[start]._replace(strength=strength))
                elif masked[start].upper() in options and not _is_word(masked, start):
                    see(Mention(frozenset(masked[start].upper()), start, end, strength))
    # Of an option whose text is "is B" and the statement "The answer is B", either may be meant.
    for start, letter in stated_letters(text, options):
        for mention in texts:
            if mention.start < start < mention.end:
                see(Mention(frozenset(letter), start, start + 1, ANSWER))
                see(mention._replace(strength=ANSWER))
    for box in _BOX.finditer(masked):
        inside = [mention for mention in best.values() if box.start() <= mention.start < box.end()]
        for mention in inside:
            if len(inside) == 1 or mention.strength > LOOSE:
                see(mention._replace(strength=ANSWER))
    return sorted(best.values(), key=lambda mention: mention.start)


def _group(match: re.Match[str]) -> int:
    # Each pattern has groups for the ways in which a letter may be followed; one of them matched.
    return match.lastindex or 0


def _text_mentions(text: str, options: Mapping[str, str]) -> list[Mention]:
    found: dict[tuple[int, int], set[str]] = {}
    for letter, option in options.items():
        name = option.strip(_EDGES).upper()
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
    if any(char.isdecimal() for char in option):  # nor a number that is calculated with
        before, after = before + r"(?<![+*/×÷-]\s)", after + r"(?!\)?\s?[+*/×÷]|\)?\s-\s)"
    after += r"(?!\s\w)" if option.casefold() in _FUNCTION_WORDS else ""
    # One letter is a name: the option "S" is not in "it's".
    return re.compile(before + re.escape(option) + after, 0 if len(option) == 1 else re.IGNORECASE)


def _joined_pairs(mentions: Sequence[Mention], masked: str, options: Mapping[str, str]) -> list[Mention]:
    """Letter and text side by side, as in "(B) blue" and "blue (B)", made one mention.

    If they contradict each other, "(A) blue", both get the higher strength.
    """
    joined: list[Mention] = []
    for mention in mentions:
        last = joined[-1] if joined else None
        beside = last and _BESIDE.fullmatch(masked, last.end, mention.start)
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
            apart = _NEW_SENTENCE.match(beside[0]) and not _AT_END.match(masked, mention.end)
            if last.by_text != mention.by_text and not apart:
                joined[-1] = last._replace(strength=strength)
                mention = mention._replace(strength=strength)
        joined.append(mention)
    return joined


def _listed(masked: str) -> set[int]:
    """Where lines start with letters in order, "A. …", "B. …": a list of the options, no answer."""
    labels = [match.start(1) for match in _LABELLED_LINE.finditer(masked)]
    pairs = [
        (one, next_)
        for one, next_ in itertools.pairwise(labels)
        if ord(masked[next_]) == ord(masked[one]) + 1
    ]
    return set(itertools.chain.from_iterable(pairs))


def stated_letters(text: str, options: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Where a text states a letter of an option as the answer, and which; no matter whose text it is in."""
    for pattern in (*_PATTERNS[ANSWER], _PATTERNS[CLAIM][0]):
        for match in pattern.finditer(text):
            start = match.start(_group(match))
            if text[start].upper() in options and not _is_word(text, start):
                yield start, text[start].upper()


def _is_word(text: str, start: int) -> bool:
    """Whether an A is the article or an I the pronoun: a word follows that could be its own."""
    if text[start] == "A" and not _SENTENCE_START.search(text, max(0, start - 8), start):
        return False
    return text[start] in "aAI" and bool(_NEXT_WORD.match(text, start + 1))


def _has_letter(option: str, letter: str) -> bool:
    return any(
        match[1] == letter and not _is_word(option, match.start()) for match in _STANDALONE.finditer(option)
    )


# Patterns. Each is bounded, so that reading takes time in proportion to the text.

# "Object replacement": neither a letter nor a sign that an answer holds; `markup.plain` leaves none.
_MASK = "\ufffc"
_TEXT = rf"(?<!{_MASK}){_MASK}+"
_EDGES = f" \n.,;:!?\"'()[]{{}}<>{BOX_OPEN}{BOX_CLOSE}"
# Options that any sentence may hold: "no" is not in "no doubt", "to" not in "hard to see".
_FUNCTION_WORDS = frozenset(
    "a an and as at be but by for from in is it no not of on or so that the this to with neither nor either both none all".split()
)
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"

_FOLLOWS_LETTER = (
    r"because|since|as|is|was|are|has|does|fits|matches|seems|looks|or|and|but|nor|not|which|that|for|due|given|based|the|it|this|there|"
    r"rather|instead|over|with|in|on|at|from|to|of|by|here|o|y|e|ou|et|und|oder|или|porque|pois|weil|denn|car|parce|puisque|perché|perche|omdat|потому"
)
# What may follow a letter that stands for an option.
_END = (
    rf"(?=\s?(?:$|[.,;:!?)\]}}\"'/>\n{BOX_OPEN}{BOX_CLOSE}]|[{_CJK}])|\s(?:\(|[-–—]\s|(?:{_FOLLOWS_LETTER})\b))"
    r"(?!['.]\w)"
)
_OPEN = rf"[\s\"'(\[{BOX_OPEN}]{{0,4}}"
# A letter or an option's text after a cue. An upper-case letter that is no English word may precede the option's
# text, and after a verb any word.
_CUED = rf"{_OPEN}(?<!\w)(?:([A-Za-z]|{_TEXT}){_END}|([B-HJ-Z])(?=\s{_MASK}))"
_TOLD = rf"{_OPEN}(?<!\w)(?:([A-Za-z]|{_TEXT}){_END}|([B-HJ-Z])(?=\s[a-z{_MASK}]))"
_UPPER = rf"{_OPEN}(?<!\w)([A-Z]|{_TEXT}){_END}"
_STANDALONE = re.compile(r"(?<![\w'.&-])([A-Z])(?![\w'&]|[.-]\w)")
_NEXT_WORD = re.compile(rf"[ ](?!(?:{_FOLLOWS_LETTER}|[A-Z])\b)(?![{_CJK}])[\w{_MASK}]")
# Elsewhere the article is not in upper case.
_SENTENCE_START = re.compile(rf"(?:^|[.!?:;\n\"'(\[{BOX_OPEN}])\s?$")

# Nouns that mean the answer, and the verbs between noun and letter, by language.
_NOUNS_AND_VERBS = (
    (r"\b(?:answers?|ans)\b", r"is|was|be|(?:would|should|must|has to|will|can only) be"),
    (
        r"\b(?:option|choice|pick|selection|guess|verdict|conclusion|solution|response|result)\b",
        r"is|was|be|(?:would|should|must|has to|will|can only) be",
    ),
    (r"\b(?:respuesta|opción|alternativa|resposta|opção|risposta|opzione)\b", r"es|sería|é|seria|è|sarebbe"),
    (r"\b(?:antwort|lösung|antwoord|svar(?:et)?)\b", r"ist|lautet|wäre|is|är|er"),
    (r"\b(?:réponse|choix)\b", r"est|serait"),
    (r"\b(?:ответ|вариант|odpowiedź|odpowiedz)\b", r"это|to|jest"),
    (r"\b(?:cevap|yanıt|jawaban(?:nya)?|đáp án|vastaus)\b", r"adalah|là|on"),
    (r"(?:उत्तर|الإجابة|الجواب)", r"है|هي|هو"),
    (r"(?:答案|正解|选项|選項|答え|回答|解答|정답|답)", r"是|为|為|应是|应为|は|が|은|는|이|가"),
)
_SIGN = r" ?(?:[:=]|[-=]>|→|[-–—](?=\s))"
# Words between noun and verb: none of them is a letter of its own, or such a verb. A list of all options is no answer.
_WORD = r"\s(?!(?:is|was|be|each|every|following)\b)(?:\w[\w'’/-]{1,30}|(?-i:a))"
_BETWEEN_VERB = rf"(?:{_WORD}){{0,9}}?(?:,(?:{_WORD}){{1,4}},)?"
_BETWEEN_SIGN = rf"(?:(?!\s(?:options|choices)){_WORD}){{0,5}}?"
_ADVERB = (
    r"(?:,?\s(?:most|likely|probably|clearly|definitely|certainly|obviously|surely|indeed|therefore|thus|hence|then|"
    r"simply|just|also|actually|really|still|always|option|choice|letter|answer|number|the|an?|that|it|would be|"
    r"la|el|le|die|der|das|opción|opção|opzione|lettre|letra|lettera|buchstabe|вариант|буква|wahrscheinlich|"
    r"probablemente|probablement|选项|選項),?)"
)
_SUBJECT = r"(?:it's|it is|that's|that is|this is|must be|should be|would be|is|be)"
# "B is …", before "correct" or "the best answer".
_SUBJECT_LETTER = (
    rf"(?<![\w'.&-])([A-Z]|{_TEXT})[)\]\"']{{0,2}}\s?"
    rf"(?i:(?:(?:seems|looks|appears)(?:\sto\sbe)?|is|would\sbe|must\sbe|should\sbe|ist|es|est|é|è|是){_ADVERB}{{0,3}}\s?)"
)
_PATTERNS: dict[int, list[re.Pattern[str]]] = {
    ANSWER: [
        *(
            re.compile(
                rf"(?i:{noun})(?:(?i:{_BETWEEN_VERB},?\s?(?:{verb})(?!\w){_SIGN}?{_ADVERB}{{0,4}}){_TOLD}"
                rf"|(?i:(?<!each option)(?<!every option){_BETWEEN_SIGN}{_SIGN}{_ADVERB}{{0,4}}){_CUED})"
            )
            for noun, verb in _NOUNS_AND_VERBS
        ),
        re.compile(
            rf"(?i:\b(?:answer|ans|antwort|respuesta|réponse|resposta|risposta)|答案|정답)\.?{_UPPER}"
        ),
        re.compile(
            r"(?i:\b(?:choose|chose|pick(?:ed)?|select(?:ed)?|go(?:ing)? (?:with|for)|vote for|opt for|settled? on|"
            rf"elijo|escojo|wähle|choisis|escolho|scelgo|выбираю)|选择?|選択?){_ADVERB}{{0,3}}{_CUED}"
        ),
        re.compile(rf"{_SUBJECT_LETTER}(?i:(?:the|my)\s(?:\w+\s)?(?:answer|choice|option|pick)\b)"),
    ],
    CORRECT: [
        re.compile(
            rf"{_SUBJECT_LETTER}(?i:(?:(?:most|best|the)\s)?(?:correct|right|best|accurate|appropriate|richtig|korrekt|juste|"
            r"正确)(?:[ae]s?)?(?:\s(?:answer|option|choice|one)\b|(?=\s?(?:$|[.,;!)\n]|because\b|since\b|as\b|的))))"
        ),
    ],
    CLAIM: [
        re.compile(
            rf"(?i:\b(?:{_SUBJECT}|so|thus|therefore|hence|maybe|perhaps|probably|possibly|likely|guess|think|believe|"
            r"say|no|wait|actually|rather|instead|correction|sorry|then|final|also|daher|es|ist|est|entonces|donc)"
            rf"[,:]?(?:\s{_SUBJECT})?{_ADVERB}{{0,3}})(?=[\s\"'(\[]){_UPPER}"
        ),
        # A sentence of its own, and what ends a line after a colon or an arrow.
        re.compile(
            rf"(?:(?<=[.!?;]\s)|(?<=\n)|^)[\"'(\[]{{0,2}}([A-Z]|{_TEXT})[\"')\]]{{0,2}}(?=[.!?;\n]|$)(?!\.\w)"
        ),
        re.compile(rf"[:=>→]\s?[\"'(\[]{{0,2}}([A-Za-z]|{_TEXT})[.!)\]}}\"']{{0,3}}(?=\n|$)"),
    ],
    NAMED: [
        re.compile(r"(?<!\w)[(\[]\s?([A-Za-z])\s?[)\]]"),
        re.compile(
            rf"(?i:\b(?:option|choice|letter|answer|opción|opção|opzione|buchstabe|lettre)|选项|選項)\s{_OPEN}"
            rf"([A-Za-z]){_END}"
        ),
        re.compile(r"^[\"'(\[{<]{0,3}([A-Za-z])[.):\]}>,;](?=\s|$)"),
        re.compile(r"^([A-Z])\s(?=\w|[-–—])"),
        re.compile(rf"(?i:\bwith)\s([A-Z]){_END}"),
        re.compile(r"(?<![\w'.&-])([A-Z])[.!)\]}\"']{0,3}$"),
    ],
    LOOSE: [_STANDALONE],
}
_BOX = re.compile(f"{BOX_OPEN}[^{BOX_OPEN}{BOX_CLOSE}]*{BOX_CLOSE}")
_LEAD = re.compile(
    rf"[\"'(\[{{<{BOX_OPEN}]{{0,3}}(?:([A-Z])(?:\n|[.):\]}}>,;{BOX_CLOSE}]+(?=\s|$)|\s[-–—](?=\s))|([a-z])[.)\]]+(?=\s|$))"
)
_LABELLED_LINE = re.compile(r"(?:^|(?<=\n)|(?<=:\s))(?:\d\.\s|[-•]\s)?[\"'(\[]?([A-Z])[.):\]]")
_LABELLED = re.compile(r"[A-Z](?:[)\]:]|\.\s)")

_BESIDE = re.compile(rf"[\s.):,\-–—\"'(\[\]={BOX_OPEN}{BOX_CLOSE}]{{0,6}}")
_NEW_SENTENCE = re.compile(r"[\"')\]]*[.,\n]")
_AT_END = re.compile(rf"[\"')\]{BOX_CLOSE}]*(?:$|[.,;:!?\n])")
_OR = re.compile(
    r"[\s\"')\].]{0,4}(?:[,/&+;]|\b(?:or|and|nor|oder|und|ou|et|y|o|e|или|и|veya|atau)\b|和|或|[-–](?=\s?[A-Z\"'(]))"
    r"[\s\"'(\[/,]{0,4}(?:\b(?:or|and|possibly|maybe|perhaps|also|even|either|both|option|choice|answer|the|an?)\b"
    r"[\s\"'(\[/,]{0,4}){0,4}"
)
_SENTENCE_END = re.compile(r"[.!?;\n](?=\s|$)|\n")
_CLAUSE_END = re.compile(
    r"[,:—]|(?<!anything )(?<!everything )(?<!all )(?<!nothing )\bbut\b"
    r"|(?i:\b(?:so|therefore|thus|hence|because|since|while|whereas|although|though|aber|sondern|sino|pero|mais|mas|ma)\b)"
)
_DENIAL = re.compile(
    r"(?i:\bnot\b(?!\s(?:only|just|merely|sure))|n't\b|\b(?:never|neither|nor|nothing|hardly|barely|fails?|lacks?|cannot|except|excluding|unlike|unlikely|"
    r"whether|unless|instead of|rather than|other than|than|opposed to|(?:anything|everything|all) but|"
    r"without(?!\s(?:a |any )?doubt)|no(?!\s(?:doubt|question)\b)|(?:rul|eliminat|exclud|dismiss|reject|discard|doubt)\w*|"
    r"if|nicht|kein\w*|pas|non|não|nao|ni|niet|geen|nie|inte|ikke|не|bukan|không phải)\b|不|非)"
)
# "If it is red, the answer is A." But "If I had to guess, A."
_SUPPOSITION = re.compile(
    r"(?i:\s?(?:and |but |only |then )?(?:if|unless|suppose|assuming|were|had)\b(?!\s(?:i|we|forced)\b))"
)
_DENIED_AFTER = re.compile(
    rf"(?i:[\s\"').\]{BOX_CLOSE}]{{0,3}}(?:\?\s*\S"
    r"|(?:is|are|was|were|seems|looks|(?:would|must|can|could|may|might|should) be|has been)(?:n't\b|"
    r"(?:\s(?:also|clearly|certainly|definitely|obviously|probably|likely|just|simply|therefore|thus|still|actually|an?|the)){0,2}"
    r"\s(?:not|wrong|incorrect|false|never|unlikely|out|ruled|eliminated|excluded|dismissed|rejected|impossible|"
    r"implausible|irrelevant|distractor)\b)"
    r"|(?:does|do|did|can|could|would|will|has|have)(?:n't|\snot)\b|cannot\b|ist\snicht|n'est|no\ses|non\sè|não\sé"
    r"|\s?(?:是|也)?(?:不|错)|\s?(?:では|じゃ)|\s?[가이는은]\s?아니))"
)
