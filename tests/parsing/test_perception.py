"""Perceiver texts: the boxes that are read, and the reasons for the rest."""

from __future__ import annotations

import json
import time
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2r.errors import InputError
from p2r.parsing.boxes import MAX_LABEL_CHARS, MAX_REASONS
from p2r.parsing.perception import MAX_BOXES, MAX_CHARS, SAME_IOU, parse_perception
from p2r.parsing.thinking import split_thinking
from p2r.types import Box
from tests.strategies import good_boxes

if TYPE_CHECKING:
    from p2r.types import BoxFormat

ONE = '[{"bbox_2d": [100, 200, 300, 400], "label": "sign"}]'
TWO = '[{"bbox_2d": [100, 200, 300, 400], "label": "a"}, {"bbox_2d": [500, 600, 700, 800], "label": "b"}]'


def corners(text: str) -> list[tuple[float, ...]]:
    """The boxes of a text that must have some."""
    read = parse_perception(text)
    assert read.outcome == "boxes", read
    return [box.as_tuple() for box in read.boxes]


def no_two_alike(boxes: list[tuple[int, int, int, int]]) -> bool:
    return all(Box(*one).iou(Box(*other)) < SAME_IOU for one, other in combinations(boxes, 2))


# Wrappings: all of them say the same one box.


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        f"```json\n{ONE}\n```",
        f"```\n{ONE}",
        f"The sign is small. {ONE} That is [all] of it.",
        f"It's near the dog's bowl: {ONE}",
        f"[the dog's bowl: {ONE}] That's it.",
        f"<think>Maybe [{{'bbox_2d': [1, 2, 3, 4]}}].</think>{ONE}",
        f"It began earlier [1, 2, 30, 40].</think>\n{ONE}",
        f"<answer>{ONE}</answer>",
        f"[see below: {ONE}",
        json.dumps(ONE),
        json.dumps(json.dumps(ONE)).replace("\\\\", ""),
        '{"bbox_2d": [100, 200, 300, 400], "label": "sign"}',
        '{"bboxes": [{"bbox_2d": [100, 200, 300, 400], "label": "sign"}]}',
        '{"label": "sign", "boxes": [[100, 200, 300, 400]]}',
        '{"result": {"objects": [{"box": [100, 200, 300, 400], "name": "sign"}]}}',
        '[{"BBox": [100, 200, 300, 400], "Label": "sign"}]',
        '[{"bbox_2d": "100, 200, 300, 400", "label": "sign"}]',
        '[{"bbox_2d": "[100 200 300 400]", "label": "sign"}]',
        '[{"bbox_2d": ["100", "200", " 300 ", "4e2"], "label": "sign"}]',
        '[{"bbox_2d": [[100, 200], [300, 400]], "label": "sign"}]',
        '[{"bbox_2d": [[100, 200, 300, 400]], "label": "sign"}]',
        '[{"bbox": {"x1": 100, "y1": 200, "x2": 300, "y2": 400}, "label": "sign"}]',
        '[{"x_min": 100, "y_min": 200, "x_max": 300, "y_max": 400, "label": "sign"}]',
        '[{"x": 100, "y": 200, "width": 200, "height": 200, "label": "sign"}]',
        "[{'bbox_2d': (100, 200, 300, 400), 'label': 'sign'},]",
        '[{bbox_2d: [100 200 300 400,], label: "sign"}]',
        '[[100, 200, 300, 400, "sign"]]',
        '[[100, 200, 300, 400], "sign"]',
        '[{"bbox_2d": [1e2, 200.0, +300, 400], "label": "si\\u0067n", "score": 0.9, "note": null}]',
        '[{"bbox_2d": [100, 200, 300, 400], "label": " sign\\n"}]',
    ],
)
def test_a_box_is_recovered_from_any_readable_wrapping(text: str) -> None:
    read = parse_perception(text)
    assert [(box.as_tuple(), box.label) for box in read.boxes] == [((100, 200, 300, 400), "sign")]
    assert read.outcome == "boxes"
    assert read.text == text


@pytest.mark.parametrize(
    "text",
    [
        "[100, 200, 300, 400]",
        "[[100, 200, 300, 400]]",
        "(see) [100, 200, 300, 400].",
        "[[100,200],[300,400]]",
    ],
)
def test_a_bare_list_is_a_box_without_a_label(text: str) -> None:
    assert [(box.as_tuple(), box.label) for box in parse_perception(text).boxes] == [
        ((100, 200, 300, 400), "")
    ]


@pytest.mark.parametrize(
    "text",
    [
        TWO,
        TWO[1:-1].replace("}, {", "}\n{"),
        TWO.replace("}, {", "} {"),
        TWO.replace("}, {", ", "),  # a forgotten brace
        TWO.replace("], ", "}, ", 1),  # the wrong bracket
    ],
)
def test_boxes_keep_their_order(text: str) -> None:
    assert corners(text) == [(100, 200, 300, 400), (500, 600, 700, 800)]


# Cut off.


@pytest.mark.parametrize("length", range(len(TWO)))
def test_a_text_cut_off_anywhere_keeps_its_complete_boxes(length: int) -> None:
    read = parse_perception(TWO[:length])
    complete = sum(length >= TWO.index(end) + len(end) for end in ("400]", "800]"))
    assert len(read.boxes) == complete
    assert read.outcome == ("boxes" if complete else "malformed")
    assert read.warnings


def test_a_cut_number_is_never_taken_for_a_whole_one() -> None:
    read = parse_perception("[[1, 2, 30, 40], [5, 6, 70, 8")
    assert [box.as_tuple() for box in read.boxes] == [(1, 2, 30, 40)]
    assert "item 2: cut off within its coordinates" in read.warnings
    assert parse_perception("[100, 200, 300, 400").outcome == "malformed"


def test_a_box_is_kept_when_its_label_is_cut_off() -> None:
    read = parse_perception('[{"bbox_2d": [1, 2, 30, 40], "label": "si')
    assert [(box.as_tuple(), box.label) for box in read.boxes] == [((1, 2, 30, 40), "")]
    assert read.warnings == ("the text ends inside a list or an object",)


# The three outcomes.


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        " [ ]\n",
        "```json\n[]\n```",
        "The whole image is needed: []",
        "[as I said] []",
        '{"bboxes": []}',
        '{"objects": []}',
        "<think>[1, 2, 30, 40]</think>[]",
        "[].",
    ],
)
def test_an_empty_list_means_the_whole_image(text: str) -> None:
    read = parse_perception(text)
    assert (read.outcome, read.boxes) == ("whole", ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the text is empty"),
        (" \n", "the text is empty"),
        ("<think>[1, 2, 30, 40]</think>", "nothing after the thinking"),
        ("<think>so [1, 2, 30, 40]", "the thinking never ends"),
        ("<think></think><think>[]", "the thinking never ends"),
        ("I see nothing.", "no JSON list of boxes"),
        ("null", "no JSON list of boxes"),
        ("[", "the text ends inside a list or an object"),
        ('[{"bboxes": [}]', "a bracket closed by '}' was repaired"),
        ("[)", "the text ends inside a list or an object"),
        ("{}", "no JSON list of boxes"),
        ("[null]", "item 1: null is not a number"),
        ("[[]]", "item 1: an empty list is no box"),
        ("[{}]", "no JSON list of boxes"),
        ('["sign"]', "item 1: 'sign' is no box"),
        ('[{"label": "sign"}]', "item 1: an object without a box"),
        ('[{"bbox_2d": [], "label": "sign"}]', "item 1: a box without coordinates"),
        ('[{"bbox_2d": null}]', "item 1: null is no box"),
        ("[1, 2, 30]", "item 1: a box has 4 numbers, not 3"),
        ("[1, 2, 30, 40, 50, 60, 70, 80]", "item 1: a box has 4 numbers, not 8"),
        ("[true, 2, 30, 40]", "item 1: true is not a number"),
        ("[1, null, 30, 40]", "item 1: null is not a number"),
        ("[NaN, 2, 30, 40]", "item 1: nan is not a finite number"),
        ("[1, 2, Infinity, 40]", "item 1: inf is not a finite number"),
        ("[-Infinity, 2, 30, 40]", "item 1: -inf is not a finite number"),
        ("[1, 2, 1e999, 40]", "item 1: inf is not a finite number"),
        (f"[1, 2, {'9' * 5_000}, 40]", "item 1: inf is not a finite number"),
        ("[x1, y1, x2, y2]", "no JSON list of boxes"),
        ("[between 1, 2, 30 and 40]", "words in brackets are no box"),
        ('{"x": 1, "y": null, "width": 3, "height": 4}', "item 1: null is not a number"),
        ("[500, 500, 500, 500]", "item 1: a point, not a box"),
        ("[0, 0, 0, 0]", "item 1: a point, not a box"),
        ("[1200, 100, 1300, 200]", "item 1: lies outside 0–1000"),
        ("[100, -30, 200, -10]", "item 1: lies outside 0–1000"),
        ("[1000, 100, 1000, 200]", "item 1: lies outside 0–1000"),
        ("[" * 40 + "1, 2, 30, 40" + "]" * 40, "nesting deeper than 32 was skipped"),
        ("[[" * 100_000, "nesting deeper than 32 was skipped"),
        ("[] [1, 2]", "item 1: a box has 4 numbers, not 2"),  # not whole: a box was attempted
    ],
)
def test_what_has_no_usable_box_is_malformed_with_a_reason(text: str, reason: str) -> None:
    read = parse_perception(text)
    assert (read.outcome, read.boxes) == ("malformed", ())
    assert reason in read.warnings


def test_bad_items_do_not_discard_good_ones() -> None:
    read = parse_perception('[[1, 2, 30, 40], null, "x", [true, 0, 1, 1], {"label": "q"}, [5, 6, 70, 80]]')
    assert [box.as_tuple() for box in read.boxes] == [(1, 2, 30, 40), (5, 6, 70, 80)]
    assert [reason.partition(": ")[2] for reason in read.warnings] == [
        "null is no box",
        "'x' is no box",
        "true is not a number",
        "an object without a box",
    ]


def test_repeated_boxes_count_once() -> None:
    read = parse_perception("[[1, 2, 30, 40]" + ", [1, 2, 30, 40]" * 399 + ", [500, 500, 600, 600]]")
    assert [box.as_tuple() for box in read.boxes] == [(1, 2, 30, 40), (500, 500, 600, 600)]
    assert read.warnings == ("repeated boxes count once: 399 left out",)
    assert len(read.repeats) == MAX_BOXES


@pytest.mark.parametrize(
    ("second", "boxes", "repeats"),
    [
        ("[100, 100, 200, 200]", 1, 1),
        ("[101, 99, 201, 199]", 1, 1),  # IoU 0.96
        ("[100, 100, 200, 191]", 1, 1),  # IoU 0.91
        ("[100, 100, 200, 189]", 2, 0),
        ("[120, 120, 180, 180]", 2, 0),  # inside it
        ("[200, 100, 300, 200]", 2, 0),  # beside it
    ],
)
def test_boxes_are_the_same_from_an_iou_of_nine_tenths(second: str, boxes: int, repeats: int) -> None:
    read = parse_perception(f"[[100, 100, 200, 200], {second}]")
    assert (len(read.boxes), len(read.repeats)) == (boxes, repeats)


def test_the_first_of_repeated_boxes_gives_the_label() -> None:
    read = parse_perception('[[1, 2, 30, 40, "bus"], [9, 9, 90, 90, "sign"], [1, 2, 30, 40, "coach"]]')
    assert [box.label for box in read.boxes] == ["bus", "sign"]
    assert [box.label for box in read.repeats] == ["coach"]


def test_boxes_outside_the_thinking_count_and_those_inside_do_not() -> None:
    assert corners("[1, 2, 30, 40] <think>[5, 6, 70, 80]") == [(1, 2, 30, 40)]
    assert corners("[1, 2, 30, 40] <THINK>[5, 6, 70, 80]</Think> [9, 9, 90, 90]") == [
        (1, 2, 30, 40),
        (9, 9, 90, 90),
    ]


# Coordinates.


@pytest.mark.parametrize(
    ("written", "box", "reason"),
    [
        ("[0, 0, 1000, 1000]", (0, 0, 1000, 1000), None),
        ("[12.5, 20, 30.25, 40]", (12.5, 20, 30.25, 40), None),
        ("[300, 400, 100, 200]", (100, 200, 300, 400), "swapped corners were put in order"),
        ("[300, 200, 100, 400]", (100, 200, 300, 400), "swapped corners were put in order"),
        ("[900, 900, 1200, 1300]", (900, 900, 1000, 1000), "clamped to 0–1000"),
        ("[-5, -5, 50, 50]", (0, 0, 50, 50), "clamped to 0–1000"),
        ("[-1e300, 2, 1e300, 40]", (0, 2, 1000, 40), "clamped to 0–1000"),
        ("[500, 100, 500, 200]", (499.5, 100, 500.5, 200), "a side below 1 was widened"),
        ("[0, 100, 0.5, 200]", (0, 100, 1, 200), "a side below 1 was widened"),
        ("[999.9, 100, 1000, 200]", (999, 100, 1000, 200), "a side below 1 was widened"),
        ("[999, 100, 1700, 200]", (999, 100, 1000, 200), "clamped to 0–1000"),
        ("[5e-324, 1, 1e-323, 2]", (0, 1, 1, 2), "a side below 1 was widened"),
        ("[-0.0, 2, 30, 40]", (0, 2, 30, 40), None),
    ],
)
def test_coordinates_end_up_in_order_and_within_0_to_1000(
    written: str, box: tuple[float, ...], reason: str | None
) -> None:
    read = parse_perception(written)
    assert [found.as_tuple() for found in read.boxes] == [box]
    assert read.warnings == ((f"item 1: {reason}",) if reason else ())


@pytest.mark.parametrize(
    ("written", "boxes"),
    [
        ("[0.1, 0.2, 0.3, 0.4]", [(100, 200, 300, 400)]),
        ("[0, 0, 1, 1]", [(0, 0, 1000, 1000)]),
        ("[[0.1, 0.2, 0.3, 0.4], [0, 0, 0.5, 1.0]]", [(100, 200, 300, 400), (0, 0, 500, 1000)]),
        ("[0.3, 0.4, 0.1, 0.2]", [(100, 200, 300, 400)]),
        # One coordinate above 1, and all are on the 0–1000 scale.
        ("[[0.1, 0.2, 0.3, 40], [10, 20, 30, 40]]", [(0, 0.2, 1, 40), (10, 20, 30, 40)]),
    ],
)
def test_coordinates_are_shares_only_if_all_of_them_could_be(
    written: str, boxes: list[tuple[float, ...]]
) -> None:
    assert corners(written) == [pytest.approx(box) for box in boxes]


# Box formats: all of these say the same box of an image that was sent with 2000 × 500 pixels.

SIZE = (2000, 500)


@pytest.mark.parametrize(
    ("box_format", "text"),
    [
        ("qwen3", '[{"bbox_2d": [100, 200, 300, 400], "label": "sign"}]'),
        ("pixels", '[{"bbox_2d": [200, 100, 600, 200], "label": "sign"}]'),
        ("gemini", '[{"box_2d": [200, 100, 400, 300], "label": "sign"}]'),
        ("unit", '[{"bbox_2d": [0.1, 0.2, 0.3, 0.4], "label": "sign"}]'),
        # Two corners, bare, in markup.
        ("pixels", '[[[200, 100], [600, 200]], "sign"]'),
        ("gemini", '[[[200, 100], [400, 300]], "sign"]'),
        ("gemini", "<ref>sign</ref><box>(200,100),(400,300)</box>"),
        ("unit", "<ref>sign</ref><box>0.1 0.2 0.3 0.4</box>"),
        # The shares that the formats of 0–1000 take, in the order of the format.
        ("qwen3", '[{"bbox_2d": [0.1, 0.2, 0.3, 0.4], "label": "sign"}]'),
        ("gemini", '[{"box_2d": [0.2, 0.1, 0.4, 0.3], "label": "sign"}]'),
        # Named numbers are what they are named, in any order.
        ("gemini", '[{"x1": 100, "y1": 200, "x2": 300, "y2": 400, "label": "sign"}]'),
        ("gemini", '[{"ymin": 200, "xmin": 100, "ymax": 400, "xmax": 300, "label": "sign"}]'),
        ("gemini", '[{"x": 100, "y": 200, "width": 200, "height": 200, "label": "sign"}]'),
        ("gemini", "<ref>sign</ref>y1=200, x1=100, y2=400, x2=300"),
        ("pixels", '[{"x": 200, "y": 100, "width": 400, "height": 100, "label": "sign"}]'),
    ],
)
def test_each_box_format_is_read_in_its_order_and_scale(box_format: BoxFormat, text: str) -> None:
    read = parse_perception(text, box_format, SIZE)
    (box,) = read.boxes
    assert box.as_tuple() == pytest.approx((100, 200, 300, 400))
    assert box.label == "sign"
    assert read.format_warning == ""


def test_a_format_is_never_guessed_from_a_key() -> None:
    gemini = '[{"box_2d": [200, 100, 400, 300]}]'
    assert [box.as_tuple() for box in parse_perception(gemini, "qwen3", SIZE).boxes] == [(200, 100, 400, 300)]


@pytest.mark.parametrize(
    ("box_format", "written", "box", "reason"),
    [
        ("pixels", "[1900, 450, 2200, 600]", (950, 900, 1000, 1000), "clamped to 2000×500 pixels"),
        ("pixels", "[2100, 450, 2200, 490]", None, "lies outside 2000×500 pixels"),
        ("pixels", "[600, 200, 200, 100]", (100, 200, 300, 400), "swapped corners were put in order"),
        ("pixels", "[100, 100, 101, 100.2]", (50, 200, 51, 201), "a side below 1 was widened"),
        ("unit", "[0.9, 0.9, 1.2, 1.3]", (900, 900, 1000, 1000), "clamped to 0–1"),
        ("unit", "[1.9, 0.9, 2.2, 1.3]", None, "lies outside 0–1"),
        ("gemini", "[900, -5, 950, 50]", (0, 900, 50, 950), "clamped to 0–1000"),
    ],
)
def test_coordinates_are_checked_against_the_range_of_the_format(
    box_format: BoxFormat, written: str, box: tuple[float, ...] | None, reason: str
) -> None:
    read = parse_perception(written, box_format, SIZE)
    assert [found.as_tuple() for found in read.boxes] == ([pytest.approx(box, abs=0.5)] if box else [])
    assert f"item 1: {reason}" in read.warnings


def test_pixels_need_a_size() -> None:
    with pytest.raises(InputError, match="size of the image as it was sent"):
        parse_perception(ONE, "pixels")


@pytest.mark.parametrize(
    ("box_format", "text", "fitting"),
    [
        ("qwen3", "[1500, 300, 1700, 400]", "pixels"),
        ("qwen3", "[[1500, 30, 1700, 40], [900, 300, 1100, 400]]", "pixels"),
        ("gemini", "[300, 1500, 400, 1700]", ""),  # y first: as pixels it would lie below the image
        ("gemini", "[1500, 300, 1700, 400]", "pixels"),
        ("unit", "[0, 300, 700, 400]", "qwen3 or pixels or gemini"),
        ("unit", "[0, 300, 1700, 400]", "pixels"),
        ("unit", "[0, 600, 700, 900]", "qwen3 or gemini"),
        ("pixels", "[100, 600, 300, 900]", "qwen3 or gemini"),
        ("pixels", "[0.1, 0.2, 0.3, 0.4]", "qwen3 or gemini or unit"),
        ("qwen3", "[[1500, 300, 1700, 400], [100, 200, 300, 400]]", ""),  # one fits
        ("qwen3", "[990, 990, 1005, 1005]", ""),  # a little too far
        ("qwen3", "[5000, 5000, 6000, 6000]", ""),  # no format
        ("qwen3", "no box", ""),
    ],
)
def test_a_reply_in_another_format_gets_a_hint(box_format: BoxFormat, text: str, fitting: str) -> None:
    read = parse_perception(text, box_format, SIZE)
    if not fitting:
        assert read.format_warning == ""
    else:
        assert read.format_warning.startswith(
            f"no box fits box format {box_format}, all would fit {fitting}: "
        )
        assert f"--set box_format={fitting.split()[0]}" in read.format_warning
        assert read.format_warning in read.warnings


# Labels.


@pytest.mark.parametrize(
    "key",
    [
        *(
            "label",
            "name",
            "name_en",
            "names",
            "object_name",
            "objectName",
            "text_content",
            "category",
            "element",
        ),
        *(
            "object",
            "caption",
            "phrase",
            "ref",
            "tag",
            "class_name",
            "className",
            "title",
            "description",
            "Label",
        ),
        *("类别", "was_ist_da", "what", "colour", "reason"),
    ],
)
def test_a_label_is_read_under_any_key_that_names_the_thing(key: str) -> None:
    (box,) = parse_perception(json.dumps([{key: "sign", "bbox_2d": [1, 2, 30, 40], "score": 0.5}])).boxes
    assert box.label == "sign"


@pytest.mark.parametrize(
    ("entry", "label"),
    [
        ({"bbox": [1, 2, 30, 40], "type": "button", "content": "Sign in"}, "Sign in"),
        ({"bbox": [1, 2, 30, 40], "description": "It is red.", "label": "sign"}, "sign"),
        ({"bbox": [1, 2, 30, 40], "label": " ", "name": "sign"}, "sign"),
        ({"bbox": [1, 2, 30, 40], "name_en": "sign", "name_de": "Schild"}, "sign"),
        ({"bbox": [1, 2, 30, 40], "names": ["sign"]}, "sign"),
        ({"bbox": [1, 2, 30, 40], "class": 5, "name": "sign"}, "sign"),
        ({"bbox": [1, 2, 30, 40], "label": "42"}, "42"),
        ({"bbox": [1, 2, 30, 40], "score": "0.9", "what": "sign"}, "sign"),
        ({"bbox": [1, 2, 30, 40], "colour": "red", "shape": "round"}, ""),  # neither names it
        ({"bbox": [1, 2, 30, 40], "score": "0.9"}, ""),
        ({"bbox": [1, 2, 30, 40], "context": "sign", "stage": "first"}, ""),  # no words of a name
        ({"sign": [1, 2, 30, 40]}, "sign"),
        ({"position": [1, 2, 30, 40]}, ""),
        ({"bounding_box_coordinates": [1, 2, 30, 40]}, ""),
        ({"bounding_box_coordinates": [1, 2, 30, 40], "object": "sign"}, "sign"),
        ({"object": {"name": "sign", "bbox": [1, 2, 30, 40]}}, "sign"),
        ({"comment": "One box.", "boxes": [[1, 2, 30, 40]]}, "One box."),
        ({"note": "One box.", "result": {"boxes": [[1, 2, 30, 40]]}}, ""),
    ],
)
def test_the_label_is_the_text_that_names_the_thing_best(entry: dict[str, object], label: str) -> None:
    (box,) = parse_perception(json.dumps(entry)).boxes
    assert (box.as_tuple(), box.label) == ((1, 2, 30, 40), label)


def test_labels_in_a_list_of_their_own_belong_to_the_boxes_in_order() -> None:
    text = '{"bboxes": [[1, 2, 30, 40], [5, 6, 70, 80]], "labels": ["bus", "sign"]}'
    assert [box.label for box in parse_perception(text).boxes] == ["bus", "sign"]


@pytest.mark.parametrize(
    ("label", "read"),
    [
        ('"a \\"big\\" sign"', 'a "big" sign'),
        ("'the dog\"s'", 'the dog"s'),
        ('"tab\\tand\\nline"', "tab and line"),
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\ud800"', "\ufffd"),
        ('"\u202eevil\u0000"', "evil"),
        ('"Ärmel, 漢字"', "Ärmel, 漢字"),
        ('""', ""),
        (json.dumps("x" * 5_000), "x" * MAX_LABEL_CHARS),
    ],
)
def test_labels_are_clean_texts(label: str, read: str) -> None:
    (box,) = parse_perception(f'[{{"bbox_2d": [1, 2, 30, 40], "label": {label}}}]').boxes
    assert box.label == read


@pytest.mark.parametrize("label", ["5", "null", "true", "[]", '{"a": 1}', "sign"])
def test_a_label_that_is_no_text_is_dropped_and_its_box_is_not(label: str) -> None:
    read = parse_perception(f'[{{"bbox_2d": [1, 2, 30, 40], "label": {label}}}]')
    assert [(box.as_tuple(), box.label) for box in read.boxes] == [((1, 2, 30, 40), "")]
    assert len(read.warnings) == 1
    assert "is not a text" in read.warnings[0]


# Bounds.


def test_boxes_and_reasons_are_bounded() -> None:
    many = parse_perception("".join(f"[{20 * n}, 20, {20 * n + 20}, 40]" for n in range(MAX_BOXES + 5)))
    assert len(many.boxes) == MAX_BOXES
    assert many.warnings == (f"5 more boxes after the first {MAX_BOXES}",)
    bad = parse_perception("[1, 2, 3]" * 100)
    assert len(bad.warnings) == MAX_REASONS + 1
    assert bad.warnings[-1] == f"and {100 - MAX_REASONS} more"


def test_what_follows_the_longest_readable_text_is_dropped_with_a_reason() -> None:
    read = parse_perception("[1, 2, 30, 40]" + " " * MAX_CHARS + "[5, 6, 70, 80]")
    assert len(read.boxes) == 1
    assert read.warnings == (f"only the first {MAX_CHARS} of {MAX_CHARS + 28} characters were read",)


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "[",
            "{",
            "(",
            "[[1,2,3,4]",
            "[1,2,3,4],",
            '{"a":',
            '["',
            "['",
            '\\"',
            '[\\"',
            "[}",
            "{]",
            "[(]",
            "[1",
            "1",
        ),
        *(
            "[-",
            "[ ",
            "<think>",
            "</think",
            "<think ",
            "<",
            "```",
            "[1.1",
            "[1e",
            "\u0130",
            '{"bbox_2d":[1,2,3,4],',
        ),
    ],
)
def test_a_hostile_megabyte_is_read_in_no_time(piece: str) -> None:
    text = "[" + piece * (1_000_000 // len(piece))
    start = time.process_time()
    parse_perception(text)
    parse_perception(piece * (1_000_000 // len(piece)) + "x")
    assert time.process_time() - start < 2


# Properties.


@given(
    st.lists(good_boxes(), min_size=1, max_size=8).filter(no_two_alike),
    st.sampled_from(["json", "bare", "keyed", "prose"]),
)
@settings(max_examples=40, deadline=None, database=None, derandomize=True)
def test_valid_boxes_come_back_as_they_were(boxes: list[tuple[int, int, int, int]], form: str) -> None:
    rows = [{"bbox_2d": list(box), "label": f"thing {index}"} for index, box in enumerate(boxes)]
    text = {
        "json": json.dumps(rows),
        "bare": json.dumps(boxes),
        "keyed": f"```json\n{json.dumps({'boxes': rows}, indent=1)}\n```",
        "prose": "\n".join(f"- it's here: {row}" for row in rows),
    }[form]
    read = parse_perception(text)
    assert [box.as_tuple() for box in read.boxes] == boxes
    assert read.warnings == ()
    if form != "bare":
        assert [box.label for box in read.boxes] == [row["label"] for row in rows]


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("a", ("", "", "a")),
        ("a<think>b</think>c", ("a", "b", "c")),
        ("b</think>c", ("", "b", "c")),
        ("<think> b </think ><think>c</think>d", ("", "b </think ><think>c", "d")),
        ("a<think>b", ("a", "b", None)),
        ("b</think>c<think>d", ("", "b</think>c<think>d", None)),
        ("İ<THINK>b</Think>c", ("İ", "b", "c")),
    ],
)
def test_a_text_is_split_at_its_thinking(text: str, split: tuple[str, str, str | None]) -> None:
    assert tuple(split_thinking(text)) == split
