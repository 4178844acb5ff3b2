"""Images of a page, small enough for one file.

The page has a budget of bytes; each image gets its share, and is made smaller and coarser until it fits.
"""

from __future__ import annotations

import base64
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import pyvips

from p2r.errors import P2RError
from p2r.images import ImageSource

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from p2r.images import ImageInput
    from p2r.types import RectPx

T = TypeVar("T")
K = TypeVar("K")

PAGE_BYTES = 5_000_000  # of images, before base64 makes four bytes of three
MOST_BYTES = 40_000  # for one image with its regions, also where there are few
OVERVIEW_SHARE = 0.6
# Longest side in pixels and WebP quality, from the best to the least that is useful.
OVERVIEW_STEPS = ((720, 68), (560, 60), (420, 52), (300, 45), (200, 40))
REGION_STEPS = ((240, 62), (180, 55), (128, 48), (96, 40))


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """An image as `data:` URIs: the whole of it, and regions; empty where one did not fit."""

    overview: str
    crops: Mapping[RectPx, str]


def thumbnails(
    loaders: Iterable[tuple[K, Callable[[], ImageInput]]],
    regions: Mapping[K, Collection[RectPx]],
    on_image: Callable[[int, int], None] | None = None,
) -> dict[K, Thumbnails]:
    """Make thumbnails on all cores; an image that cannot be read is missing.

    Args:
        loaders: name → a function that reads the image.
        regions: name → the regions to show beside the whole, half-open pixels; one entry for each image.
        on_image: called with the number of images that are done, and of all.
    """
    made: dict[K, Thumbnails] = {}
    budget = min(MOST_BYTES, PAGE_BYTES // max(1, len(regions)))
    waiting: deque[tuple[K, Future[Thumbnails]]] = deque()
    cores = os.cpu_count() or 1

    def collect(most: int) -> None:
        while len(waiting) > most:
            name, future = waiting.popleft()
            try:
                made[name] = future.result()
            except P2RError:
                continue  # the page says of an answer why its image could not be read
            if on_image:
                on_image(len(made), len(regions))

    with ThreadPoolExecutor(cores) as pool:
        for name, load in loaders:
            waiting.append((name, pool.submit(_make, load, sorted(regions[name]), budget)))
            collect(2 * cores)  # few of them wait, because each may hold an encoded image
        collect(0)
    return made


def _make(load: Callable[[], ImageInput], regions: Sequence[RectPx], budget: int) -> Thumbnails:
    source = ImageSource.open(load())
    whole = (0, 0, source.width, source.height)
    overview = _encoded(source, whole, OVERVIEW_STEPS, int((OVERVIEW_SHARE if regions else 1.0) * budget))
    left = budget - len(overview) * 3 // 4
    return Thumbnails(
        overview, {rect: _encoded(source, rect, REGION_STEPS, left // len(regions)) for rect in regions}
    )


def _encoded(source: ImageSource, rect: RectPx, steps: Sequence[tuple[int, int]], most_bytes: int) -> str:
    """A region as a `data:` URI of at most `most_bytes` (before base64); empty when that is too little."""
    width, height = rect[2] - rect[0], rect[3] - rect[1]
    scale = min(1.0, steps[0][0] / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    try:
        pixels = source.region(rect, size).pixels
    except P2RError:
        return ""
    image = pyvips.Image.new_from_memory(pixels.tobytes(), size[0], size[1], 3, "uchar")
    expected = 0.0  # bytes for each pixel and point of quality, as seen at the last attempt
    for side, quality in steps:
        smaller = image.resize(min(1.0, side / max(size)))
        work = smaller.width * smaller.height * quality
        if expected * work > most_bytes:
            continue  # it would not fit either
        encoded = smaller.webpsave_buffer(Q=quality, effort=1, strip=True)
        if len(encoded) <= most_bytes:
            return f"data:image/webp;base64,{base64.b64encode(encoded).decode()}"
        expected = 0.9 * len(encoded) / work
    return ""


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of the items, evenly from the first to the last."""
    if len(items) <= most:
        return list(items)
    if most < 2:
        return [items[-1]][:most]
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]
