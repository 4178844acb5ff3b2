"""Right and wrong answers generated from the meaning of a number, independent of the reader.

`right_answers` states a value in many ways. `wrong_answers` states it and retracts, doubts, compares, scales
or changes it by a calculation, or adds another number; or states another value in a right way.
"""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st


def _each(texts: str) -> list[str]:
    """The texts of a list: two spaces or a line end between them, `¶` for a line end in one."""
    return [
        text.replace("¶", "\n") for line in texts.strip().splitlines() for text in line.strip().split("  ")
    ]


ONES = _each(
    """zero  one  two  three  four  five  six  seven  eight  nine  ten  eleven  twelve  thirteen
    fourteen  fifteen  sixteen  seventeen  eighteen  nineteen"""
)
TENS = _each("_  _  twenty  thirty  forty  fifty  sixty  seventy  eighty  ninety")

THINGS = _each(
    """apples  red cars  people in the image  birds on the roof  windows of the house  passengers
    years old  people sitting at the table  small white boats near the shore  of them  traffic lights
    äpfel  personnes  points in total  visible cars  floors  in total  parked cars"""
)
FRAMES = _each(
    r"""{}  {}.  {}¶  ({})  "{}"  **{}**  `{}`  *{}*.  $\boxed{{{}}}$  \(\text{{{}}}\)  The answer is {}.
    Answer: {}  **Answer:** {}  The final answer is: **{}**  So, the answer is {}.  the total is {}
    Total: {}  It is {}.  It's {}  There are {}  there are exactly {}  Yes, {}  I count {}.
    I can see {}  The sign shows {}.  The price of the red car is {}.  x = {}  = {}
    Number of cars: {}  only {}  a total of {}  The number of red cars in the image is {}.
    {} is correct.  {} is the answer  Final answer:¶{}  Sure! The answer is {}.  The difference is {}
    答案是{}"""
)
RESTATED = _each("{0}. The answer is {0}.  {0}¶The sign shows {0}.  The result is {0}, so {0}.")
UNITS = {
    "cm": [" cm", "cm", " centimeters", " \\text{ cm}"],
    "km/h": [" km/h", "km/h", " kilometers per hour"],
    "m²": [" m²", " m^2", " square meters"],
    "°C": ["°C", " degrees Celsius"],
}
CURRENCIES = {"$": ["$", "$ ", "US$"], "€": ["€", "€ ", "EUR "]}

# Wrong answers. {} is a right way to write the gold answer, {other} another number.
WRONG = {
    "taken back": _each(
        r"""not {}  Not {}.  It is not {}  It isn't {}  the answer is not {}  anything but {}  never {}
        non-{}  doesn't equal {}  does not equal {}  {} is wrong  {} is incorrect.
        {} is not the answer  {}? No.  ≠ {}  != {}  ¬{}  !{}  <> {}  x ≠ {}  neither {}  without {}
        all except {}  not exactly {}  no {}  {}, not  ~~{}~~  {} is false  The wrong answer is {}
        It cannot be {}  nicht {}  pas {}  不是{}  The opposite of {}  {} (wrong)  {} (not)
        rather than {}  The answer isn't {}  I doubt it is {}  {} nope  \neq {}  \not= {}  {} (no)
        {} eliminated  {} ruled out  {} aint it  {} mistakenly"""
    ),
    "doubted": _each(
        r"""about {}  around {}  ~{}  ≈{}  approximately {}  roughly {}  circa {}  almost {}  nearly {}
        maybe {}  perhaps {}  probably {}  {}?  {} or so  {}-ish  {} or thereabouts  possibly {}
        It might be {}  {} (?)  It could be {}  I guess {}  {} perhaps  an estimated {}  some {}
        if {}  {}, I guess  \approx {}  {} ± 1  whether it is {}  {} apples or so
        The answer may be {}  ±{}  \pm {}  约{}  etwa {}  environ {}  {} maybe  \sim {}"""
    ),
    "compared": _each(
        r""">= {}  > {}  <{}  ≤ {}  ≥{}  => {}  at least {}  at most {}  more than {}  less than {}
        over {}  under {}  up to {}  {}+  {} or more  {} or less  {} at least  fewer than {}  above {}
        below {}  {} and up  no more than {}  minimum {}  max. {}  {} minimum  not less than {}
        mehr als {}  {} plus  {} and over  \geq {}  \le {}  x > {}  {} < x  {} and counting  from {}
        until {}  beyond {}  {} upwards"""
    ),
    "joined": _each(
        r"""{} or {other}  {other} or {}  {} and {other}  {}, {other}  {other}, {}  {} {other}  {other} {}
        {}/{other}/{}  {}; {other}  {}-{other}  {other}-{}  {}–{other}  {} to {other}
        between {} and {other}  {} - {other}  {}¶{other}  {} of {other}  {} out of {other}
        {} vs {other}  {}:{other}  {other}:{}  {}. The sign shows {other}.  {}|{other}
        The answer is {}. The answer is {other}.  {} = {other}  {other} = {}  ({}, {other})
        [{other}, {}]  {} & {other}  {} ({other})  {other} ({})  {}({other})  ({})({other})
        either {} or {other}  {} cars, {other} trucks  {}..{other}  {}...{other}  {} → {other}
        {}x{other}  {} x {other}  {} by {other}  {} cars and a bike  \boxed{{{}}}\boxed{{{other}}}
        {other} ≈ {}  {}, {other} ≈ {}  {} but {other}  {} apples {other} pears
        {}\frac{{{other}}}{{1}}  {{{},{other}}}  {} {}  {}, {}  {}-{}  {} and {}  {}·{}·  {} {} {}
        #{} #{}  {}_{other}  {}~{other}  {} through {other}"""
    ),
    "scaled": _each(
        r"""{} hundred  {} thousand  {} million  {} dozen  {} pairs  {} squared  {} cubed  half of {}
        half {}  twice {}  double {}  {} doubled  {} dozens  {} tens  {} couples  a third of {}
        {} times {}  {} plus one  {} minus one  {} and a half  {} less one  {} too many  {} each
        {} halves  {} thirds  {} per mille  {}‰  the square root of {}  the square of {}
        {} divided by two  minus the {}  {} hundredths  {} billion  {} k  {}万  {}!!  -({})  1 + {}
        {} + 1  {} - 1  1/{}/1  2({})  ({})2  2 {}  {}.{}  {}.5.5  {}i  |{}|"""
    ),
    "codes": _each(
        r"""A{}  {}a  B-{}  0x{}  {}:00  v{}.1.2  {}°N  {} pm  {} o'clock  {}G  #A{}  {}-A  {}_1  May {}
        {} May  May {} 2024  2024-05-{}  {}/05/2024  {}.05.2024  {} BC  Monday {}  {} days ago
        {} years before  <{}>  x{}  {}x^2  {}y  @{}  {}e  {}st.{}  ①{}  {}²²²²  ₂{}  {}Ⅳ  {} XIV
        {}\%\%  \sum {}  \int_0^{{{}}}  {}%%  {}:{}:{}"""
    ),
}
AROUND = _each(
    r"{}  {}  {}  {}.  The answer is {}.  Answer: {}  It is {}  **{}**  $\boxed{{{}}}$  There are {}  = {}"
)

small = st.integers(0, 30)
whole = st.one_of(small, st.integers(31, 9_999), st.integers(10_000, 9_999_999))
decimals = st.builds(lambda n, places: Fraction(n, 10**places), st.integers(1, 99_999), st.integers(1, 3))
parts = st.builds(Fraction, st.integers(1, 40), st.integers(2, 16))
values = st.builds(
    lambda value, sign: Fraction(value) * sign,
    st.one_of(small, whole, decimals, parts),
    st.sampled_from([1, 1, 1, -1]),
)


def in_words(value: int) -> str:
    """A whole number in English words, with "and"."""
    if value < 20:
        return ONES[value]
    if value < 100:
        return TENS[value // 10] + (f"-{ONES[value % 10]}" if value % 10 else "")
    if value < 1_000:
        rest = f" and {in_words(value % 100)}" if value % 100 else ""
        return f"{ONES[value // 100]} hundred{rest}"
    size, name = (10**6, "million") if value >= 10**6 else (1_000, "thousand")
    below = value % size
    rest = f"{' and' if below < 100 else ''} {in_words(below)}" if below else ""
    return f"{in_words(value // size)} {name}{rest}"


def digits(value: Fraction) -> str | None:
    """A value with a decimal point, if that is exact within six places."""
    scaled = value * 10**6
    if scaled.denominator != 1:
        return None
    text = f"{abs(int(scaled)):07d}"
    return ("-" if value < 0 else "") + (text[:-6] + "." + text[-6:]).rstrip("0").rstrip(".")


def spellings(value: Fraction) -> list[str]:
    """Ways to write a value that is not negative."""
    plain = digits(value)
    found = [] if plain is None else _in_digits(plain)
    if value.denominator == 1:
        return found + _whole(int(value))
    before, part = divmod(value, 1)
    above, below = part.numerator, part.denominator
    found += [f"{value.numerator}/{below}", f"\\frac{{{value.numerator}}}{{{below}}}"]
    found += [f"\\dfrac{{{value.numerator}}}{{{below}}}"]
    found += [f"{before} {above}/{below}", f"{before}\\frac{{{above}}}{{{below}}}"] if before else []
    if part == Fraction(1, 2) and before < 1_000:
        found += [f"{in_words(before)} and a half" if before else "half", f"{before or ''}½"]
    return found


def _in_digits(plain: str) -> list[str]:
    before, _, places = plain.partition(".")
    grouped = f"{int(before):,}"
    point, comma = (f".{places}", f",{places}") if places else ("", "")
    found = [plain, f"+{plain}", f"\u200e{plain}\u200b"]
    found += [plain.translate({48 + n: start + n for n in range(10)}) for start in (0xFF10, 0x1D7CE)]
    found += [plain.translate({48 + n: 0x660 + n for n in range(10)} | {46: 0x66B})]
    if "," in grouped:
        found += [grouped.replace(",", sign) + point for sign in (",", " ", "'", "\u202f", "{,}", "\\,")]
        found += [grouped.replace(",", ".") + comma] if comma or grouped.count(",") > 1 else []
    elif len(places) in (1, 2):
        found += [f"{before},{places}"]
    if len(plain) > 1 and not places and len(plain) < 7:
        mantissa, power = f"{plain[0]}.{plain[1:]}", len(plain) - 1
        found += [f"{mantissa} × 10^{{{power}}}", f"{mantissa}e{power}", f"{mantissa} \\times 10^{power}"]
    return found


def _whole(value: int) -> list[str]:
    words = in_words(value)
    found = [words, words.capitalize(), words.replace("-", " "), words.replace(" and", ""), f"{value}.0"]
    found += [f"{words} ({value})", f"{value} ({words})"] if value < 1_000 else []
    found += [f"a{words[3:]}"] if words.startswith(("one hundred", "one thousand", "one million")) else []
    found += [f"{value // 1000}k", f"{value // 1000} thousand"] if value and value % 1000 == 0 else []
    found += [f"{digits(Fraction(value, 10**6))} million"] if value >= 10**6 else []
    found += [f"{value // 12} dozen"] if value and value % 12 == 0 and value < 240 else []
    return found


def ways(value: Fraction) -> list[str]:
    """The spellings of any value."""
    if value >= 0:
        return spellings(value)
    found = []
    for text in spellings(-value):
        if text[0] != "+" and "(" not in text:
            words = ("minus ", "negative ") if text[0].isascii() and text[0].isalnum() else ()
            found += [sign + text for sign in ("-", "−", "–", *words)]
    return found


def _gold(value: Fraction) -> str:
    return digits(value) or f"{value.numerator}/{value.denominator}"


@st.composite
def right_answers(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Pairs of a gold answer and another way to say it, one for each frame."""
    value, first = draw(values), draw(st.integers(0, 99))
    texts = ways(value)
    pairs = [
        (_gold(value), frame.format(texts[(first + n) % len(texts)])) for n, frame in enumerate(RESTATED)
    ]
    for n, frame in enumerate(FRAMES, start=first):
        gold, text = _decorated(_gold(value), texts[n % len(texts)], n)
        # "(3,4)" is a point; "$US$5$" is nothing.
        if not ((frame == "({})" and "," in text) or ("$" in frame and "$" in text)):
            pairs.append((gold, frame.format(text)))
    return pairs


def _decorated(gold: str, text: str, n: int) -> tuple[str, str]:
    """The n-th way to write a thing, a unit or a percent sign with a number, or none."""
    kind, more = n % 5, n // 5
    if not kind or text.endswith(("½", "half", ")", "k")):
        return gold, text
    if kind == 1:
        return gold, f"{text} {THINGS[more % len(THINGS)]}" if "/" not in text else text
    if kind == 2:
        unit = list(UNITS)[more % len(UNITS)]
        spelled = UNITS[unit][n % len(UNITS[unit])]
        return (f"{gold} {unit}" if n % 2 else gold), text + (
            spelled if text[-1].isdigit() else f" {spelled.strip()}"
        )
    if kind == 3 and text[0].isdigit():
        currency = list(CURRENCIES)[more % len(CURRENCIES)]
        spelled = CURRENCIES[currency][n % len(CURRENCIES[currency])]
        return (f"{currency}{gold}" if n % 2 else gold), spelled + text
    return (f"{gold}%" if n % 2 else gold), text + ("%", " %", " percent", "\\%")[more % 4]


def _calculated(value: int, a: int, b: int) -> list[tuple[str, str]]:
    """Texts that give the gold answer only if they are calculated in a wrong way, or not at all."""
    pairs = [(str(a * b), text) for text in (f"{a} {b}", f"{a}({b})", f"({a})({b})", f"({a}){b}")]
    pairs += [(str(a + b), text) for text in (f"{a} {b}", f"{a}, {b}", f"{a} and {b}", f"{a} {b}/1")]
    pairs += [(str(a - b), text) for text in (f"{a}-{b}", f"{a} – {b}", f"= {a}-{b}", f"x = {a} - {b}")]
    pairs += [(str(2024 - 5 - day), f"2024-05-{day:02d}") for day in (a % 28, b % 28)]
    pairs += [
        (f"{a}{b}", text) for text in (f"{a} {b % 100}", f"{a},{b % 100}", f"{a}.{b}", f"{a}*{b}", f"{a}-{b}")
    ]
    pairs += [
        (f"{a}{b}", text)
        for text in (f"{a}'{b % 100}", f'{a}"{b}', f"{a}¶{b}".replace("¶", "\n"), f"{a}/{b}")
    ]
    pairs += [(str(a * 60 + b % 60), f"{a}:{b % 60:02d}"), (str(a * 12 + b % 12), f"{a} ft {b % 12}")]
    gold, words = str(value), in_words(value)
    texts = [f"√{value}", f"\\sqrt{{{value}}}", f"{value}^2", f"{value}²", f"{value} × 10^3", f"{value}e3"]
    texts += [f"{value}·2", f"{value}/2", f"2/{value}", f"\\frac{{1}}{{{value}}}", f"-{value}", f"{value}!"]
    texts += [
        f"{words} thousand",
        f"{words} and a half",
        f"{value}.5",
        f"{value}0",
        f"1{value}",
        f"{value}²³",
    ]
    texts += [
        f"{value} × {value}",
        f"{value} = {value + 1}",
        f"{value} + 1 = {value}",
        f"{value} km {value} m",
    ]
    return [*pairs, *((gold, text) for text in texts)]


KINDS = (*sorted(WRONG), "calculated", "another")


@st.composite
def wrong_answers(draw: st.DrawFn, kind: str) -> list[tuple[str, str]]:
    """Pairs of a gold answer and an answer that must not be right, all of one of the `KINDS`."""
    first = draw(st.integers(0, 99))
    if kind == "calculated":
        pairs = _calculated(*(draw(st.integers(2, 400)) for _ in range(3)))
        return [(gold, _around(answer, first + n)) for n, (gold, answer) in enumerate(pairs)]
    value, other = draw(values), draw(values)
    value = Fraction(7) if kind == "scaled" and not value else value  # no dozen is none
    if kind == "another":
        other = -value if first % 2 else other
    other = other if other != value else value + 1
    beside = ways(other)
    if kind == "another":
        frames = [*FRAMES, *(f"{{}} {thing}" for thing in THINGS)]
        return [
            (_gold(value), frame.format(beside[(first + n) % len(beside)])) for n, frame in enumerate(frames)
        ]
    texts = [_gold(value), *ways(value)]
    pairs = []
    for n, template in enumerate(WRONG[kind], start=first):
        text = texts[n % len(texts)] if n % 3 else texts[0]
        answer = template.format(text, text, text, other=beside[n % len(beside)])
        pairs.append((_gold(value), _around(answer, n)))
    return pairs


def _around(answer: str, n: int) -> str:
    return AROUND[n % len(AROUND)].format(answer)
