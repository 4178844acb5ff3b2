"""Images that are already decoded: numpy arrays and PIL images."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import PIL.ImageFile

from p2r.errors import InputError
from p2r.images._vips import crop, from_array, resizing_bytes, sample_type
from p2r.images.decoders import Whole
from p2r.images.limits import check_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.images._vips import Size, VipsImage
    from p2r.images.limits import Limits
    from p2r.images.sizing import RectPx

PIXEL_BYTES = 10  # that Pillow takes to decode an image, with the copy that is read here
_EXIF_ORIENTATION = 0x0112

# PIL modes whose samples are converted by Pillow, and to what. Modes P, I and F are in `_pil_samples`.
_CONVERTED = {
    "1": "L",
    "La": "LA",
    "PA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
    "LAB": "RGB",
}
# Pillow decodes a lazily opened image in place, from a file that all threads share.
_decoding = threading.Lock()


class RasterReader:
    """Pixels in memory: shape (height, width, bands), uint8, uint16 or float32. They are not copied."""

    notes: tuple[str, ...] = ()

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
        self.bits = 8 * pixels.dtype.itemsize
        check_size(name, self.width, self.height, limits)
        gray, color = ("grey16", "rgb16") if pixels.dtype == np.uint16 else ("b-w", "srgb")
        interpretation = interpretation or (gray if bands < 3 else color)
        self.nbytes = pixels.nbytes
        self._image = from_array(np.ascontiguousarray(pixels), interpretation, profile)

    def whole(self, size: Size) -> Whole:  # noqa: ARG002 - all of it is at hand
        """See `Reader.whole`."""
        return Whole(self._image)

    def pieces(self, wanted: Sequence[tuple[RectPx, Size]]) -> list[VipsImage]:
        """See `Reader.pieces`."""
        return [crop(self._image, rect) for rect, _ in wanted]

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """See `Reader.cost`."""
        pixel_bytes = self._image.bands * sample_type(self._image)().itemsize
        return max(
            resizing_bytes(x1 - x0, y1 - y0, pixel_bytes, max(1.0, (y1 - y0) / size[1]))
            for (x0, y0, x1, y1), size in wanted
        )


def read_array(array: np.ndarray, limits: Limits) -> RasterReader:
    """Open an array of uint8, uint16 or bool, shape (height, width) or (height, width, 1, 3 or 4).

    One channel is gray, three are RGB, the fourth is alpha. The array is not copied where it is contiguous:
    do not write to it afterwards.

    Raises:
        InputError: another shape or type, or too many pixels; names the conversion that is missing.
    """
    name = f"array {'×'.join(map(str, array.shape))} {array.dtype}"
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise InputError(f"{name}: {_shape_hint(array.shape)}")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    array = _native(array)
    if array.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{name}: {_type_hint(array)}")
    return RasterReader(name, array, limits)


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _shape_hint(shape: tuple[int, ...]) -> str:
    wanted = "an image is (height, width) or (height, width, 1, 3 or 4)"
    if len(shape) == 4:
        return f"{wanted}: give one image of the batch, array[0]"
    if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[0] < shape[2]:
        return f"{wanted}: move the channels last, array.transpose(1, 2, 0)"
    if len(shape) == 3:
        return f"{wanted}: choose the channels to show, array[:, :, 0]"
    return wanted


def _type_hint(array: np.ndarray) -> str:
    wanted = "samples are uint8 (0–255), uint16 (0–65,535) or bool"
    values = array[np.isfinite(array)] if array.dtype.kind in "iuf" else array[:0]
    if not values.size:
        return wanted
    low, high = float(values.min()), float(values.max())
    found = f"{wanted}; these lie within {low:g} to {high:g}"
    if low >= 0 and high <= 1 and array.dtype.kind == "f":
        return f"{found}: give (array * 255).round().astype('uint8')"
    for kind, most in (("uint8", 255), ("uint16", 65535)):
        if low >= 0 and high <= most:
            return f"{found}: give array.astype('{kind}')"
    return f"{found}: scale them to 0–255 and give them as uint8"


def read_pil(image: PIL.Image.Image, limits: Limits, name: str = "") -> RasterReader:
    """Open a PIL image with its EXIF orientation, transparency, palette and ICC profile.

    It is decoded now, if it is not yet; by one thread at a time, so that several may be given one image.

    Raises:
        InputError: it cannot be decoded, or has too many pixels.
    """
    name = (
        name or str(getattr(image, "filename", "")) or f"PIL image {image.mode} {image.width}×{image.height}"
    )
    lazy = isinstance(image, PIL.ImageFile.ImageFile)
    whole_bytes = PIXEL_BYTES * image.width * image.height if lazy else 0
    check_size(name, image.width, image.height, limits, whole_bytes=whole_bytes)
    profile = image.info.get("icc_profile")
    if image.mode == "LAB" or not isinstance(profile, bytes):
        profile = None
    try:
        with _decoding:
            pixels = _pil_samples(image)
            orientation = exif_orientation(image)
    except MemoryError:
        raise
    except Exception as error:  # plugins raise whatever their formats run into
        said = " ".join(str(error).split()) or "its file is closed"
        hint = "a PIL image must be undamaged, and decoded (image.load()) before its file is closed"
        raise InputError(f"{name}: {said}: {hint}") from error
    interpretation = "cmyk" if image.mode == "CMYK" else ""
    reader = RasterReader(name, pixels, limits, interpretation=interpretation, profile=profile)
    reader.orientation = orientation
    return reader


def _pil_samples(image: PIL.Image.Image) -> np.ndarray:
    # Shape (height, width, bands): gray, gray and alpha, RGB, RGBA or CMYK.
    image.load()
    transparent = image.info.get("transparency")
    mode = image.mode
    if mode == "P":
        mode = "RGBA" if image.has_transparency_data else "RGB"
    mode = _CONVERTED.get(mode, mode)
    plain = image if mode == image.mode else image.convert(mode)
    samples = np.asarray(plain).reshape(image.height, image.width, -1)
    if mode == "I":
        low, high = samples.min(), samples.max()
        # Pillow has no mode for most samples of 8 or 16 bits that went through mode I.
        kind = np.float32 if low < 0 or high > 65535 else np.uint16 if high > 255 else np.uint8
        samples = samples.astype(kind)
    samples = _native(samples)
    bands = samples.shape[2]
    if bands in (1, 3) and samples.dtype.kind == "u" and isinstance(transparent, (int, tuple)):
        samples = _with_alpha(samples, np.atleast_1d(transparent))
    frame = getattr(image, "dispose_extent", None)
    if frame and image.format == "GIF" and image.tell() == 0:
        # Nothing was drawn outside of the first frame, and Pillow fills with some color of the palette.
        x0, y0, x1, y1 = frame
        white = np.full_like(samples, 255)
        white[y0:y1, x0:x1] = samples[y0:y1, x0:x1]
        return white
    return samples


def _with_alpha(samples: np.ndarray, transparent: np.ndarray) -> np.ndarray:
    # One color, or one level of gray, is transparent (PNG chunk tRNS).
    if len(transparent) != samples.shape[2]:
        return samples
    if len(transparent) == 3 and transparent.max() > 255:
        transparent = transparent >> 8  # of 16 bits, of which Pillow has dropped the lower 8
    opaque = (samples != transparent).any(axis=2, keepdims=True)
    alpha = np.where(opaque, np.iinfo(samples.dtype).max, 0).astype(samples.dtype)
    return np.concatenate([samples, alpha], axis=2)


def exif_orientation(image: PIL.Image.Image) -> int:
    """The EXIF orientation of a PIL image, 1 where it has none."""
    # After decoding: Pillow turns TIFF files upright then, and removes the tag.
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - EXIF data that cannot be read has no orientation
        return 1
