"""Images at a budget: the whole at a size, or a region at a size, reading and holding only what is needed.

Built on libvips. An image is opened by its header alone; `overview` uses shrink-on-load (JPEG) and the
levels of pyramidal TIFF files, `region` reads what it needs. What comes out is always 8-bit sRGB, upright
(EXIF orientation applied), with transparency flattened on white.
"""

from __future__ import annotations

import binascii
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar, Union

import numpy as np
import PIL.Image
import pybase64
import pyvips

from p2r.errors import InputError
from p2r.images._vips import as_array, strips, vips_problem
from p2r.images.decoders import EncodedReader, Whole
from p2r.images.depth import StretchedReader
from p2r.images.encoding import PNG_MAX_PIXELS, EncodedImage, encode_all
from p2r.images.files import is_monochrome_avif
from p2r.images.formats import HEAD_BYTES, identify
from p2r.images.limits import Limits, check_bytes, check_decoding, decoding
from p2r.images.pillow import read_array, read_pil
from p2r.images.sizing import smart_resize
from p2r.images.threads import Cancelled, raise_if_cancelled, stopped_if_cancelled
from p2r.images.tiff import is_for_pillow
from p2r.images.whole import WholeReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from p2r.images._vips import Size, VipsImage
    from p2r.images.decoders import Reader
    from p2r.images.formats import Format
    from p2r.images.sizing import RectPx

__all__ = [
    "PNG_MAX_PIXELS",
    "EncodedImage",
    "ImageInput",
    "ImageSource",
    "Limits",
    "encode_all",
    "smart_resize",
]

T = TypeVar("T")
ImageInput: TypeAlias = Union[str, "os.PathLike[str]", bytes, PIL.Image.Image, np.ndarray, "ImageSource"]

_MADE_BYTES = 9  # a pixel of what is made: resized, in other colors, turned
GRAY_LEVELS = 2  # by which red, green and blue of a gray pixel may differ after compression
_QUARTER_TURNS = (5, 6, 7, 8)  # the EXIF orientations that swap width and height

_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://|(?:file|https?|blob|ftp):)", re.IGNORECASE)


@contextmanager
def _boundary(name: str) -> Iterator[None]:
    """Lets nothing out that a decoder may raise, but as `InputError`."""
    try:
        yield
    except (InputError, Cancelled):
        raise
    except MemoryError as error:
        raise InputError(f"{name}: there is not enough memory to decode it") from error
    except Exception as error:
        raise InputError(f"{name}: {vips_problem(error)}") from error


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
        self._stretched = StretchedReader(reader) if reader.bits > 8 else reader
        self.name = reader.name
        self.width, self.height = _turned((reader.width, reader.height), reader.orientation)

    @classmethod
    def open(cls, image: ImageInput, limits: Limits = Limits(), *, name: str = "") -> ImageSource:
        """Open an image by its header; an `ImageSource` is passed through.

        Args:
            image: a path, encoded bytes, a base64 `data:` URI, a PIL image, or an array (see `read_array`).
            limits: what it may be at most.
            name: what errors call encoded bytes.

        Raises:
            InputError: it cannot be read or is too large; the text names it and says why.
        """
        if isinstance(image, ImageSource):
            return image
        name = name or _called(image)
        with _boundary(name):
            return cls(_read(image, limits, name), limits)

    @property
    def size(self) -> tuple[int, int]:
        """`(width, height)`, upright, in pixels."""
        return self.width, self.height

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of an answer should know about the image; complete once pixels were read."""
        return self._stretched.notes

    def _reads(self, *, stretch: bool) -> Reader:
        # Floating-point samples have no range of their own in which they could be shown.
        return self._stretched if stretch or self._reader.bits > 16 else self._reader

    def overview(self, size: tuple[int, int], *, stretch: bool = True) -> EncodedImage:
        """The whole image, resized to exactly `size` = (width, height).

        Args:
            size: `(width, height)` of what is returned.
            stretch: whether more than 8 bits that use a small part of their range are stretched to all of it.

        Raises:
            InputError: the image turns out to be truncated or damaged.
        """
        reader, stored = self._reads(stretch=stretch), _turned(size, self._reader.orientation)
        wanted = [((0, 0, reader.width, reader.height), stored)]
        return self._tried(lambda: self._finish(reader.whole(stored), size), reader, wanted)

    def region(self, rect_px: RectPx, size: tuple[int, int], *, stretch: bool = True) -> EncodedImage:
        """A rectangle of the upright image (half-open pixels), resized to exactly `size` = (width, height).

        `stretch` is that of `overview`.

        Raises:
            InputError: the rectangle is empty or not inside the image, or the image is damaged there.
        """
        return self.regions([rect_px], [size], stretch=stretch)[0]

    def regions(
        self, rects_px: Sequence[RectPx], sizes: Sequence[tuple[int, int]], *, stretch: bool = True
    ) -> list[EncodedImage]:
        """Several rectangles at once, each as by `region`: a file is read from the top once for all of them.

        Raises:
            InputError: as `region`.
        """
        reader = self._reads(stretch=stretch)
        for x0, y0, x1, y1 in rects_px:
            if not (0 <= x0 < x1 <= self.width and 0 <= y0 < y1 <= self.height):
                rect = (x0, y0, x1, y1)
                raise InputError(f"{self.name}: {rect} is not a rectangle inside {self.width}×{self.height}")
        stored = [_to_stored(rect, self.size, reader.orientation) for rect in rects_px]
        wanted = [(rect, _turned(size, reader.orientation)) for rect, size in zip(stored, sizes, strict=True)]
        if not wanted:
            return []

        def read() -> list[EncodedImage]:
            pieces = reader.pieces(wanted)
            return [self._finish(Whole(piece), size) for piece, size in zip(pieces, sizes, strict=True)]

        return self._tried(read, reader, wanted)

    def _tried(self, read: Callable[[], T], reader: Reader, wanted: Sequence[tuple[RectPx, Size]]) -> T:
        # A smaller level of a TIFF file that is damaged must not cost the image.
        raise_if_cancelled()
        made = sum(_MADE_BYTES * width * height for _, (width, height) in wanted)
        cost = reader.cost(wanted) + made
        check_decoding(self.name, self.size, cost, self._limits)
        with _boundary(self.name), decoding.reserve(cost):
            try:
                return read()
            except pyvips.Error:
                if not (isinstance(self._reader, EncodedReader) and self._reader.forget_levels()):
                    raise
                raise_if_cancelled()
                return read()

    def _finish(self, whole: Whole, size: Size) -> EncodedImage:
        orientation = self._reader.orientation
        stored = _turned(size, orientation)
        if whole.copies:
            pixels = _pixels_side_by_side([_resize_to_rgb(copy, stored) for copy in whole.copies])
        else:
            pixels = _pixels(_resize_to_rgb(whole.image, stored))
        return EncodedImage(_to_upright(_enlarged(pixels, stored), orientation))


def _called(image: object) -> str:
    if isinstance(image, (str, os.PathLike)):
        text = str(image)
        return text if len(text) <= 200 else f"{text[:100]}…"
    return f"image of {len(image):,} bytes" if isinstance(image, bytes) else f"{type(image).__name__} image"


def _read(image: ImageInput, limits: Limits, name: str) -> Reader:
    if isinstance(image, str):
        return _read_text(image, limits)
    if isinstance(image, os.PathLike):
        return _read_path(Path(image), limits)
    if isinstance(image, bytes):
        return _read_bytes(name, image, limits)
    if isinstance(image, PIL.Image.Image):
        return read_pil(image, limits)
    if isinstance(image, np.ndarray):
        return read_array(image, limits)
    raise InputError(
        f"an image is a path, bytes, data: URI, PIL image or numpy array, not {type(image).__name__}"
    )


def _read_text(text: str, limits: Limits) -> Reader:
    if text[:5].lower() == "data:":
        return _read_bytes(*decode_data_uri(text, limits), limits)
    if match := _URL.match(text):
        raise InputError(f"{text[:80]}: {match[0]} is not read: give a path, or the bytes, or a data: URI")
    return _read_path(Path(text), limits)


def _read_path(path: Path, limits: Limits) -> Reader:
    name, head = _read_file(path, limits)
    return _read_encoded(name, identify(name, head), path, limits)


def _read_file(path: Path, limits: Limits) -> tuple[str, bytes]:
    """Check a file and read its first bytes: `(name, head)`.

    Raises:
        InputError: no such file, not a regular file, empty or too large.
    """
    name = str(path) if len(str(path)) <= 200 else f"{str(path)[:100]}…"
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{name}: a folder, not an image")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{name}: not a regular file")
        check_bytes(name, status.st_size, limits.max_file_bytes)
        with path.open("rb") as file:
            return name, file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {getattr(error, 'strerror', None) or error}") from error


def _read_bytes(name: str, data: bytes, limits: Limits) -> Reader:
    check_bytes(name, len(data), limits.max_bytes)
    return _read_encoded(name, identify(name, data[:HEAD_BYTES]), data, limits)


def _read_encoded(name: str, kind: Format, origin: Path | bytes, limits: Limits) -> Reader:
    if kind.decoder == "heifload" and is_monochrome_avif(origin):
        # libheif takes the limited range of gray (16–235) for the full one.
        kind = replace(kind, decoder="AVIF")
    if kind.decoder == "tiffload" and is_for_pillow(origin):
        kind = replace(kind, decoder="TIFF")
    if kind.by_libvips:
        return EncodedReader(name, kind.decoder, origin, limits)
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


def _resize_to_rgb(image: VipsImage, size: Size) -> VipsImage:
    # A side that grows is left to `_enlarged`, which works on the few pixels that come out here.
    width, height = min(size[0], image.width), min(size[1], image.height)
    return _to_srgb(_shrunk(_opaque(image), (width, height)))


def _opaque(image: VipsImage) -> VipsImage:
    # Before resizing, so that hidden colors do not bleed.
    interpretation = image.interpretation
    colors = {"b-w": 1, "grey16": 1, "cmyk": 4}.get(interpretation, min(3, image.bands))
    if image.bands > colors + 1:
        # One more band is transparency; more are the channels of a satellite or a microscope.
        image = image.extract_band(0, n=colors)
    if image.hasalpha():
        paper = 0 if interpretation == "cmyk" else 65535 if image.format == "ushort" else 255
        image = image.flatten(background=[paper], max_alpha=65535 if image.format == "ushort" else 255)
    if interpretation == "multiband":
        image = image.copy(interpretation="srgb" if image.bands == 3 else "b-w")
    return image


def _shrunk(image: VipsImage, size: Size) -> VipsImage:
    # Bicubic over the whole footprint of a pixel, as the processors of Qwen-VL resize. With its default gap,
    # libvips averages whole pixels before that at every factor above 4.
    width, height = size
    if (image.width, image.height) != size:
        image = image.resize(width / image.width, vscale=height / image.height, kernel="cubic", gap=4)
    if (image.width, image.height) != size:
        # libvips rounds the sides; a pixel may be missing or too much.
        image = image.gravity("north-west", width, height, extend="copy")
    return image


def _enlarged(pixels: np.ndarray, size: Size) -> np.ndarray:
    # libvips enlarges with a shift of half a pixel, and blurs. Pillow does what the processors of Qwen-VL do.
    if pixels.shape[1::-1] == size:
        return pixels
    return np.asarray(PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BICUBIC))


def _pixels(image: VipsImage) -> np.ndarray:
    with stopped_if_cancelled(image):
        return as_array(image)


def _pixels_side_by_side(copies: Sequence[VipsImage]) -> np.ndarray:
    # The first rows by the first copy, and so on.
    width, height = copies[0].width, copies[0].height
    pixels = np.empty((height, width, 3), np.uint8)

    def fill(part: int) -> None:
        top, bottom = height * part // len(copies), height * (part + 1) // len(copies)
        for y, strip in strips(copies[part], (0, top, width, bottom)):
            pixels[y : y + len(strip)] = strip

    with ThreadPoolExecutor(len(copies)) as pool:
        # Each in a context of its own, in which it learns that the work is abandoned.
        filled = [pool.submit(copy_context().run, fill, part) for part in range(len(copies))]
    for part in filled:
        part.result()
    return pixels


def _to_srgb(image: VipsImage) -> VipsImage:
    if image.get_typeof("icc-profile-data"):
        if image.bands == 3 and image.get("icc-profile-data")[16:20] == b"GRAY":
            image = _gray_of(image)
        try:
            image = image.icc_transform(
                "srgb", embedded=True, intent="relative", black_point_compensation=True
            )
        except pyvips.Error:
            # A profile that does not fit its image is common, and the pixels are still there.
            image.remove("icc-profile-data")
    if image.interpretation != "srgb":
        image = image.colourspace("srgb")
    if image.bands != 3:
        image = (
            image.extract_band(0, n=3) if image.bands > 3 else image.extract_band(0).bandjoin([image[0]] * 2)
        )
    return image.cast("uchar")


def _gray_of(image: VipsImage) -> VipsImage:
    # WebP and palettes hold gray as RGB, which a profile of gray does not fit.
    image = image.copy_memory()
    red, green, blue = image.bandsplit()
    is_gray = max((red - green).abs().max(), (blue - green).abs().max()) <= GRAY_LEVELS
    return green.copy(interpretation="b-w") if is_gray and image.format == "uchar" else image


def _turned(size: Size, orientation: int) -> Size:
    return (size[1], size[0]) if orientation in _QUARTER_TURNS else size


def _to_stored(rect: RectPx, size: tuple[int, int], orientation: int) -> RectPx:
    # The inverse of `_to_upright` for rectangles; `size` is the upright one.
    x0, y0, x1, y1 = rect
    width, height = size
    mirrored_x, mirrored_y = (width - x1, width - x0), (height - y1, height - y0)
    stored_x, stored_y = {
        2: (mirrored_x, (y0, y1)),
        3: (mirrored_x, mirrored_y),
        4: ((x0, x1), mirrored_y),
        5: ((y0, y1), (x0, x1)),
        6: ((y0, y1), mirrored_x),
        7: (mirrored_y, mirrored_x),
        8: (mirrored_y, (x0, x1)),
    }.get(orientation, ((x0, x1), (y0, y1)))
    return stored_x[0], stored_y[0], stored_x[1], stored_y[1]


def _to_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    # The eight values of the EXIF tag Orientation.
    if orientation in _QUARTER_TURNS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
