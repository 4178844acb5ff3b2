"""The size at which a model is shown an image."""

from __future__ import annotations

import math

from p2r.errors import InputError

# x0, y0, x1, y1 in pixels, half-open: x1 and y1 are outside.
RectPx = tuple[int, int, int, int]

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
