"""What libvips does not tell of an encoded file, read from the file's own header."""

from __future__ import annotations

import binascii
import io
import struct
import zlib
from contextlib import closing, suppress
from typing import TYPE_CHECKING, BinaryIO

from p2r.images.tiff import exif_orientation, opened, xmp_orientation

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.types import RectPx

MAX_BLOCKS = 200_000  # that are looked at in a file
MAX_TEXT_BYTES = 1 << 20  # of metadata in one of them


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
