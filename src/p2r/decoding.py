"""Reads a picture as it is stored: header, levels of detail, and fresh libvips pipelines at a scale.

`images` builds on it; nothing else does. A reader has been checked against the limits from its header alone,
so that nothing large is decoded before it is allowed. The loader is chosen here by the file's first bytes and
is one of a few; all other loaders of libvips (SVG, CSV, its own format, …) are blocked for the whole process.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import PIL.Image
import pyvips

from p2r.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VipsImage = Any  # pyvips ships no types

# What a file of each format begins with.
_SIGNATURES: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "jpegload"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "pngload"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "webpload"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "tiffload"),
    (re.compile(rb"GIF8[79]a"), "gifload"),
    (re.compile(rb".{4}ftyp(?:avi[fs]|hei[cxms]|hev[cmxs]|mif1|msf1)", re.DOTALL), "heifload"),
    (re.compile(rb"BM.{4}\0{4}", re.DOTALL), "bmp"),
)
_FORMATS = "JPEG, PNG, WebP, TIFF, GIF, AVIF or BMP"
_BMP_MAX_PIXELS = 80_000_000  # Pillow warns above 89 million
_MAX_LEVELS = 24


def _set_up_libvips() -> None:
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in ("Jpeg", "Png", "Webp", "Tiff", "Nsgif", "Heif"):
        pyvips.operation_block_set(f"VipsForeignLoad{loader}", False)
    # The cache of operations would keep decoded pictures and open files of earlier questions.
    pyvips.cache_set_max(0)
    if "VIPS_CONCURRENCY" not in os.environ:
        # Each pipeline holds buffers for each thread, and many pipelines run at a time.
        pyvips.concurrency_set(min(os.cpu_count() or 1, 8))


_set_up_libvips()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may be at most; checked from its header, before anything is decoded.

    Attributes:
        max_pixels: width × height.
        max_bytes: of the file, or of the decoded bytes of a data URI.
        max_whole_pixels: width × height of a picture that can only be decoded whole into memory: WebP, GIF,
            AVIF, interlaced PNG, progressive JPEG.
    """

    max_pixels: int = 1_500_000_000
    max_bytes: int = 512 * 1024 * 1024
    max_whole_pixels: int = 200_000_000


class Reader(Protocol):
    """A picture as it is stored, before its orientation is applied."""

    name: str
    width: int
    height: int
    orientation: int

    def load(self, shrink: float, *, whole: bool) -> VipsImage:
        """A fresh pipeline, reduced at most `shrink` times; `whole` when all of it will be read once."""
        ...


def vips_problem(error: pyvips.Error) -> str:
    """What libvips says, on one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("unable to ")]
    return "; ".join(dict.fromkeys(said)) or "libvips cannot read it"


def check_size(name: str, width: int, height: int, limits: Limits, *, whole: bool) -> None:
    """Refuse a picture whose header says that it is too large.

    Raises:
        InputError: names the picture, its size and the limit.
    """
    if min(width, height) < 1:
        raise InputError(f"{name}: the picture is empty ({width}×{height} pixels)")
    if width * height > limits.max_pixels:
        raise InputError(f"{name}: {width}×{height} pixels are more than the limit of {limits.max_pixels:,}")
    if whole and width * height > limits.max_whole_pixels:
        raise InputError(
            f"{name}: {width}×{height} pixels are more than the limit of {limits.max_whole_pixels:,} for a "
            "picture that must be decoded whole: save it as a tiled TIFF, a baseline JPEG or a plain PNG"
        )


def check_bytes(name: str, size: int, limits: Limits) -> None:
    """Refuse an empty or a too large file.

    Raises:
        InputError: names the picture, its size and the limit.
    """
    if size == 0:
        raise InputError(f"{name}: the file is empty (0 bytes)")
    if size > limits.max_bytes:
        raise InputError(f"{name}: {size:,} bytes are more than the limit of {limits.max_bytes:,}")


def read_path(path: Path, limits: Limits) -> Reader:
    """Open a file by its header.

    Raises:
        InputError: no such file, not a regular file, or not a picture that can be read.
    """
    name = str(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{name}: a folder, not a picture")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{name}: not a regular file")
        check_bytes(name, status.st_size, limits)
        with path.open("rb") as file:
            head = file.read(32)
            loader = _loader_for(name, head)
            if loader == "bmp":
                return _read_bmp(name, head + file.read(limits.max_bytes), limits)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: {getattr(error, 'strerror', None) or error}") from error
    return _read_encoded(name, loader, os.fsencode(path), "", limits)


def read_bytes(name: str, data: bytes, limits: Limits) -> Reader:
    """Open an encoded picture in memory by its header.

    Raises:
        InputError: not a picture that can be read.
    """
    check_bytes(name, len(data), limits)
    loader = _loader_for(name, data[:32])
    if loader == "bmp":
        return _read_bmp(name, data, limits)
    return _read_encoded(name, loader, data, "_buffer", limits)


def _loader_for(name: str, head: bytes) -> str:
    for signature, loader in _SIGNATURES:
        if signature.match(head):
            return loader
    raise InputError(f"{name}: not a picture in a known format ({_FORMATS})")


@dataclass(frozen=True, slots=True)
class _Level:
    width: int
    height: int
    options: Mapping[str, int] = field(default_factory=dict)


class EncodedReader:
    """A file or bytes in one of the known formats."""

    def __init__(self, name: str, loader: str, origin: bytes, suffix: str, limits: Limits) -> None:
        self.name = name
        self._loader = loader
        self._call = loader + suffix
        self._origin = origin
        header = self._open({}, "sequential")
        self.width: int = header.width
        self.height: int = header.height
        fields = set(header.get_fields())
        self.orientation: int = header.get("orientation") if "orientation" in fields else 1
        self._tiled = loader == "tiffload" and "tile-width" in fields
        whole = loader in ("webpload", "gifload", "heifload") or "interlaced" in fields
        check_size(name, self.width, self.height, limits, whole=whole)
        self._levels = self._find_levels(header, fields)

    def _open(self, options: Mapping[str, int], access: str) -> VipsImage:
        return pyvips.Operation.call(self._call, self._origin, access=access, fail_on="truncated", **options)

    def _find_levels(self, header: VipsImage, fields: set[str]) -> list[_Level]:
        levels = [_Level(self.width, self.height)]
        if self._loader == "jpegload":
            levels += [
                _Level(-(-self.width // shrink), -(-self.height // shrink), {"shrink": shrink})
                for shrink in (2, 4, 8)
            ]
        elif self._loader == "tiffload":
            levels += self._pyramid(header, fields)
        return levels

    def _pyramid(self, header: VipsImage, fields: set[str]) -> list[_Level]:
        # Levels are sub-directories of the first page (OME, COG by libvips) or the pages after it.
        if "n-subifds" in fields:
            candidates = [{"subifd": index} for index in range(header.get("n-subifds"))]
        else:
            pages = header.get("n-pages") if "n-pages" in fields else 1
            candidates = [{"page": index} for index in range(1, pages)]
        levels: list[_Level] = []
        for options in candidates[:_MAX_LEVELS]:
            try:
                page = self._open(options, "sequential")
            except pyvips.Error:
                break
            shrink = self.width / page.width
            # A page that is not a smaller copy of the first (another page of a document) ends the pyramid.
            if shrink < 1.5 or abs(self.height / shrink - page.height) > 2 + page.height / 100:
                break
            levels.append(_Level(page.width, page.height, options))
        return levels

    def load(self, shrink: float, *, whole: bool) -> VipsImage:
        """See `Reader.load`."""
        small_enough = [level for level in self._levels if level.width * shrink >= self.width]
        level = min(small_enough, key=lambda level: level.width)
        # Only tiled files can be read out of order; for all others "random" would decode the whole.
        access = "random" if self._tiled and not whole else "sequential"
        return self._open(level.options, access)


def _read_encoded(name: str, loader: str, origin: bytes, suffix: str, limits: Limits) -> Reader:
    try:
        return EncodedReader(name, loader, origin, suffix, limits)
    except pyvips.Error as error:
        raise InputError(f"{name}: {vips_problem(error)}") from error


class MemoryReader:
    """Pixels in memory, shape (height, width, bands), uint8 or uint16."""

    def __init__(
        self,
        name: str,
        pixels: np.ndarray,
        limits: Limits,
        *,
        cmyk: bool = False,
        profile: bytes | None = None,
    ) -> None:
        self.name = name
        self.height, self.width, bands = pixels.shape
        self.orientation = 1
        check_size(name, self.width, self.height, limits, whole=False)
        pixels = np.ascontiguousarray(pixels)
        wide = pixels.dtype == np.uint16
        image = pyvips.Image.new_from_memory(
            pixels.data, self.width, self.height, bands, "ushort" if wide else "uchar"
        )
        grey, colour = ("grey16", "rgb16") if wide else ("b-w", "srgb")
        image = image.copy(interpretation="cmyk" if cmyk else grey if bands < 3 else colour)
        if profile:
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        self._image = image

    def load(self, shrink: float, *, whole: bool) -> VipsImage:  # noqa: ARG002 - the protocol's
        """See `Reader.load`."""
        return self._image


def read_array(array: np.ndarray, limits: Limits) -> Reader:
    """Open an array: uint8, uint16 or bool; (height, width), or with 1, 3 or 4 channels (grey, RGB, RGBA).

    The array is not copied where it is contiguous: do not write to it afterwards.

    Raises:
        InputError: another shape or type.
    """
    name = f"array {'×'.join(map(str, array.shape))} {array.dtype}"
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise InputError(f"{name}: a picture is (height, width) or (height, width, 1, 3 or 4)")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{name}: its range is not known: convert it to uint8 (0–255) or uint16 (0–65535)")
    return MemoryReader(name, array, limits)


def read_pil(image: PIL.Image.Image, limits: Limits) -> Reader:
    """Open a PIL picture: its EXIF orientation, transparency, palette and ICC profile are taken along.

    Raises:
        InputError: it cannot be decoded, or is of a mode without a known range.
    """
    name = str(getattr(image, "filename", "") or f"PIL picture {image.mode} {image.width}×{image.height}")
    check_size(name, image.width, image.height, limits, whole=False)
    profile = image.info.get("icc_profile")
    try:
        orientation = image.getexif().get(0x0112, 1)
        if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
            image = image.convert("RGBA")
        elif image.mode in ("1", "RGBX", "YCbCr", "HSV", "LAB"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{name}: {error}") from error
    if pixels.dtype == np.int32 and pixels.size and pixels.min() >= 0 and pixels.max() <= 65535:
        pixels = pixels.astype(np.uint16)
    if image.mode not in ("L", "RGB", "RGBA", "CMYK") and pixels.dtype.kind != "u":
        raise InputError(f"{name}: mode {image.mode} has no known range: convert it to RGB")
    pixels = pixels.astype(pixels.dtype.newbyteorder("=")).reshape(*pixels.shape[:2], -1)
    reader = MemoryReader(name, pixels, limits, cmyk=image.mode == "CMYK", profile=profile)
    reader.orientation = orientation if orientation in range(1, 9) else 1
    return reader


def _read_bmp(name: str, data: bytes, limits: Limits) -> Reader:
    # libvips has no loader of its own for BMP.
    if len(data) < 26:
        raise InputError(f"{name}: the file is truncated")
    width, height = struct.unpack_from("<ii", data, 18)
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    bmp_limits = Limits(limits.max_pixels, limits.max_bytes, min(limits.max_whole_pixels, _BMP_MAX_PIXELS))
    check_size(name, abs(width), abs(height), bmp_limits, whole=True)
    try:
        image = PIL.Image.open(io.BytesIO(data), formats=["BMP"])
        image.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{name}: {error}") from error
    reader = read_pil(image, limits)
    reader.name = name
    return reader
