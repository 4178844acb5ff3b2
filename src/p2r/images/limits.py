"""What an image may be at most, checked before anything is decoded."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.errors import InputError
from p2r.images.formats import HEAD_BYTES

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """What an image may be at most; checked from its header, before anything is decoded.

    Attributes:
        max_pixels: width × height.
        max_bytes: of encoded bytes in memory: given as bytes, or as a data URI (after decoding).
        max_file_bytes: of a file, which is read piece by piece.
        max_side: width or height.
        max_decoded_bytes: that decoding may take. What can only be decoded whole (WebP, GIF, AVIF, HEIC, BMP,
            interlaced PNG, progressive JPEG) takes up to 28 bytes a pixel, what is read by rows much less.
    """

    max_pixels: int = 1_500_000_000
    max_bytes: int = 512 * 1024 * 1024
    max_file_bytes: int = 8 * 1024 * 1024 * 1024
    max_side: int = 1_000_000
    max_decoded_bytes: int = 4 * 1024 * 1024 * 1024


def check_size(name: str, width: int, height: int, limits: Limits, *, whole_bytes: int = 0) -> None:
    """Refuse an image whose header says that it is too large.

    Args:
        name, width, height: of the image.
        limits: what it may be at most.
        whole_bytes: that decoding takes where it can only be decoded whole.

    Raises:
        InputError: names the image, its size and the limit.
    """
    if min(width, height) < 1:
        raise InputError(f"{name}: the image is empty ({width}×{height} pixels)")
    if width * height > limits.max_pixels:
        raise InputError(f"{name}: {width}×{height} pixels are more than the limit of {limits.max_pixels:,}")
    if max(width, height) > limits.max_side:
        raise InputError(
            f"{name}: a side of {max(width, height):,} pixels is more than the limit of {limits.max_side:,}: "
            "cut it into parts"
        )
    check_decoding(name, (width, height), whole_bytes, limits)


def check_decoding(name: str, size: tuple[int, int], nbytes: int, limits: Limits) -> None:
    """Refuse to decode what takes too much memory.

    Raises:
        InputError: names the image, its size, what it takes and the limit.
    """
    if nbytes > limits.max_decoded_bytes:
        raise InputError(
            f"{name}: to decode {size[0]}×{size[1]} pixels of this kind takes {nbytes:,} bytes, more than "
            f"the limit of {limits.max_decoded_bytes:,}: make it smaller, or save it as a tiled TIFF, "
            "a baseline JPEG or a plain PNG of 8 bits"
        )


def check_bytes(name: str, size: int, most: int) -> None:
    """Refuse an empty or a too large file or bytes.

    Raises:
        InputError: names the image, its size and the limit.
    """
    if size == 0:
        raise InputError(f"{name}: the file is empty (0 bytes)")
    if size > most:
        raise InputError(f"{name}: {size:,} bytes are more than the limit of {most:,}")


def read_file(path: Path, limits: Limits) -> tuple[str, bytes]:
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
