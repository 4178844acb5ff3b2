"""Hypothesis strategies of hostile model texts, built from what models are known to write."""

from __future__ import annotations

import json

from hypothesis import strategies as st

HOSTILE_NUMBERS = [
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "null",
        "true",
        "false",
        "None",
        "True",
        '""',
        '"12"',
        '"12px"',
        "1e999",
    ),
    *(
        "-1e-400",
        "-0",
        "+5",
        "007",
        "0x10",
        "1_000",
        "1,5",
        ".5",
        "5.",
        "1.2.3",
        "--5",
        "٣",
        "²",
        "½",
        "[]",
        "{}",
    ),
    *("9" * 5_000, "0." + "0" * 5_000 + "1", "-" + "9" * 400, "100000", "1000.0000001", "5e-324", "x1"),
]
LABELS = [
    '"sign"',
    "'sign'",
    "5",
    "null",
    "[]",
    '"a \\"b\\""',
    '"\\ud800"',
    '"\u202e"',
    '"' + "x" * 400 + '"',
    '""',
]
KEYS = ["bbox_2d", "bbox", "BBox-2D", "box", "boxes", "bboxes", "coordinates", "label", "x1", "objects", ""]
PROSE = [
    "Here is the evidence: ",
    "I see [two] signs; it's (here) {there}: ",
    "```json\n",
    "```",
    '<think>[{"bbox_2d": [1, 2, 3, 4]}]</think>',
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<|im_end|>",
    "// note\n",
    "\x00",
    "\ud800",
    "\u2028",
    "İ",
    "…",
]
ANSWERS = [
    *(
        "A",
        "b",
        "(C)",
        "D.",
        "B) red",
        "A or B",
        "Apple",
        "the answer is B",
        "not A",
        "3",
        "13",
        "dark red",
        "12.5",
    ),
    *(
        "50%",
        "1/2",
        "1/0",
        "\\boxed{B}",
        "\\frac{1}{0}",
        "9^{9^{9}}",
        "1e99",
        "$5",
        "−5",
        "1½",
        "",
        " ",
        "ﷺ" * 9,
    ),
    *(
        "2^99",
        "sqrt(-1)",
        "√2",
        "10:30",
        "A" * 300,
        "9" * 300,
        "((((",
        "\\sqrt{\\sqrt{2}}",
        "3-5",
        "= =",
        "I am",
    ),
]

numbers = st.one_of(
    st.integers(-200, 1_400).map(str),
    st.floats(allow_nan=True, allow_infinity=True).map(json.dumps),
    st.floats(0, 1).map(str),
    st.sampled_from(HOSTILE_NUMBERS),
)


def _join(parts: list[str], opening: str, closing: str) -> str:
    return opening + ", ".join(parts) + closing


brackets = st.sampled_from([("[", "]"), ("[", "]"), ("(", ")"), ("[", "}"), ("[", ""), ("{", "}")])
rows = st.builds(lambda parts, ends: _join(parts, *ends), st.lists(numbers, min_size=3, max_size=6), brackets)
records = st.builds(
    lambda key, row, label: f'{{"{key}": {row}, "label": {label}}}',
    st.sampled_from(KEYS),
    st.one_of(rows, numbers),
    st.sampled_from(LABELS),
)
values = st.recursive(
    st.one_of(rows, records, numbers, st.sampled_from(LABELS)),
    lambda inner: st.builds(lambda parts, ends: _join(parts, *ends), st.lists(inner, max_size=4), brackets),
    max_leaves=8,
)
noise = st.one_of(st.sampled_from(PROSE), st.text(max_size=20))


@st.composite
def perceiver_texts(draw: st.DrawFn) -> str:
    """Almost-JSON with noise around it, cut off anywhere."""
    text = "".join(draw(st.lists(st.one_of(noise, values), max_size=5)))
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@st.composite
def reasoner_texts(draw: st.DrawFn) -> str:
    """Thinking and answers, in tags and out of them, cut off anywhere."""
    tags = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "<ANSWER >", "</answer"])
    parts = st.one_of(tags, tags, st.sampled_from(ANSWERS), noise)
    text = "".join(draw(st.lists(parts, max_size=8)))
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@st.composite
def good_boxes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Corners of a valid box that is larger than 0–1 shares."""
    x0, y0 = draw(st.integers(0, 989)), draw(st.integers(0, 989))
    return x0, y0, draw(st.integers(x0 + 2, 1_000)), draw(st.integers(y0 + 2, 1_000))
