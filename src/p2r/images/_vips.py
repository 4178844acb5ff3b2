"""libvips for images from strangers: set up once for the process, and the helpers that readers share."""

from __future__ import annotations

import io
import logging
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import pyvips

from p2r.images.threads import raise_if_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from p2r.images.sizing import RectPx

VipsImage = Any  # pyvips ships no types
Size = tuple[int, int]

STRIP_ROWS = 32  # small enough that the memory of one strip is used again for the next


class _Ear(logging.Handler):
    """Keeps what libvips warns of in the thread that listens."""

    def emit(self, record: logging.LogRecord) -> None:
        heard = getattr(_listening, "heard", None)
        if heard is not None and record.levelno >= logging.WARNING:
            text = record.getMessage().removeprefix("VIPS: ")
            heard.append("".join(letter if letter.isprintable() else " " for letter in text)[:200])


_listening = threading.local()


@contextmanager
def heard_warnings() -> Iterator[list[str]]:
    """What libvips warns of in this thread while it opens a file, each once, one line each."""
    heard: list[str] = []
    _listening.heard = heard
    try:
        yield heard
    finally:
        _listening.heard = None
        heard[:] = dict.fromkeys(heard)


def _set_up() -> None:
    # All other loaders (SVG, CSV, raw, libvips' own format, …) are not made for hostile files.
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in ("Jpeg", "Png", "Webp", "Tiff", "Nsgif", "Heif"):
        pyvips.operation_block_set(f"VipsForeignLoad{loader}", False)
    # The cache of operations would keep decoded images and open files of earlier questions.
    pyvips.cache_set_max(0)
    if "VIPS_CONCURRENCY" not in os.environ:
        # Each pipeline holds buffers for each thread, and many pipelines run at a time.
        pyvips.concurrency_set(min(os.cpu_count() or 1, 4))
    # What libvips warns of is raised here or harmless; without a handler Python would print it.
    logging.getLogger("pyvips").addHandler(_Ear())


_set_up()


def vips_problem(error: Exception) -> str:
    """What went wrong in a decoder, on one line."""
    # libvips' log is one for the process and keeps warnings too: the last line that says something is ours.
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if re.search("[a-z]", line) and "unable to " not in line]
    said = f" ({lines[-1][:200]})" if lines else ""
    return f"cannot be decoded: it is truncated, damaged, or of a kind that is not supported{said}"


@dataclass(frozen=True)
class Level:
    """A size in which a file offers its image, and how to open it (with `random` or `sequential` access).

    `margin`: how many times as large as what is wanted it must be.
    """

    width: int
    height: int
    open: Callable[[str], VipsImage]
    margin: int = 1


def opened(origin: Path | bytes) -> BinaryIO:
    """A file, or bytes as one."""
    return (
        io.BytesIO(origin) if isinstance(origin, bytes) else cast("BinaryIO", origin.open("rb", buffering=0))
    )


def crop(image: VipsImage, rect: RectPx) -> VipsImage:
    """A rectangle of an image, in its own pixels."""
    x0, y0, x1, y1 = rect
    return image.crop(x0, y0, x1 - x0, y1 - y0)


# libvips' name for a type of samples → numpy's: the types that readers let through.
SampleType = type[np.uint8] | type[np.uint16] | type[np.float32]
_SAMPLE_TYPES: dict[str, SampleType] = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}


def sample_type(image: VipsImage) -> SampleType:
    """The numpy type of an image's samples."""
    return _SAMPLE_TYPES[image.format]


def strips(image: VipsImage, rect: RectPx) -> Iterator[tuple[int, np.ndarray]]:
    """A rectangle from its top, in strips: `(y, pixels)`, pixels of shape (rows, width, bands).

    Raises:
        pyvips.Error: the image is damaged there.
        Cancelled: nobody waits for the pixels any more.
    """
    left, top, right, bottom = rect
    region = pyvips.Region.new(image)
    for y in range(top, bottom, STRIP_ROWS):
        raise_if_cancelled()
        rows = min(STRIP_ROWS, bottom - y)
        fetched = np.frombuffer(region.fetch(left, y, right - left, rows), sample_type(image))
        yield y, fetched.reshape(rows, right - left, image.bands)


def as_array(image: VipsImage) -> np.ndarray:
    """All pixels of an image, shape (height, width, bands)."""
    pixels = np.frombuffer(image.write_to_memory(), sample_type(image))
    return pixels.reshape(image.height, image.width, image.bands)


def resizing_bytes(width: int, height: int, pixel_bytes: int, shrink: float) -> int:
    """What libvips holds of an image of this size while it is read from the top and shrunk by a factor.

    Measured (docs/images.md): rows of the image, more with every thread, up to several copies of it. A
    factor above five is taken in steps.
    """
    threads = pyvips.concurrency_get()
    rows = min(height * (2 + threads / 2), 500 + min(shrink, 5) * (200 + 100 * threads))
    return int(width * pixel_bytes * rows)


def from_array(pixels: np.ndarray, interpretation: str, profile: bytes | None) -> VipsImage:
    """Pixels of shape (height, width, bands), of a type in `_SAMPLE_TYPES`, for libvips; not copied."""
    height, width, bands = pixels.shape
    kind = next(name for name, kind in _SAMPLE_TYPES.items() if kind == pixels.dtype)
    image = pyvips.Image.new_from_memory(pixels.data, width, height, bands, kind)
    image = image.copy(interpretation=interpretation)
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def like(image: VipsImage, pixels: np.ndarray) -> VipsImage:
    """Pixels as an image with the colors (interpretation, ICC profile) of another."""
    profile = image.get("icc-profile-data") if image.get_typeof("icc-profile-data") else None
    return from_array(pixels, image.interpretation, profile)
