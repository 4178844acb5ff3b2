"""Metadata that libvips does not give: orientation of PNG, first frame of GIF, kinds of JPEG and AVIF."""

from __future__ import annotations

import binascii
import io
import re
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

from p2r.images.formats import open_binary
from p2r.images.tiff_pages import exif_orientation, xmp_orientation

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.images._vips import RectPx

MAX_BLOCKS = 200_000  # of a file
MAX_TEXT_BYTES = 1 << 20  # of metadata in one block


def png_orientation(origin: Path | bytes) -> int:
    """The orientation of a PNG file: from EXIF, from EXIF in hex digits, or from XMP; 0 without."""
    found = {"exif": 0, "hex": 0, "xmp": 0}
    with open_binary(origin) as file:
        file.seek(8)
        for _ in range(MAX_BLOCKS):
            head = file.read(8)
            size, kind = int.from_bytes(head[:4], "big"), head[4:]
            if len(head) < 8 or kind == b"IEND":
                break
            if kind not in (b"eXIf", b"tEXt", b"zTXt", b"iTXt") or size > MAX_TEXT_BYTES:
                file.seek(size + 4, io.SEEK_CUR)
                continue
            data = file.read(size + 4)[:size]
            keyword, text = (kind, data) if kind == b"eXIf" else _png_text(kind, data)
            if kind == b"eXIf":
                found["exif"] = exif_orientation(text)
            elif keyword == b"XML:com.adobe.xmp":
                found["xmp"] = xmp_orientation(text)
            elif keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
                # A line with a name, a line with the number of bytes, and lines of hex digits.
                digits = b"".join(text.lstrip().split(b"\n", 2)[-1].split())
                with suppress(binascii.Error):
                    found["hex"] = exif_orientation(binascii.unhexlify(digits))
    return found["exif"] or found["hex"] or found["xmp"]


def _png_text(kind: bytes, data: bytes) -> tuple[bytes, bytes]:
    # The keyword and the text of a block.
    keyword, _, text = data.partition(b"\0")
    compressed = kind == b"zTXt" or (kind == b"iTXt" and text[:1] == b"\1")
    text = {b"zTXt": text[1:], b"iTXt": text[2:].split(b"\0", 2)[-1]}.get(kind, text)
    if compressed:
        try:
            text = zlib.decompressobj().decompress(text, MAX_TEXT_BYTES)
        except zlib.error:
            text = b""
    return keyword, text


def gif_frame(origin: Path | bytes) -> RectPx | None:
    """The rectangle of the first frame of a GIF file; None if it cannot be read."""
    with open_binary(origin) as file:
        head = file.read(13)
        if len(head) == 13 and head[10] & 0x80:
            file.seek(3 * 2 ** ((head[10] & 7) + 1), io.SEEK_CUR)
        for _ in range(MAX_BLOCKS):
            kind = file.read(1)
            if kind == b",":
                left, top, width, height = struct.unpack("<4H", file.read(8).ljust(8, b"\0"))
                return (left, top, left + width, top + height) if width and height else None
            if kind != b"!":
                break
            file.seek(1, io.SEEK_CUR)
            while size := int.from_bytes(file.read(1), "big"):
                file.seek(size, io.SEEK_CUR)
    return None


def is_lossless_jpeg(origin: Path | bytes) -> bool:
    """Whether a JPEG file is of the lossless kind, which cannot be decoded at a smaller size."""
    with open_binary(origin) as file:
        file.seek(2)
        for _ in range(MAX_BLOCKS):
            marker = file.read(1)
            if marker == b"\xff":
                continue
            if not marker:
                break
            if 0xC0 <= marker[0] <= 0xCF and marker not in b"\xc4\xc8\xcc":  # tables, and what is reserved
                return marker in b"\xc3\xc7\xcb\xcf"
            file.seek(max(0, int.from_bytes(file.read(2), "big") - 2), io.SEEK_CUR)
    return False


def is_monochrome_avif(origin: Path | bytes) -> bool:
    """Whether an AVIF file is gray, with or without transparency."""
    with open_binary(origin) as file:
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
