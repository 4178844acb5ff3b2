"""Pictures that are already decoded: numpy arrays, PIL images, and BMP files (which Pillow decodes)."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from p2r.errors import InputError
from p2r.images._vips import crop, from_array
from p2r.images.decoders import Whole
from p2r.images.limits import check_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.images._vips import Size, VipsImage
    from p2r.images.limits import Limits
    from p2r.types import RectPx

_BMP_MAX_PIXELS = 80_000_000  # Pillow warns above 89 million
_EXIF_ORIENTATION = 0x0112


class RasterReader:
    """Pixels in memory: shape (height, width, bands), uint8 or uint16. They are not copied."""

    def __init__(
        self,
        name: str,
        pixels: np.ndarray,
        limits: Limits,
        *,
        interpretation: str = "",
        profile: bytes | None = None,
    ) -> None:
        self.name = name
        self.height, self.width, bands = pixels.shape
        self.orientation = 1
        self.notes: tuple[str, ...] = ()
        check_size(name, self.width, self.height, limits, whole=False)
        grey, colour = ("b-w", "srgb") if pixels.dtype == np.uint8 else ("grey16", "rgb16")
        interpretation = interpretation or (grey if bands < 3 else colour)
        self._image = from_array(np.ascontiguousarray(pixels), interpretation, profile)

    def forget_levels(self) -> bool:
        """See `Reader.forget_levels`."""
        return False

    def whole(self, size: Size) -> Whole:  # noqa: ARG002 - all of it is at hand
        """See `Reader.whole`."""
        return Whole(self._image)

    def pieces(self, wanted: Sequence[tuple[RectPx, Size]]) -> list[VipsImage]:
        """See `Reader.pieces`."""
        return [crop(self._image, rect) for rect, _ in wanted]


def read_array(array: np.ndarray, limits: Limits) -> RasterReader:
    """Open an array of uint8, uint16 or bool, shape (height, width) or (height, width, 1, 3 or 4).

    One channel is grey, three are RGB, the fourth is alpha. The array is not copied where it is contiguous:
    do not write to it afterwards.

    Raises:
        InputError: another shape or type, or too many pixels.
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
    return RasterReader(name, array.astype(array.dtype.newbyteorder("="), copy=False), limits)


def read_pil(image: PIL.Image.Image, limits: Limits, name: str = "") -> RasterReader:
    """Open a PIL image with its EXIF orientation, transparency, palette and ICC profile.

    Raises:
        InputError: it cannot be decoded, is of a mode without a known range, or has too many pixels.
    """
    name = (
        name or str(getattr(image, "filename", "")) or f"PIL image {image.mode} {image.width}×{image.height}"
    )
    check_size(name, image.width, image.height, limits, whole=False)
    profile = image.info.get("icc_profile")
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
            image = image.convert("RGBA")
        elif image.mode in ("1", "RGBX", "YCbCr", "HSV"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{name}: {error}") from error
    if image.mode == "I" and pixels.min() >= 0 and pixels.max() <= 65535:
        # Pillow widens some 16-bit pictures.
        pixels = pixels.astype(np.uint16)
    if image.mode not in ("L", "RGB", "RGBA", "CMYK") and pixels.dtype.kind != "u":
        raise InputError(f"{name}: mode {image.mode} has no known range: convert it to RGB")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False).reshape(image.height, image.width, -1)
    interpretation = "cmyk" if image.mode == "CMYK" else ""
    reader = RasterReader(name, pixels, limits, interpretation=interpretation, profile=profile)
    reader.orientation = orientation
    return reader


def read_bmp(name: str, data: bytes, limits: Limits) -> RasterReader:
    """Open the bytes of a BMP file.

    Raises:
        InputError: truncated, of a kind that Pillow cannot read, or too many pixels.
    """
    if len(data) < 26:
        raise InputError(f"{name}: the file is truncated")
    old = struct.unpack_from("<I", data, 14)[0] == 12
    width, height = struct.unpack_from("<HH" if old else "<ii", data, 18)
    whole = min(limits.max_whole_pixels, _BMP_MAX_PIXELS)
    check_size(name, abs(width), abs(height), replace(limits, max_whole_pixels=whole), whole=True)
    try:
        image = PIL.Image.open(io.BytesIO(data), formats=["BMP"])
        return read_pil(image, limits, name)
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: {error}") from error
