"""How many pixels a model is shown: the size of one image, and the pixel plan of a request."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.settings import PixelBudget
    from p2r.types import RectPx

MAX_ASPECT = 200  # the processors of Qwen-VL refuse longer images


def smart_resize(
    width: int, height: int, *, max_pixels: int, min_pixels: int, factor: int
) -> tuple[int, int]:
    """The size at which a model is shown an image of `width` × `height` pixels.

    Both sides are multiples of `factor`, the aspect ratio is kept as well as that allows, and
    `min_pixels <= w * h <= max_pixels` (the rule of Qwen-VL's processors, so that they leave the image as
    it is). Budgets count in whole cells of factor² pixels; a budget below one cell means one cell. An image
    longer than 200:1 is stretched to 200:1.

    Raises:
        InputError: a side, a budget or the factor is below 1, or the budgets contradict each other.
    """
    if min(width, height, max_pixels, min_pixels, factor) < 1:
        raise InputError(f"sides, pixel budgets and factor must be at least 1 ({width}×{height})")
    most = max(1, max_pixels // factor**2)
    least = -(-min_pixels // factor**2)
    if least > most:
        raise InputError(f"min_pixels {min_pixels} is more than max_pixels {max_pixels} (factor {factor})")
    long, short = float(max(width, height)), float(min(width, height))
    short = max(short, long / MAX_ASPECT)
    cells = (max(1, round(long / factor)), max(1, round(short / factor)))
    shrink = 1.0
    if cells[0] * cells[1] > most:
        shrink = math.sqrt(long * short / max_pixels)
        cells = (max(1, math.floor(long / shrink / factor)), max(1, math.floor(short / shrink / factor)))
    elif cells[0] * cells[1] < least:
        shrink = math.sqrt(long * short / min_pixels)
        cells = (math.ceil(long / shrink / factor), math.ceil(short / shrink / factor))
    if not (least <= cells[0] * cells[1] <= most and cells[0] <= MAX_ASPECT * cells[1]):
        cells = _nearest_legal(long / shrink / factor, short / shrink / factor, least, most)
    sides = (cells[0] * factor, cells[1] * factor)
    return sides if width >= height else (sides[1], sides[0])


def _nearest_legal(ideal_long: float, ideal_short: float, least: int, most: int) -> tuple[int, int]:
    # Rounding left the budget (a side below one cell, budgets close together): of all sizes within it, take
    # the one whose sides are nearest to the ideal, as ratios.
    best: tuple[float, int, int] | None = None
    for short in range(1, math.isqrt(most) + 1):
        longest = min(most // short, MAX_ASPECT * short)
        long = min(longest, max(round(ideal_long), short, -(-least // short)))
        if long * short >= least:
            distance = abs(math.log(long / ideal_long)) + abs(math.log(short / ideal_short))
            best = min(best or (math.inf, 0, 0), (distance, long, short))
    if best is None:
        raise InputError(f"no size of {least} to {most} cells is at most {MAX_ASPECT}:1: widen the budgets")
    return best[1], best[2]


@dataclass(frozen=True, slots=True)
class PixelPlan:
    """The sizes of every image of one request.

    Attributes:
        overview: `(width, height)` of the whole image.
        crops: `(width, height)` of each crop.
        tokens: language-model tokens of all of them, one for each factor² pixels.
        notes: what had to be done to fit the context, one sentence each.
    """

    overview: tuple[int, int]
    crops: tuple[tuple[int, int], ...]
    tokens: int
    notes: tuple[str, ...] = ()


def plan_sizes(size: tuple[int, int], regions_px: Sequence[RectPx], budget: PixelBudget) -> PixelPlan:
    """Choose the size of the overview and of each crop, so that the request fits the model's context.

    Args:
        size: `(width, height)` of the original.
        regions_px: the rectangles of the original that will be cropped.
        budget: when the images need more than `context_tokens - text_tokens`, all of them shrink by the
            same share, but none below `min_pixels`.

    Raises:
        InputError: not even the smallest images fit, or the budgets contradict each other.
    """
    sources = [size, *((x1 - x0, y1 - y0) for x0, y0, x1, y1 in regions_px)]
    most = [budget.overview_max_pixels] + [budget.crop_max_pixels] * len(regions_px)
    sizes = _fit_all(sources, most, budget)
    wanted = _tokens(sizes, budget)
    notes: tuple[str, ...] = ()
    if budget.context_tokens is not None and wanted > (room := budget.context_tokens - budget.text_tokens):
        sizes = _shrink(sources, sizes, room, budget)
        notes = (
            f"images shrunk from {wanted} to {_tokens(sizes, budget)} tokens: "
            f"the context leaves room for {room}",
        )
    return PixelPlan(sizes[0], tuple(sizes[1:]), _tokens(sizes, budget), notes)


def _fit_all(
    sources: Sequence[tuple[int, int]], most: Sequence[int], budget: PixelBudget
) -> list[tuple[int, int]]:
    return [
        smart_resize(w, h, max_pixels=pixels, min_pixels=budget.min_pixels, factor=budget.factor)
        for (w, h), pixels in zip(sources, most, strict=True)
    ]


def _tokens(sizes: Sequence[tuple[int, int]], budget: PixelBudget) -> int:
    return sum(width * height for width, height in sizes) // budget.factor**2


def _shrink(
    sources: Sequence[tuple[int, int]], sizes: Sequence[tuple[int, int]], room: int, budget: PixelBudget
) -> list[tuple[int, int]]:
    # The largest common share of the pixels that fits, by bisection.
    def at(share: float) -> list[tuple[int, int]]:
        most = [max(_floor_pixels(budget), int(share * width * height)) for width, height in sizes]
        return _fit_all(sources, most, budget)

    best = at(0.0)
    if (least := _tokens(best, budget)) > room:
        raise InputError(
            f"{len(sizes)} images need at least {least} tokens, but context_tokens {budget.context_tokens} "
            f"leaves {room} beside text_tokens {budget.text_tokens}: raise context_tokens, "
            "or lower text_tokens, min_pixels or max_crops"
        )
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        sizes_now = at(middle)
        if _tokens(sizes_now, budget) <= room:
            low, best = middle, sizes_now
        else:
            high = middle
    return best


def _floor_pixels(budget: PixelBudget) -> int:
    cells = -(-budget.min_pixels // budget.factor**2)
    return cells * budget.factor**2
