"""Look again: the perceiver is shown parts of an image in which what it looks for is too small to see.

The paper looks once, at the whole image. With `Settings.looks` above 1 the same perceiver, with the same prompt,
is shown regions of half the sides of the image, then of a quarter, and so on, until a rule says that this is
enough:

1. A box is *clear* if its crop loses little: shrunk to the size at which the reasoner sees it, the pixels
   around it keep most of their variance. Clear boxes are evidence, and nobody looks again.
2. Around each unclear box there is a closer look. Where two looks find near-equal boxes, they agree, and one
   box is left: that of the closest look.
3. Where looks do not agree, or nothing was found in an image much larger than its overview, tiles that overlap
   by half are looked at side by side. A box that one tile alone shows gets a look of its own.
4. The next level begins with the boxes that are still unclear. After the last level, or when the calls are used
   up, the boxes on which most looks agree are the evidence.

The crop of a box has the context of the look that found it: of a quarter of the image, a quarter of the context.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from p2r.evidence import crop_region, plan_sizes
from p2r.images.threads import in_image_thread
from p2r.types import Box, Look

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from p2r.images import EncodedImage, ImageSource
    from p2r.settings import Settings
    from p2r.types import Perception, RectPx

    Size = tuple[int, int]
    Perceive = Callable[[EncodedImage], Awaitable[Perception]]

MOST_CALLS = 64  # of the perceiver, for a question; an image of a call has at most the pixels of an overview
MOST_LOST = 0.06  # the share of its variance that a clear box may lose
MUCH_LARGER = 2  # times the sides of its overview: an image in which "nothing" is not believed
SAME_SHARE = 0.25  # of the smaller of two boxes that overlap, for them to be near-equal
SAME_IOU = 0.5  # of two boxes with different labels, for the same
_DETAIL_PIXELS = 1 << 20  # of a box, from which its variance is computed
_SURROUNDINGS = 2  # times the sides of a box

WHOLE = Box(0, 0, 1000, 1000)


# Regions and coordinates.


def region_around(box: Box, zoom: int, size: Size) -> RectPx:
    """The rectangle around the center of a box whose sides are those of an image of `size` / zoom."""
    sides = [max(1, math.ceil(side / zoom)) for side in size]
    starts = [
        min(max(0, round(middle * whole / 1000 - side / 2)), whole - side)
        for middle, whole, side in zip(box.center, size, sides, strict=True)
    ]
    return starts[0], starts[1], starts[0] + sides[0], starts[1] + sides[1]


def tiles(zoom: int, size: Size) -> list[RectPx]:
    """Rectangles with the sides of an image / zoom that overlap by half, row by row: (2·zoom - 1)² of them."""
    middles = [500 * (place + 1) / zoom for place in range(2 * zoom - 1)]
    points = (Box(x - 0.5, y - 0.5, x + 0.5, y + 0.5) for y in middles for x in middles)
    return list(dict.fromkeys(region_around(point, zoom, size) for point in points))


def to_whole(box: Box, region: RectPx, size: Size) -> Box:
    """A box of a region, in the coordinates of the image of `size`; both are 0–1000."""
    x0, y0, x1, y1 = region
    across, down = (x1 - x0) / size[0], (y1 - y0) / size[1]
    left, top = 1000 * x0 / size[0], 1000 * y0 / size[1]
    corners = (left + box.x0 * across, top + box.y0 * down, left + box.x1 * across, top + box.y1 * down)
    return _box(corners, box)


def to_region(box: Box, region: RectPx, size: Size) -> Box | None:
    """The part of a box that is inside a region, in the region's coordinates; None if there is none."""
    x0, y0, x1, y1 = region
    across, down = size[0] / (x1 - x0), size[1] / (y1 - y0)
    left, top = 1000 * x0 / size[0], 1000 * y0 / size[1]
    corners = ((box.x0 - left) * across, (box.y0 - top) * down, (box.x1 - left) * across, (box.y1 - top) * down)
    clamped = tuple(min(1000.0, max(0.0, corner)) for corner in corners)
    return _box(clamped, box) if clamped[0] < clamped[2] and clamped[1] < clamped[3] else None


def _box(corners: Sequence[float], box: Box) -> Box:
    # Binary fractions may end a millionth outside.
    x0, y0, x1, y1 = (min(1000.0, max(0.0, round(corner, 4))) for corner in corners)
    return replace(box, x0=x0, y0=y0, x1=x1, y1=y1)


def near_equal(box: Box, other: Box) -> bool:
    """Whether two boxes of different looks show the same: a look draws a box as closely as it can see."""
    if box.label.casefold() != other.label.casefold():
        return box.iou(other) >= SAME_IOU
    return _shared(box, other) >= SAME_SHARE * min(box.area, other.area)


def lost_detail(pixels: np.ndarray, shown: Size) -> float:
    """The share of the variance of pixels (height, width, 3) that is gone when they are shown at a size, 0–1."""
    size = pixels.shape[1], pixels.shape[0]
    if shown[0] >= size[0] and shown[1] >= size[1]:
        return 0.0
    small = PIL.Image.fromarray(pixels).resize(shown, PIL.Image.Resampling.BOX)
    back = np.asarray(small.resize(size, PIL.Image.Resampling.BICUBIC), np.float32)
    exact = pixels.astype(np.float32)
    variance = float(exact.var(axis=(0, 1)).mean())
    return min(1.0, float(((exact - back) ** 2).mean()) / variance) if variance else 0.0


# What the looks agree on.


@dataclass(slots=True)
class Group:
    """Near-equal boxes of several looks.

    Attributes:
        boxes: with the index of the look that each is from, in their order.
        lost: the detail that the crop of its best box loses, 0–1.
    """

    boxes: list[tuple[int, Box]] = field(default_factory=list)
    lost: float = 0.0

    @property
    def votes(self) -> int:
        """How many looks found it."""
        return len({look for look, _ in self.boxes})

    @property
    def best(self) -> Box:
        """The box of the closest look; of the last one, where several were as close."""
        return max(self.boxes, key=lambda found: (found[1].zoom, found[0]))[1]


def grouped(looks: Iterable[Look]) -> list[Group]:
    """The boxes of all looks, near-equal ones together; two boxes of one look are two things."""
    groups: list[Group] = []
    for index, look in enumerate(looks):
        joined: set[int] = set()
        for box in look.boxes:
            same = (
                place
                for place, group in enumerate(groups)
                if place not in joined and any(near_equal(box, other) for _, other in group.boxes)
            )
            place = next(same, len(groups))
            if place == len(groups):
                groups.append(Group())
            groups[place].boxes.append((index, box))
            joined.add(place)
    return groups


# The search.


@dataclass(frozen=True, slots=True)
class Found:
    """What all looks found.

    Attributes:
        boxes: the evidence, in the order of the first look.
        looks: all of them, the first one included.
        stopped: why there was no further look.
    """

    boxes: tuple[Box, ...]
    looks: tuple[Look, ...]
    stopped: str


async def look_again(source: ImageSource, first: Perception, settings: Settings, perceive: Perceive) -> Found:
    """Look closer until the rule says that it is enough, or `settings.looks` levels were looked at.

    Args:
        source: the image.
        first: what the perceiver said about the whole of it.
        settings: of the question.
        perceive: asks the perceiver about one image.

    Raises:
        InputError: the image is damaged.
        ModelError: a call failed.
    """
    search = _Search(source, first, settings, perceive)
    stopped = await search.run()
    return Found(search.chosen(), tuple(search.looks), stopped)


class _Search:
    def __init__(
        self, source: ImageSource, first: Perception, settings: Settings, perceive: Perceive
    ) -> None:
        self.looks = [Look(WHOLE, None, first.text, first.outcome, first.boxes)]
        self._source = source
        self._settings = settings
        self._perceive = perceive
        self._pixels: dict[tuple[RectPx, Size], EncodedImage] = {}
        self._clear: list[Box] = []  # of the first look
        self._groups: list[Group] = []
        # How many boxes with each label are wanted; nobody knows where the first look found none.
        self._wanted: Counter[str] | None = None

    async def run(self) -> str:
        """Look until one of the rules applies; which one."""
        boxes = self.looks[0].boxes
        if boxes:
            unclear = await self._unclear(boxes, zoom=2)
            self._clear = [box for box in boxes if box not in unclear]
            self._wanted = Counter(box.label.casefold() for box in unclear)
            if not unclear:
                return "the crops show every box in enough detail"
        elif not self._is_shrunk(1, MUCH_LARGER):
            return "the overview shows the image in enough detail"
        else:
            unclear = []
        for level in range(1, self._settings.looks):
            zoom = 2**level
            if not self._is_shrunk(zoom / 2):
                return "the image was seen at full resolution"
            await self._look([region_around(box, zoom, self._source.size) for box in unclear], zoom)
            if not self._agree():
                regions = tiles(zoom, self._source.size)
                if len(self.looks) + len(regions) > MOST_CALLS:
                    return f"the next tiles would take more than {MOST_CALLS} calls"
                await self._look(regions, zoom)
                await self._check_single(zoom)
            unclear = await self._unclear(self._found(), 2 * zoom)
            if self._agree() and not unclear:
                return "the looks agree, and the crops show every box in enough detail"
        return f"there were {self._settings.looks} levels of looks" if self._found() else "nothing was found"

    def chosen(self) -> tuple[Box, ...]:
        """The evidence: clear boxes, and those that most looks agree on."""
        first = self.looks[0].boxes
        found = self._found()
        places = {box.label.casefold(): place for place, box in reversed(list(enumerate(first)))}
        boxes = sorted(
            (*self._clear, *found), key=lambda box: places.get(box.label.casefold(), len(first))
        )
        return tuple(boxes) or first

    # What is known.

    def _ranked(self) -> list[Group]:
        new = [group for group in self._groups if not any(box in self._clear for _, box in group.boxes)]
        return sorted(new, key=lambda group: (-group.votes, group.lost))

    def _found(self) -> list[Box]:
        # The best groups, as many of each label as are wanted.
        ranked = self._ranked()
        if self._wanted is None:
            return [group.best for group in ranked if group.votes > 1]
        left = Counter(self._wanted)
        found = []
        for group in ranked:
            label = group.best.label.casefold()
            if left[label] > 0:
                left[label] -= 1
                found.append(group.best)
        return found

    def _agree(self) -> bool:
        # Whether two looks agree on every box that is wanted.
        agreed = [group.best for group in self._ranked() if group.votes > 1]
        if self._wanted is None:
            return bool(agreed)
        return not self._wanted - Counter(box.label.casefold() for box in agreed)

    def _is_shrunk(self, zoom: float, times: float = 1) -> bool:
        # Whether a look shows its region smaller than it is.
        width, height = (side / zoom for side in self._source.size)
        return width * height > times**2 * self._settings.budget.overview_max_pixels

    # Looking.

    async def _check_single(self, zoom: int) -> None:
        # Of the boxes that one look alone found, those in clear crops, where the looks do not agree.
        missing = None if self._wanted is None else Counter(self._wanted)
        for group in self._ranked() if missing else ():
            if group.votes > 1:
                missing[group.best.label.casefold()] -= 1
        groups = [group for group in self._ranked() if group.votes == 1]
        await self._unclear([group.best for group in groups], 2 * zoom)
        groups = self._ranked()
        checked = [
            group.best
            for group in groups
            if group.votes == 1 and (missing is None or missing[group.best.label.casefold()] > 0)
        ][: self._settings.geometry.max_crops]
        await self._look([region_around(box, zoom, self._source.size) for box in checked], zoom)

    async def _look(self, regions: Sequence[RectPx], zoom: int) -> None:
        """Show regions to the perceiver, side by side."""
        if not regions:
            return
        size = self._source.size
        cuts = [(region, self._shown(region)) for region in regions]
        images = await self._read(cuts)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._perceive(image)) for image in images]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        for region, task in zip(regions, tasks, strict=True):
            seen = task.result()
            boxes = tuple(replace(to_whole(box, region, size), zoom=zoom) for box in seen.boxes)
            where = to_whole(WHOLE, region, size)
            self.looks.append(Look(where, self._parent(where), seen.text, seen.outcome, boxes))
        self._groups = grouped(self.looks)

    def _parent(self, region: Box) -> int:
        # The closest look that shows most of a region.
        larger = [place for place, look in enumerate(self.looks) if look.region.area > 1.5 * region.area]
        return max(larger, key=lambda place: (round(_shared(self.looks[place].region, region), 2), place))

    async def _unclear(self, boxes: Sequence[Box], zoom: int) -> list[Box]:
        """The boxes whose crops lose too much. The images of closer looks at them are read with it."""
        size, settings = self._source.size, self._settings
        details, shown = [], []
        for box in boxes:
            crop = crop_region(box, size, settings.geometry)
            planned = plan_sizes(size, [crop], settings.budget).crops[0]
            area = _surroundings(box, size)
            sides = area[2] - area[0], area[3] - area[1]
            scale = min(1.0, _DETAIL_PIXELS**0.5 / math.sqrt(sides[0] * sides[1]))
            details.append((area, (max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale)))))
            shares = planned[0] / (crop[2] - crop[0]), planned[1] / (crop[3] - crop[1])
            shown.append((max(1, round(sides[0] * shares[0])), max(1, round(sides[1] * shares[1]))))
        images = await self._read(details)
        lost = [lost_detail(image.pixels, seen) for image, seen in zip(images, shown, strict=True)]
        for box, share in zip(boxes, lost, strict=True):
            for group in self._groups:
                if group.best == box:
                    group.lost = share
        return [box for box, share in zip(boxes, lost, strict=True) if share > MOST_LOST]

    def _shown(self, region: RectPx) -> Size:
        sides = region[2] - region[0], region[3] - region[1]
        return plan_sizes(sides, (), self._settings.budget).overview

    async def _read(self, cuts: Sequence[tuple[RectPx, Size]]) -> list[EncodedImage]:
        rects, sizes = [rect for rect, _ in cuts], [size for _, size in cuts]
        return await in_image_thread(
            lambda: self._source.regions(rects, sizes, stretch=self._settings.stretch_depth)
        )


def _surroundings(box: Box, size: Size) -> RectPx:
    (x, y), across, down = box.center, box.x1 - box.x0, box.y1 - box.y0
    width, height = (max(2, round(_SURROUNDINGS * side * whole / 1000)) for side, whole in zip((across, down), size, strict=True))
    x0 = min(max(0, round(x * size[0] / 1000 - width / 2)), max(0, size[0] - width))
    y0 = min(max(0, round(y * size[1] / 1000 - height / 2)), max(0, size[1] - height))
    return x0, y0, min(size[0], x0 + width), min(size[1], y0 + height)


def _shared(box: Box, other: Box) -> float:
    """The area that two boxes share, 0–1."""
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return max(0.0, width) * max(0.0, height) / 1e6
