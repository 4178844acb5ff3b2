"""The figure: everything that matters is on it, nothing crashes it, and evidence stays visible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2r.annotation import SHADES, annotated, shade
from p2r.errors import InputError
from p2r.evidence import OUTLINE_COLOURS, box_px, crop_region
from p2r.figure import GREEN, PALE, RED, WIDTH, figure
from p2r.images import ImageSource
from p2r.lettering import Lettering, clean
from p2r.settings import Geometry
from p2r.types import Box, Prediction, Question

if TYPE_CHECKING:
    from pathlib import Path

BOXES = [
    Box(100 * index + 30, 300 + 40 * index, 100 * index + 70, 360 + 40 * index, "sign") for index in range(8)
]
QUESTION = Question("street.jpg", "Which sign is larger?", ("the red one", "the blue one"))


def grey(width: int, height: int) -> ImageSource:
    return ImageSource.open(np.full((height, width, 3), 90, np.uint8))


def predicted(source: ImageSource, count: int, **changes: object) -> Prediction:
    boxes = tuple(BOXES[:count])
    crops = tuple(crop_region(box, source.size, Geometry()) for box in boxes[:3])
    known: dict[str, object] = {
        "id": "q",
        "mode": "p2r",
        "status": "answered",
        "answer": "B",
        "boxes": boxes,
        "crops_px": crops,
        "thinking": "The blue one is larger.",
        "seconds": {"image": 0.1, "perceive": 0.2, "total": 0.3},
        "model": "nano",
        "reasoner": "nano",
    }
    return Prediction(**{**known, **changes})  # type: ignore[arg-type]


def has(image: PIL.Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == colour).all(axis=2).any())


@pytest.mark.parametrize("count", range(9))
def test_every_box_is_in_its_colour(count: int) -> None:
    source = grey(640, 360)
    image = figure(source, predicted(source, count), QUESTION)
    assert image.width == WIDTH
    assert [has(image, shade(index)) for index in range(8)] == [index < count for index in range(8)]


def test_every_colour_of_the_evidence_has_a_shade() -> None:
    assert list(SHADES) == [name for name, _ in OUTLINE_COLOURS]


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
    source = grey(640, 360)
    path = tmp_path / name
    image = figure(source, predicted(source, 2), QUESTION, path)
    with PIL.Image.open(path) as written:
        assert written.format == kind
        difference = np.asarray(written.convert("RGB")).astype(int) - np.asarray(image)
    assert np.abs(difference).mean() <= most


@pytest.mark.parametrize("name", ["figure", "figure.txt", "figure.gif", ".png"])
def test_a_name_without_a_known_format_is_refused(tmp_path: Path, name: str) -> None:
    source = grey(64, 36)
    with pytest.raises(InputError, match=r"written as \.png, \.jpg, \.jpeg, \.webp; for example"):
        figure(source, predicted(source, 1), QUESTION, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_figure_replaces_figures_only(tmp_path: Path) -> None:
    source = grey(64, 36)
    for suffix in (".png", ".jpg", ".webp"):
        path = tmp_path / f"figure{suffix}"
        path.touch()
        for _ in range(2):  # an empty file, then a figure
            figure(source, predicted(source, 1), QUESTION, path)
        for photo in (path, path.with_name(f"text{suffix}")):
            photo.unlink(missing_ok=True)
            if photo == path:
                PIL.Image.new("RGB", (20, 20)).save(photo)
            else:
                photo.write_text("mine")
            before = photo.read_bytes()
            with pytest.raises(InputError, match="not a figure of ours; give another name"):
                figure(source, predicted(source, 1), QUESTION, photo)
            assert photo.read_bytes() == before


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    source = grey(64, 36)
    for path, says in ((tmp_path, "a folder"), (tmp_path / "none" / "figure.png", "no folder")):
        with pytest.raises(InputError, match=f"{path}: .*{says}"):
            figure(source, predicted(source, 1), QUESTION, path)


@pytest.mark.parametrize(("gold", "colours"), [(None, PALE), ("B", GREEN[0]), ("A", RED[0])])
def test_the_answer_is_coloured_when_it_can_be_checked(
    gold: str | None, colours: tuple[int, int, int]
) -> None:
    source = grey(640, 360)
    image = figure(source, predicted(source, 1), QUESTION, gold=gold)
    padding = image.getpixel((64, image.height - 160))
    assert padding == colours


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "failed", "answer": None, "thinking": "", "error": "http://host/v1: unreachable: refused"},
        {"status": "no_answer", "answer": None, "truncated": True},
        {"status": "no_answer", "answer": None, "thinking": ""},
        {"seconds": {}, "model": "", "reasoner": ""},
        {"boxes": (), "crops_px": (), "mode": "direct", "thinking": ""},
        {"answer": "Z"},
    ],
    ids=["failed", "truncated", "none", "bare", "direct", "unknown-letter"],
)
def test_every_outcome_has_a_figure(changes: dict[str, object]) -> None:
    source = grey(640, 360)
    for gold in (None, "A"):
        assert figure(source, predicted(source, 2, **changes), QUESTION, gold=gold).width == WIDTH


@pytest.mark.parametrize("size", [(4000, 40), (40, 4000), (1, 1), (900, 900), (3, 400), (2500, 1000)])
@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_every_shape_has_a_figure(size: tuple[int, int], count: int) -> None:
    source = grey(*size)
    image = figure(source, predicted(source, count), QUESTION)
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
    source = grey(640, 360)
    boxes = (Box(100, 100, 300, 300, text),)
    prediction = predicted(source, 1, boxes=boxes, thinking=text, answer=text, model=text)
    image = figure(source, prediction, Question("p.jpg", text), gold=text)
    assert image.size[0] == WIDTH
    assert image.height < 2400
    # Nothing is written into the right margin.
    assert (np.asarray(image)[:, -40:] == 255).all()


def test_many_and_long_options_wrap() -> None:
    source = grey(640, 360)
    question = Question("p.jpg", "Which?", tuple(f"{index} {'long option ' * index}" for index in range(14)))
    image = figure(source, predicted(source, 0, answer="N"), question)
    assert (np.asarray(image)[:, -40:] == 255).all()


def test_no_outline_or_tag_covers_a_box() -> None:
    source = grey(1000, 600)
    box = Box(400, 400, 500, 600, "a sign with a rather long name that needs room")
    picture = annotated(Lettering([box.label]), source, [box], (1000, 600))
    x0, y0, x1, y1 = box_px(box, (1000, 600))
    assert (np.asarray(picture)[y0:y1, x0:x1] == 90).all()


def test_tags_do_not_hide_each_other() -> None:
    # Two boxes side by side with long names: both tags are there in full.
    boxes = [
        Box(400, 400, 450, 450, "the first of the two"),
        Box(460, 400, 510, 450, "the second of the two"),
    ]
    letters = Lettering(box.label for box in boxes)
    alone = [annotated(letters, grey(1000, 600), [box], (1000, 600)) for box in boxes]
    both = annotated(letters, grey(1000, 600), boxes, (1000, 600))

    def count(image: PIL.Image.Image, colour: tuple[int, int, int]) -> int:
        return int((np.asarray(image) == colour).all(axis=2).sum())

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
