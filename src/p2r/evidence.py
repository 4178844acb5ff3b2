"""Boxes → evidence: the outlines on the overview, and the crops at full resolution.

The geometry is the paper's by default (docs/paper.md). Where it differs from the release: outlines lie around
the evidence and never on it, crops are clamped and never empty, a box too small to see is widened, and the
boxes that are cropped are the first ones drawn, in the same colours.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from p2r.images import Picture
from p2r.pixels import PixelPlan, plan_pixels
from p2r.types import Crop, Evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.images import ImageSource
    from p2r.settings import Geometry, Settings
    from p2r.types import Box, RectPx

__all__ = [
    "OUTLINE_COLOURS",
    "PixelPlan",
    "build_evidence",
    "crop_region",
    "draw_boxes",
    "plain_overview",
    "plan_pixels",
]

# In drawing order; after the last they start again.
OUTLINE_COLOURS: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("red", (255, 0, 0)),
    ("green", (0, 255, 0)),
    ("blue", (0, 0, 255)),
    ("yellow", (255, 255, 0)),
    ("orange", (255, 165, 0)),
    ("purple", (128, 0, 128)),
    ("cyan", (0, 255, 255)),
    ("magenta", (255, 0, 255)),
)

MIN_REGION_PX = 32  # the least side of a crop in pixels of the original, where the original has as many


def crop_region(box: Box, size: tuple[int, int], geometry: Geometry) -> RectPx:
    """The rectangle of the original to crop for a box: the box and its context, clamped to the picture.

    Args:
        box: 0–1000.
        size: `(width, height)` of the original, in pixels.
        geometry: the context on each side.

    Returns:
        Half-open pixels inside the picture; each side is at least 32 pixels, or all that the picture has.
    """
    width, height = size
    x0, x1 = _with_context(box.x0, box.x1, width, geometry)
    y0, y1 = _with_context(box.y0, box.y1, height, geometry)
    return x0, y0, x1, y1


def _with_context(start: float, end: float, side: int, geometry: Geometry) -> tuple[int, int]:
    context = min(geometry.context_fraction * side, geometry.context_max_px)
    first = max(0, math.floor(start * side / 1000 - context))
    last = min(side, math.ceil(end * side / 1000 + context))
    return _widened(first, last, side, MIN_REGION_PX)


def _widened(first: int, last: int, side: int, least: int) -> tuple[int, int]:
    # Grow around the centre to at least `least` (or the whole side), and slide back inside.
    length = min(side, max(least, last - first))
    first = min(max(0, (first + last - length) // 2), side - length) if length > last - first else first
    return first, first + length


def draw_boxes(overview: Picture, boxes: Sequence[Box], geometry: Geometry) -> Picture:
    """Outline each box on the overview, around its evidence, in the order of `OUTLINE_COLOURS`.

    The outline lies outside the box; at the edge of the picture it is cut off. Where boxes overlap, the
    outline of a larger box gives way to the inside of a smaller one. A box narrower than two outlines is
    widened.
    """
    if not boxes:
        return overview
    width, height = overview.size
    line = max(geometry.outline_min_px, round(geometry.outline_fraction * width))
    plain = overview.pixels
    pixels = plain.copy()
    # Largest first, so that small ones stay whole; of equal ones the first is drawn last and stays visible.
    order = sorted(range(len(boxes)), key=lambda index: (boxes[index].area, index), reverse=True)
    for index in order:
        x0, y0, x1, y1 = box_on_overview(boxes[index], (width, height), line)
        inside = plain[y0:y1, x0:x1]
        pixels[max(0, y0 - line) : y1 + line, max(0, x0 - line) : x1 + line] = _colour(index)[1]
        pixels[y0:y1, x0:x1] = inside
    return Picture(pixels)


def box_on_overview(box: Box, size: tuple[int, int], line: int) -> RectPx:
    """The pixels of the overview that a box encloses, rounded outwards, at least two outlines wide."""
    width, height = size
    x0, x1 = _widened(math.floor(box.x0 * width / 1000), math.ceil(box.x1 * width / 1000), width, 2 * line)
    y0, y1 = _widened(math.floor(box.y0 * height / 1000), math.ceil(box.y1 * height / 1000), height, 2 * line)
    return x0, y0, x1, y1


def _colour(index: int) -> tuple[str, tuple[int, int, int]]:
    return OUTLINE_COLOURS[index % len(OUTLINE_COLOURS)]


def plain_overview(source: ImageSource, settings: Settings) -> Picture:
    """The whole picture at its budget, without outlines: what the perceiver and the one-pass modes see.

    Raises:
        InputError: the picture is damaged, or does not fit into the model's context.
    """
    return source.overview(plan_pixels(source.size, (), settings.budget).overview)


def build_evidence(
    source: ImageSource, boxes: Sequence[Box], settings: Settings, overview: Picture | None = None
) -> Evidence:
    """Draw all boxes on the overview and crop the first ones from the plain original.

    Args:
        source: the original.
        boxes: in the perceiver's order; none means that the whole picture is the evidence.
        settings: geometry and budgets.
        overview: the plain overview, if it is at hand; used when it has the planned size.

    Raises:
        InputError: the picture is damaged, or the pictures do not fit into the model's context.
    """
    geometry = settings.geometry
    cropped = boxes[: geometry.max_crops]
    regions = [crop_region(box, source.size, geometry) for box in cropped]
    plan = plan_pixels(source.size, regions, settings.budget)
    if overview is None or overview.size != plan.overview:
        overview = source.overview(plan.overview)
    crops = tuple(
        Crop(source.region(region, size), box, region, _colour(index)[0])
        for index, (box, region, size) in enumerate(zip(cropped, regions, plan.crops, strict=True))
    )
    return Evidence(draw_boxes(overview, boxes, geometry), crops, plan.notes)
