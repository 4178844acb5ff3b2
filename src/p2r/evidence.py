"""Boxes → evidence: the outlines on the overview, and the crops at full resolution.

The geometry is the paper's by default (docs/paper.md). Where it differs from the release: outlines lie around
the evidence and never on it, crops are clamped and never empty, a box too small to see is widened, and the
boxes that are cropped are the first ones drawn, in the same colors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, cycle
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from p2r.errors import InputError
from p2r.images import EncodedImage, smart_resize
from p2r.types import Crop, Evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.images import ImageSource
    from p2r.settings import Geometry, PixelBudget, Settings
    from p2r.types import Box, RectPx

    Size = tuple[int, int]  # width and height in pixels
    _Cut = tuple[int, RectPx, Size]  # index of the image, rectangle, and size at which a model sees it

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
MIN_REGION_PX = 32  # the least side of a crop in pixels of the original, where the original has as many


# Where crops lie.


def box_px(box: Box, size: Size) -> RectPx:
    """A box in the pixels of an image of `size`, rounded outwards."""
    width, height = size
    x0, y0 = math.floor(box.x0 * width / 1000), math.floor(box.y0 * height / 1000)
    x1, y1 = math.ceil(box.x1 * width / 1000), math.ceil(box.y1 * height / 1000)
    return x0, y0, x1, y1


def crop_region(box: Box, size: Size, geometry: Geometry) -> RectPx:
    """The rectangle of an image of `size` to crop for a box: the box and its context, clamped to the image.

    Each side is at least 32 pixels, or all that the image has. The context is a share of what the look at
    which the box was found showed.
    """
    width, height = size
    x0, y0, x1, y1 = box_px(box, size)
    across = round(min(geometry.context_fraction * width / box.zoom, geometry.context_max_px))
    down = round(min(geometry.context_fraction * height / box.zoom, geometry.context_max_px))
    x0, y0, x1, y1 = max(0, x0 - across), max(0, y0 - down), min(width, x1 + across), min(height, y1 + down)
    return _resized((x0, y0, x1, y1), max(MIN_REGION_PX, x1 - x0), max(MIN_REGION_PX, y1 - y0), size)


def _resized(rect: RectPx, width: int, height: int, size: Size) -> RectPx:
    # A rectangle of this width and height, or of the image's, around the same center and inside the image.
    width, height = min(width, size[0]), min(height, size[1])
    x0 = min(max(0, (rect[0] + rect[2] - width) // 2), size[0] - width)
    y0 = min(max(0, (rect[1] + rect[3] - height) // 2), size[1] - height)
    return x0, y0, x0 + width, y0 + height


def _unscaled(region: RectPx, planned: Size, size: Size, box: Box, factor: int) -> RectPx:
    # A crop within its budget differs from its planned size by rounding only. Its sides move by those few
    # pixels, so that the model sees the original's own pixels and not resampled ones.
    width, height = planned
    changes = abs(width - (region[2] - region[0])), abs(height - (region[3] - region[1]))
    if max(changes) >= factor or width > size[0] or height > size[1]:
        return region
    x0, y0, x1, y1 = _resized(region, width, height, size)
    left, top, right, bottom = box_px(box, size)
    return (x0, y0, x1, y1) if x0 <= left and y0 <= top and x1 >= right and y1 >= bottom else region


# Outlines.


def outline_width(overview_width: int, geometry: Geometry) -> int:
    """The width of outlines on an overview, in its pixels."""
    return max(geometry.outline_min_px, round(geometry.outline_fraction * overview_width))


def outlined_px(box: Box, size: Size, line: int) -> RectPx:
    """The pixels of the overview that a box's outline encloses: at least two outlines wide and high."""
    x0, y0, x1, y1 = rect = box_px(box, size)
    return _resized(rect, max(2 * line, x1 - x0), max(2 * line, y1 - y0), size)


def draw_boxes(
    overview: EncodedImage, boxes: Sequence[Box], geometry: Geometry, image: int = 0
) -> EncodedImage:
    """Outline each box of an image on its overview, around its evidence, in the order of `OUTLINE_COLORS`.

    The outline lies outside the box; at the edge of the image it is cut off. Where boxes overlap, the
    outline of a larger box is not drawn inside a smaller one. A box too small to see is widened. Boxes of
    other images have a color too, and are left out.
    """
    own = [index for index, box in enumerate(boxes) if box.image == image]
    if not own:
        return overview
    line = outline_width(overview.width, geometry)
    plain = overview.pixels
    pixels = plain.copy()
    # Largest first, so that small ones stay whole; of equal ones the first is drawn last and stays visible.
    for index in sorted(own, key=lambda index: (boxes[index].area, index), reverse=True):
        x0, y0, x1, y1 = outlined_px(boxes[index], overview.size, line)
        color = np.array(OUTLINE_COLORS[index % len(OUTLINE_COLORS)][1], np.uint8)
        pixels[max(0, y0 - line) : y1 + line, max(0, x0 - line) : x1 + line] = color
        pixels[y0:y1, x0:x1] = plain[y0:y1, x0:x1]
    return EncodedImage(pixels)


# The sizes of all images of a request.


@dataclass(frozen=True, slots=True)
class PixelPlan:
    """The sizes of every image of one request.

    Attributes:
        overviews: `(width, height)` of each whole image.
        crops: `(width, height)` of each crop.
        tokens: language-model tokens of all of them, one for each factor² pixels.
        notes: how the images were made to fit the context, one sentence each.
    """

    overviews: tuple[Size, ...]
    crops: tuple[Size, ...]
    tokens: int
    notes: tuple[str, ...] = ()

    @property
    def overview(self) -> Size:
        """`(width, height)` of the whole image, or of the first one."""
        return self.overviews[0]


def plan_sizes(
    size: Size, regions_px: Sequence[RectPx], budget: PixelBudget, others: Sequence[Size] = ()
) -> PixelPlan:
    """Choose the size of each overview and of each crop, so that the request fits the model's context.

    Args:
        size: of the original.
        regions_px: the rectangles of the originals that will be cropped.
        budget: when the images need more than `context_tokens - text_tokens`, all of them shrink by the
            same share, but none below `min_pixels`.
        others: of further originals that are shown whole.

    Raises:
        InputError: not even the smallest images fit, or the budgets contradict each other.
    """
    whole = 1 + len(others)
    sources = [size, *others, *((x1 - x0, y1 - y0) for x0, y0, x1, y1 in regions_px)]
    limits = [budget.overview_max_pixels] * whole + [budget.crop_max_pixels] * len(regions_px)
    sizes, wanted = _fit(sources, limits, budget)
    tokens = wanted
    notes: tuple[str, ...] = ()
    if budget.context_tokens is not None and wanted > (room := budget.context_tokens - budget.text_tokens):
        sizes, tokens = _shrink(sources, sizes, room, budget)
        notes = (f"images shrunk from {wanted} to {tokens} tokens: the context leaves room for {room}",)
    return PixelPlan(tuple(sizes[:whole]), tuple(sizes[whole:]), tokens, notes)


def _fit(sources: Sequence[Size], limits: Sequence[int], budget: PixelBudget) -> tuple[list[Size], int]:
    # The sizes within limits of pixels, and their tokens.
    sizes = [
        smart_resize(*source, max_pixels=limit, min_pixels=budget.min_pixels, factor=budget.factor)
        for source, limit in zip(sources, limits, strict=True)
    ]
    return sizes, sum(width * height for width, height in sizes) // budget.factor**2


def _shrink(
    sources: Sequence[Size], sizes: Sequence[Size], room: int, budget: PixelBudget
) -> tuple[list[Size], int]:
    # The largest common share of the pixels that fits, by bisection.
    least_pixels = -(-budget.min_pixels // budget.factor**2) * budget.factor**2

    def at(share: float) -> tuple[list[Size], int]:
        limits = [max(least_pixels, int(share * width * height)) for width, height in sizes]
        return _fit(sources, limits, budget)

    best = at(0.0)
    if best[1] > room:
        tokens = accumulate(width * height // budget.factor**2 for width, height in best[0])
        raise InputError(
            f"{len(sizes)} images need at least {best[1]} tokens, but context_tokens {budget.context_tokens} "
            f"leaves {room} beside text_tokens {budget.text_tokens}, which is enough for "
            f"{sum(needed <= room for needed in tokens)} images: give fewer, raise context_tokens, "
            "or lower text_tokens, min_pixels or max_crops"
        )
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        fitted = at(middle)
        if fitted[1] <= room:
            low, best = middle, fitted
        else:
            high = middle
    return best


# Evidence.


def plain_overview(source: ImageSource, settings: Settings) -> EncodedImage:
    """The whole image at its budget, without outlines: the input of the perceiver and the one-pass modes.

    Raises:
        InputError: the image is damaged, or does not fit into the model's context.
    """
    return plain_overviews([source], settings)[0]


def plain_overviews(sources: Sequence[ImageSource], settings: Settings) -> list[EncodedImage]:
    """`plain_overview` of several images that are sent together, and share the model's context."""
    first, *others = (source.size for source in sources)
    sizes = plan_sizes(first, (), settings.budget, others).overviews
    return [
        source.overview(size, stretch=settings.stretch_depth)
        for source, size in zip(sources, sizes, strict=True)
    ]


def build_evidence(
    source: ImageSource, boxes: Sequence[Box], settings: Settings, overview: EncodedImage | None = None
) -> Evidence:
    """Draw all boxes on the overview and crop the first ones from the plain original.

    Args:
        source: the original.
        boxes: in the perceiver's order; none means that the whole image is the evidence.
        settings: geometry and budgets.
        overview: the plain overview if it exists already; used when it has the planned size.

    Raises:
        InputError: the image is damaged, or the images do not fit into the model's context; a box is of
            another image.
    """
    return build_evidences([source], [boxes], settings, () if overview is None else [overview])[0]


def build_evidences(
    sources: Sequence[ImageSource],
    lists: Sequence[Sequence[Box]],
    settings: Settings,
    overviews: Sequence[EncodedImage] = (),
) -> list[Evidence]:
    """`build_evidence` of several lists of boxes on one image or several.

    Each image is read once for the crops of all lists. `overviews` are those of all images, or none.
    """
    stretch = settings.stretch_depth
    plans = [_plan([source.size for source in sources], boxes, settings) for boxes in lists]
    # Before the crops: pixels that the overview decodes may be kept for them.
    plain = {(index, overview.size): overview for index, overview in enumerate(overviews)}
    for plan in plans:
        for index, size in zip(plan.shown, plan.sizes.overviews, strict=True):
            if (index, size) not in plain:
                plain[index, size] = sources[index].overview(size, stretch=stretch)
    # Each rectangle at each size is cropped once.
    cuts = list(dict.fromkeys(cut for plan in plans for cut in plan.cuts))
    images: dict[_Cut, EncodedImage] = {}
    for index in dict.fromkeys(index for index, _, _ in cuts):
        own = [cut for cut in cuts if cut[0] == index]
        rects_px, sizes = [rect for _, rect, _ in own], [size for _, _, size in own]
        images |= zip(own, sources[index].regions(rects_px, sizes, stretch=stretch), strict=True)
    evidences = []
    for boxes, plan in zip(lists, plans, strict=True):
        outlined = [
            draw_boxes(plain[index, size], boxes, settings.geometry, index)
            for index, size in zip(plan.shown, plan.sizes.overviews, strict=True)
        ]
        cropped = zip(plan.cuts, boxes, cycle(OUTLINE_COLORS), strict=False)
        crops = tuple(Crop(images[cut], box, cut[1], color) for cut, box, (color, _) in cropped)
        notes = dict.fromkeys(note for index in plan.shown for note in sources[index].notes)
        notes |= dict.fromkeys(plan.sizes.notes)
        evidences.append(Evidence(outlined[0], crops, tuple(notes), tuple(outlined[1:]), plan.shown))
    return evidences


def evidence_pixels(sizes: Sequence[Size], boxes: Sequence[Box], settings: Settings) -> int:
    """The number of pixels of the evidence of images of these sizes: overviews and crops.

    Raises:
        InputError: the images do not fit into the model's context; a box is of an image that is not there.
    """
    return _plan(sizes, boxes, settings).sizes.tokens * settings.budget.factor**2


class _EvidencePlan(NamedTuple):
    shown: tuple[int, ...]  # the indexes of the images whose overviews are shown
    sizes: PixelPlan
    cuts: list[_Cut]


def _plan(sizes: Sequence[Size], boxes: Sequence[Box], settings: Settings) -> _EvidencePlan:
    # The images that are shown, the sizes of everything, and the rectangles to crop for the first boxes.
    for box in boxes:
        if box.image >= len(sizes):
            raise InputError(f"box {box.as_tuple()} is of image {box.image}: there are {len(sizes)}")
    cropped = boxes[: settings.geometry.max_crops]
    regions = [crop_region(box, sizes[box.image], settings.geometry) for box in cropped]
    shown = tuple(sorted({box.image for box in boxes})) or tuple(range(len(sizes)))
    first, *others = (sizes[index] for index in shown)
    plan = plan_sizes(first, regions, settings.budget, others)
    cuts = [
        (box.image, _unscaled(region, size, sizes[box.image], box, settings.budget.factor), size)
        for region, size, box in zip(regions, plan.crops, cropped, strict=True)
    ]
    return _EvidencePlan(shown, plan, cuts)
