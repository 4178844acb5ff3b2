"""The figure: complete content, no crash on any input, and visible evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2r.errors import InputError
from p2r.evidence import OUTLINE_COLORS, box_px, crop_region
from p2r.images import ImageSource
from p2r.settings import Geometry
from p2r.types import Answer, Box, Prediction, Question
from p2r.visualization.annotate import SHADES, annotated, fitted, framed, shade
from p2r.visualization.figure import GREEN, PALE, RED, WIDTH, figure
from p2r.visualization.text import Lettering, clean

if TYPE_CHECKING:
    from pathlib import Path

BOXES = [
    Box(100 * index + 30, 300 + 40 * index, 100 * index + 70, 360 + 40 * index, "sign") for index in range(8)
]


def gray(width: int, height: int) -> ImageSource:
    return ImageSource.open(np.full((height, width, 3), 90, np.uint8))


def about(*sources: ImageSource) -> Question:
    return Question(sources, "Which sign is larger?", ("the red one", "the blue one"))


def predicted(source: ImageSource, count: int, **changes: object) -> Prediction:
    boxes = tuple(BOXES[:count])
    crops = tuple(crop_region(box, source.size, Geometry()) for box in boxes[:3])
    known: dict[str, object] = {
        "id": "q",
        "mode": "p2r",
        "status": "answered",
        "boxes": boxes,
        "crops_px": crops,
        "reply": Answer("B", "The blue one is larger."),
        "seconds": {"image": 0.1, "perceive": 0.2, "total": 0.3},
        "model": "nano",
        "reasoner": "nano",
    }
    return Prediction(**{**known, **changes})  # type: ignore[arg-type]


def has(image: PIL.Image.Image, color: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == color).all(axis=2).any())


@pytest.mark.parametrize("count", [0, 1, 4, 8])
def test_every_box_is_in_its_color(count: int) -> None:
    source = gray(640, 360)
    image = figure(predicted(source, count), about(source))
    assert image.width == WIDTH
    assert [has(image, shade(index)) for index in range(8)] == [index < count for index in range(8)]


@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_several_images_have_a_figure_with_their_own_boxes(count: int) -> None:
    sources = [gray(640 - 10 * index, 360) for index in range(count)]
    boxes = (BOXES[0], replace(BOXES[1], image=count - 1), replace(BOXES[2], image=1))
    crops = tuple(crop_region(box, sources[box.image].size, Geometry()) for box in boxes)
    image = figure(predicted(sources[0], 0, boxes=boxes, crops_px=crops), about(*sources))
    assert image.width == WIDTH
    assert [has(image, shade(index)) for index in range(4)] == [True, True, True, False]
    assert figure(predicted(sources[0], 0), about(*sources)).width == WIDTH


def test_every_color_of_the_evidence_has_a_shade() -> None:
    assert list(SHADES) == [name for name, _ in OUTLINE_COLORS]


@pytest.mark.parametrize(
    ("name", "kind", "most"),
    [
        ("f.png", "PNG", 0),
        ("f.PNG", "PNG", 0),
        ("f.jpg", "JPEG", 3),
        ("f.jpeg", "JPEG", 3),
        ("f.webp", "WEBP", 5),
    ],
)
def test_a_figure_is_written_in_the_format_of_its_name(
    tmp_path: Path, name: str, kind: str, most: float
) -> None:
    source = gray(640, 360)
    path = tmp_path / name
    image = figure(predicted(source, 2), about(source), path)
    with PIL.Image.open(path) as written:
        assert written.format == kind
        difference = np.asarray(written.convert("RGB")).astype(int) - np.asarray(image)
    assert np.abs(difference).mean() <= most


@pytest.mark.parametrize("name", ["figure", "figure.txt", "figure.gif", ".png"])
def test_a_name_without_a_known_format_is_refused(tmp_path: Path, name: str) -> None:
    source = gray(64, 36)
    with pytest.raises(InputError, match=r"written as \.png, \.jpg, \.jpeg, \.webp; for example"):
        figure(predicted(source, 1), about(source), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_figure_replaces_figures_only(tmp_path: Path) -> None:
    source = gray(64, 36)
    for suffix in (".png", ".jpg", ".webp"):
        path = tmp_path / f"figure{suffix}"
        path.touch()
        for _ in range(2):  # an empty file, then a figure
            figure(predicted(source, 1), about(source), path)
        for photo in (path, path.with_name(f"text{suffix}")):
            photo.unlink(missing_ok=True)
            if photo == path:
                PIL.Image.new("RGB", (20, 20)).save(photo)
            else:
                photo.write_text("mine")
            before = photo.read_bytes()
            with pytest.raises(InputError, match="not a figure of ours; give another name"):
                figure(predicted(source, 1), about(source), photo)
            assert photo.read_bytes() == before


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    source = gray(64, 36)
    for path, says in ((tmp_path, "a folder"), (tmp_path / "none" / "figure.png", "no folder")):
        with pytest.raises(InputError, match=f"{path}: .*{says}"):
            figure(predicted(source, 1), about(source), path)


@pytest.mark.parametrize(("gold", "colors"), [(None, PALE), ("B", GREEN[0]), ("A", RED[0])])
def test_the_answer_is_colored_when_it_can_be_checked(gold: str | None, colors: tuple[int, int, int]) -> None:
    source = gray(640, 360)
    image = figure(predicted(source, 1), about(source), gold=gold)
    padding = image.getpixel((64, image.height - 160))
    assert padding == colors


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "failed", "reply": Answer(None), "error": "http://host/v1: unreachable: refused"},
        {"status": "no_answer", "reply": Answer(None, "The blue one is larger."), "truncated": True},
        {"status": "no_answer", "reply": Answer(None)},
        {"seconds": {}, "model": "", "reasoner": ""},
        {"boxes": (), "crops_px": (), "mode": "direct", "reply": Answer("B")},
        {"reply": Answer("Z")},
    ],
    ids=["failed", "truncated", "none", "bare", "direct", "unknown-letter"],
)
def test_every_outcome_has_a_figure(changes: dict[str, object]) -> None:
    source = gray(640, 360)
    for gold in (None, "A"):
        assert figure(predicted(source, 2, **changes), about(source), gold=gold).width == WIDTH


@pytest.mark.parametrize("size", [(4000, 40), (40, 4000), (1, 1), (900, 900), (3, 400), (2500, 1000)])
@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_every_shape_has_a_figure(size: tuple[int, int], count: int) -> None:
    source = gray(*size)
    image = figure(predicted(source, count), about(source))
    assert image.width == WIDTH
    assert image.height < 2400


@pytest.mark.parametrize(
    "text",
    [
        "größer? Ærø ½ €",
        "日本語の質問です。" * 60,
        "ما هذا؟",
        "👩‍👩‍👧 🦊",
        "a" * 3000,
        "x\ny\tz\0\x1b[31m",
        "\ud800 half",
        "word " * 900,
    ],
    ids=["latin", "cjk", "arabic", "emoji", "one-word", "control", "surrogate", "long"],
)
def test_any_text_has_a_figure(text: str) -> None:
    source = gray(640, 360)
    boxes = (Box(100, 100, 300, 300, text),)
    prediction = predicted(source, 1, boxes=boxes, reply=Answer(text, text), model=text)
    image = figure(prediction, Question(source, text), gold=text)
    assert image.size[0] == WIDTH
    assert image.height < 2400
    # Nothing is written into the right margin.
    assert (np.asarray(image)[:, -40:] == 255).all()


def test_many_and_long_options_wrap() -> None:
    source = gray(640, 360)
    question = Question(source, "Which?", tuple(f"{index} {'long option ' * index}" for index in range(14)))
    image = figure(predicted(source, 0, reply=Answer("N")), question)
    assert (np.asarray(image)[:, -40:] == 255).all()


def shown(source: ImageSource, boxes: list[Box], room: tuple[int, int] = (1000, 800)) -> np.ndarray:
    letters = Lettering(box.label for box in boxes)
    return np.asarray(annotated(letters, source, boxes, fitted(source.size, room)))


def luminance(color: object) -> float:
    return float(np.dot(np.asarray(color, float), (0.299, 0.587, 0.114)))


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("ground", ["its own color", "white", "black"])
def test_an_outline_is_seen_on_any_ground(index: int, ground: str) -> None:
    # Across an outline there is both a light and a dark step, on a ground of its very color too.
    color = {"white": (255, 255, 255), "black": (0, 0, 0)}.get(ground, shade(index))
    source = ImageSource.open(np.full((600, 800, 3), color, np.uint8))
    boxes = [Box(10 * i, 10, 10 * i + 5, 15) for i in range(index)] + [Box(500, 500, 700, 800)]
    pixels = shown(source, boxes, (800, 600))
    across = [luminance(pixel) for pixel in pixels[390, 380:400]]  # from the outside to the inside
    assert max(across) - min(across) > 120
    assert tuple(pixels[390, 394]) == shade(index)
    assert (pixels[310:470, 405:555] == color).all()


@pytest.mark.parametrize(
    "box",
    [
        Box(400, 400, 500, 600, "a sign with a rather long name that needs room"),
        Box(0, 0, 30, 30, "a small thing in a corner"),
        Box(970, 960, 1000, 1000, "a small thing in another corner"),
        Box(0, 0, 1000, 300, "a wide thing"),
        Box(300, 0, 400, 1000, "a high thing"),
        Box(500, 500, 520, 520, "small"),
    ],
    ids=["middle", "top-left", "bottom-right", "wide", "high", "small"],
)
def test_no_outline_or_tag_covers_a_box(box: Box) -> None:
    pixels = shown(gray(1000, 600), [box], (1000, 600))
    x0, y0, x1, y1 = box_px(box, (1000, 600))
    assert (pixels[y0:y1, x0:x1] == 90).all()
    assert has(PIL.Image.fromarray(pixels), shade(0))


def test_the_tag_of_a_box_that_is_the_whole_image_is_inside() -> None:
    pixels = shown(gray(1000, 600), [Box(0, 0, 1000, 1000, "all")], (1000, 600))
    assert has(PIL.Image.fromarray(pixels), shade(0))
    assert (pixels[100:500, 200:800] == 90).all()


def test_no_tag_of_a_crowd_covers_a_box_or_a_tag() -> None:
    boxes = [
        Box(400 + 40 * (i % 4), 400 + 60 * (i // 4), 420 + 40 * (i % 4), 430 + 60 * (i // 4), f"thing {i}")
        for i in range(8)
    ]
    pixels = shown(gray(1000, 600), boxes, (1000, 600))
    for box in boxes:
        x0, y0, x1, y1 = box_px(box, (1000, 600))
        assert (pixels[y0:y1, x0:x1] == 90).all()
    for index in range(8):
        alone = (shown(gray(1000, 600), [*boxes[:index], boxes[index]]) == shade(index)).all(axis=2).sum()
        assert (pixels == shade(index)).all(axis=2).sum() > 0.7 * alone


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900), st.integers(10, 90)), min_size=1, max_size=9)
)
def test_a_tag_never_covers_the_small_object_that_it_names(places: list[tuple[int, int, int]]) -> None:
    x, y, side = places[-1]
    boxes = [Box(left, top, left + each, top + each, "a long name") for left, top, each in places]
    tags = shown(gray(800, 480), boxes, (800, 480)) != shown(
        gray(800, 480), [Box(box.x0, box.y0, box.x1, box.y1) for box in boxes], (800, 480)
    )
    x0, y0, x1, y1 = box_px(Box(x, y, x + side, y + side), (800, 480))
    assert tags[y0:y1, x0:x1].mean() <= 0.3


def test_an_image_smaller_than_a_tag_has_none() -> None:
    pixels = np.asarray(annotated(Lettering(["x"]), gray(20, 20), [Box(300, 300, 700, 700, "x")], (20, 20)))
    assert (pixels[6:14, 6:14] == 90).all()


@pytest.mark.parametrize("size", [(20000, 200), (200, 20000), (3000, 40), (40, 3000), (100_000, 8)])
def test_a_strip_is_cut_into_parts_that_fill_the_room(size: tuple[int, int]) -> None:
    boxes = [Box(505, 400, 515, 600, "a") if size[0] > size[1] else Box(400, 505, 600, 515, "a")]
    pixels = shown(gray(*size), boxes, (1400, 900))
    assert pixels.shape[0] <= 900
    assert pixels.shape[1] <= 1400
    assert (pixels == 90).all(axis=2).sum() > 0.3 * 1400 * 900 or max(size) == 100_000
    assert has(PIL.Image.fromarray(pixels), shade(0))


def test_the_parts_of_a_strip_are_in_order() -> None:
    ramp = np.repeat(np.linspace(0, 240, 8000)[None, :, None], 80, axis=0).repeat(3, axis=2).astype(np.uint8)
    for pixels in (ramp, ramp.swapaxes(0, 1)):
        image = shown(ImageSource.open(pixels), [], (1000, 1000))
        image = image if pixels is ramp else image.swapaxes(0, 1)
        kept = image[(image[:, :, 0] < 250).all(axis=1)][:, :, 0].astype(int)
        assert (np.diff(kept, axis=1) >= 0).all()
        assert (np.diff(kept[:, 0]) >= 0).all()
        assert kept.min() <= 3
        assert kept.max() >= 237


@pytest.mark.parametrize(
    ("size", "share"),
    [
        ((20000, 200), 0.35),
        ((200, 20000), 0.35),
        ((1200, 2000), 0.45),
        ((40, 40), 0.6),
        ((3000, 2000), 0.45),
        ((4000, 1000), 0.6),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_a_figure_is_not_blank(size: tuple[int, int], share: float, count: int) -> None:
    source = gray(*size)
    pixels = np.asarray(figure(predicted(source, count), about(source)))
    held = (pixels != 255).any(axis=2)[160:-250]  # between the question and the answer
    assert held.mean() > share


def test_a_crop_is_whole_within_its_frame_and_as_large_as_need_be() -> None:
    image = np.random.default_rng(0).integers(0, 255, (700, 900, 3), np.uint8)
    source = ImageSource.open(image)
    frame = np.asarray(framed(Lettering(["1 sign"]), source, (100, 100, 400, 300), "1 sign", 0, (300, 200)))
    assert (frame[32:232, 5:305] == image[100:300, 100:400]).all()
    assert has(PIL.Image.fromarray(frame), shade(0))


def test_tags_do_not_hide_each_other() -> None:
    # Two boxes side by side with long names: both tags are there in full.
    boxes = [
        Box(400, 400, 450, 450, "the first of the two"),
        Box(460, 400, 510, 450, "the second of the two"),
    ]
    letters = Lettering(box.label for box in boxes)
    alone = [annotated(letters, gray(1000, 600), [box], (1000, 600)) for box in boxes]
    both = annotated(letters, gray(1000, 600), boxes, (1000, 600))

    def count(image: PIL.Image.Image, color: tuple[int, int, int]) -> int:
        return int((np.asarray(image) == color).all(axis=2).sum())

    assert count(both, shade(0)) >= count(alone[0], shade(0))
    assert count(both, shade(1)) > 0.9 * count(alone[0], shade(0))


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=300), width=st.integers(30, 600), most=st.integers(1, 5))
def test_lines_fit_and_keep_the_text_in_order(text: str, width: int, most: int) -> None:
    letters = Lettering([text])
    lines = letters.lines(text, 20, width, most)
    assert len(lines) <= most
    for line in lines:
        assert letters.width(line, 20) <= width or len(line) <= 1
    squeezed = "".join(clean(text).split())
    shown = "".join("".join(lines).split())
    assert shown == squeezed or (shown.endswith("…") and squeezed.startswith(shown[:-1]))
