"""Look again: the perceiver is shown parts of an image in which what it looks for is too small to be seen.

The paper looks once, at the whole image. With `Settings.looks` above 1, the same perceiver gets the same
prompt about regions with half the sides of the image, then a quarter, and so on, up to that many levels:

1. A box is *clear* if its crop loses little: shrunk to the size at which the reasoner sees it, what is in and
   around the box keeps most of its variance, and is not plain. A clear box is evidence, and there is no
   further look at it.
2. There is a closer look around each unclear box. If it finds a near-equal box, the two looks agree.
3. Where they do not, or nothing was found in an image much larger than its overview, there are overlapping
   tiles, side by side. Near-equal boxes are merged. A box counts for the share of the looks at its place that
   found it, and for its contrast: a box around nothing is plain.
4. The next level begins with the boxes that are unclear even in the crops of the closer look.

The crop of a box has the context of the look that found it: from a quarter of the image, a quarter of the
paper's context (`Box.zoom`).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import PIL.Image

from p2r.evidence import box_px, crop_region, plan_sizes
from p2r.images.threads import in_image_thread
from p2r.types import Box, Look

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from p2r.images import EncodedImage, ImageSource
    from p2r.settings import Settings
    from p2r.types import Perception, RectPx

    Size = tuple[int, int]  # width and height in pixels
    Perceive = Callable[[Sequence[EncodedImage]], Coroutine[object, object, Perception]]

T = TypeVar("T")

MOST_CALLS = 48  # of the perceiver about one image; each with at most the pixels of an overview
MOST_LOST = 0.07  # the share of the variance that the crop of a clear box may lose
PLAIN = 16.0  # of 255: the standard deviation below which there is nothing in a box
MUCH_LARGER = 2  # times the sides of the overview: an image in which "nothing" is not believed
SAME_IOU = 0.5  # of near-equal boxes with different labels
WHOLE = Box(0, 0, 1000, 1000)
_SURROUNDINGS = 2  # the sides of what is compared, in sides of the box
_COMPARED_PIXELS = 1 << 20  # at most


# Regions and coordinates.


def region_around(box: Box, zoom: int, size: Size) -> RectPx:
    """The rectangle around a box, inside the image, whose sides are those of an image of `size` / zoom."""
    x, y = box.center
    return _rect(x * size[0] / 1000, y * size[1] / 1000, size[0] / zoom, size[1] / zoom, size)


def tiles(zoom: int, size: Size) -> list[RectPx]:
    """Rectangles like those of `region_around`, row by row; neighbors overlap by a quarter or more."""
    width, height = size[0] / zoom, size[1] / zoom
    count = 1 + math.ceil((zoom - 1) / 0.75)
    steps = [place * (zoom - 1) / max(1, count - 1) + 0.5 for place in range(count)]
    return list(
        dict.fromkeys(_rect(x * width, y * height, width, height, size) for y in steps for x in steps)
    )


def _rect(x: float, y: float, width: float, height: float, size: Size) -> RectPx:
    # Of this width and height around (x, y), moved into the image.
    across, down = (
        max(1, min(most, math.ceil(side))) for side, most in zip((width, height), size, strict=True)
    )
    x0 = min(max(0, round(x - across / 2)), size[0] - across)
    y0 = min(max(0, round(y - down / 2)), size[1] - down)
    return x0, y0, x0 + across, y0 + down


def to_whole(box: Box, region: RectPx, size: Size) -> Box:
    """A box of a region of an image of `size` pixels, in the coordinates of the image."""
    x0, y0, x1, y1 = region
    across, down = (x1 - x0) / size[0], (y1 - y0) / size[1]
    left, top = 1000 * x0 / size[0], 1000 * y0 / size[1]
    corners = (left + box.x0 * across, top + box.y0 * down, left + box.x1 * across, top + box.y1 * down)
    # Binary fractions may end a little outside.
    clamped = [min(1000.0, max(0.0, round(corner, 4))) for corner in corners]
    return replace(box, x0=clamped[0], y0=clamped[1], x1=clamped[2], y1=clamped[3])


def near_equal(box: Box, other: Box) -> bool:
    """Whether boxes of two looks show the same: a look from afar may be wrong by a whole side of its box."""
    if box.label.casefold() != other.label.casefold():
        return box.iou(other) >= SAME_IOU
    return _distance(box, other) <= 1


def _distance(box: Box, other: Box) -> float:
    # Between the centers, in sides of the larger box.
    (x, y), (other_x, other_y) = box.center, other.center
    across, down = (
        max(one.x1 - one.x0 for one in (box, other)),
        max(one.y1 - one.y0 for one in (box, other)),
    )
    return max(abs(x - other_x) / across, abs(y - other_y) / down)


class Detail(NamedTuple):
    """What a crop shows of a box.

    Attributes:
        lost: the share of the variance of its pixels that is gone because they are shown smaller, 0–1.
        contrast: the standard deviation of what is shown, 0–255.
    """

    lost: float
    contrast: float


def detail(pixels: np.ndarray, shown: Size) -> Detail:
    """The detail of pixels (height, width, 3) that are shown at a size."""
    size = pixels.shape[1], pixels.shape[0]
    exact = pixels.astype(np.float32)
    variance = float(exact.var(axis=(0, 1)).mean())
    if shown[0] >= size[0] and shown[1] >= size[1]:
        return Detail(0.0, math.sqrt(variance))
    if not variance:  # a box around nothing
        return Detail(1.0, 0.0)
    small = PIL.Image.fromarray(pixels).resize(shown, PIL.Image.Resampling.BOX)
    kept = float(np.asarray(small, np.float32).var(axis=(0, 1)).mean())
    back = np.asarray(small.resize(size, PIL.Image.Resampling.BICUBIC), np.float32)
    return Detail(min(1.0, float(((exact - back) ** 2).mean()) / variance), math.sqrt(kept))


# The search.


@dataclass(frozen=True, slots=True)
class Found:
    """What all looks found.

    Attributes:
        perception: the first look's, with the evidence of all in the order of its boxes.
        looks: all of them, those at whole images included.
        stopped: why there was no further one.
    """

    perception: Perception
    looks: tuple[Look, ...]
    stopped: str


async def look_again(
    sources: Sequence[ImageSource], first: Perception, settings: Settings, perceive: Perceive
) -> Found:
    """Look closer at the images in which the first look found something; at all of them, if it found nothing.

    Args:
        sources: the images.
        first: what the perceiver said about them.
        settings: of the question.
        perceive: asks the perceiver about one image.

    Raises:
        InputError: an image is damaged.
        ModelError: a call failed.
    """
    wanted = sorted({box.image for box in first.boxes}) or range(len(sources))
    searches = [_Search(sources[image], image, first, settings, perceive) for image in wanted]
    stopped = [await search.run() for search in searches]
    looks: list[Look] = []
    for search in searches:
        start = len(looks)
        looks += (
            look if look.parent is None else replace(look, parent=look.parent + start)
            for look in search.looks
        )
    places = {_label(box): place for place, box in reversed(list(enumerate(first.boxes)))}
    boxes = [box for search in searches for box in search.boxes()]
    boxes.sort(key=lambda box: places.get(_label(box), len(places)))
    perception = replace(first, outcome="boxes" if boxes else first.outcome, boxes=tuple(boxes))
    return Found(perception, tuple(looks), "; ".join(dict.fromkeys(stopped)))


async def side_by_side(calls: Iterable[Coroutine[object, object, T]]) -> list[T]:
    """The results of calls that run together; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]


class _Search:
    """The looks at one image, and what follows from them."""

    def __init__(
        self, source: ImageSource, image: int, first: Perception, settings: Settings, perceive: Perceive
    ) -> None:
        boxes = tuple(box for box in first.boxes if box.image == image)
        self.looks = [Look(WHOLE, None, first.text, first.outcome, boxes, image)]
        self._source, self._image = source, image
        self._settings = settings
        self._perceive = perceive
        self._clear: list[Box] = []  # of the first look
        self._details: dict[Box, Detail] = {}

    async def run(self) -> str:
        """Look until a rule says that it is enough; which one."""
        unclear = await self._unclear(self.looks[0].boxes)
        self._clear = [box for box in self.looks[0].boxes if box not in unclear]
        if self._clear and not unclear:
            return "the crops show every box in enough detail"
        if not unclear and not self._is_shrunk(MUCH_LARGER):
            return "the overview shows the image in enough detail"
        for zoom in (2**level for level in range(1, self._settings.looks)):
            if not self._is_shrunk(zoom // 2):
                return "the image was seen at full resolution"
            await self._look_around(unclear, zoom)
            if not self._agree():
                regions = tiles(zoom, self._source.size)
                if len(self.looks) + len(regions) > MOST_CALLS:
                    return f"the next tiles would take more than {MOST_CALLS} calls"
                await self._look(regions, zoom)
            unclear = await self._unclear(self._wanted_boxes())
            if self._agree() and not unclear:
                return "the looks agree, and the crops show every box in enough detail"
        return f"no closer looks are allowed (looks={self._settings.looks})"

    def boxes(self) -> list[Box]:
        """The evidence: clear boxes of the first look, and those that most looks agree on."""
        return self._clear + self._wanted_boxes()

    # What the looks say.

    def _votes(self, box: Box) -> int:
        # How many looks found it.
        return sum(any(near_equal(box, other) for other in look.boxes) for look in self.looks)

    def _weight(self, box: Box) -> float:
        # The share of the looks at its place that found it, times the contrast of what is there.
        close = [look for look in self.looks if look.region.area <= 1.01 / box.zoom**2]
        votes, seen = self._votes(box), sum(_shows(look, box) for look in close)
        return votes / (max(votes, seen) + 1) * self._details[box].contrast

    def _merged(self) -> list[Box]:
        """One box for each place, those that count most first; of near-equal boxes, the closest look's."""
        weights = {box: self._weight(box) for look in self.looks for box in look.boxes}
        left = sorted(weights, key=weights.__getitem__, reverse=True)
        left = [box for box in left if not any(near_equal(box, clear) for clear in self._clear)]
        boxes = []
        while left:
            same = [box for box in left if near_equal(left[0], box)]
            boxes.append(max(same, key=lambda box: (box.zoom, weights[box])))
            left = [box for box in left if box not in same]
        return boxes

    def _wanted_boxes(self) -> list[Box]:
        # The number of boxes that the first look found of each label; if none, all that two looks agree on.
        if not self.looks[0].boxes:
            return [box for box in self._merged() if self._votes(box) > 1]
        left = Counter(_label(box) for box in self.looks[0].boxes if box not in self._clear)
        boxes = []
        for box in self._merged():
            if left[_label(box)] > 0:
                left[_label(box)] -= 1
                boxes.append(box)
        return boxes

    def _agree(self) -> bool:
        boxes = self._wanted_boxes()
        return bool(boxes) and all(self._votes(box) > 1 for box in boxes)

    def _is_shrunk(self, zoom: int) -> bool:
        # Whether a region of a look is shown smaller than it is.
        width, height = self._source.size
        return width * height > zoom**2 * self._settings.budget.overview_max_pixels

    # Looking.

    async def _look_around(self, boxes: Iterable[Box], zoom: int) -> None:
        await self._look([region_around(box, zoom, self._source.size) for box in boxes], zoom)

    async def _look(self, regions: Sequence[RectPx], zoom: int) -> None:
        """Show regions to the perceiver, side by side."""
        budget, size = self._settings.budget, self._source.size
        sides = [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in regions]
        images = await self._read(regions, [plan_sizes(each, (), budget).overview for each in sides])
        before = list(self.looks)
        replies = await side_by_side(self._perceive([image]) for image in images)
        for rect, reply in zip(regions, replies, strict=True):
            found = (to_whole(box, rect, size) for box in reply.boxes)
            boxes = tuple(replace(box, image=self._image, zoom=zoom) for box in found)
            region = to_whole(WHOLE, rect, size)
            parent = _closest(before, region)
            self.looks.append(Look(region, parent, reply.text, reply.outcome, boxes, self._image))
        await self._unclear(box for look in self.looks[len(before) :] for box in look.boxes)

    async def _unclear(self, boxes: Iterable[Box]) -> list[Box]:
        """The boxes whose crops lose too much, or that show nothing."""
        boxes = list(boxes)
        new = [box for box in dict.fromkeys(boxes) if box not in self._details]
        compared = [self._compared(box) for box in new]
        images = await self._read([area for area, _, _ in compared], [exact for _, exact, _ in compared])
        for box, image, (_, _, shown) in zip(new, images, compared, strict=True):
            self._details[box] = detail(image.pixels, shown)
        details = ((box, self._details[box]) for box in boxes)
        return [box for box, found in details if found.lost > MOST_LOST or found.contrast < PLAIN]

    def _compared(self, box: Box) -> tuple[RectPx, Size, Size]:
        # The surroundings of a box, the size at which they are read, and that at which its crop shows them.
        size, budget = self._source.size, self._settings.budget
        crop = crop_region(box, size, self._settings.geometry)
        (planned, _), width = plan_sizes(size, [crop], budget).crops[0], crop[2] - crop[0]
        scale = planned / width if width - planned >= budget.factor else 1.0  # less is only rounding
        x0, y0, x1, y1 = box_px(box, size)
        across, down = _SURROUNDINGS * (x1 - x0), _SURROUNDINGS * (y1 - y0)
        area = _rect((x0 + x1) / 2, (y0 + y1) / 2, across, down, size)
        sides = area[2] - area[0], area[3] - area[1]
        exact = min(1.0, math.sqrt(_COMPARED_PIXELS / (sides[0] * sides[1])))
        return area, _times(sides, exact), _times(sides, min(1.0, scale))

    async def _read(self, rects: Sequence[RectPx], sizes: Sequence[Size]) -> list[EncodedImage]:
        stretch = self._settings.stretch_depth
        return await in_image_thread(lambda: self._source.regions(rects, sizes, stretch=stretch))


def _label(box: Box) -> str:
    return box.label.casefold()


def _times(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _shows(look: Look, box: Box) -> bool:
    (x, y), region = box.center, look.region
    return region.x0 <= x <= region.x1 and region.y0 <= y <= region.y1


def _closest(looks: Sequence[Look], region: Box) -> int:
    # The closest look that shows the middle of a region.
    shown = [(-look.region.area, at) for at, look in enumerate(looks) if _shows(look, region)]
    return max(shown)[1]
