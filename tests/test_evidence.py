"""Boxes → evidence: where outlines and crops lie, to the pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2r.errors import InputError
from p2r.evidence import (
    MIN_REGION_PX,
    OUTLINE_COLORS,
    box_px,
    build_evidence,
    build_evidences,
    crop_region,
    draw_boxes,
    outline_width,
    plain_overview,
)
from p2r.images import EncodedImage, ImageSource
from p2r.settings import Geometry, PixelBudget, Settings
from p2r.types import Box

if TYPE_CHECKING:
    from pathlib import Path

PAPER = Geometry()
GRAY = 100
RGB = dict(OUTLINE_COLORS)


def plain(width: int, height: int) -> EncodedImage:
    return EncodedImage(np.full((height, width, 3), GRAY, np.uint8))


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def colored(image: EncodedImage, name: str) -> np.ndarray:
    """Where the outline of this color is: shape (height, width), bool."""
    return (image.pixels == RGB[name]).all(axis=2)


@st.composite
def some_boxes(draw: st.DrawFn) -> Box:
    starts, lengths = st.floats(0, 999.9), st.floats(1e-6, 1000)
    x0, y0 = draw(starts), draw(starts)
    return Box(x0, y0, min(1000, x0 + draw(lengths)), min(1000, y0 + draw(lengths)))


some_sizes = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))


# --- crops -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        # 10 % of each side around the box
        (Box(400, 400, 500, 600), (2000, 1000), (600, 300, 1200, 700)),
        # at most 600 px of it
        (Box(400, 400, 500, 500), (10_000, 8_000), (3400, 2600, 5600, 4600)),
        # clamped at the edges
        (Box(0, 0, 100, 100), (2000, 1000), (0, 0, 400, 200)),
        (Box(900, 950, 1000, 1000), (2000, 1000), (1600, 850, 2000, 1000)),
        (Box(0, 0, 1000, 1000), (2000, 1000), (0, 0, 2000, 1000)),
    ],
)
def test_a_crop_is_the_box_and_the_papers_context(
    box: Box, size: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    assert crop_region(box, size, PAPER) == expected


def test_a_crop_too_small_to_see_is_widened_around_its_box() -> None:
    bare = Geometry(context_fraction=0)
    assert crop_region(Box(500, 500, 500.1, 500.1), (1000, 1000), bare) == (484, 484, 516, 516)
    assert crop_region(Box(0, 0, 0.1, 0.1), (1000, 1000), bare) == (0, 0, 32, 32)
    assert crop_region(Box(999, 999, 1000, 1000), (1000, 1000), bare) == (968, 968, 1000, 1000)
    assert crop_region(Box(0, 0, 1, 1), (20, 1000), bare) == (0, 0, 20, 32)


@settings(deadline=None)
@given(box=some_boxes(), size=some_sizes, fraction=st.sampled_from([0.0, 0.02, 0.1, 1.0]))
def test_a_crop_is_inside_the_image_and_never_under_the_floor(
    box: Box, size: tuple[int, int], fraction: float
) -> None:
    x0, y0, x1, y1 = crop_region(box, size, Geometry(context_fraction=fraction))
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]
    assert x1 - x0 >= min(MIN_REGION_PX, size[0])
    assert y1 - y0 >= min(MIN_REGION_PX, size[1])
    left, top, right, bottom = box_px(box, size)
    assert x0 <= left
    assert y0 <= top
    assert right <= x1
    assert bottom <= y1


# --- outlines --------------------------------------------------------------------------------------------


def test_an_outline_lies_around_the_evidence_to_the_pixel() -> None:
    drawn = draw_boxes(plain(1000, 500), [Box(100, 200, 300, 600)], PAPER)
    expected = np.zeros((500, 1000), bool)
    expected[97:303, 97:303] = True
    expected[100:300, 100:300] = False
    assert (colored(drawn, "red") == expected).all()
    assert (drawn.pixels[~expected] == GRAY).all()


def test_an_outline_is_three_pixels_or_three_thousandths_of_the_width() -> None:
    assert outline_width(160, PAPER) == 3
    assert outline_width(1_000, PAPER) == 3
    assert outline_width(2_720, PAPER) == 8
    # It is measured on the overview, not on the original: at 8K the release covers a small object with it.
    drawn = draw_boxes(plain(2_720, 320), [Box(500, 250, 600, 750)], PAPER)
    assert colored(drawn, "red")[160].sum() == 2 * 8


def test_an_outline_is_cut_off_at_the_edge_and_still_spares_the_evidence() -> None:
    drawn = draw_boxes(plain(200, 100), [Box(0, 0, 100, 200)], PAPER)
    assert (drawn.pixels[:20, :20] == GRAY).all()
    assert colored(drawn, "red")[:23, 20:23].all()
    assert colored(drawn, "red")[20:23, :23].all()
    assert (draw_boxes(plain(200, 100), [Box(0, 0, 1000, 1000)], PAPER).pixels == GRAY).all()


def test_a_box_too_small_to_see_is_outlined_wider() -> None:
    drawn = draw_boxes(plain(160, 160), [Box(500, 500, 500.1, 500.1)], PAPER)
    inside = ~colored(drawn, "red")[78:83, 78:83]
    assert inside.all()
    assert colored(drawn, "red").sum() == 12 * 12 - 6 * 6


def test_the_outline_of_a_large_box_is_not_drawn_inside_a_small_one() -> None:
    large, small = Box(200, 200, 600, 600), Box(590, 300, 650, 400)
    for boxes in ([large, small], [small, large]):
        drawn = draw_boxes(plain(1000, 1000), boxes, PAPER)
        assert (drawn.pixels[300:400, 590:650] == GRAY).all()
        assert colored(drawn, "red").any()
        assert colored(drawn, "green").any()


def test_equal_boxes_keep_the_first_color() -> None:
    drawn = draw_boxes(plain(100, 100), [Box(300, 300, 600, 600)] * 2, PAPER)
    assert colored(drawn, "red").any()
    assert not colored(drawn, "green").any()


def test_all_boxes_are_drawn_and_colors_start_again_after_the_last() -> None:
    boxes = [Box(100 * index + 20, 400, 100 * index + 60, 600) for index in range(10)]
    drawn = draw_boxes(plain(1000, 200), boxes, PAPER)
    for index, box in enumerate(boxes):
        name = OUTLINE_COLORS[index % 8][0]
        assert colored(drawn, name)[100, int(box.x0) - 2], name
    assert [name for name, _ in OUTLINE_COLORS] == [
        "red",
        "green",
        "blue",
        "yellow",
        "orange",
        "purple",
        "cyan",
        "magenta",
    ]


def test_no_boxes_leave_the_overview_as_it_is() -> None:
    overview = plain(64, 64)
    assert draw_boxes(overview, [], PAPER) is overview


def test_the_plain_overview_is_not_drawn_on() -> None:
    overview = plain(64, 64)
    draw_boxes(overview, [Box(200, 200, 600, 600)], PAPER)
    assert (overview.pixels == GRAY).all()


@settings(deadline=None)
@given(box=some_boxes(), size=st.tuples(st.integers(1, 200), st.integers(1, 200)))
def test_no_outline_covers_its_evidence(box: Box, size: tuple[int, int]) -> None:
    x0, y0, x1, y1 = box_px(box, size)
    drawn = draw_boxes(plain(*size), [box], PAPER)
    assert (drawn.pixels[y0:y1, x0:x1] == GRAY).all()


# --- evidence --------------------------------------------------------------------------------------------


BOXES = [Box(100, 100, 200, 200, "a"), Box(700, 100, 800, 200, "b"), Box(100, 700, 200, 800, "c")]
SMALL = PixelBudget(overview_max_pixels=320 * 320, crop_max_pixels=320 * 320)


def test_what_is_cropped_is_what_is_drawn_first_in_the_same_colors() -> None:
    source = ImageSource.open(noise(800, 600))
    evidence = build_evidence(source, [*BOXES, Box(700, 700, 800, 800, "d")], Settings(budget=SMALL))
    assert [crop.box.label for crop in evidence.crops] == ["a", "b", "c"]
    assert [crop.color for crop in evidence.crops] == ["red", "green", "blue"]
    scale_x, scale_y = evidence.overview.width / 1000, evidence.overview.height / 1000
    for crop in evidence.crops:
        at = int(crop.box.y0 * scale_y) - 2, int(crop.box.center[0] * scale_x)
        assert colored(evidence.overview, crop.color)[at]
    # The fourth box is drawn, but not cropped.
    assert colored(evidence.overview, "yellow").any()


def test_crops_are_of_the_plain_original() -> None:
    pixels = noise(800, 600)
    evidence = build_evidence(ImageSource.open(pixels), BOXES, Settings())
    for crop in evidence.crops:
        x0, y0, x1, y1 = crop.region_px
        assert (crop.image.pixels == pixels[y0:y1, x0:x1]).all()


def test_a_crop_within_its_budget_has_the_originals_own_pixels() -> None:
    # 10 % context gives 240×180; the nearest multiples of 32 are 256×192, so the sides move by 8 and 6.
    box = Box(400, 400, 500, 500)
    assert crop_region(box, (800, 600), PAPER) == (240, 180, 480, 360)
    crop = build_evidence(ImageSource.open(noise(800, 600)), [box], Settings()).crops[0]
    assert crop.region_px == (232, 174, 488, 366)
    assert crop.image.size == (256, 192)


def test_sides_are_not_moved_where_that_would_cut_the_box() -> None:
    settings = Settings(geometry=Geometry(context_fraction=0))
    box = Box(100, 100, 300, 300)  # 200×200 px, planned as 192×192
    crop = build_evidence(ImageSource.open(noise(1000, 1000)), [box], settings).crops[0]
    assert crop.region_px == (100, 100, 300, 300)
    assert crop.image.size == (192, 192)


@settings(deadline=None)
@given(box=some_boxes(), size=st.tuples(st.integers(1, 400), st.integers(1, 400)))
def test_evidence_of_any_box_holds_the_box(box: Box, size: tuple[int, int]) -> None:
    source = ImageSource.open(np.zeros((size[1], size[0], 3), np.uint8))
    (crop,) = build_evidence(source, [box], Settings(budget=SMALL)).crops
    x0, y0, x1, y1 = crop.region_px
    left, top, right, bottom = box_px(box, size)
    assert 0 <= x0 <= left < right <= x1 <= size[0]
    assert 0 <= y0 <= top < bottom <= y1 <= size[1]
    assert crop.image.width * crop.image.height >= SMALL.min_pixels


def test_no_box_means_the_plain_image() -> None:
    source = ImageSource.open(noise(800, 600))
    evidence = build_evidence(source, [], Settings())
    assert evidence.crops == ()
    assert (evidence.overview.pixels == plain_overview(source, Settings()).pixels).all()


def test_an_overview_at_hand_is_used_when_it_has_the_planned_size() -> None:
    source = ImageSource.open(noise(320, 320))
    at_hand = plain(320, 320)
    assert build_evidence(source, [], Settings(budget=SMALL), at_hand).overview is at_hand
    other = build_evidence(source, [], Settings(budget=SMALL), plain(64, 64)).overview
    assert other.size == (320, 320)
    assert not (other.pixels == GRAY).all()


TINY = PixelBudget(overview_max_pixels=160 * 160, crop_max_pixels=160 * 160, min_pixels=128 * 128)
LISTS = [BOXES, [Box(0, 0, 1000, 1000)], [], [BOXES[2]], [*BOXES, Box(300, 300, 900, 900, "d")]]


@pytest.mark.parametrize("save", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("budget", [SMALL, PixelBudget(context_tokens=600, text_tokens=100), TINY])
def test_evidence_of_many_lists_is_that_of_each(tmp_path: Path, save: str, budget: PixelBudget) -> None:
    # Smooth enough that sizes differ, so that crops come from several levels of a JPEG.
    PIL.Image.fromarray(noise(120, 90)).resize((1200, 900)).save(path := tmp_path / "image", save)
    chosen = Settings(budget=budget)
    together = build_evidences([ImageSource.open(path)], LISTS, chosen)
    for boxes, evidence in zip(LISTS, together, strict=True):
        alone = build_evidence(ImageSource.open(path), boxes, chosen)
        assert evidence.overview.pixels.tobytes() == alone.overview.pixels.tobytes()
        assert [crop.image.pixels.tobytes() for crop in evidence.crops] == [
            crop.image.pixels.tobytes() for crop in alone.crops
        ]
        assert [(crop.box, crop.region_px, crop.color) for crop in evidence.crops] == [
            (crop.box, crop.region_px, crop.color) for crop in alone.crops
        ]
        assert evidence.notes == alone.notes


def test_a_tight_context_shrinks_overview_and_crops_and_says_so() -> None:
    source = ImageSource.open(noise(800, 600))
    budget = PixelBudget(context_tokens=400, text_tokens=100)
    evidence = build_evidence(source, BOXES, Settings(budget=budget), plain_overview(source, Settings()))
    images = [evidence.overview, *(crop.image for crop in evidence.crops)]
    assert sum(image.width * image.height for image in images) <= 300 * 32 * 32
    assert len(evidence.notes) == 1
    assert "the context leaves room for 300" in evidence.notes[0]


def test_a_context_too_small_for_any_image_is_refused() -> None:
    budget = PixelBudget(context_tokens=100, text_tokens=90)
    with pytest.raises(InputError, match="raise context_tokens"):
        plain_overview(ImageSource.open(noise(800, 600)), Settings(budget=budget))
