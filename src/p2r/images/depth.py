"""Stretching of deep images (more than 8 bits a sample) that use a small part of their range.

Microscopes, satellites and thermal cameras write 10 to 14 bits into 16, or floating-point samples without a
known range. Shown as they are, such images are black. There is one linear stretch for an image: the same for
its overview and its crops, so that a pixel has one value, and for all channels, so that colors keep their
balance.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from p2r.images._vips import color_bands, strips

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.images._vips import RectPx, Size, VipsImage
    from p2r.images.decoders import Reader

FULL = 65535
NARROW = 2**14  # an image that uses more of the range is shown as it is
VIEW_PIXELS = 2048 * 2048  # of the level of a pyramid in which the range is looked for
# In each direction, and their side in pixels, for an image that is not read whole.
WINDOWS, WINDOW = 8, 512


@dataclass(frozen=True, slots=True)
class UsedRange:
    """The lowest and the highest sample of an image, without single hot and dead pixels."""

    low: float
    high: float
    is_float: bool

    @property
    def note(self) -> str:
        """A note on the stretch."""
        if self.is_float:
            return f"32-bit samples use {self.low:,.7g}–{self.high:,.7g}: stretched to the full range"
        used = f"{self.low:,.0f}–{self.high:,.0f} of {FULL:,}"
        return f"16-bit samples use {used}: stretched to the full range"

    def stretch(self, image: VipsImage) -> VipsImage:
        """The image with 16 bits a sample: `low` is 0 and `high` 65,535. Transparency is unchanged."""
        colors = color_bands(image)
        others = image.bands - colors
        scale = FULL / (self.high - self.low)
        if self.is_float:
            image = (image == image).ifthenelse(image, self.low)  # NaN
        # The half rounds: libvips cuts the fraction off.
        offsets = [0.5 - self.low * scale] * colors + [0.5] * others
        stretched = image.linear([scale] * colors + [1.0] * others, offsets).cast("ushort")
        return stretched.copy(interpretation="grey16" if colors == 1 else "rgb16")


class StretchedReader:
    """Reads the image of another reader stretched, or as it is if it uses its range."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.name, self.orientation, self.bits = reader.name, reader.orientation, 16
        self.width, self.height = reader.width, reader.height
        self._used: UsedRange | None = None
        self._searched = False
        self._lock = threading.Lock()

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Reader.notes`."""
        return (*self._reader.notes, *([self._used.note] if self._used else []))

    def read(self, wanted: Sequence[tuple[RectPx, Size]]) -> Iterator[Sequence[VipsImage]]:
        """See `Reader.read`."""
        with self._lock:
            if not self._searched:
                self._used, self._searched = self._search(), True
        for images in self._reader.read(wanted):
            yield [self._used.stretch(image) for image in images] if self._used else images

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """See `Reader.cost`."""
        return self._reader.cost(wanted)

    def _search(self) -> UsedRange | None:
        width, height = self._reader.width, self._reader.height
        share = min(1.0, (VIEW_PIXELS / (width * height)) ** 0.5)
        size = max(1, int(width * share)), max(1, int(height * share))
        image, *copies = next(iter(self._reader.read([((0, 0, width, height), size)])))
        if image.format not in ("ushort", "float") or image.interpretation == "cmyk":
            return None
        if copies:
            # Large, and can be read at any place: parts of it, spread evenly, are enough.
            return used_range(image, list(_windows(image.width, image.height)), complete=False)
        rect = (0, 0, image.width, image.height)
        return used_range(image, [rect], complete=image.width == width)


def _windows(width: int, height: int) -> Iterator[RectPx]:
    across, down = min(width, WINDOW), min(height, WINDOW)
    for row in range(WINDOWS):
        for column in range(WINDOWS):
            left, top = (width - across) * column // (WINDOWS - 1), (height - down) * row // (WINDOWS - 1)
            yield left, top, left + across, top + down


def used_range(image: VipsImage, rects: Sequence[RectPx], *, complete: bool) -> UsedRange | None:
    """The range that an image uses, or None if it is not clearly narrower than what its samples can hold.

    Args:
        image: the image, or a smaller level of it.
        rects: the parts that are read, until the range is found to be wide.
        complete: all pixels of the image are in them. Otherwise its extremes may be missing, or averaged
            away, and there is room left for them.

    Raises:
        pyvips.Error: the image is damaged.
    """
    colors = color_bands(image)
    is_float = image.format == "float"
    least, most = (-np.inf, np.inf) if is_float else (0, FULL)
    low = darkest = np.inf
    high = lightest = -np.inf
    for _, strip in chain.from_iterable(strips(image, rect) for rect in rects):
        dark = light = strip[:, :, :colors]
        if is_float or image.hasalpha():
            # What cannot be seen does not count: NaN, infinity, and transparent pixels.
            seen = np.isfinite(dark) & (strip[:, :, -1:] > 0 if image.hasalpha() else np.True_)
            dark, light = np.where(seen, dark, most), np.where(seen, light, least)
        darkest, lightest = min(darkest, float(dark.min())), max(lightest, float(light.max()))
        low = min(low, float(_pooled(np.maximum, dark).min()))
        high = max(high, float(_pooled(np.minimum, light).max()))
        # A color image that is narrow and not dark is a photograph of low contrast, not a measurement.
        if not is_float and (high if colors > 1 else high - low) >= NARROW:
            return None
    if not low < high:
        return UsedRange(0.0, 1.0, is_float) if is_float else None
    near = (high - low) / 4
    if not complete:
        darkest, lightest = low - near, high + near
    # Single pixels count after all if they are not far off, so that nothing is cut.
    low = darkest if low - darkest <= near else low
    high = lightest if lightest - high <= near else high
    return UsedRange(low, high, is_float) if is_float else UsedRange(max(0.0, low), min(FULL, high), is_float)


def _pooled(ufunc: np.ufunc, samples: np.ndarray) -> np.ndarray:
    # Over 2×2 pixels: an extreme of a single pixel (a hot or a dead one) goes, an object stays.
    if samples.shape[0] > 1:
        samples = ufunc(samples[:-1], samples[1:])
    return ufunc(samples[:, :-1], samples[:, 1:]) if samples.shape[1] > 1 else samples
