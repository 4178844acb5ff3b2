"""An opened image: the whole of it, or a rectangle of it, at a size.

An image is opened by its header alone, and only what is needed is read and held. What comes out is always
8-bit sRGB, upright (EXIF orientation applied), with transparency flattened on white.
"""

from __future__ import annotations

import binascii
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
import PIL.Image
import pybase64
import pyvips

from p2r.errors import InputError
from p2r.images._vips import vips_problem
from p2r.images.decoders import FLAT_PIXELS, EncodedReader
from p2r.images.depth import StretchedReader
from p2r.images.encoding import EncodedImage
from p2r.images.formats import HEAD_BYTES, identify
from p2r.images.levels import COPYING_BYTES, LeveledReader, tiled_copy
from p2r.images.limits import Limits, check_bytes, check_decoding, decoding
from p2r.images.metadata import is_monochrome_avif
from p2r.images.pdf import check_page
from p2r.images.pillow import WholeReader, read_array, read_pil
from p2r.images.sizing import displayed, resized_rgb, stored_rect, turned_size, upright
from p2r.images.threads import Cancelled, raise_if_cancelled
from p2r.images.tiff import is_for_pillow
from p2r.text import is_data_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from p2r.images._vips import RectPx, Size
    from p2r.images.decoders import Reader
    from p2r.images.limits import Reservation

ImageInput: TypeAlias = Union[str, "os.PathLike[str]", bytes, PIL.Image.Image, np.ndarray, "ImageSource"]

_MADE_BYTES = 9  # of a pixel that is made: resized, in other colors, turned
_PAGES = re.compile(r"(.+)#page=(\d{1,6})(?:-(\d{1,6}))?", re.DOTALL | re.ASCII)
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://|(?:file|https?|blob|ftp):)", re.IGNORECASE)


class ImageSource:
    """An opened image: its upright size, the whole of it at a size, or a region of it at a size.

    Safe to use from several threads: every call reads for itself.

    Attributes:
        name: what errors call the image.
        width, height: upright, in pixels.
    """

    def __init__(self, reader: Reader, limits: Limits) -> None:
        self._reader = reader
        self._limits = limits
        self._stretched: Reader = StretchedReader(reader) if reader.bits > 8 else reader
        self.name = reader.name
        self.width, self.height = turned_size((reader.width, reader.height), reader.orientation)

    @classmethod
    def open(
        cls, image: ImageInput, limits: Limits = Limits(), *, name: str = "", page: int | None = None
    ) -> ImageSource:
        """Open an image by its header; an `ImageSource` is passed through.

        Args:
            image: a path, encoded bytes, a base64 `data:` URI, a PIL image, or an array (see `read_array`). A
                path may end with the page of a PDF or TIFF file: `scan.pdf#page=3`.
            limits: its limits.
            name: what errors call encoded bytes.
            page: of a PDF or TIFF file, from 1; None for the first.

        Raises:
            InputError: it cannot be read or is too large; the text names it and says why.
        """
        if isinstance(image, ImageSource):
            return image
        name = name or _called(image)
        with _input_errors(name):
            return cls(_read(image, limits, name, page), limits)

    @property
    def size(self) -> tuple[int, int]:
        """`(width, height)`, upright, in pixels."""
        return self.width, self.height

    @property
    def pages(self) -> int:
        """How many pages the file has of which this is one; 1 for anything but PDF and TIFF."""
        return getattr(self._reader, "pages", 1)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or changed, a line each; complete once pixels were read."""
        return self._stretched.notes

    def overview(self, size: tuple[int, int], *, stretch: bool = True) -> EncodedImage:
        """The whole image, resized to exactly `size` = (width, height).

        Args:
            size: `(width, height)` of the result.
            stretch: whether more than 8 bits that use a small part of their range are stretched to all of it.

        Raises:
            InputError: the image is truncated or damaged.
        """
        return self.regions([(0, 0, self.width, self.height)], [size], stretch=stretch)[0]

    def region(self, rect_px: RectPx, size: tuple[int, int], *, stretch: bool = True) -> EncodedImage:
        """A rectangle of the upright image (half-open pixels), resized to exactly `size` = (width, height).

        `stretch` is as in `overview`.

        Raises:
            InputError: the rectangle is empty or not inside the image, or the image is damaged there.
        """
        return self.regions([rect_px], [size], stretch=stretch)[0]

    def regions(
        self, rects_px: Sequence[RectPx], sizes: Sequence[tuple[int, int]], *, stretch: bool = True
    ) -> list[EncodedImage]:
        """Several rectangles at once, each as by `region`; a file is read from the top only once."""
        raise_if_cancelled()
        for x0, y0, x1, y1 in rects_px:
            if not (0 <= x0 < x1 <= self.width and 0 <= y0 < y1 <= self.height):
                rect = (x0, y0, x1, y1)
                raise InputError(f"{self.name}: {rect} is not a rectangle inside {self.width}×{self.height}")
        if not rects_px:
            return []
        # Floating-point samples have no defined range in which they could be shown.
        reader = self._stretched if stretch or self._reader.bits > 16 else self._reader
        orientation = self._reader.orientation
        wanted = [
            (stored_rect(rect, self.size, orientation), turned_size(size, orientation))
            for rect, size in zip(rects_px, sizes, strict=True)
        ]
        with _input_errors(self.name):
            cost = self._reader.cost(wanted) + sum(_MADE_BYTES * width * height for width, height in sizes)
            check_decoding(self.name, self.size, cost, self._limits)
            with decoding.reserve(cost):
                try:
                    return _read_pixels(reader, wanted, orientation)
                except pyvips.Error:
                    # A smaller level of a TIFF file that is damaged must not cost the image.
                    if not (isinstance(self._reader, EncodedReader) and self._reader.forget_levels()):
                        raise
                    raise_if_cancelled()
                    return _read_pixels(reader, wanted, orientation)

    @property
    def is_flat(self) -> bool:
        """Whether it is large, and every part or view of it takes reading much more of it than is wanted."""
        if isinstance(self._reader, EncodedReader):
            return self._reader.is_flat
        return self.width * self.height > FLAT_PIXELS

    def with_levels(
        self, reserve: Callable[[int], Reservation | None], goes_on: Callable[[], bool] = lambda: True
    ) -> ImageSource | None:
        """The same image with a copy in memory, so that people see any part of it at once; see `levels`.

        Args:
            reserve: takes memory for the copy: as many bytes, or fewer, or None. A copy has to fit in.
            goes_on: called all through; when it is false, there is no copy.

        Raises:
            InputError: the image is damaged.
        """
        reader, size = self._reader, (self._reader.width, self._reader.height)
        wanted = [((0, 0, *size), size)]
        with _input_errors(self.name):
            cost = reader.cost(wanted) + COPYING_BYTES * size[0]
            check_decoding(self.name, self.size, cost, self._limits)
            with decoding.reserve(cost):
                if not (room := reserve(size[0] * size[1])):
                    return None
                most, has_tiles = room.nbytes, False
                if isinstance(reader, EncodedReader) and reader.bits == 8:
                    image, has_tiles = reader.from_top(), reader.has_tiles
                else:
                    image = next(iter(self._stretched.read(wanted)))[0]
                shown = displayed(image, 2 if has_tiles else 1)
                copy = tiled_copy(shown, lambda nbytes: nbytes <= most and goes_on())
            room.release()
            if not copy or not (room := reserve(len(copy))):
                return None
            return ImageSource(LeveledReader(self._stretched, copy, room), self._limits)


def open_pages(
    image: ImageInput, limits: Limits = Limits(), *, name: str = "", pages: range | None = None
) -> list[ImageSource]:
    """Open an image, or each page of a PDF or TIFF file of several pages.

    Args:
        image, limits, name: as of `ImageSource.open`; an `ImageSource` is passed through. A path may end with
            pages: `#page=3`, or `#page=3-5`.
        pages: their numbers, from 1; None for all.

    Raises:
        InputError: as `ImageSource.open`; or there are too many pages, or not those.
    """
    if isinstance(image, ImageSource):
        return [image]
    if isinstance(image, (str, os.PathLike)):
        image, named = split_pages(image)
        pages = named or pages
    first = ImageSource.open(image, limits, name=name, page=pages.start if pages else None)
    pages = pages or range(1, first.pages + 1)
    if len(pages) > max(1, limits.max_pages):
        raise InputError(
            f"{first.name}: {len(pages)} pages, and at most {limits.max_pages} are asked about at once: "
            f"name some, as in FILE#page=1-{limits.max_pages}"
        )
    if len(pages) == 1:
        return [first]
    return [ImageSource.open(image, limits, name=name, page=page) for page in pages]


def open_images(images: Sequence[ImageInput], limits: Limits = Limits()) -> list[ImageSource]:
    """Open several images, in order, of documents each page; see `open_pages`."""
    return [page for image in images for page in open_pages(image, limits)]


def split_pages(path: str | os.PathLike[str]) -> tuple[str, range | None]:
    """A path, and the pages that `#page=3` or `#page=3-5` at its end names; None for none.

    Raises:
        InputError: the range is empty.
    """
    text = os.fspath(path)
    found = _PAGES.fullmatch(text)
    if not found or Path(text).exists():
        return text, None
    pages = range(int(found[2]), int(found[3] or found[2]) + 1)
    if not pages or pages.start < 1:
        raise InputError(f"{text}: pages are counted from 1, as in #page=3 or #page=3-5")
    return found[1], pages


def _read_pixels(
    reader: Reader, wanted: Sequence[tuple[RectPx, Size]], orientation: int
) -> list[EncodedImage]:
    return [
        EncodedImage(upright(resized_rgb(images, size), orientation))
        for images, (_, size) in zip(reader.read(wanted), wanted, strict=True)
    ]


@contextmanager
def _input_errors(name: str) -> Iterator[None]:
    """Turns every exception of a decoder into `InputError`."""
    try:
        yield
    except (InputError, Cancelled):
        raise
    except MemoryError as error:
        raise InputError(f"{name}: there is not enough memory to decode it") from error
    except Exception as error:
        raise InputError(f"{name}: {vips_problem(error)}") from error


# --- inputs ----------------------------------------------------------------------------------------------


def _called(image: object) -> str:
    if isinstance(image, (str, os.PathLike)):
        text = str(image)
        return text if len(text) <= 200 else f"{text[:100]}…"
    return f"image of {len(image):,} bytes" if isinstance(image, bytes) else f"{type(image).__name__} image"


def _read(image: ImageInput, limits: Limits, name: str, page: int | None) -> Reader:
    if isinstance(image, str):
        if is_data_uri(image):
            name, image = decode_data_uri(image, limits)
        elif match := _URL.match(image):
            raise InputError(
                f"{image[:80]}: {match[0]} is not read: give a path, or the bytes, or a data: URI"
            )
    if isinstance(image, (str, os.PathLike)):
        text, pages = split_pages(image)
        if pages:
            page = pages.start
            if len(pages) > 1:
                raise InputError(f"{name}: {len(pages)} pages, and one is needed here")
        path = Path(text)
        return _read_encoded(name, _read_head(name, path, limits), path, limits, page)
    if isinstance(image, bytes):
        check_bytes(name, len(image), limits.max_bytes)
        return _read_encoded(name, image[:HEAD_BYTES], image, limits, page)
    if isinstance(image, PIL.Image.Image):
        return read_pil(image, limits)
    if isinstance(image, np.ndarray):
        return read_array(image, limits)
    raise InputError(
        f"an image is a path, bytes, data: URI, PIL image or numpy array, not {type(image).__name__}"
    )


def _read_head(name: str, path: Path, limits: Limits) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{name}: a folder, not an image")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{name}: not a regular file")
        check_bytes(name, status.st_size, limits.max_file_bytes)
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {getattr(error, 'strerror', None) or error}") from error


def _read_encoded(name: str, head: bytes, origin: Path | bytes, limits: Limits, page: int | None) -> Reader:
    kind = identify(name, head)
    if kind.decoder not in ("tiffload", "pdfium"):
        check_page(name, page, 1)
    if kind.decoder == "pdfium":
        if not limits.max_pages:
            raise InputError(f"{name}: PDF documents are not read here: {kind.hint}")
        return WholeReader(name, kind, origin, limits, page)
    if kind.decoder == "heifload" and is_monochrome_avif(origin):
        # libheif takes the limited range of gray (16–235) for the full one.
        kind = replace(kind, decoder="AVIF")
    if kind.decoder == "tiffload" and page in (None, 1) and is_for_pillow(origin):
        kind = replace(kind, decoder="TIFF")
    if kind.decoder.endswith("load"):
        return EncodedReader(name, kind.decoder, origin, limits, page)
    if isinstance(origin, Path):
        check_bytes(name, origin.stat().st_size, limits.max_bytes)
        origin = origin.read_bytes()
    return WholeReader(name, kind, origin, limits)


def decode_data_uri(uri: str, limits: Limits) -> tuple[str, bytes]:
    """What errors call a `data:` URI, and the bytes in it.

    Raises:
        InputError: it holds no base64, or more bytes than the limit.
    """
    head, comma, body = uri.partition(",")
    name = f"data URI {head[5:60]!r}"
    if not comma or not head.lower().endswith(";base64"):
        raise InputError(f"{name}: only base64 is read: data:image/png;base64,…")
    check_bytes(name, len(body) * 3 // 4 - 2, limits.max_bytes)
    try:
        return name, pybase64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name}: {error}") from error
