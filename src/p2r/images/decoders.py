"""Readers of encoded images: header, smaller levels, and only the pixels that are needed.

A reader checks the limits from the header: nothing large is decoded before that.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyvips

from p2r.errors import InputError
from p2r.images._vips import (
    SAMPLE_TYPES,
    Level,
    crop,
    from_array,
    icc_profile,
    pixel_bytes,
    resizing_bytes,
    strips,
)
from p2r.images.limits import Reservation, check_size, kept
from p2r.images.metadata import gif_frame, is_lossless_jpeg, png_orientation
from p2r.images.threads import stopped_if_cancelled
from p2r.images.tiff import TiffFile
from p2r.images.tiff_pages import xmp_orientation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from p2r.images._vips import RectPx, Size, VipsImage
    from p2r.images.limits import Limits

STREAMED_PIXELS = 32_000_000  # a larger rectangle is resized while it is read
MAX_READERS = 8  # threads that read one tiled file
TILE_ROWS_HELD = 3  # rows of tiles that one of them keeps at most
MAX_TILE_BYTES = 256 * 1024 * 1024  # that all of them keep
MAX_TILE_COLUMN_BYTES = 8192  # see `tile_row_bytes`: tiles of 2048 rows are as slow as strips
FLAT_PIXELS = 16_000_000  # of an image that is read whole in a tenth of a second


class Reader(Protocol):
    """An image as it is stored, before its orientation is applied; sizes and rectangles are stored ones.

    Attributes:
        bits: of a sample: 8, 16, or 32 for floating-point ones.
    """

    name: str
    width: int
    height: int
    orientation: int
    bits: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or changed; complete once pixels were read."""
        ...

    def read(self, wanted: Sequence[tuple[RectPx, Size]]) -> Iterable[Sequence[VipsImage]]:
        """Rectangles of the image, each at its size or larger, where the file has as much.

        A rectangle is one image, or, where several threads should read it, the same pixels for each thread.
        """
        ...

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """The most bytes that are held while these rectangles are read and resized."""
        ...


class VipsFile:
    """A file that libvips reads, other than TIFF.

    Attributes:
        orientation: 1 to 8, as in EXIF.
        bits: of a sample: 8 or 16.
        whole_bytes: memory to decode a file that can only be decoded whole; 0 for one that is read by rows.
        notes: what was left out.
    """

    tile_row_bytes, pages = 0, 1  # see `TiffFile`

    def __init__(self, name: str, loader: str, origin: Path | bytes) -> None:
        self._origin = origin if isinstance(origin, bytes) else os.fsencode(origin)
        self._operation = f"{loader}_buffer" if isinstance(origin, bytes) else loader
        self._frame = gif_frame(origin) if loader == "gifload" else None
        header = self._open("sequential")
        if header.format not in ("uchar", "ushort"):
            raise InputError(f"{name}: samples of type {header.format}: save it with 8 or 16 bits a sample")
        self.bits = 8 if header.format == "uchar" else 16
        self.orientation = _orientation(header, loader, origin)
        self.whole_bytes = header.width * header.height * _whole_pixel_bytes(header, loader)
        images = header.get("n-pages") if header.get_typeof("n-pages") else 1
        self.notes = (f"the file has {images} images: the first was read",) if images > 1 else ()
        self._size = header.width, header.height
        self._shrinks = loader == "jpegload" and not is_lossless_jpeg(origin)

    def levels(self) -> list[Level]:
        """The sizes at which it can be decoded, the full one first."""
        width, height = self._size
        levels = [Level(width, height, self._open)]
        for shrink in (2, 4, 8) if self._shrinks else ():
            # libvips leaves out an incomplete last row or column, and the rest would be stretched.
            if width % shrink == 0 == height % shrink:
                # The decoder blurs what it shrinks: bicubic from twice the size makes it sharp.
                opens = partial(self._open, shrink=shrink)
                levels.append(Level(width // shrink, height // shrink, opens, margin=2))
        return levels

    def _open(self, access: str, **options: int) -> VipsImage:
        image = pyvips.Operation.call(
            self._operation, self._origin, access=access, fail_on="truncated", **options
        )
        if self._frame and self._frame != (0, 0, image.width, image.height):
            # Outside of its first frame a GIF is empty.
            left, top, right, bottom = self._frame
            frame = crop(image, (left, top, min(right, image.width), min(bottom, image.height)))
            white = [255] * image.bands
            image = frame.embed(left, top, image.width, image.height, extend="background", background=white)
        return image


def _orientation(header: VipsImage, loader: str, origin: Path | bytes) -> int:
    if loader == "heifload":
        return 1  # it is upright already
    if loader == "pngload":
        return png_orientation(origin) or 1
    if header.get_typeof("orientation"):
        return int(header.get("orientation"))  # of EXIF
    return xmp_orientation(header.get("xmp-data")) or 1 if header.get_typeof("xmp-data") else 1


def _whole_pixel_bytes(header: VipsImage, loader: str) -> int:
    # Bytes of a pixel while the whole image is decoded, as measured (docs/images.md).
    if loader == "webpload":
        return 8  # the frame and its canvas, both with transparency
    if loader == "gifload":
        return 5
    if loader == "heifload":
        return 20 if header.format == "uchar" else 26  # planes of the codec, of libheif, and RGB
    if header.get_typeof("interlaced") == 0:
        return 0
    return int(2 * header.bands) if loader == "jpegload" else pixel_bytes(header)  # JPEG: coefficients


class EncodedReader:
    """A file or bytes that libvips reads.

    Only a tiled file can be read at any place. The others are read from the top, once for all the
    rectangles of a call. If the whole image is wanted at full size, and there is room for it, its pixels are
    kept as long as the reader exists: one decoding serves the overview and the crops.
    """

    def __init__(
        self, name: str, loader: str, origin: Path | bytes, limits: Limits, page: int | None = None
    ) -> None:
        is_tiff = loader == "tiffload"
        self._file = TiffFile(name, origin, page) if is_tiff else VipsFile(name, loader, origin)
        self.pages = self._file.pages
        self.name, self.bits, self.orientation = name, self._file.bits, self._file.orientation
        self._levels = self._file.levels()  # held here only, or the file would hold itself
        self.width, self.height = self._levels[0].width, self._levels[0].height
        self._tiled = self._file.tile_row_bytes > 0
        self._pixel_bytes = pixel_bytes(self._levels[0].open("sequential"))
        self.notes = self._file.notes
        self._kept: VipsImage | None = None
        self._room: Reservation | None = None  # of the kept pixels
        self._lock = threading.Lock()
        check_size(name, self.width, self.height, limits, whole_bytes=self._file.whole_bytes)

    @property
    def has_tiles(self) -> bool:
        """Whether a small part of it is read without the rest, at the full size."""
        return 0 < self._file.tile_row_bytes <= MAX_TILE_COLUMN_BYTES

    @property
    def is_flat(self) -> bool:
        """Whether it is large, and lacks the tiles or the smaller levels with which any part is read soon."""
        areas = sorted(level.width * level.height for level in self._levels if self.has_tiles)
        steps = pairwise([0, *areas, *([] if areas else [self.width * self.height])])
        return any(large > max(FLAT_PIXELS, 20 * small) for small, large in steps)

    def from_top(self) -> VipsImage:
        """The whole image at its full size, for one pass."""
        return self._levels[0].open("sequential")

    def forget_levels(self) -> bool:
        """Stop reading the smaller copies in a TIFF file, since one is damaged; False if there are none."""
        with self._lock:
            if len(self._levels) == 1 or not isinstance(self._file, TiffFile):
                return False
            self._levels = self._levels[:1]
            self.notes += ("a smaller level in the file is damaged: the image itself was read",)
            return True

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """See `Reader.cost`."""
        copies, passes = 0, [0]
        for rect, size in wanted:
            level, (left, top, right, bottom) = self._part(rect, size)
            width, height, shrink = right - left, bottom - top, max(1.0, (bottom - top) / size[1])
            if self._tiled or width * height > STREAMED_PIXELS:
                read = width if self._tiled else level.width
                tiles = TILE_ROWS_HELD * self._file.tile_row_bytes * width * max(1, self._readers(level))
                passes.append(resizing_bytes(read, height, self._pixel_bytes, shrink) + tiles)
            else:
                passes.append(resizing_bytes(level.width, bottom, self._pixel_bytes, shrink))
                copies += width * height * self._pixel_bytes
        return self._file.whole_bytes + copies + max(passes)

    def read(self, wanted: Sequence[tuple[RectPx, Size]]) -> Iterator[Sequence[VipsImage]]:
        """See `Reader.read`."""
        whole = (0, 0, self.width, self.height)
        parts = [self._part(rect, size) for rect, size in wanted]
        if not self._tiled and (self._levels[0], whole) in parts:
            self._keep()
        if self._kept:
            yield from ([crop(self._kept, rect)] for rect, _ in wanted)
            return
        copies = {} if self._tiled else self._copies(parts)
        for index, (level, rect) in enumerate(parts):
            if index in copies:
                yield [copies.pop(index)]
            elif wanted[index][0] == whole:
                yield [level.open("random") for _ in range(self._readers(level))] or [
                    level.open("sequential")
                ]
            else:
                yield [crop(level.open("random" if self._tiled else "sequential"), rect)]

    def _part(self, rect: RectPx, size: Size) -> tuple[Level, RectPx]:
        # The smallest level that is large enough, and the rectangle on it.
        shrink = max(1.0, min((rect[2] - rect[0]) / size[0], (rect[3] - rect[1]) / size[1]))
        fine_enough = (level for level in self._levels if level.width * shrink >= self.width * level.margin)
        level = min(fine_enough, key=lambda level: level.width)
        across, down = level.width / self.width, level.height / self.height
        left = min(round(rect[0] * across), level.width - 1)
        top = min(round(rect[1] * down), level.height - 1)
        right = min(max(left + 1, round(rect[2] * across)), level.width)
        bottom = min(max(top + 1, round(rect[3] * down)), level.height)
        return level, (left, top, right, bottom)

    def _readers(self, level: Level) -> int:
        # How many threads read a level in parallel. Those of libvips wait for each other's tiles.
        if not self._tiled or level.width * level.height <= STREAMED_PIXELS:
            return 0
        each = TILE_ROWS_HELD * self._file.tile_row_bytes * level.width
        return min(os.cpu_count() or 1, MAX_READERS, MAX_TILE_BYTES // each)

    def _keep(self) -> None:
        with self._lock:
            if self._kept is None:
                self._room = kept.try_reserve(self.width * self.height * self._pixel_bytes)
                if self._room:
                    image = self._levels[0].open("sequential")
                    with stopped_if_cancelled(image):
                        self._kept = image.copy_memory()

    def _copies(self, parts: Sequence[tuple[Level, RectPx]]) -> dict[int, VipsImage]:
        # Those parts that are small enough to be held, by index, read in one pass of each level.
        copies: dict[int, VipsImage] = {}
        for level in self._levels:
            shared = {
                index: rect
                for index, (of, rect) in enumerate(parts)
                if of is level
                and (rect[2] - rect[0]) * (rect[3] - rect[1]) <= STREAMED_PIXELS
                and rect != (0, 0, level.width, level.height)
            }
            if shared:
                read = _read_together(level.open("sequential"), list(shared.values()))
                copies.update(zip(shared, read, strict=True))
        return copies


def _read_together(image: VipsImage, rects: Sequence[RectPx]) -> list[VipsImage]:
    # One pass from the top, a strip at a time, so that only the rectangles are held.
    kind = SAMPLE_TYPES[image.format]
    copies = [np.empty((y1 - y0, x1 - x0, image.bands), kind) for x0, y0, x1, y1 in rects]
    left, top = min(rect[0] for rect in rects), min(rect[1] for rect in rects)
    right, bottom = max(rect[2] for rect in rects), max(rect[3] for rect in rects)
    # Not all rows above at once: that could not be cancelled.
    above, rows = strips(image, (left, 0, left + 1, top)), strips(image, (left, top, right, bottom))
    for y, strip in chain(above, rows):
        for (x0, y0, x1, y1), copy in zip(rects, copies, strict=True):
            first, last = max(y, y0), min(y + len(strip), y1)
            if first < last:
                copy[first - y0 : last - y0] = strip[first - y : last - y, x0 - left : x1 - left]
    return [from_array(copy, image.interpretation, icc_profile(image)) for copy in copies]
