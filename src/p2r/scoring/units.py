"""Units and number words that a quantity may be written with."""

from __future__ import annotations

from fractions import Fraction

# Name → (dimension, how many of the dimension's base unit). "in" is missing: it is a word first.
UNITS: dict[str, tuple[str, Fraction]] = {}
for _dimension, _names in {
    "length": {
        "mm millimetre millimetres millimeter millimeters": "0.001",
        "cm centimetre centimetres centimeter centimeters": "0.01",
        "m metre metres meter meters": "1",
        "km kilometre kilometres kilometer kilometers": "1000",
        "inch inches": "0.0254",
        "ft foot feet": "0.3048",
        "yd yard yards": "0.9144",
        "mile miles": "1609.344",
    },
    "area": {"m2": "1", "km2": "1000000"},
    "volume": {
        "ml millilitre millilitres milliliter milliliters": "0.001",
        "l litre litres liter liters": "1",
    },
    "mass": {
        "mg": "0.001",
        "g gram grams": "1",
        "kg kilogram kilograms": "1000",
        "lb lbs pound pounds": "453.59237",
    },
    "time": {
        "ms": "0.001",
        "s sec secs second seconds": "1",
        "min mins minute minutes": "60",
        "h hr hrs hour hours": "3600",
        "day days": "86400",
    },
    "speed": {"m/s": "1", "km/h kmh kph": "1000/3600", "mph": "0.44704"},
    "angle": {"° degree degrees": "1"},
    "celsius": {"°c": "1"},
    "fahrenheit": {"°f": "1"},
    "dollar": {"$ usd dollar dollars": "1", "cent cents": "0.01"},
    "euro": {"€ eur euro euros": "1"},
    "sterling": {"£ gbp": "1"},
    "yen": {"¥ jpy yen": "1"},
}.items():
    for _spelt, _factor in _names.items():
        for _name in _spelt.split():
            UNITS[_name] = (_dimension, Fraction(_factor))

PERCENT = {"%", "percent", "pct"}
SCALES = {"hundred": 100, "thousand": 10**3, "k": 10**3, "million": 10**6, "billion": 10**9, "dozen": 12}
ORDINALS = {"st", "nd", "rd", "th"}

_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS: dict[str, int] = {word: value for value, word in enumerate((*_ONES, *_TEENS, "nineteen"))}
for _tens, _word in enumerate(_TENS, start=2):
    NUMBER_WORDS[_word] = 10 * _tens
    NUMBER_WORDS |= {f"{_word}-{_ONES[one]}": 10 * _tens + one for one in range(1, 10)}
