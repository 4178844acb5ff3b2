"""Boxes outside JSON, in the forms that grounding models write."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2r.parsing.perception import MAX_CHARS, parse_perception
from tests.strategies import good_boxes


def labeled(text: str) -> list[tuple[tuple[float, ...], str]]:
    return [(box.as_tuple(), box.label) for box in parse_perception(text).boxes]


@pytest.mark.parametrize(
    "text",
    [
        "<|object_ref_start|>old bus<|object_ref_end|><|box_start|>(100,200),(300,400)<|box_end|>",
        "<ref>old bus</ref> is here: <|box_start|>(100, 200), (300, 400)<|box_end|>.",
        "<|object_ref_start|>old bus<|object_ref_end|><|box_start|><100><200><300><400><|box_end|>",
        "<ref>old bus</ref><box>(100,200),(300,400)</box>",
        "<ref>old bus</ref><box>100 200 300 400</box>",
        "<ref> old bus\n</ref>\n<box>[[100, 200, 300, 400]]</box>",
        "<ref>old bus</ref><bbox>100, 200, 300, 400</bbox>",
        "<|ref|>old bus<|/ref|><|det|>[[100, 200, 300, 400]]<|/det|>",
        "<label>old bus</label><bounding_box>[100, 200, 300, 400]</bounding_box>",
        '<ref>old bus</ref><box x1="100" y1="200" x2="300" y2="400"/>',
        "<ref>old bus</ref><box>x1: 100, y1: 200, x2: 300, y2: 400</box>",
        "<answer><ref>old bus</ref><BOX>(100,200),(300,400)</BOX></answer>",
        # What is left of Qwen2-VL's reply where the server leaves out special tokens.
        "old bus(100,200),(300,400)",
        "1. old bus(100,200),(300,400)",
        "Found it.\nold bus(100, 200), (300, 400)",
        "old bus(100, 200, 300, 400)",
    ],
)
def test_a_box_with_its_label_is_read_from_markup(text: str) -> None:
    assert labeled(text) == [((100, 200, 300, 400), "old bus")]


@pytest.mark.parametrize(
    "text",
    [
        "<|box_start|>(100,200),(300,400)<|box_end|>",
        "<|box_start|>(100,200),(300,400)",  # the end tag was cut off
        "<box>100 200 300 400</box>",
        "<|begin_of_box|>[[100, 200, 300, 400]]<|end_of_box|>",
        "<|begin_of_box|>100, 200, 300, 400<|end_of_box|>",
        "(100,200),(300,400)",
        "(100, 200) (300, 400)",
        "[100, 200], [300, 400]",
        "<box>[100, 200][300, 400]</box>",
        "<box><x1>100</x1><y1>200</y1><x2>300</x2><y2>400</y2></box>",
        "<bndbox><xmin>100</xmin><ymin>200</ymin><xmax>300</xmax><ymax>400</ymax></bndbox>",
        "\\boxed{[100, 200, 300, 400]}",
        "from (100, 200) to (300, 400)",
        "It is at (100, 200, 300, 400).",
        "x1=100, y1=200, x2=300, y2=400",
        "- **x1**: 100\n- **y1**: 200\n- **x2**: 300\n- **y2**: 400",
        "left: 100; top: 200; right: 300; bottom: 400",
        "x=100, y=200, width=200, height=200",
        "bbox: 100, 200, 300, 400",
        "bbox_2d = 100 200 300 400",
        "Box: (100, 200, 300, 400)",
        "bbox_2d: [100, 200, 300, 400]",
        "{x1=100, y1=200, x2=300, y2=400}",
        '[{"bbox_2d": "<|box_start|>(100,200),(300,400)<|box_end|>"}]',
        '["(100, 200), (300, 400)"]',
        '{"top_left": [100, 200], "bottom_right": [300, 400]}',
        '{"topLeft": {"x": 100, "y": 200}, "bottomRight": {"x": 300, "y": 400}}',
        '{"minX": 100, "minY": 200, "maxX": 300, "maxY": 400}',
    ],
)
def test_a_box_without_a_label_is_read_from_markup(text: str) -> None:
    assert labeled(text) == [((100, 200, 300, 400), "")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "<ref>bus</ref><box>(1,2),(30,40)</box><box>(50,60),(70,80)</box> <ref>sign</ref><box>5 6 7 8"
            "</box>",
            [((1, 2, 30, 40), "bus"), ((50, 60, 70, 80), "bus"), ((5, 6, 7, 8), "sign")],
        ),
        (
            "<|ref|>bus<|/ref|><|det|>[[1, 2, 30, 40], [50, 60, 70, 80]]<|/det|>"
            "<|ref|>a<|/ref|><|det|>[[5,6,7,8]]",
            [((1, 2, 30, 40), "bus"), ((50, 60, 70, 80), "bus"), ((5, 6, 7, 8), "a")],
        ),
        ("<box>1 2 30 40 50 60 70 80</box>", [((1, 2, 30, 40), ""), ((50, 60, 70, 80), "")]),
        ("<box><1><2><30><40>, <50><60><70><80></box>", [((1, 2, 30, 40), ""), ((50, 60, 70, 80), "")]),
        ("<box>1 2 30 40<box>50 60 70 80</box>", [((50, 60, 70, 80), "")]),  # the first is not closed
        ("bus(1,2),(30,40)\nsign(50,60),(70,80)", [((1, 2, 30, 40), "bus"), ((50, 60, 70, 80), "sign")]),
        # Special tokens left out between two boxes of one line.
        ("bus(1,2),(30,40)sign(50,60),(70,80)", [((1, 2, 30, 40), "bus"), ((50, 60, 70, 80), "sign")]),
        ("(1,2),(30,40) (50,60),(70,80)", [((1, 2, 30, 40), ""), ((50, 60, 70, 80), "")]),
        (
            '[1, 2, 30, 40] and <ref>a</ref> [{"bbox_2d": [5, 6, 7, 8]}]',
            [((1, 2, 30, 40), ""), ((5, 6, 7, 8), "a")],
        ),
        ("<think>bus(1,2),(30,40)</think>(5,6),(7,8)", [((5, 6, 7, 8), "")]),
    ],
)
def test_several_boxes_keep_their_order_and_labels(text: str, found: object) -> None:
    assert labeled(text) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<box>120 230 560 78", "item 1: cut off within its coordinates"),
        ("<|box_start|>(176,106),(232,16", "item 1: cut off within its coordinates"),
        ("<box></box>", "item 1: a box without coordinates"),
        ("<box>1 2 30</box>", "item 1: a box has 4 numbers, not 3"),
        ("<box>the 3rd one</box>", "item 1: words are no box"),
        ("<loc0256><loc0100><loc0768><loc0400> bus", "item 1: location tokens (<loc…>) are not read"),
        ("bus<loc_52><loc_332><loc_932><loc_774>", "item 1: location tokens (<loc…>) are not read"),
        (
            "<object><patch_index_0005><patch_index_0911></object>",
            "item 1: location tokens (<loc…>) are not read",
        ),
        ('<point x="61.5" y="40.4" alt="sign">sign</point>', "item 1: a point is not a box"),
        (
            '<points x1="10" y1="20" x2="30" y2="40" alt="signs">signs</points>',
            "item 1: a point is not a box",
        ),
        ("<bin_12><bin_34><bin_56><bin_78>", "item 1: location tokens (<loc…>) are not read"),
        ("[1, 2], [30, 40, 5]", "item 1: a box has 4 numbers, not 2"),
        ("[1, 2] and [30, 40]", "item 1: a box has 4 numbers, not 2"),
        ("<point>412 318</point>", "item 1: a point is not a box"),
        ("It is at (412, 318).", "a point is not a box"),
        ("<|ref|>bus<|/ref|><|det|>[[100, 200, 300, 400", "item 1: cut off within its coordinates"),
        ("(1,2), (30,2), (30,40)", "item 1: 3 points are not a box"),
        ("(1,2), (30,2), (30,40), (1,40)", "item 1: 4 points are not a box"),
        ("(1,2), (30,2); (30,40); (1,40)", "item 1: 4 points are not a box"),
        ("<|begin_of_box|>B<|end_of_box|>", "no JSON list of boxes"),
        ("Of 100, 200, 300 and 400 buses, 5 6 7 8 are red.", "no JSON list of boxes"),
        ("Price: 100, 200, 300, 400", "no JSON list of boxes"),
        ("a=1, b=2, c=30, d=40", "no JSON list of boxes"),
        ("x1=1, y1=2, x2=30", "no JSON list of boxes"),
        ("bbox: 1, 2, 30", "item 1: a box has 4 numbers, not 3"),
        ("bbox: 1, 2, 30, 40, 50", "item 1: a box has 4 numbers, not 5"),
    ],
)
def test_what_is_no_box_stays_malformed_with_a_reason(text: str, reason: str) -> None:
    read = parse_perception(text)
    assert (read.outcome, read.boxes) == ("malformed", ())
    assert any(one.startswith(reason) for one in read.warnings), read.warnings


def test_an_empty_list_in_box_tags_means_the_whole_image() -> None:
    assert parse_perception("<|begin_of_box|>[]<|end_of_box|>").outcome == "whole"
    assert parse_perception("<box>[]</box>").outcome == "whole"


def test_a_label_that_looks_like_a_box_stays_a_label() -> None:
    text = '[{"bbox_2d": [1, 2, 30, 40], "label": "<box>(5, 6), (7, 8)</box>"}]'
    assert labeled(text) == [((1, 2, 30, 40), "<box>(5, 6), (7, 8)</box>")]


@pytest.mark.parametrize(
    "piece",
    [
        *("<", "<box>", "</box>", "<box>1 ", "<ref>", "<ref>a</ref>", "<|box_start|>(1,2),", "<loc0001>"),
        *(
            "(1,2)",
            "(1,2),",
            "(1,2",
            "(",
            "(1 ",
            "1 ",
            "a(1,2),(3,4)",
            "a",
            "a=",
            "x1=1 ",
            "x1=1, y1=2, x2=3, ",
        ),
        *(
            "bbox: 1 ",
            "bbox: 1, 2, 3, 4 ",
            "box",
            "box_2d",
            "'x1' = '1' ",
            "<a " + "b" * 500,
            "\t",
            "((((1,2,3,4",
        ),
    ],
)
def test_a_hostile_megabyte_of_markup_is_read_in_no_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    parse_perception(text)
    parse_perception("<box>" + text + "</box>")
    assert time.process_time() - start < 2


FORMS = {
    "qwen2": "<|object_ref_start|>{label}<|object_ref_end|><|box_start|>({0},{1}),({2},{3})<|box_end|>",
    "stripped": "{label}({0},{1}),({2},{3})\n",
    "spaces": "<ref>{label}</ref><box>{0} {1} {2} {3}</box>",
    "list": "<ref>{label}</ref><box>[[{0}, {1}, {2}, {3}]]</box>",
    "tokens": "<ref>{label}</ref><box><{0}><{1}><{2}><{3}></box>",
    "named": "<ref>{label}</ref>x1={0}, y1={1}, x2={2}, y2={3}. ",
}


@given(
    good_boxes(), good_boxes(), st.sampled_from(sorted(FORMS)), st.sampled_from(["bus", "a red car", "图片"])
)
@settings(max_examples=40, deadline=None, database=None, derandomize=True)
def test_boxes_in_markup_come_back_as_they_were(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int], form: str, label: str
) -> None:
    text = FORMS[form].format(*one, label=label) + FORMS[form].format(*other, label=label)
    read = parse_perception(text)
    found = [box.as_tuple() for box in (*read.boxes, *read.repeats)]
    assert found == [one, other], read
    assert {box.label for box in (*read.boxes, *read.repeats)} == {label}


def test_what_follows_the_longest_readable_text_is_not_read() -> None:
    assert len(parse_perception("(1,2),(30,40) " + " " * MAX_CHARS + "(5,6),(70,80)").boxes) == 1
