"""How many pixels a model is shown: `smart_resize` and `plan_sizes`."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2r.errors import InputError
from p2r.evidence import plan_sizes
from p2r.images.sizing import MAX_ASPECT, smart_resize
from p2r.settings import PixelBudget

PAPER = {"max_pixels": 4_194_304, "min_pixels": 16 * 32 * 32, "factor": 32}

sides = st.integers(1, 100_000)
sizes = st.tuples(sides, sides)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((3840, 2160), (2720, 1536)),  # too large: shrunk to the budget
        ((7680, 4320), (2720, 1536)),
        ((1920, 1080), (1920, 1088)),  # within it: rounded to whole cells
        ((1000, 1000), (992, 992)),
        ((100, 50), (192, 96)),  # too small: enlarged to the floor
        ((1, 1), (128, 128)),
    ],
)
def test_smart_resize_follows_the_rule_of_qwen_vl(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert smart_resize(*size, **PAPER) == expected
    assert smart_resize(*reversed(size), **PAPER) == tuple(reversed(expected))


@pytest.mark.parametrize("size", [(100_000, 10), (10, 100_000), (100_000, 1), (1, 31), (5_000, 1)])
def test_extreme_images_stay_legal(size: tuple[int, int]) -> None:
    width, height = smart_resize(*size, **PAPER)
    assert max(width, height) <= MAX_ASPECT * min(width, height)
    assert PAPER["min_pixels"] <= width * height <= PAPER["max_pixels"]
    assert (width > height) == (size[0] > size[1])


def test_a_thin_image_is_not_blown_up_to_keep_its_shape() -> None:
    assert smart_resize(7590, 42, **PAPER) == (7584, 64)


def test_a_budget_of_one_size_gives_the_nearest_shape() -> None:
    square = {"max_pixels": 160 * 160, "min_pixels": 160 * 160, "factor": 32}
    assert smart_resize(3840, 2160, **square) == (160, 160)
    assert smart_resize(160, 160, **square) == (160, 160)


@settings(deadline=None)
@given(
    size=sizes, least=st.integers(1, 60), more=st.integers(1, 5_000), factor=st.sampled_from([1, 14, 28, 32])
)
def test_smart_resize_keeps_every_promise(size: tuple[int, int], least: int, more: int, factor: int) -> None:
    budget = {"max_pixels": (least + more) * factor**2, "min_pixels": least * factor**2, "factor": factor}
    width, height = smart_resize(*size, **budget)
    assert width % factor == height % factor == 0
    assert budget["min_pixels"] <= width * height <= budget["max_pixels"]
    assert max(width, height) <= MAX_ASPECT * min(width, height)
    # A processor with the same rule and budget leaves the image as it is.
    assert smart_resize(width, height, **budget) == (width, height)


@settings(deadline=None)
@given(size=st.tuples(st.integers(600, 20_000), st.integers(600, 20_000)))
def test_smart_resize_keeps_the_aspect_ratio_as_well_as_whole_cells_allow(size: tuple[int, int]) -> None:
    width, height = smart_resize(*size, **PAPER)
    assert abs(math.log(width / height / (size[0] / size[1]))) <= 32 / width + 32 / height


@pytest.mark.parametrize(
    ("size", "change", "message"),
    [
        ((0, 10), {}, "at least 1"),
        ((10, 10), {"factor": 0}, "at least 1"),
        ((10, 10), {"max_pixels": 1024}, "min_pixels 16384 is more than max_pixels 1024"),
        ((10, 10), {"max_pixels": 401 * 1024, "min_pixels": 401 * 1024}, "widen the budgets"),
    ],
)
def test_budgets_that_contradict_themselves(
    size: tuple[int, int], change: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        smart_resize(*size, **{**PAPER, **change})


def test_a_plan_without_a_context_limit_is_each_image_at_its_budget() -> None:
    budget = PixelBudget(crop_max_pixels=1_000_000)
    regions = [(0, 0, 1368, 1032), (3000, 0, 3840, 600)]
    plan = plan_sizes((3840, 2160), regions, budget)
    assert plan.overview == (2720, 1536)
    assert plan.crops == (
        smart_resize(1368, 1032, max_pixels=1_000_000, min_pixels=16384, factor=32),
        smart_resize(840, 600, max_pixels=1_000_000, min_pixels=16384, factor=32),
    )
    pixels = sum(width * height for width, height in (plan.overview, *plan.crops))
    assert plan.tokens == pixels / 1024
    assert plan.notes == ()


def test_a_plan_that_fits_is_left_alone() -> None:
    free = plan_sizes((3840, 2160), [(0, 0, 800, 800)], PixelBudget())
    exact = PixelBudget(context_tokens=free.tokens + 100, text_tokens=100)
    assert plan_sizes((3840, 2160), [(0, 0, 800, 800)], exact) == free


def test_a_plan_that_does_not_fit_shrinks_all_images_by_the_same_share_and_says_so() -> None:
    regions = [(0, 0, 2000, 1500), (0, 0, 1000, 1000)]
    free = plan_sizes((3840, 2160), regions, PixelBudget())
    tight = PixelBudget(context_tokens=4_096, text_tokens=1_000)
    plan = plan_sizes((3840, 2160), regions, tight)
    assert 0.95 * 3_096 < plan.tokens <= 3_096
    shares = [
        (now[0] * now[1]) / (before[0] * before[1])
        for now, before in zip((plan.overview, *plan.crops), (free.overview, *free.crops), strict=True)
    ]
    assert max(shares) / min(shares) < 1.15
    assert plan.notes == (
        f"images shrunk from {free.tokens} to {plan.tokens} tokens: the context leaves room for 3096",
    )


def test_no_image_shrinks_below_the_floor() -> None:
    budget = PixelBudget(min_pixels=256 * 1024, context_tokens=1_100, text_tokens=1)
    plan = plan_sizes((3840, 2160), [(0, 0, 300, 300)] * 3, budget)
    assert all(width * height >= 256 * 1024 for width, height in (plan.overview, *plan.crops))


def test_a_context_too_small_for_the_floor_is_refused_with_a_hint() -> None:
    budget = PixelBudget(context_tokens=2_048, text_tokens=2_000)
    with pytest.raises(
        InputError, match=r"4 images need at least \d+ tokens.*leaves 48.*raise context_tokens"
    ):
        plan_sizes((3840, 2160), [(0, 0, 500, 500)] * 3, budget)
    with pytest.raises(InputError, match="leaves -1 beside text_tokens 2049"):
        plan_sizes((3840, 2160), [], PixelBudget(context_tokens=2_048, text_tokens=2_049))


@settings(deadline=None)
@given(size=sizes, pieces=st.lists(sizes, max_size=4), context=st.integers(1, 30_000))
def test_a_plan_fits_or_is_refused(
    size: tuple[int, int], pieces: list[tuple[int, int]], context: int
) -> None:
    budget = PixelBudget(context_tokens=context, text_tokens=200)
    regions = [(7, 9, 7 + width, 9 + height) for width, height in pieces]
    try:
        plan = plan_sizes(size, regions, budget)
    except InputError:
        # Only where even the floor (16 tokens, up to a fourth more by rounding up) does not fit.
        assert context - 200 < 32 * (1 + len(pieces))
        return
    assert len(plan.crops) == len(pieces)
    assert plan.tokens <= context - 200
    for width, height in (plan.overview, *plan.crops):
        assert width % 32 == height % 32 == 0
        assert width * height >= budget.min_pixels
