"""Boxes → evidence: the outlines on the overview, and the crops at full resolution.

The geometry is the paper's by default (docs/paper.md). Where it differs from the release: outlines lie around
the evidence and never on it, crops are clamped and never empty, a box too small to see is widened, and the
boxes that are cropped are the first ones drawn, in the same colors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from p2r.images import EncodedImage
from p2r.images.sizing import PixelPlan, plan_sizes
from p2r.types import Crop, Evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.images import ImageSource
    from p2r.settings import Geometry, Settings
    from p2r.types import Box, RectPx

__all__ = [
    "OUTLINE_COLORS",
    "PixelPlan",
    "build_evidence",
    "build_evidences",
    "crop_region",
    "draw_boxes",
    "evidence_pixels",
    "plain_overview",
    "plan_sizes",
]

# In drawing order; after the last they start again.
OUTLINE_COLORS: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("red", (255, 0, 0)),
    ("green", (0, 255, 0)),
    ("blue", (0, 0, 255)),
    ("yellow", (255, 255, 0)),
    ("orange", (255, 165, 0)),
    ("purple", (128, 0, 128)),
    ("cyan", (0, 255, 255)),
    ("magenta", (255, 0, 255)),
)

_RGB = [np.array(rgb, np.uint8) for _, rgb in OUTLINE_COLORS]

MIN_REGION_PX = 32  # the least side of a crop in pixels of the original, where the original has as many


def box_px(box: Box, size: tuple[int, int]) -> RectPx:
    """A box in the pixels of an image of `size` = (width, height), rounded outwards."""
    width, height = size
    x0, y0 = math.floor(box.x0 * width / 1000), math.floor(box.y0 * height / 1000)
    x1, y1 = math.ceil(box.x1 * width / 1000), math.ceil(box.y1 * height / 1000)
    return x0, y0, x1, y1


def crop_region(box: Box, size: tuple[int, int], geometry: Geometry) -> RectPx:
    """The rectangle of the original to crop for a box: the box and its context, clamped to the image.

    Args:
        box: 0–1000.
        size: `(width, height)` of the original, in pixels.
        geometry: the context on each side.

    Returns:
        Half-open pixels inside the image; each side is at least 32 pixels, or all that the image has.
    """
    width, height = size
    x0, y0, x1, y1 = box_px(box, size)
    across = round(min(geometry.context_fraction * width, geometry.context_max_px))
    down = round(min(geometry.context_fraction * height, geometry.context_max_px))
    x0, x1 = _widened(max(0, x0 - across), min(width, x1 + across), MIN_REGION_PX, width)
    y0, y1 = _widened(max(0, y0 - down), min(height, y1 + down), MIN_REGION_PX, height)
    return x0, y0, x1, y1


def _widened(first: int, last: int, least: int, side: int) -> tuple[int, int]:
    return _centerd(first, last, min(side, max(least, last - first)), side)


def _centerd(first: int, last: int, length: int, side: int) -> tuple[int, int]:
    # The span of `length` around the middle of first–last, slid to lie within 0–side.
    start = min(max(0, (first + last - length) // 2), side - length)
    return start, start + length


def _unscaled(
    region: RectPx, planned: tuple[int, int], size: tuple[int, int], box: Box, factor: int
) -> RectPx:
    # A crop within its budget differs from its planned size by rounding only. Move its sides by those few
    # pixels, so that the model sees the original's own pixels and not resampled ones.
    x0, y0, x1, y1 = region
    width, height = planned
    if abs(width - (x1 - x0)) >= factor or abs(height - (y1 - y0)) >= factor:
        return region
    if width > size[0] or height > size[1]:
        return region
    x0, x1 = _centerd(x0, x1, width, size[0])
    y0, y1 = _centerd(y0, y1, height, size[1])
    left, top, right, bottom = box_px(box, size)
    return (x0, y0, x1, y1) if x0 <= left and y0 <= top and x1 >= right and y1 >= bottom else region


def outline_width(overview_width: int, geometry: Geometry) -> int:
    """How wide outlines are on an overview, in its pixels."""
    return max(geometry.outline_min_px, round(geometry.outline_fraction * overview_width))


def outlined_px(box: Box, size: tuple[int, int], line: int) -> RectPx:
    """The pixels of the overview that a box's outline encloses: at least two outlines wide and high."""
    x0, y0, x1, y1 = box_px(box, size)
    x0, x1 = _widened(x0, x1, 2 * line, size[0])
    y0, y1 = _widened(y0, y1, 2 * line, size[1])
    return x0, y0, x1, y1


def draw_boxes(overview: EncodedImage, boxes: Sequence[Box], geometry: Geometry) -> EncodedImage:
    """Outline each box on the overview, around its evidence, in the order of `OUTLINE_COLORS`.

    The outline lies outside the box; at the edge of the image it is cut off. Where boxes overlap, the
    outline of a larger box gives way to the inside of a smaller one. A box too small to see is widened.
    """
    if not boxes:
        return overview
    line = outline_width(overview.width, geometry)
    plain = overview.pixels
    pixels = plain.copy()
    # Largest first, so that small ones stay whole; of equal ones the first is drawn last and stays visible.
    order = sorted(range(len(boxes)), key=lambda index: (boxes[index].area, index), reverse=True)
    for index in order:
        x0, y0, x1, y1 = outlined_px(boxes[index], overview.size, line)
        pixels[max(0, y0 - line) : y1 + line, max(0, x0 - line) : x1 + line] = _RGB[index % len(_RGB)]
        pixels[y0:y1, x0:x1] = plain[y0:y1, x0:x1]
    return EncodedImage(pixels)


def plain_overview(source: ImageSource, settings: Settings) -> EncodedImage:
    """The whole image at its budget, without outlines: what the perceiver and the one-pass modes see.

    Raises:
        InputError: the image is damaged, or does not fit into the model's context.
    """
    size = plan_sizes(source.size, (), settings.budget).overview
    return source.overview(size, stretch=settings.stretch_depth)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which boxes are cropped, from which rectangles of the original, and at which sizes."""

    boxes: Sequence[Box]
    cuts: Sequence[tuple[RectPx, tuple[int, int]]]
    pixels: PixelPlan


def _plan(size: tuple[int, int], boxes: Sequence[Box], settings: Settings) -> _Plan:
    geometry, budget = settings.geometry, settings.budget
    cropped = boxes[: geometry.max_crops]
    regions = [crop_region(box, size, geometry) for box in cropped]
    pixels = plan_sizes(size, regions, budget)
    regions = [
        _unscaled(region, planned, size, box, budget.factor)
        for region, planned, box in zip(regions, pixels.crops, cropped, strict=True)
    ]
    return _Plan(cropped, list(zip(regions, pixels.crops, strict=True)), pixels)


def evidence_pixels(size: tuple[int, int], boxes: Sequence[Box], settings: Settings) -> int:
    """How many pixels the evidence of an image of `size` = (width, height) will have: overview and crops.

    Raises:
        InputError: the images do not fit into the model's context.
    """
    planned = _plan(size, boxes, settings).pixels
    return sum(width * height for width, height in (planned.overview, *planned.crops))


def build_evidence(
    source: ImageSource, boxes: Sequence[Box], settings: Settings, overview: EncodedImage | None = None
) -> Evidence:
    """Draw all boxes on the overview and crop the first ones from the plain original.

    Args:
        source: the original.
        boxes: in the perceiver's order; none means that the whole image is the evidence.
        settings: geometry and budgets.
        overview: the plain overview, if it is at hand; used when it has the planned size.

    Raises:
        InputError: the image is damaged, or the images do not fit into the model's context.
    """
    return build_evidences(source, [boxes], settings, overview)[0]


def build_evidences(
    source: ImageSource,
    lists: Sequence[Sequence[Box]],
    settings: Settings,
    overview: EncodedImage | None = None,
) -> list[Evidence]:
    """Evidence from several lists of boxes on one image, which is read once for the crops of all.

    Each is what `build_evidence` makes of its list, to the byte.

    Raises:
        InputError: as `build_evidence`, for any of them.
    """
    plans = [_plan(source.size, boxes, settings) for boxes in lists]
    # Before the crops: pixels that the overview decodes may be kept for them.
    overviews = {} if overview is None else {overview.size: overview}
    for size in (plan.pixels.overview for plan in plans):
        if size not in overviews:
            overviews[size] = source.overview(size, stretch=settings.stretch_depth)
    cuts = list(dict.fromkeys(cut for plan in plans for cut in plan.cuts))
    rects, sizes = [region for region, _ in cuts], [size for _, size in cuts]
    images = source.regions(rects, sizes, stretch=settings.stretch_depth)
    cut_out = dict(zip(cuts, images, strict=True))
    return [
        Evidence(
            draw_boxes(overviews[plan.pixels.overview], boxes, settings.geometry),
            tuple(
                Crop(cut_out[cut], box, cut[0], OUTLINE_COLORS[index % len(OUTLINE_COLORS)][0])
                for index, (box, cut) in enumerate(zip(plan.boxes, plan.cuts, strict=True))
            ),
            (*source.notes, *plan.pixels.notes),
        )
        for boxes, plan in zip(lists, plans, strict=True)
    ]
