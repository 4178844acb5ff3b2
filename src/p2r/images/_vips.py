"""libvips, set up once for the process for images from strangers, and helpers on its images."""

from __future__ import annotations

import logging
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyvips

from p2r.images.threads import raise_if_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VipsImage = Any  # pyvips ships no types
Size = tuple[int, int]  # (width, height)
RectPx = tuple[int, int, int, int]  # (x0, y0, x1, y1), half-open: x1 and y1 are outside

STRIP_ROWS = 32  # small enough that the memory of one strip is used again for the next

# The types of samples that are read: libvips' name and numpy's.
SAMPLE_TYPES = {name: np.dtype(kind) for name, kind in (("uchar", "u1"), ("ushort", "u2"), ("float", "f4"))}

_captured = threading.local()


class _WarningHandler(logging.Handler):
    """Keeps the warnings of libvips in a thread that captures them, and drops all other records."""

    def emit(self, record: logging.LogRecord) -> None:
        warnings = getattr(_captured, "warnings", None)
        if warnings is not None and record.levelno >= logging.WARNING:
            text = record.getMessage().removeprefix("VIPS: ")
            warnings.append("".join(letter if letter.isprintable() else " " for letter in text)[:200])


@contextmanager
def captured_warnings() -> Iterator[list[str]]:
    """The warnings of libvips in this thread, each once and on one line; complete after the block."""
    _captured.warnings = warnings = list[str]()
    try:
        yield warnings
    finally:
        _captured.warnings = None
        warnings[:] = dict.fromkeys(warnings)


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
    # What matters is raised or noted; without a handler Python would print the rest.
    logging.getLogger("pyvips").addHandler(_WarningHandler())


_set_up()


def vips_problem(error: Exception) -> str:
    """What went wrong in a decoder, on one line."""
    # libvips has one log for the process, with warnings in it: the last line of words is the error.
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if re.search("[a-z]", line) and "unable to " not in line]
    reason = f" ({lines[-1][:200]})" if lines else ""
    return f"cannot be decoded: it is truncated, damaged, or of a kind that is not supported{reason}"


@dataclass(frozen=True)
class Level:
    """A size at which a file offers its image.

    Attributes:
        width, height: in pixels.
        open: opens it with `random` or `sequential` access.
        margin: it is used for what is at least this many times smaller.
    """

    width: int
    height: int
    open: Callable[[str], VipsImage]
    margin: int = 1


def crop(image: VipsImage, rect: RectPx) -> VipsImage:
    """A rectangle of an image."""
    x0, y0, x1, y1 = rect
    return image.crop(x0, y0, x1 - x0, y1 - y0)


def color_bands(image: VipsImage) -> int:
    """Bands without transparency, and without the further channels of a satellite or a microscope."""
    return {"b-w": 1, "grey16": 1, "cmyk": 4}.get(image.interpretation, min(3, int(image.bands)))


def pixel_bytes(image: VipsImage) -> int:
    """Bytes of a pixel."""
    return int(image.bands * SAMPLE_TYPES[image.format].itemsize)


def strips(image: VipsImage, rect: RectPx) -> Iterator[tuple[int, np.ndarray]]:
    """A rectangle from its top, in strips: `(y, pixels)`, pixels of shape (rows, width, bands).

    Raises:
        pyvips.Error: the image is damaged there.
        Cancelled: the work was cancelled.
    """
    left, top, right, bottom = rect
    region = pyvips.Region.new(image)
    for y in range(top, bottom, STRIP_ROWS):
        raise_if_cancelled()
        rows = min(STRIP_ROWS, bottom - y)
        pixels = np.frombuffer(region.fetch(left, y, right - left, rows), SAMPLE_TYPES[image.format])
        yield y, pixels.reshape(rows, right - left, image.bands)


def as_array(image: VipsImage) -> np.ndarray:
    """All pixels, shape (height, width, bands)."""
    pixels = np.frombuffer(image.write_to_memory(), SAMPLE_TYPES[image.format])
    return pixels.reshape(image.height, image.width, image.bands)


def from_array(pixels: np.ndarray, interpretation: str, profile: bytes | None = None) -> VipsImage:
    """An image that shares the memory of pixels of shape (height, width, bands)."""
    height, width, bands = pixels.shape
    kind = next(name for name, kind in SAMPLE_TYPES.items() if kind == pixels.dtype)
    image = pyvips.Image.new_from_memory(pixels.data, width, height, bands, kind)
    return with_profile(image.copy(interpretation=interpretation), profile)


def icc_profile(image: VipsImage) -> bytes | None:
    """The ICC profile of an image."""
    return image.get("icc-profile-data") if image.get_typeof("icc-profile-data") else None


def with_profile(image: VipsImage, profile: bytes | None) -> VipsImage:
    """Set or remove the ICC profile of an image that is not shared, such as a fresh copy."""
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    else:
        image.remove("icc-profile-data")
    return image


def resizing_bytes(width: int, height: int, pixel: int, shrink: float) -> int:
    """Memory that libvips takes to read an image from the top and shrink it.

    Measured (docs/images.md): rows of the image, more with every thread, up to several copies of the image.
    A factor above five is taken in steps. `pixel` is the bytes of one.
    """
    threads = pyvips.concurrency_get()
    rows = min(height * (2 + threads / 2), 500 + min(shrink, 5) * (200 + 100 * threads))
    return int(width * pixel * rows)
