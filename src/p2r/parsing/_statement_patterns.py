"""The words and signs by which a sentence names, asserts or denies an option. See `statements`.

Every pattern that sees an option has one matching group: a letter, or a run of `MASK`, which replaces an
option's text. Every repetition is bounded, so that reading takes time in proportion to the text.
"""

from __future__ import annotations

import re

from p2r.parsing.thinking import BOX_CLOSE, BOX_OPEN, CJK

# How strongly a mention asserts its option.
BARE, NAMED, CLAIM, CORRECT, ANSWER = range(5)

# "Object replacement": neither a letter nor a sign that an answer holds; `markup.plain` leaves none.
MASK = "\ufffc"
EDGES = f" \n.,;:!?\"'()[]{{}}<>{BOX_OPEN}{BOX_CLOSE}"
# Options that any sentence may hold: "no" is not in "no doubt", "to" not in "hard to see".
FUNCTION_WORDS = frozenset(
    {
        *("a", "all", "an", "and", "as", "at", "be", "both", "but", "by", "either"),
        *("for", "from", "in", "is", "it", "likely", "maybe", "neither", "no", "none", "nor"),
        *("not", "of", "on", "or", "perhaps", "possibly", "probably", "so", "that", "the", "this"),
        *("to", "with"),
    }
)

# Letters.

_FOLLOWS_LETTER = (
    r"because|since|as|is|was|are|has|does|fits|matches|seems|looks|or|and|but|nor|not|which|that|for|due|given|"
    r"based|the|it|this|there|rather|instead|over|with|in|on|at|from|to|of|by|here|"
    r"o|y|e|ou|et|und|oder|или|porque|pois|weil|denn|car|parce|puisque|perché|perche|omdat|потому"
)
# What may follow a letter that names an option.
_END = (
    rf"(?=\s?(?:$|[.,;:!?)\]}}\"'/>\n{BOX_OPEN}{BOX_CLOSE}]|[{CJK}])"
    rf"|\s(?:\(|[-–—]\s|(?:{_FOLLOWS_LETTER})\b))(?!['.]\w)"
)
_OPEN = rf"[\s\"'(\[{BOX_OPEN}]{{0,4}}(?<!\w)"
_TEXT = rf"(?<!{MASK}){MASK}+"
# After a cue, an upper-case letter that is no English word may precede the option's text, after a verb any
# word.
_CUED = rf"{_OPEN}(?:([A-Za-z]|{_TEXT}){_END}|([B-HJ-Z])(?=\s{MASK}))"
_TOLD = rf"{_OPEN}(?:([A-Za-z]|{_TEXT}){_END}|([B-HJ-Z])(?=\s[a-z{MASK}]))"
_UPPER = rf"{_OPEN}([A-Z]|{_TEXT}){_END}"
STANDALONE = re.compile(r"(?<![\w'.&-])([A-Z])(?![\w'&]|[.-]\w)")
# After an A that is the article, or an I that is the pronoun.
NEXT_WORD = re.compile(rf"[ ](?!(?:{_FOLLOWS_LETTER}|[A-Z])\b)(?![{CJK}])[\w{MASK}]")
SENTENCE_START = re.compile(rf"(?:^|[.!?:;\n\"'(\[{BOX_OPEN}])\s?$")

# Statements.

_IS = r"is|was|be|(?:would|should|must|has to|will|can only) be"
# Nouns that mean the answer, and the verbs between noun and letter, by language.
_NOUNS_AND_VERBS = (
    (r"\b(?:answers?|ans)\b", _IS),
    (r"\b(?:option|choice|pick|selection|guess|verdict|conclusion|solution|response|result)\b", _IS),
    (r"\b(?:respuesta|opción|alternativa|resposta|opção|risposta|opzione)\b", r"es|sería|é|seria|è|sarebbe"),
    (r"\b(?:antwort|lösung|antwoord|svar(?:et)?)\b", r"ist|lautet|wäre|is|är|er"),
    (r"\b(?:réponse|choix)\b", r"est|serait"),
    (r"\b(?:ответ|вариант|odpowiedź|odpowiedz)\b", r"это|to|jest"),
    (r"\b(?:cevap|yanıt|jawaban(?:nya)?|đáp án|vastaus)\b", r"adalah|là|on"),
    (r"(?:उत्तर|الإجابة|الجواب)", r"है|هي|هو"),
    (r"(?:答案|正解|选项|選項|答え|回答|解答|정답|답)", r"是|为|為|应是|应为|は|が|은|는|이|가"),
)
_SIGN = r" ?(?:[:=]|[-=]>|→|[-–—](?=\s))"
# Words between noun and verb: none is a letter of its own or such a verb. A list of all options is no answer,
# and what the answer may be is not what it is.
_WORD = r"\s(?!(?:is|was|be|can|could|may|might|each|every|following)\b)(?:\w[\w'’/-]{1,30}|(?-i:a))"
_BETWEEN_VERB = rf"(?:{_WORD}){{0,9}}?(?:,(?:{_WORD}){{1,4}},)?"
_BETWEEN_SIGN = rf"(?:(?!\s(?:options|choices)){_WORD}){{0,5}}?"
_ADVERB = (
    r"(?:,?\s(?:most|likely|probably|clearly|definitely|certainly|obviously|surely|indeed|therefore|thus|hence|"
    r"then|simply|just|also|actually|really|still|always|option|choice|letter|answer|number|the|an?|that|it|"
    r"would be|"
    r"la|el|le|die|der|das|opción|opção|opzione|lettre|letra|lettera|buchstabe|вариант|буква|wahrscheinlich|"
    r"probablemente|probablement|选项|選項),?)"
)
_SUBJECT = r"(?:it's|it is|that's|that is|this is|must be|should be|would be|is|be)"
# "B is …", before "correct" or "the best answer".
_LETTER_IS = (
    rf"(?<![\w'.&-])([A-Z]|{_TEXT})[)\]\"']{{0,2}}\s?(?i:(?:(?:seems|looks|appears)(?:\sto\sbe)?|"
    rf"is|would\sbe|must\sbe|should\sbe|ist|es|est|é|è|是){_ADVERB}{{0,3}}\s?)"
)
_STATEMENTS = tuple(
    rf"(?i:{noun})(?:(?i:{_BETWEEN_VERB},?\s?(?:{verb})(?!\w){_SIGN}?{_ADVERB}{{0,4}}){_TOLD}"
    rf"|(?i:(?<!each option)(?<!every option){_BETWEEN_SIGN}{_SIGN}{_ADVERB}{{0,4}}){_CUED})"
    for noun, verb in _NOUNS_AND_VERBS
)
_CHOOSING = (
    r"(?i:\b(?:choose|chose|pick(?:ed)?|select(?:ed)?|go(?:ing)? (?:with|for)|vote for|opt for|settled? on|"
    r"elijo|escojo|wähle|choisis|escolho|scelgo|выбираю)|选择?|選択?)"
)
# "It is B", "so B".
STATES_A_LETTER = re.compile(
    rf"(?i:\b(?:{_SUBJECT}|so|thus|therefore|hence|maybe|perhaps|probably|possibly|likely|guess|think|believe|say|no|"
    r"wait|actually|rather|instead|correction|sorry|then|final|also|daher|es|ist|est|entonces|donc)"
    rf"[,:]?(?:\s{_SUBJECT})?{_ADVERB}{{0,3}})(?=[\s\"'(\[]){_UPPER}"
)
PATTERNS: dict[int, tuple[re.Pattern[str], ...]] = {
    ANSWER: (
        *map(re.compile, _STATEMENTS),
        # "Answer (B)", without a verb.
        re.compile(
            r"(?:(?i:\b(?:answer|ans\.?|antwort|respuesta|réponse|resposta|risposta))|答案|정답)"
            rf"(?=[ \"'(\[]){_UPPER}"
        ),
        # A heading, and a line that holds the letter alone.
        re.compile(rf"(?i:\banswer)\n[\"'(\[]{{0,2}}([A-Z]|{_TEXT})[\"')\].]{{0,2}}(?=\n|$)"),
        re.compile(rf"{_CHOOSING}(?i:{_ADVERB}{{0,3}}){_CUED}"),
        re.compile(rf"{_LETTER_IS}(?i:(?:the|my)\s(?:\w+\s)?(?:answer|choice|option|pick)\b)"),
    ),
    CORRECT: (
        re.compile(
            rf"{_LETTER_IS}(?i:(?:(?:most|best|the)\s)?"
            r"(?:correct|right|best|accurate|appropriate|richtig|korrekt|juste|正确)(?:[ae]s?)?"
            r"(?:\s(?:answer|option|choice|one)\b|(?=\s?(?:$|[.,;!)\n]|because\b|since\b|as\b|的))))"
        ),
    ),
    CLAIM: (
        STATES_A_LETTER,
        re.compile(rf"{_LETTER_IS}(?i:possible|plausible|likely)\b"),
        # A sentence of its own, and what ends a line after a colon or an arrow.
        re.compile(
            rf"(?:(?<=[.!?;]\s)|(?<=\n)|^)[\"'(\[]{{0,2}}([A-Z]|{_TEXT})[\"')\]]{{0,2}}(?=[.!?;\n]|$)(?!\.\w)"
        ),
        re.compile(rf"[:=>→]\s?[\"'(\[]{{0,2}}([A-Za-z]|{_TEXT})[.!)\]}}\"']{{0,3}}(?=\n|$)"),
    ),
    NAMED: (
        re.compile(r"(?<!\w)[(\[]\s?([A-Za-z])\s?[)\]]"),
        re.compile(
            r"(?i:\b(?:option|choice|letter|answer|opción|opção|opzione|buchstabe|lettre)|选项|選項)\s"
            rf"{_OPEN}([A-Za-z]){_END}"
        ),
        re.compile(r"^[\"'(\[{<]{0,3}([A-Za-z])[.):\]}>,;](?=\s|$)"),
        re.compile(r"^([A-Z])\s(?=\w|[-–—])"),
        re.compile(rf"(?i:\bwith)\s([A-Z]){_END}"),
        re.compile(r"(?<![\w'.&-])([A-Z])[.!)\]}\"']{0,3}$"),
    ),
    BARE: (STANDALONE,),
}
BOX = re.compile(f"{BOX_OPEN}[^{BOX_OPEN}{BOX_CLOSE}]*{BOX_CLOSE}")

# Letters that start a text, a line or a part.

LEAD = re.compile(
    rf"[\"'(\[{{<{BOX_OPEN}]{{0,3}}"
    rf"(?:([A-Z])(?:\n|[.):\]}}>,;{BOX_CLOSE}]+(?=\s|$)|\s[-–—](?=\s)|\s(?=(?:because|since)\b))|([a-z])[.)\]]+(?=\s|$))"
)
LABELLED_LINE = re.compile(r"(?:^|(?<=\n)|(?<=:\s))(?:\d\.\s|[-•]\s)?[\"'(\[]?([A-Z])[.):\]]")
PART_START = re.compile(r"(?:^|[.,;:!?\n]\s?)[\"'(\[]?$")
LABEL = re.compile(r"[A-Z](?:[)\]:]|\.\s)")

# Between two mentions.

BESIDE = re.compile(rf"[\s.):,\-–—\"'(\[\]={BOX_OPEN}{BOX_CLOSE}]{{0,6}}")
NEW_SENTENCE = re.compile(r"[\"')\]]*[.,\n]")
AT_END = re.compile(rf"[\"')\]{BOX_CLOSE}]*(?:$|[.,;:!?\n])")
OR = re.compile(
    rf"[\s\"')\].{BOX_OPEN}{BOX_CLOSE}]{{0,4}}"
    r"(?:[,/&+;]|\b(?:or|and|nor|oder|und|ou|et|y|o|e|или|и|veya|atau)\b|和|或|[-–](?=\s?[A-Z\"'(]))"
    rf"[\s\"'(\[/,{BOX_OPEN}]{{0,4}}"
    r"(?:\b(?:or|and|possibly|maybe|perhaps|also|even|either|both|option|choice|answer|the|an?)\b[\s\"'(\[/,]{0,4}){0,4}"
)

# Denials.

SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")
CLAUSE_END = re.compile(
    r"[,:—]|(?i:(?<!anything )(?<!everything )(?<!all )(?<!nothing )\bbut\b|"
    r"\b(?:so|therefore|thus|hence|because|since|while|whereas|although|though|aber|sondern|sino|pero|mais|mas|ma)\b)"
)
DENIAL = re.compile(
    r"(?i:\bnot\b(?!\s(?:only|just|merely|sure))|n't\b|\b(?:never|neither|nor|nothing|hardly|barely|fails?|lacks?|"
    r"cannot|except|excluding|unlike|unlikely|whether|if|unless|instead of|than|opposed to|"
    r"(?:anything|everything|all) but|without(?!\s(?:a |any )?doubt)|no(?!\s(?:doubt|question)\b)|"
    r"(?:rul|eliminat|exclud|dismiss|reject|discard|(?<!no )(?<!a )(?<!any )doubt)\w*|"
    r"nicht|kein\w*|pas|non|não|nao|ni|niet|geen|nie|inte|ikke|не|bukan|không phải)\b|不|非)"
)
# "If it is red, the answer is A." But "If I had to guess, A."
SUPPOSITION = re.compile(
    r"(?i:\s?(?:and |but |only |then )?(?:if|unless|suppose|assuming|were|had)\b(?!\s(?:i|we|forced)\b))"
)
DENIED_AFTER = re.compile(
    rf"(?i:[\s\"').\]{BOX_CLOSE}]{{0,3}}(?:"
    r"(?:is|are|was|were|seems|looks|(?:would|must|can|could|may|might|should) be|has been)(?:n't\b|"
    r"(?:\s(?:also|clearly|certainly|definitely|obviously|probably|likely|just|simply|therefore|thus|still|actually|"
    r"an?|the)){0,2}\s(?:not|wrong|incorrect|false|never|unlikely|out|ruled|eliminated|excluded|dismissed|rejected|"
    r"impossible|implausible|irrelevant|distractor)\b)"
    r"|(?:does|do|did|can|could|would|will|has|have)(?:n't|\snot)\b|(?:cannot|can't|won't)\b"
    r"|(?:(?:would|could|might)\sbe\s\w+\s)?(?:only\s)?(?:if|unless)\b|ist\snicht|n'est|no\ses|non\sè|não\sé"
    r"|\s?(?:是|也)?(?:不|错)|\s?(?:では|じゃ)|\s?[가이는은]\s?아[니닙]))"
)
