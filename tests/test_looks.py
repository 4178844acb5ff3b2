"""Looking again: coordinates, and the rule, with a scripted perceiver that sees what is large enough."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2r.errors import ModelError
from p2r.images import ImageSource
from p2r.looks import WHOLE, detail, look_again, near_equal, region_around, tiles, to_whole
from p2r.parsing.perception import parse_perception
from p2r.pipeline import P2R
from p2r.settings import PixelBudget, Settings
from p2r.types import Box, Perception, Prediction, Question
from tests.fake_model import FakeModel, failure, said, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.images import EncodedImage
    from p2r.looks import Found
    from p2r.models.base import Message

BUDGET = PixelBudget(overview_max_pixels=128 * 128, crop_max_pixels=128 * 128, min_pixels=32 * 32)
SETTINGS = Settings(budget=BUDGET, looks=3)
SIDE = 1024
GRAY, RED = 128, (220, 20, 20)
SEEN_PX = 9  # the least side of a red square that the scripted perceiver sees

sides = st.integers(1, 40_000)
sizes = st.tuples(sides, sides)
corners = st.tuples(st.floats(0, 1000), st.floats(0, 1000), st.floats(1, 500), st.floats(1, 500))
boxes = corners.map(
    lambda xywh: (
        Box(min(xywh[0], 999), min(xywh[1], 999), min(1000, xywh[0] + xywh[2]), 1000)
        if xywh[1] + xywh[3] > 1000
        else Box(min(xywh[0], 999), xywh[1], min(1000, min(xywh[0], 999) + xywh[2]), xywh[1] + xywh[3])
    )
)


# Coordinates.


@given(boxes, boxes, sizes, st.sampled_from([2, 4, 8]))
def test_a_box_of_a_region_comes_back_to_the_pixel_and_never_leaves_the_image(
    box: Box, around: Box, size: tuple[int, int], zoom: int
) -> None:
    region = region_around(around, zoom, size)
    whole = to_whole(box, region, size)  # a `Box` is inside the image
    x0, y0, x1, y1 = region
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]
    for start, end, side, inside, outside in (
        (x0, x1, size[0], (box.x0, box.x1), (whole.x0, whole.x1)),
        (y0, y1, size[1], (box.y0, box.y1), (whole.y0, whole.y1)),
    ):
        for corner, mapped in zip(inside, outside, strict=True):
            back = 1000 * (mapped * side / 1000 - start) / (end - start)
            assert back == pytest.approx(corner, abs=1000 / (end - start))


@given(st.sampled_from([2, 4, 8]), st.tuples(st.integers(64, 40_000), st.integers(64, 40_000)))
def test_tiles_cover_the_image_and_overlap(zoom: int, size: tuple[int, int]) -> None:
    rects = tiles(zoom, size)
    for axis in (0, 1):
        spans = sorted({(rect[axis], rect[axis + 2]) for rect in rects})
        assert spans[0][0] == 0
        assert spans[-1][1] == size[axis]
        for (start, end), (following, _) in pairwise(spans):
            assert end - following >= (end - start) / 4 - 2


def test_there_are_nine_tiles_of_half_the_sides() -> None:
    assert tiles(2, (1000, 600))[:4] == [
        (0, 0, 500, 300),
        (250, 0, 750, 300),
        (500, 0, 1000, 300),
        (0, 150, 500, 450),
    ]
    assert len(tiles(2, (1000, 600))) == 9
    assert len(tiles(4, (1000, 600))) == 25


def test_boxes_of_two_looks_are_near_equal_within_a_side_of_the_larger_one() -> None:
    box = Box(100, 100, 140, 140, "red tag")
    assert near_equal(box, Box(130, 100, 170, 140, "Red tag"))
    assert not near_equal(box, Box(150, 100, 190, 140, "red tag"))
    assert not near_equal(box, Box(130, 100, 170, 140, "blue tag"))
    assert near_equal(box, Box(100, 100, 141, 141, "a tag, red"))


def test_small_writing_loses_detail_and_a_large_square_does_not() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    square = np.zeros((128, 128, 3), np.uint8)
    square[32:96, 32:96] = 255
    assert detail(stripes, (32, 32)).lost > 0.9
    assert detail(square, (32, 32)).lost < 0.05
    assert detail(stripes, (128, 128)).lost == 0
    assert detail(square, (32, 32)).contrast > 100 > 1 > detail(np.full_like(square, 7), (32, 32)).contrast


# The rule.


def drawn(*squares: tuple[int, int, int]) -> np.ndarray:
    """Gray, with striped red squares `(x, y, side)`."""
    pixels = np.full((SIDE, SIDE, 3), GRAY, np.uint8)
    for x, y, side in squares:
        pixels[y : y + side, x : x + side] = RED
        pixels[y : y + side, x : x + side : 4] = 255
    return pixels


def red_boxes(image: EncodedImage, guess: str = "[]") -> str:
    """Where red is, if enough of it is there to be seen; else a guess."""
    red = (image.pixels[..., 0].astype(int) - image.pixels[..., 1]) > 40
    ys, xs = np.nonzero(red)
    if not len(xs) or max(np.ptp(xs), np.ptp(ys)) + 1 < SEEN_PX:
        return guess
    x0, y0, x1, y1 = (
        round(1000 * value)
        for value in (
            xs.min() / image.width,
            ys.min() / image.height,
            (xs.max() + 1) / image.width,
            (ys.max() + 1) / image.height,
        )
    )
    return f'[{{"bbox_2d": [{x0}, {y0}, {x1}, {y1}], "label": "red tag"}}]'


def looked(pixels: np.ndarray, settings: Settings = SETTINGS, guess: str = "[]") -> Found:
    source = ImageSource.open(pixels)

    async def perceive(images: Sequence[EncodedImage]) -> Perception:
        return parse_perception(red_boxes(images[0], guess), size=images[0].size)

    async def run() -> Found:
        first = await perceive([source.overview((128, 128))])
        return await look_again([source], first, settings, perceive)

    return asyncio.run(run())


def test_a_large_object_needs_one_look() -> None:
    found = looked(drawn((300, 300, 400)), replace(SETTINGS, budget=replace(BUDGET, crop_max_pixels=1 << 20)))
    assert found.stopped == "the crops show every box in enough detail"
    assert [look.parent for look in found.looks] == [None]
    assert found.perception.boxes == found.looks[0].boxes


def test_a_closer_look_agrees_and_its_crop_has_less_context() -> None:
    found = looked(drawn((600, 200, 90)), replace(SETTINGS, looks=2))
    assert [(look.parent, look.region.area) for look in found.looks] == [(None, 1.0), (0, 0.25)]
    (box,) = found.perception.boxes
    assert box.zoom == 2
    assert box.iou(Box(600 / 1.024, 200 / 1.024, 690 / 1.024, 290 / 1.024)) > 0.8


@pytest.mark.parametrize("place", [(40, 60), (900, 900), (500, 480)])
def test_what_the_whole_image_does_not_show_is_found_in_tiles(place: tuple[int, int]) -> None:
    found = looked(drawn((*place, 50)))
    assert found.looks[0].outcome == "whole"
    (box,) = found.perception.boxes
    x, y = box.center
    assert (x * 1.024, y * 1.024) == pytest.approx((place[0] + 25, place[1] + 25), abs=12)
    assert all(look.parent is not None and look.parent < at for at, look in enumerate(found.looks) if at)


def test_a_guess_on_plain_ground_is_dropped_for_what_the_tiles_agree_on() -> None:
    guess = '[{"bbox_2d": [200, 100, 245, 145], "label": "red tag"}]'
    found = looked(drawn((300, 700, 50)), guess=guess)
    (box,) = found.perception.boxes
    assert box.iou(Box(300 / 1.024, 700 / 1.024, 350 / 1.024, 750 / 1.024)) > 0.5


def test_nothing_stays_nothing_and_says_why() -> None:
    found = looked(drawn())
    assert found.perception.boxes == ()
    assert len(found.looks) == 1 + 9 + 25
    assert found.stopped == "no closer looks are allowed (looks=3)"
    small = looked(drawn(), replace(SETTINGS, budget=replace(BUDGET, overview_max_pixels=600 * 600)))
    assert (len(small.looks), small.stopped) == (1, "the overview shows the image in enough detail")


def test_calls_are_bounded() -> None:
    found = looked(drawn(), replace(SETTINGS, looks=5))
    assert len(found.looks) == 35
    assert found.stopped == "the next tiles would take more than 48 calls"


# In the pipeline.


def scripted(messages: Sequence[Message]) -> str:
    if "JSON list of boxes" in said(messages):
        return red_boxes(shown(messages)[0])
    return "<think>It is red.</think><answer>red</answer>"


def test_a_prediction_has_its_looks_and_survives_json() -> None:
    p2r = P2R(FakeModel(scripted), settings=SETTINGS)
    question = Question(drawn((40, 60, 50)), "Which color is the tag?")
    prediction = asyncio.run(p2r.predict(question))
    assert prediction.answer == "red"
    assert prediction.usage.calls == len(prediction.looks) + 1
    assert prediction.stopped
    assert prediction.perception
    assert prediction.perception.boxes == prediction.boxes
    again = Prediction.from_json(prediction.to_json())
    assert (again.looks, again.stopped, again.boxes) == (
        prediction.looks,
        prediction.stopped,
        prediction.boxes,
    )
    crop = prediction.crops_px[0]
    assert crop[2] - crop[0] < 0.2 * SIDE + 50


def test_one_look_leaves_the_record_as_it_was() -> None:
    p2r = P2R(FakeModel(scripted), settings=replace(SETTINGS, looks=1))
    prediction = asyncio.run(p2r.predict(Question(drawn((40, 60, 300)), "Which color is the tag?")))
    assert prediction.looks == ()
    assert not {"looks", "stopped"} & prediction.to_json().keys()
    assert "zoom" not in prediction.boxes[0].to_json()
    assert replace(SETTINGS, looks=1).digest == Settings(budget=BUDGET).digest


def test_a_failed_look_fails_the_question() -> None:
    calls = iter(range(100))
    model = FakeModel(lambda messages: scripted(messages) if next(calls) < 4 else failure("timeout"))
    with pytest.raises(ModelError):
        asyncio.run(P2R(model, settings=SETTINGS).predict(Question(drawn((40, 60, 50)), "Which?")))


def test_the_whole_image_is_the_first_region() -> None:
    assert looked(drawn()).looks[0].region == WHOLE


def test_a_guess_on_smooth_ground_is_not_clear_although_its_crop_loses_nothing() -> None:
    guess = '[{"bbox_2d": [200, 100, 245, 145], "label": "red tag"}]'
    smooth = np.linspace(0, 40, SIDE)[None, :, None]
    found = looked((drawn((300, 700, 50)) + smooth).clip(0, 255).astype(np.uint8), guess=guess)
    (box,) = found.perception.boxes
    assert box.iou(Box(300 / 1.024, 700 / 1.024, 350 / 1.024, 750 / 1.024)) > 0.5
