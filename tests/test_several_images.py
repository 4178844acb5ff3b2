"""A question about several images: messages, boxes, evidence, and the whole pipeline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from p2r.errors import InputError
from p2r.evidence import build_evidences, evidence_pixels, plan_sizes
from p2r.images import ImageSource
from p2r.parsing.perception import MAX_BOXES, merged, parse_perception
from p2r.pipeline import P2R
from p2r.prompts import direct_messages, perceive_messages, reason_messages
from p2r.settings import PixelBudget, Settings
from p2r.types import Box, Evidence, Prediction, Question
from tests.fake_model import FakeModel, said, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.images import EncodedImage
    from p2r.models.base import Message

RED, GREEN, BLUE = (220, 0, 0), (0, 200, 0), (0, 0, 220)
SMALL = PixelBudget(overview_max_pixels=320 * 320, crop_max_pixels=320 * 320, min_pixels=64 * 64)
SETTINGS = Settings(budget=SMALL)


def plain(color: tuple[int, int, int], size: tuple[int, int] = (640, 480)) -> np.ndarray:
    return np.full((size[1], size[0], 3), color, np.uint8)


def with_mark(color: tuple[int, int, int], mark: tuple[int, int, int], at: tuple[int, int]) -> np.ndarray:
    """An image with a square of 40 pixels at these pixels."""
    pixels = plain(color)
    pixels[at[1] : at[1] + 40, at[0] : at[0] + 40] = mark
    return pixels


GRAY = (128, 128, 128)
IMAGES = [plain(GRAY), with_mark(GRAY, RED, (400, 300)), plain(GRAY, (300, 600))]


def colors_of(image: EncodedImage) -> set[str]:
    """Which of red, green and blue are in an image, roughly."""
    pixels = image.pixels.astype(int)
    found = set()
    for name, channel in (("red", 0), ("green", 1), ("blue", 2)):
        others = [other for other in range(3) if other != channel]
        if ((pixels[..., channel] > 180) & (pixels[..., others].max(axis=-1) < 90)).any():
            found.add(name)
    return found


# Question and box.


def test_a_question_takes_one_image_or_several() -> None:
    assert Question("a.jpg", "Which?").images == ("a.jpg",)
    assert Question(["a.jpg"], "Which?").image == "a.jpg"
    assert Question(["a.jpg", b"b"], "Which?").images == ("a.jpg", b"b")
    assert Question(["a.jpg"], "Which?") == Question("a.jpg", "Which?")
    with pytest.raises(InputError, match="no image"):
        Question([], "Which?")


def test_a_box_names_its_image_and_records_keep_it() -> None:
    first, third = Box(1, 2, 30, 40, "bus"), Box(1, 2, 30, 40, "bus", image=2)
    assert first.to_json() == {"box": [1, 2, 30, 40], "label": "bus"}
    assert third.to_json() == {"box": [1, 2, 30, 40], "label": "bus", "image": 2}
    assert Box.from_json(third.to_json()) == third
    assert Box.from_json([1, 2, 30, 40]) == Box(1, 2, 30, 40)
    assert first.iou(third) == 0
    prediction = Prediction("q", "p2r", "answered", boxes=(first, third))
    assert Prediction.from_json(prediction.to_json()).boxes == (first, third)
    with pytest.raises(InputError, match="of image -1"):
        Box(1, 2, 30, 40, image=-1)


# Boxes in a reply.


SIZES = ((640, 480), (320, 320), (100, 400))


def read(text: str, box_format: str = "qwen3") -> list[tuple[int, tuple[float, ...]]]:
    perception = parse_perception(text, box_format, SIZES[0], SIZES[1:])  # type: ignore[arg-type]
    return [(box.image, box.as_tuple()) for box in perception.boxes]


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [100, 200, 300, 400], "label": "bus", "image": 2}]',
        '[{"image": 2, "bbox_2d": [100, 200, 300, 400]}]',
        '[{"bbox_2d": [100, 200, 300, 400], "image": "2"}]',
        '[{"bbox_2d": [100, 200, 300, 400], "image_id": "Image 2"}]',
        '[{"page": 2, "boxes": [{"bbox_2d": [100, 200, 300, 400], "label": "bus"}]}]',
        '{"Image": 2, "x1": 100, "y1": 200, "x2": 300, "y2": 400}',
    ],
)
def test_boxes_name_their_image(text: str) -> None:
    assert read(text) == [(1, (100, 200, 300, 400))]


def test_the_same_box_in_two_images_counts_twice() -> None:
    one = '{"bbox_2d": [100, 200, 300, 400], "image": %d}'
    perception = parse_perception(f"[{one % 1}, {one % 3}, {one % 3}]", "qwen3", SIZES[0], SIZES[1:])
    assert [box.image for box in perception.boxes] == [0, 2]
    assert [box.image for box in perception.repeats] == [2]


def test_boxes_of_no_image_and_of_missing_ones_are_left_out_with_a_reason() -> None:
    text = json.dumps(
        [{"bbox_2d": [1, 2, 30, 40], "image": image} for image in (0, 1, 2.5, 4)]
        + [{"bbox_2d": [1, 2, 30, 40]}]
    )
    perception = parse_perception(text, "qwen3", SIZES[0], SIZES[1:])
    assert [box.image for box in perception.boxes] == [0]
    assert perception.warnings == (
        "item 1: there is no image 0, only 1 to 3",
        "item 3: there is no image 2.5, only 1 to 3",
        "item 4: there is no image 4, only 1 to 3",
        "item 5: names none of the 3 images",
    )
    assert not perception.format_warning


@pytest.mark.parametrize(
    "image",
    [
        "null",
        "true",
        "[]",
        "{}",
        "NaN",
        "1e999",
        '"∞"',
        '"Image two"',
        "-1",
        "1" * 5_000,
        '"' + "9" * 50 + '"',
    ],
)
def test_hostile_numbers_of_images_give_a_reason(image: str) -> None:
    perception = parse_perception(
        f'[{{"bbox_2d": [1, 2, 30, 40], "image": {image}}}]', "qwen3", SIZES[0], SIZES[1:]
    )
    assert perception.outcome == "malformed"
    assert perception.warnings


def test_a_model_that_never_names_an_image_is_told_of_the_setting() -> None:
    perception = parse_perception('[{"bbox_2d": [1, 2, 30, 40]}]', "qwen3", SIZES[0], SIZES[1:])
    assert perception.outcome == "malformed"
    assert "perceive_images=apart" in perception.format_warning


def test_with_one_image_its_number_is_not_read() -> None:
    text = '[{"bbox_2d": [100, 200, 300, 400], "label": "bus", "image": 7}]'
    perception = parse_perception(text, "qwen3", (640, 480))
    assert perception.boxes == (Box(100, 200, 300, 400, "bus"),)
    assert not perception.warnings


def test_pixels_are_those_of_the_image_that_a_box_names() -> None:
    text = '[{"bbox_2d": [64, 48, 320, 240], "image": 1}, {"bbox_2d": [10, 40, 50, 200], "image": 3}]'
    assert read(text, "pixels") == [(0, (100, 100, 500, 500)), (2, (100, 100, 500, 500))]


def test_replies_about_each_image_are_merged_in_turn() -> None:
    boxes = (
        '[{"bbox_2d": [1, 2, 30, 40]}, {"bbox_2d": [500, 500, 600, 600]}]',
        "[]",
        '[{"bbox_2d": [5, 6, 70, 80]}]',
    )
    found = merged([parse_perception(text) for text in boxes])
    assert [(box.image, box.x0) for box in found.boxes] == [(0, 1), (2, 5), (0, 500)]
    assert found.outcome == "boxes"
    assert found.text.splitlines()[1] == "Image 2: []"
    assert merged([parse_perception("[]"), parse_perception("none")]).outcome == "whole"
    assert merged([parse_perception("no"), parse_perception("none")]).outcome == "malformed"
    many = json.dumps([{"bbox_2d": [20 * n, 20, 20 * n + 20, 40]} for n in range(20)])
    assert len(merged([parse_perception(many)] * 3).boxes) == MAX_BOXES


# Messages.

CHOICE = Question(IMAGES, "Which one has a mark?", ("first", "second", "third"))


def test_each_overview_has_its_number_and_each_crop_its_image() -> None:
    settings, sources = SETTINGS, [ImageSource.open(image) for image in IMAGES]
    boxes = [Box(600, 600, 720, 720, "mark", 1), Box(100, 100, 300, 300, "ground", 2)]
    (evidence,) = build_evidences(sources, [boxes], settings)
    (message,) = reason_messages(settings.prompts, CHOICE, evidence)
    texts = [part for part in message.content if isinstance(part, str)]
    assert texts[:4] == [
        "Image 2 of 3, with the evidence outlined:",
        "Image 3 of 3, with the evidence outlined:",
        "Close-up from image 2, outlined in red:",
        "Close-up from image 3, outlined in green:",
    ]
    assert "Which one has a mark?\nA. first\nB. second" in texts[4]
    overviews = evidence.overviews
    assert evidence.shown == (1, 2)
    assert [type(part) is str for part in message.content] == [True, False] * 4 + [True]
    assert colors_of(overviews[0]) == {"red"}
    assert colors_of(overviews[1]) == {"green"}
    assert colors_of(evidence.crops[0].image) == {"red"}
    # The rectangles are in the pixels of their own images.
    assert evidence.crops[1].region_px == (0, 0, 128, 256)


def test_the_perceiver_and_the_one_pass_modes_see_all_images() -> None:
    overviews = [ImageSource.open(image).overview((64, 64)) for image in IMAGES]
    for messages in (
        perceive_messages(SETTINGS.prompts, CHOICE, overviews[0], others=overviews[1:]),
        direct_messages(SETTINGS.prompts, CHOICE, overviews[0], overviews[1:]),
        reason_messages(
            SETTINGS.prompts, CHOICE, Evidence(overviews[0], (), (), tuple(overviews[1:]), (0, 1, 2))
        ),
    ):
        assert shown(messages) == overviews
        assert said(messages).startswith("Image 1 of 3:\nImage 2 of 3:\nImage 3 of 3:\n")
    text = said(perceive_messages(SETTINGS.prompts, CHOICE, overviews[0], others=overviews[1:]))
    assert 'by a number from 1 to 3, for example "image": 3.' in text


def test_pixels_of_several_images_have_their_sizes() -> None:
    overviews = [ImageSource.open(plain(GRAY)).overview(size) for size in ((64, 96), (128, 32))]
    text = said(perceive_messages(SETTINGS.prompts, CHOICE, overviews[0], "pixels", overviews[1:]))
    assert "64 (image 1), 128 (image 2) pixels wide and 96 (image 1), 32 (image 2) pixels high" in text


# Sizes.


def test_all_overviews_and_crops_share_the_context() -> None:
    budget = PixelBudget(context_tokens=3_000, text_tokens=1_000)
    sizes = [(3840, 2160)] * 3
    plan = plan_sizes(sizes[0], [(0, 0, 900, 900)], budget, sizes[1:])
    assert len(plan.overviews) == 3
    assert len(set(plan.overviews)) == 1
    assert 1_800 < plan.tokens <= 2_000
    alone = plan_sizes(sizes[0], [(0, 0, 900, 900)], budget)
    assert alone.overview[0] > 1.3 * plan.overview[0]
    pixels = evidence_pixels(sizes, [Box(0, 0, 200, 400, image=2)], Settings(budget=budget))
    # Only the image with the box is shown.
    assert pixels == plan_sizes(sizes[0], [(0, 0, 1152, 1080)], budget).tokens * 1024


def test_too_many_images_are_refused_with_the_number_that_fits() -> None:
    budget = PixelBudget(context_tokens=1_024, text_tokens=924)
    with pytest.raises(InputError, match="enough for 6 images"):
        plan_sizes((640, 640), [], budget, [(640, 640)] * 9)


def test_a_box_of_an_image_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="is of image 3: there are 3"):
        evidence_pixels([(640, 480)] * 3, [Box(0, 0, 200, 400, image=3)], SETTINGS)


# The pipeline.


def boxes_by_sight(messages: Sequence[Message]) -> str:
    """A perceiver that sees red: a box for each image in which something is."""
    found = []
    for number, image in enumerate(shown(messages), start=1):
        red = (image.pixels[..., 0] > 180) & (image.pixels[..., 1] < 90)
        if red.any():
            rows, columns = np.nonzero(red)
            scale = 1000 / np.array([image.width, image.height] * 2)
            corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * scale
            found.append({"bbox_2d": corners.round().tolist(), "label": "mark", "image": number})
    return json.dumps(found)


def by_sight(messages: Sequence[Message]) -> str:
    """A perceiver by sight, and a reasoner that names the image of the only close-up."""
    if "JSON list" in said(messages):
        return boxes_by_sight(messages)
    lines = [part for part in said(messages).splitlines() if part.startswith("Close-up from image")]
    return f"<think>Seen.</think><answer>{'ABC'[int(lines[0].split()[3].strip(',')) - 1]}</answer>"


@pytest.mark.parametrize("perceive_images", ["together", "apart"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_image_with_the_evidence_is_found(perceive_images: str, place: int) -> None:
    images = [plain(GRAY), plain(GRAY, (300, 600))]
    images.insert(place, with_mark(GRAY, RED, (400, 300)))
    model = FakeModel(by_sight)
    settings = Settings.from_dict(
        {"perceive_images": perceive_images, "budget": {"overview_max_pixels": 102_400}}
    )
    with P2R(model, settings=settings) as p2r:
        prediction = p2r.answer(images, "Which has a mark?", ["first", "second", "third"])
    assert prediction.answer == "ABC"[place]
    assert [box.image for box in prediction.boxes] == [place]
    (x0, y0, x1, y1) = prediction.crops_px[0]
    assert x0 <= 400 < 440 <= x1
    assert y0 <= 300 < 340 <= y1
    assert prediction.usage.calls == (2 if perceive_images == "together" else 4)
    assert [len(call.images) for call in model.calls] == (
        [3, 2] if prediction.usage.calls == 2 else [1, 1, 1, 2]
    )


def test_apart_an_image_is_asked_about_as_if_it_were_the_only_one() -> None:
    model = FakeModel(lambda messages: "[]" if "JSON list" in said(messages) else "<answer>A</answer>")
    choices = ("first", "second", "third")
    with P2R(model, settings=Settings(budget=SMALL, perceive_images="apart")) as p2r:
        prediction = p2r.answer(IMAGES, "Which?", choices)
        assert prediction.perception is not None
        assert prediction.perception.outcome == "whole"
        assert len(model.calls[-1].images) == 3
        p2r.answer(IMAGES[1], "Which?", choices)
    again, before = model.calls[4], model.calls[1]
    assert again.text == before.text
    assert (again.images[0].pixels == before.images[0].pixels).all()


@pytest.mark.parametrize("mode", ["think", "direct"])
def test_the_one_pass_modes_show_all_images(mode: str) -> None:
    model = FakeModel(["<answer>A</answer>"])
    with P2R(model, settings=SETTINGS) as p2r:
        assert p2r.answer(IMAGES, "Which?", ["first", "second"], mode=mode).answer == "A"  # type: ignore[arg-type]
    assert len(model.calls[0].images) == 3


def test_images_are_settings_of_new_digests_only() -> None:
    assert "perceive_images" not in Settings().to_dict()
    assert Settings(perceive_images="apart").digest != Settings().digest
    assert Settings.from_dict(Settings(perceive_images="apart").to_dict()).perceive_images == "apart"
