"""Which lists of boxes earn nothing whatever is answered from them."""

from __future__ import annotations

import pytest

from p2r.parsing.perception import parse_perception
from p2r.prompts import PromptPack
from p2r.settings import Settings
from p2r.training.recipe import Gates
from p2r.training.rewards import failed_gate, overlaps, placeholder_labels
from p2r.types import Box

PLACEHOLDERS = placeholder_labels(Settings())


def boxes(*entries: str) -> str:
    return "[" + ", ".join(entries) + "]"


BUS = '{"bbox_2d": [0, 0, 100, 100], "label": "bus"}'
SAME = '{"bbox_2d": [0, 0, 100, 90], "label": "bus again"}'
BARE = '{"bbox_2d": [300, 300, 400, 400]}'
BLANK = '{"bbox_2d": [300, 300, 400, 400], "label": "  "}'
NEARLY = '{"bbox_2d": [0, 0, 100, 99], "label": "bus"}'
COPIED = '{"bbox_2d": [300, 300, 400, 400], "label": "What is  there"}'


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        (boxes(BUS), ""),
        ("[]", ""),
        ("I see a bus.", "malformed"),
        ("", "malformed"),
        (boxes(BUS, SAME), "overlap"),
        (boxes(BUS, BUS), "overlap"),
        (boxes(BUS, NEARLY), "overlap"),
        (boxes(*[BUS] * 400), "overlap"),
        (boxes(BUS, BARE), "label"),
        (boxes(BLANK), "label"),
        (boxes(COPIED), "label"),
        (boxes(BUS, SAME, BARE), "overlap"),
    ],
)
def test_the_gates_of_the_paper_and_ours(text: str, gate: str) -> None:
    assert failed_gate(parse_perception(text), Gates(), PLACEHOLDERS) == gate


def test_repeated_boxes_close_the_gates_that_look_at_boxes() -> None:
    repeated = parse_perception(boxes(BUS, NEARLY, BUS.replace("bus", " ")))
    assert len(repeated.boxes) == 1
    assert failed_gate(repeated, Gates(overlap=0.5), PLACEHOLDERS) == "overlap"
    assert failed_gate(repeated, Gates(overlap=None), PLACEHOLDERS) == "label"
    assert failed_gate(parse_perception(boxes(BUS, NEARLY)), Gates(overlap=0.995), PLACEHOLDERS) == ""


@pytest.mark.parametrize("text", ["I see a bus.", boxes(BUS, SAME), boxes(BARE), boxes(COPIED)])
def test_each_gate_can_be_left_open(text: str) -> None:
    open_gates = Gates(overlap=None, label=False, malformed=False)
    assert failed_gate(parse_perception(text), open_gates, PLACEHOLDERS) == ""


def test_the_placeholder_is_the_label_of_the_prompts_example() -> None:
    assert {"what is there"} == PLACEHOLDERS
    assert placeholder_labels(Settings(prompts=PromptPack(perceive='$question [{"label": "A Thing"}]'))) == {
        "a thing"
    }
    assert placeholder_labels(Settings(prompts=PromptPack(perceive="$question"))) == frozenset()
    assert placeholder_labels(Settings(box_format="gemini")) == PLACEHOLDERS


def test_half_is_not_more_than_half() -> None:
    one, other = Box(0, 0, 500, 500), Box(0, 0, 500, 250)
    assert one.iou(other) == 0.5
    assert not overlaps([one, other], 0.5)
    assert overlaps([one, other], 0.49)
    assert not overlaps([one], 0.0)
