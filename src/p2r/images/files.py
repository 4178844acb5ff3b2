"""Encoded files that libvips reads, but TIFF: how they are opened, and what it does not say of them."""

from __future__ import annotations

import binascii
import io
import os
import re
import struct
import zlib
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import pyvips

from p2r.errors import InputError
from p2r.images._vips import Level, crop, opened
from p2r.images.tiff import exif_orientation, xmp_orientation

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.images._vips import VipsImage
    from p2r.images.sizing import RectPx

MAX_BLOCKS = 200_000  # that are looked at in a file
MAX_TEXT_BYTES = 1 << 20  # of metadata in one of them


class VipsFile:
    """A file that libvips reads, or its bytes.

    Attributes:
        orientation: 1 to 8, as EXIF has it.
        bits: of a sample: 8 or 16.
        whole_bytes: that decoding takes where it can only be decoded whole into memory; 0 where it is read by
            rows.
        tile_row_bytes: 0; see `TiffFile`.
        notes: what was left out.

    Raises:
        InputError, pyvips.Error: it cannot be read.
    """

    tile_row_bytes = 0

    def __init__(self, name: str, loader: str, origin: Path | bytes) -> None:
        self._origin = origin
        self._loader = f"{loader}_buffer" if isinstance(origin, bytes) else loader
        self._frame = gif_frame(origin) if loader == "gifload" else None
        header = self.open()
        if header.format not in ("uchar", "ushort"):
            raise InputError(f"{name}: samples of type {header.format}: save it with 8 or 16 bits a sample")
        self.bits = 8 if header.format == "uchar" else 16
        self.orientation = self._orientation(header, loader)
        self.whole_bytes = header.width * header.height * _whole_pixel_bytes(header, loader)
        images = header.get("n-pages") if header.get_typeof("n-pages") else 1
        self.notes = (f"the file has {images} images: the first was read",) if images > 1 else ()
        self._size = header.width, header.height
        self._shrinks = loader == "jpegload" and not is_lossless_jpeg(origin)

    def open(self, access: str = "sequential", **options: int) -> VipsImage:
        """The image as it is stored.

        Raises:
            pyvips.Error: it cannot be read.
        """
        origin = self._origin if isinstance(self._origin, bytes) else os.fsencode(self._origin)
        image = pyvips.Operation.call(self._loader, origin, access=access, fail_on="truncated", **options)
        if self._frame and self._frame != (0, 0, image.width, image.height):
            # Nothing was drawn outside of the first frame of a GIF.
            left, top, right, bottom = self._frame
            frame = crop(image, (left, top, min(right, image.width), min(bottom, image.height)))
            white = [255] * image.bands
            image = frame.embed(left, top, image.width, image.height, extend="background", background=white)
        return image

    def levels(self) -> list[Level]:
        """The sizes in which it can be decoded, the full one first."""
        width, height = self._size
        levels = [Level(width, height, self.open)]
        for shrink in (2, 4, 8) if self._shrinks else ():
            # libvips leaves out a last row or column that is not whole, and the rest would be stretched.
            if width % shrink == 0 == height % shrink:
                # The decoder blurs what it shrinks: bicubic at twice the size and above makes it sharp.
                opens = partial(self.open, shrink=shrink)
                levels.append(Level(width // shrink, height // shrink, opens, margin=2))
        return levels

    def _orientation(self, header: VipsImage, loader: str) -> int:
        if loader == "heifload":
            return 1  # it is upright already
        if loader == "pngload":
            return png_orientation(self._origin) or 1
        names = ("exif-data", "xmp-data")
        exif, xmp = (header.get(name) if header.get_typeof(name) else b"" for name in names)
        return exif_orientation(exif) or xmp_orientation(xmp) or 1


def _whole_pixel_bytes(header: VipsImage, loader: str) -> int:
    # What a pixel takes while the whole image is decoded, as measured (docs/images.md).
    if loader == "webpload":
        return 8  # the frame and its canvas, both with transparency
    if loader == "gifload":
        return 5
    if loader == "heifload":
        return 20 if header.format == "uchar" else 26  # planes of the codec, of libheif, and RGB
    if header.get_typeof("interlaced") == 0:
        return 0
    if loader == "jpegload":
        return int(2 * header.bands)  # the coefficients of a progressive file
    return int(header.bands * (1 if header.format == "uchar" else 2))


def png_orientation(origin: Path | bytes) -> int:
    """The orientation of a PNG file, wherever it is written: EXIF, EXIF in hex digits, XMP; 0 without."""
    found = {"exif": 0, "hex": 0, "xmp": 0}
    with closing(opened(origin)) as file:
        file.seek(8)
        for _ in range(MAX_BLOCKS):
            head = file.read(8)
            size, kind = int.from_bytes(head[:4], "big"), head[4:]
            if len(head) < 8 or kind == b"IEND":
                break
            if kind == b"eXIf" and size <= MAX_TEXT_BYTES:
                found["exif"] = exif_orientation(file.read(size))
                size = 0
            elif kind in (b"tEXt", b"zTXt", b"iTXt") and size <= MAX_TEXT_BYTES:
                keyword, text = _png_text(kind, file.read(size))
                if keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
                    # A line with a name, a line with the number of bytes, and lines of hex digits.
                    digits = b"".join(text.lstrip().split(b"\n", 2)[-1].split())
                    with suppress(binascii.Error):
                        found["hex"] = exif_orientation(binascii.unhexlify(digits))
                elif keyword == b"XML:com.adobe.xmp":
                    found["xmp"] = xmp_orientation(text)
                size = 0
            file.seek(size + 4, io.SEEK_CUR)
    return found["exif"] or found["hex"] or found["xmp"]


def _png_text(kind: bytes, data: bytes) -> tuple[bytes, bytes]:
    keyword, _, text = data.partition(b"\0")
    compressed = kind == b"zTXt"
    if compressed:
        text = text[1:]
    elif kind == b"iTXt":
        compressed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
    if compressed:
        try:
            text = zlib.decompressobj().decompress(text, MAX_TEXT_BYTES)
        except zlib.error:
            text = b""
    return keyword, text


def gif_frame(origin: Path | bytes) -> RectPx | None:
    """The rectangle of a GIF file's first frame on its canvas; None when it cannot be read."""
    with closing(opened(origin)) as file:
        head = file.read(13)
        if len(head) == 13 and head[10] & 0x80:
            file.seek(3 * 2 ** ((head[10] & 7) + 1), io.SEEK_CUR)
        for _ in range(MAX_BLOCKS):
            kind = file.read(1)
            if kind == b",":
                place = file.read(8)
                left, top, width, height = struct.unpack("<4H", place.ljust(8, b"\0"))
                return (left, top, left + width, top + height) if width and height else None
            if kind != b"!":
                return None
            file.seek(1, io.SEEK_CUR)
            while size := int.from_bytes(file.read(1), "big"):
                file.seek(size, io.SEEK_CUR)
    return None


def is_lossless_jpeg(origin: Path | bytes) -> bool:
    """Whether a JPEG file is of the lossless kind, which cannot be decoded at a smaller size."""
    with closing(opened(origin)) as file:
        file.seek(2)
        for _ in range(MAX_BLOCKS):
            marker = _jpeg_marker(file)
            if marker is None:
                break
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # tables, and what is reserved
                return marker in (0xC3, 0xC7, 0xCB, 0xCF)
            file.seek(max(0, int.from_bytes(file.read(2), "big") - 2), io.SEEK_CUR)
    return False


def _jpeg_marker(file: BinaryIO) -> int | None:
    byte = file.read(1)
    for _ in range(MAX_BLOCKS):
        if byte != b"\xff":
            return None if not byte else byte[0]
        byte = file.read(1)
    return None


def is_monochrome_avif(origin: Path | bytes) -> bool:
    """Whether an AVIF file has gray only (and perhaps transparency)."""
    with closing(opened(origin)) as file:
        for _ in range(MAX_BLOCKS):
            head = file.read(8)
            size = int.from_bytes(head[:4], "big")
            if head[4:] == b"meta":
                # The configuration of each item's AV1 stream; the flag is the fourth bit of the third byte.
                flags = re.findall(rb"av1C..(.)", file.read(min(size, MAX_TEXT_BYTES)), re.DOTALL)
                return bool(flags) and all(flag[0] & 0x10 for flag in flags)
            if size < 8:
                break
            file.seek(size - 8, io.SEEK_CUR)
    return False
