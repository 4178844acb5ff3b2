"""TIFF files through libvips.

libvips is never given the file as it is, but a view of it with the wanted directory only, and in that only
the tags that decoding needs. So another page that is damaged, or a tag that libtiff warns of, costs nothing,
and libvips can refuse at the first warning: a tile that cannot be decoded is only a warning to it, and would
come out black.
"""

from __future__ import annotations

import io
import math
import struct
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import pyvips

from p2r.errors import InputError
from p2r.images._vips import Level, captured_warnings, icc_profile, with_profile
from p2r.images.formats import DEVELOP, open_binary
from p2r.images.pdf import check_page
from p2r.images.tiff_pages import (
    BY_PILLOW,
    FLOAT,
    ICCLAB,
    LAB,
    MASK,
    MAX_LEVELS,
    PACKED,
    WHITE_IS_0,
    Numbers,
    Page,
    levels_of,
    page_chain,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from p2r.images._vips import VipsImage

MAX_WARNINGS = 3  # in the notes


class TiffFile:
    """A TIFF file, or its bytes: the page that is shown, its smaller levels, and their pixels.

    `page` is its number, from 1; None for the first.

    Attributes:
        pages: how many the file has; 1 for the slides of a scanner, whose other pages are labels.
        orientation, whole_bytes: as of `VipsFile`.
        bits: of a sample: 8, 16, or 32 for floating-point ones.
        tile_row_bytes: of a column of pixels as high as a tile; 0 for strips, which are only read in order.
        notes: what was left out, and what libtiff warns of.

    Raises:
        InputError: it is damaged, or has samples that cannot be shown.
    """

    whole_bytes = 0

    def __init__(self, name: str, origin: Path | bytes, page: int | None = None) -> None:
        self._name = name
        self._origin = origin
        self._fail_on = "warning"
        with open_binary(origin) as file:
            try:
                self._numbers = numbers = Numbers(file.read(4))
                pages = list(page_chain(numbers, file))
            except (ValueError, struct.error) as error:
                raise InputError(f"{name}: it is truncated or damaged ({error})") from error
            first = pages[0]
            larger = (one for one in pages if one.is_page and first.has_shape_of(one))
            shown = first if first.is_page else next(larger, first)
            self._smaller, is_raw = _smaller(shown, pages, file)
            of_people = [one for one in pages if one.is_page and one not in self._smaller]
            self.pages = 1 if shown.is_aperio else max(1, len(of_people))
            check_page(name, page, self.pages)
            if page is not None and page > 1:
                shown = of_people[page - 1]
                self._smaller, is_raw = _smaller(shown, pages, file)
            self._page = shown
            self.orientation = shown.orientation() or 1
        if is_raw:
            raise InputError(f"{name}: this is a camera raw file: {DEVELOP}")
        if problem := shown.problem():
            raise InputError(f"{name}: {problem}")
        self.tile_row_bytes = shown.tile_height * shown.samples * -(-shown.bits // 8)
        self.bits = shown.shown_bits
        self.notes = tuple(self._notes(self.pages if page is None else 1))
        with captured_warnings() as warnings:
            header = self._load(shown.directories()[0])
        if (warnings or shown.is_old_lzw) and not shown.tile_height:
            # It will warn again. But what libtiff cannot decode of a strip is an error to it.
            self._fail_on = "error"
        self._profile = icc_profile(header)

    def levels(self) -> list[Level]:
        """The page, and its smaller copies."""
        pages = (self._page, *self._smaller)
        return [Level(page.width, page.height, partial(self._open, page)) for page in pages]

    def _notes(self, pages: int) -> Iterator[str]:
        page = self._page
        if pages > 1:
            yield f"the file has {pages} pages: the first was read"
        if page.is_multispectral:
            yield f"the file has {page.samples} channels: the first three are shown as red, green and blue"
        with captured_warnings() as warnings, suppress(pyvips.Error):
            self._load(page.as_stored())
        for text in warnings[:MAX_WARNINGS]:
            yield f"read in spite of a warning: {text}"

    def _load(self, directory: bytes, access: str = "sequential") -> VipsImage:
        view = _View(open_binary(self._origin), self._numbers, directory)
        source = pyvips.SourceCustom()
        source.on_read(view.read)
        source.on_seek(view.seek)
        return pyvips.Image.new_from_source(source, "", access=access, fail_on=self._fail_on)

    def _open(self, page: Page, access: str) -> VipsImage:
        # The pixels of the page or of a level: gray, RGB or CMYK, and then transparency, if any.
        image = self._decoded(page, access)
        if page.photometric in LAB:
            return _from_lab(image, page)
        if image.format not in ("uchar", "ushort"):
            image = self._scaled(image)
        gray, rgb = ("grey16", "rgb16") if image.format == "ushort" else ("b-w", "srgb")
        colors = image.bands - (page.alpha is not None)
        image = image.copy(interpretation={1: gray, 3: rgb, 4: "cmyk"}[colors])
        # A level shows the colors of its page, and seldom has a profile of its own.
        return image if page is self._page else with_profile(image, self._profile)

    def _decoded(self, page: Page, access: str) -> VipsImage:
        # The samples that are shown: the colors and then the transparency.
        images = [self._load(directory, access) for directory in page.directories()]
        image = images[0]
        if page.bits == PACKED:
            image = _unpacked(image, page)
        if len(images) > 1:
            image = image.bandjoin(images[1:])
            # libvips does it for all other pages.
            return image.unpremultiply().rint().cast(image.format) if page.is_associated else image
        shown = page.shown(image.bands)
        if shown == list(range(image.bands)):
            return image
        return image.extract_band(shown[0]).bandjoin([image.extract_band(band) for band in shown[1:]])

    def _scaled(self, image: VipsImage) -> VipsImage:
        # Samples of other types: to 16 bits if their range is known, or else to floating-point ones, in which
        # those without a value are NaN.
        page = self._page
        alpha = [] if page.alpha is None else [image.extract_band(image.bands - 1)]
        colors = image.extract_band(0, n=image.bands - len(alpha)).cast("float")
        most = 1 if page.sample_format == FLOAT else 2**page.bits - 1
        alpha = [(band * (65535 / most)).cast("float") for band in alpha]
        if page.range is None:
            return (colors == page.no_data).ifthenelse(math.nan, colors).bandjoin(alpha)
        low, high = page.range
        return ((colors - low) * (65535 / (high - low))).bandjoin(alpha).rint().cast("ushort")


def _smaller(page: Page, pages: Sequence[Page], file: BinaryIO) -> tuple[list[Page], bool]:
    # The smaller levels of a page, and whether it or any other is raw data of a camera.
    parts: list[Page] = []
    for offset in page.sub_directories:
        with suppress(ValueError, struct.error):
            parts.append(Page(page.numbers, file, offset))
    parts = [part for part in parts if not part.subfile & MASK]
    levels = list(levels_of(page, pages, parts))[:MAX_LEVELS]
    return levels, any(one.is_raw for one in (*pages, *parts))


class _View:
    """A TIFF file as libvips sees it: with another directory behind its end, which is the first."""

    def __init__(self, file: BinaryIO, numbers: Numbers, directory: bytes) -> None:
        size = file.seek(0, io.SEEK_END)
        place = size + size % 2
        self._end = place + len(directory)
        self._patches = (numbers.pointer, numbers.pack("P", place)), (place, directory)
        self._file = file
        file.seek(0)
        weakref.finalize(self, file.close)

    def read(self, count: int) -> bytes:
        """The next bytes; none at the end, and where the file cannot be read."""
        start = self._file.tell()
        try:
            data = self._file.read(count)
        except OSError:
            return b""
        for place, patch in self._patches:
            first, last = max(start, place), min(start + count, place + len(patch))
            if first < last:
                before, after = data[: first - start].ljust(first - start, b"\0"), data[last - start :]
                data = before + patch[first - place : last - place] + after
        self._file.seek(start + len(data))
        return data

    def seek(self, offset: int, whence: int) -> int:
        """Go to a place, as files do."""
        start = {io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._end}.get(whence, 0)
        return self._file.seek(max(0, start + offset))


def _unpacked(rows: VipsImage, page: Page) -> VipsImage:
    # Two samples of 12 bits in three bytes, to samples of 16 bits.
    first, middle, last = _columns(rows, 3)
    odd = pyvips.Image.xyz(2 * first.width, rows.height).extract_band(0) & 1
    row = odd.ifthenelse(((middle & 15) * 256 + last).zoom(2, 1), (first * 16 + (middle >> 4)).zoom(2, 1))
    if page.photometric == WHITE_IS_0:
        row = 4095 - row
    bands = _columns(row.crop(0, 0, page.width * page.samples, rows.height), page.samples)
    return (bands[0].bandjoin(bands[1:]) * (65535 / 4095)).rint().cast("ushort")


def _columns(image: VipsImage, step: int) -> list[VipsImage]:
    # Every `step`-th column, beginning with column 0, 1, …, `step` - 1.
    columns = -(-image.width // step) * step
    image = image.embed(0, 0, columns + step, image.height)
    return [image.crop(start, 0, columns, image.height).subsample(step, 1) for start in range(step)]


def _from_lab(image: VipsImage, page: Page) -> VipsImage:
    # Lightness and two differences, to sRGB; transparency is left out.
    most, step, signed = (255, 1, "char") if image.format == "uchar" else (65535, 256, "short")
    lightness = image.extract_band(0) * (100 / most)
    differences = image.extract_band(1, n=2)
    if page.photometric == ICCLAB:
        differences = differences / step - 128
    else:
        differences = differences.copy(format=signed) / step
    image = lightness.bandjoin(differences).copy(interpretation="lab")
    return image.icc_export(pcs="lab", output_profile="srgb", intent="relative", depth=8)


def is_for_pillow(origin: Path | bytes) -> bool:
    """Whether the first page of a TIFF file is compressed in a way that Pillow reads and libvips does not."""
    with open_binary(origin) as file, suppress(ValueError, struct.error):
        return next(page_chain(Numbers(file.read(4)), file)).compression in BY_PILLOW
    return False
