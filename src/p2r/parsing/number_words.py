"""The words in and around a number: units, scales, number words, and phrases that do not change the number.

Before a number may be a lead ("So,"), a label ("Answer:"), or a clause whose verb states a value ("There
are", "The price of the red car is"). Behind it may be what is counted ("12 red cars in the image"), "is the
answer" or "in total".

For phrases, every word has a kind, one letter, and a phrase is a pattern of these letters. A noun is any word
in Latin script that no list here holds; of Chinese and Japanese, a few counters are known. A word that
denies, doubts, compares, joins, calculates or dates (kind X) changes the number and is refused.
"""

from __future__ import annotations

import re
from fractions import Fraction

# Units: dimension, size in the dimension's base unit, names.

_UNITS = """
    length     0.001        mm millimetre millimetres millimeter millimeters
    length     0.01         cm centimetre centimetres centimeter centimeters
    length     1            m metre metres meter meters
    length     1000         km kilometre kilometres kilometer kilometers
    length     0.0254       in inch inches
    length     0.3048       ft foot feet
    length     0.9144       yd yard yards
    length     1609.344     mile miles
    litres     0.001        ml millilitre millilitres milliliter milliliters
    litres     1            l litre litres liter liters
    mass       0.001        mg
    mass       1            g gram grams
    mass       1000         kg kilogram kilograms
    mass       28.349523125 oz ounce ounces
    mass       453.59237    lb lbs pound pounds
    time       0.001        ms
    time       1            s sec secs second seconds
    time       60           min mins minute minutes
    time       3600         h hr hrs hour hours
    time       86400        day days
    time       604800       week weeks
    age        1            month months
    age        12           year years
    speed      1            m/s
    speed      1000/3600    km/h kmh kph
    speed      0.44704      mph
    angle      1            ° degree degrees deg
    celsius    1            °c
    fahrenheit 1            °f
    dollar     1            $ usd dollar dollars
    dollar     0.01         cent cents
    euro       1            € eur euro euros
    sterling   1            £ gbp
    sterling   0.01         pence
    yen        1            ¥ jpy yen
    rupee      1            ₹ inr rupee rupees
"""
# Several words that are one unit.
_UNIT_PHRASES = {
    "°c": ("degrees celsius", "degree celsius", "degrees centigrade", "° celsius", "° c"),
    "°f": ("degrees fahrenheit", "degree fahrenheit", "° fahrenheit", "° f"),
    "mph": ("miles per hour", "miles / hour", "mi / h"),
    "km/h": ("kilometers per hour", "kilometres per hour", "km per hour", "km / h"),
    "m/s": ("meters per second", "metres per second", "m / s"),
    "dollars": ("us dollars",),
}
# Name → dimension, and size in the dimension's base unit. Phrase → name.
UNITS: dict[str, tuple[str, Fraction]] = {}
UNIT_PHRASES = {phrase: unit for unit, phrases in _UNIT_PHRASES.items() for phrase in phrases}
for _dimension, _size, *_names in (line.split() for line in _UNITS.strip().splitlines()):
    for _name in _names:
        UNITS[_name] = (_dimension, Fraction(_size))
        if _dimension == "length":
            UNITS[f"{_name}2"] = ("area", Fraction(_size) ** 2)
            UNITS[f"{_name}3"] = ("volume", Fraction(_size) ** 3)
            UNIT_PHRASES |= {f"square {_name}": f"{_name}2", f"sq {_name}": f"{_name}2"}
            UNIT_PHRASES[f"cubic {_name}"] = f"{_name}3"
# These may also precede their number.
CURRENCIES = {"$", "€", "£", "¥", "₹", "usd", "eur", "gbp", "jpy", "inr"}
# In upper case these are other units, or none: "5M" is five million.
LOWER_CASE = {"m", "s", "g", "h"}
PERCENT = {"%", "percent", "pct"}
ORDINALS = {"st", "nd", "rd", "th"}

# Number words.


def _numbered(words: str, start: int, step: int = 1) -> dict[str, int]:
    return {word: start + step * place for place, word in enumerate(words.split())}


DIGITS = _numbered("zero one two three four five six seven eight nine", 0)
TEENS = _numbered("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", 10)
TENS = _numbered("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10)
SCALES = {"dozen": 12, "hundred": 100}
SCALES |= {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
NUMBER_WORDS = {*DIGITS, *TEENS, *TENS, *SCALES}
_PARTS = _numbered("third fourth fifth sixth seventh eighth ninth tenth", 3)
_PARTS |= {"quarter": 4, "hundredth": 100, "thousandth": 1000}
FRACTIONS = {"half": 2, "halves": 2, **_PARTS, **{f"{word}s": value for word, value in _PARTS.items()}}

# Phrases.

_CHANGES = {
    "denies": """no not non never none nobody nothing neither nor cannot without wrong wrongly incorrect
        incorrectly false falsely mistaken mistake mistakes error errors untrue invalid impossible
        except excepting excluding excluded but rejected denied refuted doubtful fake off instead
        rather unlike opposite contrary misread nope nah aint lie lies fail fails gone out aside apart
        exception exceptions previous former random another other others
        nicht kein keine keinen nein falsch pas sauf jamais faux nunca nada falso nie nem não geen
        niet inte ikke aldrig nessuno ningún""",
    "doubts": """about around roughly approximately approximate approx circa ca nearly almost maybe perhaps
        possibly probably likely unlikely presumably supposedly apparently allegedly potentially might
        may could should would can will must seem seems appear appears guess guessed guessing estimate
        estimated estimates estimation suppose supposing assume assuming think thinking believe feel
        unsure uncertain unclear unknown unreadable illegible doubt doubts dunno ish odd so or
        something somewhat whatever if unless whether when whenever until till range ranges depending
        depends either hypothetically ballpark some thereabouts tops nearby lets let's
        ungefähr etwa vielleicht zirka wahrscheinlich environ peut quizás quizá casi cerca quasi forse
        talvez wenn falls""",
    "compares": """more less fewer few greater smaller larger bigger higher lower over under above below
        beyond beneath exceeding exceeds exceed upward upwards onward onwards up down plus minus between
        through thru to versus vs than before after inclusive exclusive
        mehr weniger über unter mindestens höchstens moins más menos mais meno più bis jusqu""",
    "joins": "and as well besides additionally otherwise alternatively oder und ou et eller",
    "calculates": """squared cubed halved doubled tripled quadrupled double twice thrice triple root factorial
        power divided multiplied modulo mod negative negated fold pair pairs couple couples dozens
        tens hundreds thousands millions billions trillions gross mille permille permil reversed
        backwards reverse inverse reciprocal hex hexadecimal binary octal lakh lakhs crore crores
        myriad mil mils bn percentage basis bps ppm ppb score scores hundredweight kilo mega itself factor""",
    "dates": """am pm noon midnight clock oclock ago bc bce january february march april june july august
        september october november december jan feb mar apr jun jul aug sep sept oct nov dec monday tuesday
        wednesday thursday friday saturday sunday""",
}
_KINDS = {
    "X": " ".join((*_CHANGES.values(), *NUMBER_WORDS, *FRACTIONS)),
    # Behind a number these scale or compare it; with a verb they name it: "The sum is 12".
    "R": """sum difference product ratio quotient average mean median maximum minimum max min most least
        best worst top bottom peak square cube each apiece every too capita""",
    "B": "is are was were",
    "V": """equals show shows read reads say says display displays state states indicate indicates contain
        contains has have had hold holds cost costs measure measures weigh weighs see sees counts
        counted find finds found get gets got give gives make makes remain remains""",
    "A": "only just exactly precisely now currently clearly altogether overall also still",
    "D": "the this that these those its his her their our my your",
    "E": "a an",
    "Q": "it there i we they he she you here which",
    "S": "it's that's there's here's they're",
    "O": "them us",
    "I": "in",
    "P": "of on at for with near beside behind inside per",
    "L": "final correct right answer total number count result value year",
    "W": "visible shown seen present displayed depicted pictured listed parked seated left",
    "K": "thus therefore hence then yes ok okay sure",
    "Y": "答案 答案是 答案为 答案為 最终答案 最终答案是 共 共有 一共 一共有 总共 总共有 總共",
    "Z": "个 個 人 位 名 只 隻 辆 輛 台 张 張 本 条 條 元 円 年 岁 歳 度",
    ":": ":",
    ",": ",",
}
_KIND = {word: kind for kind, words in reversed(_KINDS.items()) for word in words.split()}
# Words whose kind depends on the kind before: "so 12", but not "12 or so"; "I count", "the count"; "I can
# see", "it can be"; "in each group", "each".
_KIND_AFTER = {
    "so": {"": "K", "K": "K", ",": "K"},
    "count": {"Q": "V", "A": "V"},
    "can": {"Q": "A"},
    "each": {"I": "D", "P": "D"},
}
_NOUN = re.compile(r"[a-z\u00df-\u024f]{2,}(?:'s)?")  # one letter may be a code: "12 A"
# Participles may precede a noun ("parked cars"), but not replace one ("13 eliminated"); adverbs may not.
_PARTICIPLE = re.compile(r"[a-z]{3,}ed(?<!seed|reed|weed|heed|shed|sled|peed)")
_ADVERB = re.compile(r"(?!famil|assemb|jell|monopo)[a-z]{3,}ly(?<!fly)")
_ROMAN = re.compile(r"(?=[IVXLCDM]{2})M*(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")

_THING = r"[DE]?[NLRWT]{1,5}(?:[PI][DE]?[NLRWT]{1,3}){0,2}"
_BEFORE = re.compile(
    rf"(?:K,?)*(?:(?:[QD]A?[BV]|S|{_THING}[BV])(?:EL+P)?|(?:EL+P)?|[DL]*|ID?L?|{_THING}(?=:)|Y):?A*"
)
_NAME = re.compile(rf"[DL]*|{_THING}|Q")
_IN_WHAT = r"(?:[PI](?:[DE]?(?:[NL]|T(?=[NL])){1,3}|D?O))"
_BEHIND = re.compile(
    rf"(?:D(?=[NT]))?(?:[NLW]|T(?=[NL])){{0,4}}{_IN_WHAT}{{0,2}}(?:B(?:D?L+|[LW]|[QW]|W?{_IN_WHAT})+)?(?:[AL]|IL)?|Z"
)


def may_precede(words: list[str]) -> bool:
    """Whether a number keeps its meaning behind these words, the last of which may be a colon."""
    return bool(_BEFORE.fullmatch(_kinds(words)))


def may_name(words: list[str]) -> bool:
    """Whether an equals sign gives a value to what these words say: "cars", "the sum of the digits", "x"."""
    return bool(_NAME.fullmatch(_kinds(words))) or (
        len(words) == 1 and len(words[0]) == 1 and words[0].isalpha()
    )


def may_follow(words: list[str]) -> bool:
    """Whether a number keeps its meaning before these words."""
    return bool(_BEHIND.fullmatch(_kinds(words)))


def content_words(words: list[str]) -> tuple[str, ...]:
    """The words in lower case without filler such as "the answer is"."""
    return tuple(word.casefold() for word in words if _kinds([word]) in ("N", "R", "T", "W"))


def _kinds(words: list[str]) -> str:
    """One letter for each word; X for one that may not be here."""
    kinds = ""
    for raw in words:
        word = raw.casefold()
        kinds += _KIND_AFTER.get(word, {}).get(kinds[-1:]) or _KIND.get(word) or _open_kind(raw, word)
    return kinds


def _open_kind(raw: str, word: str) -> str:
    if not _NOUN.fullmatch(word) or _ROMAN.fullmatch(raw) or _ADVERB.fullmatch(word):
        return "X"
    return "T" if _PARTICIPLE.fullmatch(word) else "N"
