"""Reads encoded images as they are stored: header, smaller levels, and only the pixels that are needed.

A reader was checked against the limits from its header alone: nothing large is decoded before it is allowed.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import numpy as np

from p2r.images._vips import crop, like, resizing_bytes, sample_type, strips
from p2r.images.files import VipsFile
from p2r.images.limits import Reservation, check_size, kept
from p2r.images.threads import stopped_if_cancelled
from p2r.images.tiff import TiffFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from p2r.images._vips import Level, Size, VipsImage
    from p2r.images.limits import Limits
    from p2r.images.sizing import RectPx

STREAMED_PIXELS = 32_000_000  # a larger rectangle is resized while it is read
MAX_READERS = 8  # threads that read one tiled file
TILE_ROWS_HELD = 3  # rows of tiles that one of them keeps at most
MAX_TILE_BYTES = 256 * 1024 * 1024  # that all of them keep


@dataclass(frozen=True)
class Whole:
    """All pixels of an image, to be read once.

    Attributes:
        image: the pixels.
        copies: the same pixels, each read by a pipeline of its own, for so many threads.
    """

    image: VipsImage
    copies: tuple[VipsImage, ...] = ()


class Reader(Protocol):
    """An image as it is stored, before its orientation is applied; sizes and rectangles are stored ones.

    Attributes:
        bits: of a sample: 8, 16, or 32 for floating-point ones.
        notes: what a reader of the answer should know about the file; complete once pixels were read.
    """

    name: str
    width: int
    height: int
    orientation: int
    bits: int

    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102

    def whole(self, size: Size) -> Whole:
        """The whole image: `size` or larger, where the file has as much."""
        ...

    def pieces(self, wanted: Sequence[tuple[RectPx, Size]]) -> Iterable[VipsImage]:
        """Rectangles of the image, each at its size or larger, where the file has as much."""
        ...

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """The most bytes that are held while these rectangles are read and resized."""
        ...


class EncodedReader:
    """A file or bytes in one of the known formats.

    Only a tiled file can be read at any place. The others are read from the top, once for all the
    rectangles of a call. Where the overview needs all pixels anyway, and there is room for them, they are
    kept as long as the reader lives: one decoding serves the overview and the crops.

    Raises:
        InputError: it cannot be read, or is too large.
    """

    def __init__(self, name: str, loader: str, origin: Path | bytes, limits: Limits) -> None:
        self._file = TiffFile(name, origin) if loader == "tiffload" else VipsFile(name, loader, origin)
        self.name, self.bits, self.orientation = name, self._file.bits, self._file.orientation
        self._levels = self._file.levels()
        self.width, self.height = self._levels[0].width, self._levels[0].height
        self._tile_row_bytes = self._file.tile_row_bytes
        self._tiled = self._tile_row_bytes > 0
        self._damage: tuple[str, ...] = ()
        self._kept: VipsImage | None = None
        self._room: Reservation | None = None
        self._lock = threading.Lock()
        image = self._levels[0].open("sequential")
        self._pixel_bytes = image.bands * sample_type(image)().itemsize
        check_size(name, self.width, self.height, limits, whole_bytes=self._file.whole_bytes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the answer should know about the file."""
        return (*self._file.notes, *self._damage)

    def forget_levels(self) -> bool:
        """Read the smaller copies in a TIFF file no more, as one is damaged; False if there are none."""
        with self._lock:
            if len(self._levels) == 1 or not isinstance(self._file, TiffFile):
                return False
            self._levels = self._levels[:1]
            self._damage = ("a smaller level in the file is damaged: the image itself was read",)
            return True

    def _level_for(self, rect: RectPx, size: Size) -> Level:
        shrink = max(1.0, min((rect[2] - rect[0]) / size[0], (rect[3] - rect[1]) / size[1]))
        fine_enough = (level for level in self._levels if level.width * shrink >= self.width * level.margin)
        return min(fine_enough, key=lambda level: level.width)

    def whole(self, size: Size) -> Whole:
        """See `Reader.whole`."""
        level = self._level_for((0, 0, self.width, self.height), size)
        if level is self._levels[0] and not self._tiled and (image := self._keep()):
            return Whole(image)
        copies = [level.open("random") for _ in range(self._readers(level))]
        return Whole(level.open("sequential"), copies=tuple(copies))

    def _keep(self) -> VipsImage | None:
        with self._lock:
            nbytes = self.width * self.height * self._pixel_bytes
            if self._kept is None and (room := kept.try_reserve(nbytes)):
                self._room = room
                image = self._levels[0].open("sequential")
                with stopped_if_cancelled(image):
                    self._kept = image.copy_memory()
            return self._kept

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """See `Reader.cost`."""
        copies, passes = 0, [0]
        for rect, size in wanted:
            level = self._level_for(rect, size)
            left, top, right, bottom = self._on_level(rect, level)
            width, height, shrink = right - left, bottom - top, max(1.0, (bottom - top) / size[1])
            tiles = TILE_ROWS_HELD * self._tile_row_bytes * width * max(1, self._readers(level))
            if self._tiled or width * height > STREAMED_PIXELS:
                read = width if self._tiled else level.width
                passes.append(resizing_bytes(read, height, self._pixel_bytes, shrink) + tiles)
            else:
                passes.append(resizing_bytes(level.width, bottom, self._pixel_bytes, shrink))
                copies += width * height * self._pixel_bytes
        return self._file.whole_bytes + copies + max(passes)

    def _readers(self, level: Level) -> int:
        # How many threads read a level side by side. Those of libvips wait for each other's tiles.
        if not self._tiled or level.width * level.height <= STREAMED_PIXELS:
            return 0
        each = TILE_ROWS_HELD * self._tile_row_bytes * level.width
        return min(os.cpu_count() or 1, MAX_READERS, MAX_TILE_BYTES // each)

    def pieces(self, wanted: Sequence[tuple[RectPx, Size]]) -> Iterator[VipsImage]:
        """See `Reader.pieces`."""
        if self._kept:
            yield from (crop(self._kept, rect) for rect, _ in wanted)
            return
        levels = [self._level_for(rect, size) for rect, size in wanted]
        rects = [self._on_level(rect, level) for (rect, _), level in zip(wanted, levels, strict=True)]
        copies = {} if self._tiled else self._copies(rects, levels)
        access = "random" if self._tiled else "sequential"
        for index, (rect, level) in enumerate(zip(rects, levels, strict=True)):
            yield copies.pop(index, None) or crop(level.open(access), rect)

    def _copies(self, rects: Sequence[RectPx], levels: Sequence[Level]) -> dict[int, VipsImage]:
        # Rectangles that are small enough to be held, read in one pass of each level.
        copies: dict[int, VipsImage] = {}
        for level in self._levels:
            shared = [
                index
                for index, rect in enumerate(rects)
                if levels[index] is level and (rect[2] - rect[0]) * (rect[3] - rect[1]) <= STREAMED_PIXELS
            ]
            if shared:
                read = _read_together(level.open("sequential"), [rects[index] for index in shared])
                copies.update(zip(shared, read, strict=True))
        return copies

    def _on_level(self, rect: RectPx, level: Level) -> RectPx:
        across, down = level.width / self.width, level.height / self.height
        left = min(round(rect[0] * across), level.width - 1)
        top = min(round(rect[1] * down), level.height - 1)
        right = min(max(left + 1, round(rect[2] * across)), level.width)
        bottom = min(max(top + 1, round(rect[3] * down)), level.height)
        return left, top, right, bottom


def _read_together(image: VipsImage, rects: Sequence[RectPx]) -> list[VipsImage]:
    # One pass from the top, a strip at a time, so that only the rectangles are held.
    copies = [np.empty((y1 - y0, x1 - x0, image.bands), sample_type(image)) for x0, y0, x1, y1 in rects]
    left, top = min(rect[0] for rect in rects), min(rect[1] for rect in rects)
    right, bottom = max(rect[2] for rect in rects), max(rect[3] for rect in rects)
    # Not all rows above at once: that could not be abandoned.
    above, rows = strips(image, (left, 0, left + 1, top)), strips(image, (left, top, right, bottom))
    for y, strip in chain(above, rows):
        for (x0, y0, x1, y1), copy in zip(rects, copies, strict=True):
            first, last = max(y, y0), min(y + len(strip), y1)
            if first < last:
                copy[first - y0 : last - y0] = strip[first - y : last - y, x0 - left : x1 - left]
    return [like(image, copy) for copy in copies]
