"""The final pixels of an image for a model, and their encoding for transport."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pybase64

from p2r.errors import InputError
from p2r.images._vips import from_array

if TYPE_CHECKING:
    from collections.abc import Iterable

PNG_MAX_PIXELS = 500_000
JPEG_QUALITY = 95


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """Final pixels for a model.

    Attributes:
        pixels: RGB, uint8, shape (height, width, 3), read-only.
    """

    pixels: np.ndarray

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise InputError(
                f"an image is uint8 (height, width, 3), not {self.pixels.dtype} {self.pixels.shape}"
            )
        pixels = np.ascontiguousarray(self.pixels).view()
        pixels.flags.writeable = False
        object.__setattr__(self, "pixels", pixels)

    @property
    def width(self) -> int:
        """Pixels across."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels down."""
        return int(self.pixels.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """`(width, height)`."""
        return self.width, self.height

    def to_pil(self) -> PIL.Image.Image:
        """The same pixels as a PIL image."""
        return PIL.Image.fromarray(self.pixels)

    def encode(self) -> tuple[str, bytes]:
        """`(mime, data)` for transport: PNG up to half a megapixel, above that JPEG at quality 95."""
        encoded: tuple[str, bytes] | None = vars(self).get("_encoded")
        if encoded is None:
            # Not a cached property: those of Python 3.11 hold one lock for the images of all threads.
            encoded = self._encode()
            object.__setattr__(self, "_encoded", encoded)
        return encoded

    def _encode(self) -> tuple[str, bytes]:
        image = from_array(self.pixels, "srgb")
        if self.width * self.height <= PNG_MAX_PIXELS:
            return "image/png", image.pngsave_buffer(compression=3)
        # Colors at half the resolution, as cameras do: half the bytes and half the time.
        return "image/jpeg", image.jpegsave_buffer(Q=JPEG_QUALITY, subsample_mode="on")

    def data_uri(self) -> str:
        """The encoded image as a `data:` URI."""
        mime, data = self.encode()
        return f"data:{mime};base64,{pybase64.b64encode_as_string(data)}"


def encode_all(images: Iterable[EncodedImage]) -> None:
    """Encode images in parallel on the machine's cores; `encode` of each returns at once afterwards."""
    large = [image for image in images if image.width * image.height > PNG_MAX_PIXELS]
    if len(large) > 1:
        with ThreadPoolExecutor(min(len(large), os.cpu_count() or 1)) as pool:
            list(pool.map(EncodedImage.encode, large))
