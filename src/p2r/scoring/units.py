"""The words that a number is written with: units, scales, number words, fractions."""

from __future__ import annotations

from fractions import Fraction

# Name → (dimension, how many of the dimension's base unit).
UNITS: dict[str, tuple[str, Fraction]] = {}
for _dimension, _names in {
    "length": {
        "mm millimetre millimetres millimeter millimeters": "0.001",
        "cm centimetre centimetres centimeter centimeters": "0.01",
        "m metre metres meter meters": "1",
        "km kilometre kilometres kilometer kilometers": "1000",
        "in inch inches": "0.0254",
        "ft foot feet": "0.3048",
        "yd yard yards": "0.9144",
        "mile miles": "1609.344",
    },
    "litres": {
        "ml millilitre millilitres milliliter milliliters": "0.001",
        "l litre litres liter liters": "1",
    },
    "mass": {
        "mg": "0.001",
        "g gram grams": "1",
        "kg kilogram kilograms": "1000",
        "oz ounce ounces": "28.349523125",
        "lb lbs pound pounds": "453.59237",
    },
    "time": {
        "ms": "0.001",
        "s sec secs second seconds": "1",
        "min mins minute minutes": "60",
        "h hr hrs hour hours": "3600",
        "day days": "86400",
        "week weeks": "604800",
    },
    "age": {"month months": "1", "year years": "12"},
    "speed": {
        "m/s": "1",
        "km/h kmh kph": "1000/3600",
        "mph": "0.44704",
    },
    "angle": {"° degree degrees deg": "1"},
    "celsius": {"°c": "1"},
    "fahrenheit": {"°f": "1"},
    "dollar": {"$ usd dollar dollars": "1", "cent cents": "0.01"},
    "euro": {"€ eur euro euros": "1"},
    "sterling": {"£ gbp": "1", "pence": "0.01"},
    "yen": {"¥ jpy yen": "1"},
    "rupee": {"₹ inr rupee rupees": "1"},
}.items():
    for _spelt, _factor in _names.items():
        for _name in _spelt.split():
            UNITS[_name] = (_dimension, Fraction(_factor))
            if _dimension == "length":
                UNITS[f"{_name}2"] = ("area", Fraction(_factor) ** 2)
                UNITS[f"{_name}3"] = ("volume", Fraction(_factor) ** 3)

# Several words that are one unit.
UNIT_PHRASES = {
    **dict.fromkeys(("degrees celsius", "degree celsius", "degrees centigrade", "° celsius"), "°c"),
    **dict.fromkeys(("degrees fahrenheit", "degree fahrenheit", "° fahrenheit"), "°f"),
    **dict.fromkeys(("miles per hour", "miles / hour", "mi / h"), "mph"),
    **dict.fromkeys(("kilometers per hour", "kilometres per hour", "km per hour", "km / h"), "km/h"),
    **dict.fromkeys(("meters per second", "metres per second", "m / s"), "m/s"),
    "° c": "°c", "° f": "°f", "us dollars": "dollars",
    **{f"{word} {name}": f"{name}{power}" for word, power in (("square", 2), ("sq", 2), ("cubic", 3))
       for name, (dimension, _) in list(UNITS.items()) if dimension == "length"},
}  # fmt: skip
# These stand before their number, too.
CURRENCIES = {"$", "€", "£", "¥", "₹", "usd", "eur", "gbp", "jpy", "inr"}
# A capital makes another unit of these, or none: "5M" is five million.
LOWER_CASE = {"m", "s", "g", "h"}

PERCENT = {"%", "percent", "pct"}
ORDINALS = {"st", "nd", "rd", "th"}
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SCALES |= {"dozen": 12}

_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
DIGITS = {word: value for value, word in enumerate(_ONES)}
TEENS = {word: value for value, word in enumerate((*_TEENS, "nineteen"), start=10)}
TENS = {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_PARTS = {
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
}
_PARTS |= {"tenth": 10, "hundredth": 100, "thousandth": 1000}
FRACTIONS = {"half": 2, "halves": 2, **_PARTS, **{f"{word}s": value for word, value in _PARTS.items()}}
NUMBER_WORDS = {*DIGITS, *TEENS, *TENS, *SCALES}
