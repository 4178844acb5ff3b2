"""Reads encoded pictures as they are stored: header, smaller levels, and only the pixels that are needed.

`images` and `rasters` build on it; nothing else does. A reader has been checked against the limits from its
header alone, so that nothing large is decoded before it is allowed.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyvips

from p2r.errors import InputError
from p2r.images._vips import crop, like, sample_type, strips, vips_problem
from p2r.images.limits import check_size
from p2r.images.memory import kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from p2r.images._vips import Size, VipsImage
    from p2r.images.limits import Limits
    from p2r.types import RectPx

# What a file of each format begins with.
_SIGNATURES: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "jpegload"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "pngload"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "webpload"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "tiffload"),
    (re.compile(rb"GIF8[79]a"), "gifload"),
    (re.compile(rb".{4}ftyp(?:avi[fs]|hei[cxms]|hev[cmxs]|mif1|msf1)", re.DOTALL), "heifload"),
)
_BMP = re.compile(rb"BM.{4}\0{4}", re.DOTALL)
_FORMATS = "JPEG, PNG, WebP, TIFF, GIF, AVIF or BMP"

STREAMED_PIXELS = 32_000_000  # a larger rectangle is resized while it is read
MAX_LEVELS = 24
MAX_READERS = 8  # threads that read one tiled file
TILE_ROWS_HELD = 3  # rows of tiles that one of them keeps at most
MAX_TILE_BYTES = 256 * 1024 * 1024  # that all of them keep


@dataclass(frozen=True)
class Whole:
    """All pixels of a picture, to be read once.

    Attributes:
        image: the pixels.
        copies: the same pixels, each read by a pipeline of its own, for so many threads.
    """

    image: VipsImage
    copies: tuple[VipsImage, ...] = ()


class Reader(Protocol):
    """A picture as it is stored, before its orientation is applied; sizes and rectangles are stored ones."""

    name: str
    width: int
    height: int
    orientation: int

    def whole(self, size: Size) -> Whole:
        """The whole picture: `size` or larger, where the file has as much."""
        ...

    def pieces(self, wanted: Sequence[tuple[RectPx, Size]]) -> Iterable[VipsImage]:
        """Rectangles of the picture, each at its size or larger, where the file has as much."""
        ...


def is_bmp(head: bytes) -> bool:
    """Whether a file that begins so is a BMP, which libvips cannot read."""
    return _BMP.match(head) is not None


def read_encoded(name: str, origin: Path | bytes, head: bytes, limits: Limits) -> EncodedReader:
    """Open a file, or bytes, by its header.

    Raises:
        InputError: not a picture that can be read, or a too large one.
    """
    loader = next((loader for signature, loader in _SIGNATURES if signature.match(head)), None)
    if loader is None:
        raise InputError(f"{name}: not a picture in a known format ({_FORMATS})")
    try:
        return EncodedReader(name, loader, origin, limits)
    except pyvips.Error as error:
        raise InputError(f"{name}: {vips_problem(error)}") from error


@dataclass(frozen=True)
class _Level:
    """A size in which the file offers the picture, and the loader's options that give it.

    `margin`: how many times as large as what is wanted it must be.
    """

    width: int
    height: int
    options: Mapping[str, int] = field(default_factory=dict)
    margin: int = 1


class EncodedReader:
    """A file or bytes in one of the known formats.

    Only a tiled file can be read at any place. The others are read from the top, once for all the
    rectangles of a call. Where the overview needs all pixels anyway, and there is room for them, they are
    kept as long as the reader lives: one decoding serves the overview and the crops.
    """

    def __init__(self, name: str, loader: str, origin: Path | bytes, limits: Limits) -> None:
        self.name = name
        self._loader = f"{loader}_buffer" if isinstance(origin, bytes) else loader
        # A tile that cannot be decoded is a mere warning to libvips, and comes out black. For the other
        # formats a warning is a blemish.
        self._fail_on = "warning" if loader == "tiffload" else "truncated"
        self._origin = origin if isinstance(origin, bytes) else os.fsencode(origin)
        self._kept: VipsImage | None = None
        self._lock = threading.Lock()
        header = self._open({})
        fields = set(header.get_fields())
        self.width: int = header.width
        self.height: int = header.height
        self.orientation: int = header.get("orientation") if "orientation" in fields else 1
        self._tiled = loader == "tiffload" and "tile-width" in fields
        self._tile_row_bytes = 0
        if self._tiled:
            self._tile_row_bytes = header.get("tile-height") * header.bands * sample_type(header)().itemsize
        whole = loader in ("webpload", "gifload", "heifload") or "interlaced" in fields
        check_size(name, self.width, self.height, limits, whole=whole)
        if header.format not in ("uchar", "ushort"):
            raise InputError(f"{name}: samples of type {header.format}: save it with 8 or 16 bits a sample")
        self._levels = [_Level(self.width, self.height)]
        if loader == "jpegload":
            self._levels += self._jpeg_levels()
        elif loader == "tiffload":
            self._levels += self._tiff_levels(header, fields)

    def _open(self, options: Mapping[str, int], access: str = "sequential") -> VipsImage:
        return pyvips.Operation.call(
            self._loader, self._origin, access=access, fail_on=self._fail_on, **options
        )

    def _jpeg_levels(self) -> Iterator[_Level]:
        for shrink in (2, 4, 8):
            # libvips leaves out a last row or column that is not whole, and the rest would be stretched.
            if self.width % shrink == 0 == self.height % shrink:
                # The decoder blurs what it shrinks: bicubic at twice the size and above makes it sharp.
                size = self.width // shrink, self.height // shrink
                yield _Level(*size, {"shrink": shrink}, margin=2)

    def _tiff_levels(self, header: VipsImage, fields: set[str]) -> Iterator[_Level]:
        # The levels of a pyramid are sub-directories of the first page, or the pages after it.
        if "n-subifds" in fields:
            candidates = [{"subifd": index} for index in range(header.get("n-subifds"))]
        else:
            pages = header.get("n-pages") if "n-pages" in fields else 1
            candidates = [{"page": index} for index in range(1, pages)]
        for options in candidates[:MAX_LEVELS]:
            page = self._open(options)
            shrink = self.width / page.width
            # A page that is no smaller copy of the first is the next page of a document.
            if shrink < 1.5 or abs(self.height / shrink - page.height) > 2 + page.height / 100:
                return
            yield _Level(page.width, page.height, options)

    def _level_for(self, rect: RectPx, size: Size) -> _Level:
        shrink = max(1.0, min((rect[2] - rect[0]) / size[0], (rect[3] - rect[1]) / size[1]))
        fine_enough = (level for level in self._levels if level.width * shrink >= self.width * level.margin)
        return min(fine_enough, key=lambda level: level.width)

    def whole(self, size: Size) -> Whole:
        """See `Reader.whole`."""
        level = self._level_for((0, 0, self.width, self.height), size)
        if level is self._levels[0] and not self._tiled and (image := self._keep()):
            return Whole(image)
        copies = [self._open(level.options, "random") for _ in range(self._readers(level))]
        return Whole(self._open(level.options), copies=tuple(copies))

    def _keep(self) -> VipsImage | None:
        with self._lock:
            image = self._open({})
            nbytes = image.width * image.height * image.bands * sample_type(image)().itemsize
            if self._kept is None and (room := kept.try_reserve(nbytes)):
                weakref.finalize(self, room.release)
                self._kept = image.copy_memory()
            return self._kept

    def _readers(self, level: _Level) -> int:
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
            yield copies.pop(index, None) or crop(self._open(level.options, access), rect)

    def _copies(self, rects: Sequence[RectPx], levels: Sequence[_Level]) -> dict[int, VipsImage]:
        # Rectangles that are small enough to be held, read in one pass of each level.
        copies: dict[int, VipsImage] = {}
        for level in self._levels:
            shared = [
                index
                for index, rect in enumerate(rects)
                if levels[index] is level and (rect[2] - rect[0]) * (rect[3] - rect[1]) <= STREAMED_PIXELS
            ]
            if shared:
                read = _read_together(self._open(level.options), [rects[index] for index in shared])
                copies.update(zip(shared, read, strict=True))
        return copies

    def _on_level(self, rect: RectPx, level: _Level) -> RectPx:
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
    for y, strip in strips(image, (left, top, right, bottom)):
        for (x0, y0, x1, y1), copy in zip(rects, copies, strict=True):
            first, last = max(y, y0), min(y + len(strip), y1)
            if first < last:
                copy[first - y0 : last - y0] = strip[first - y : last - y, x0 - left : x1 - left]
    return [like(image, copy) for copy in copies]
