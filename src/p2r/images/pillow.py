"""Images in memory: numpy arrays, PIL images, and files that Pillow, pillow-heif or PDFium decodes whole."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import PIL.ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base as Tag
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile

from p2r.errors import InputError
from p2r.images._vips import crop, from_array, pixel_bytes, resizing_bytes
from p2r.images.heif import HeicImage
from p2r.images.limits import Reservation, check_size, kept
from p2r.images.pdf import PdfPage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from p2r.images._vips import RectPx, Size, VipsImage
    from p2r.images.formats import Format
    from p2r.images.limits import Limits

# Pillow's readers themselves: `PIL.Image.open` has a limit of its own, and plugins may change what it does.
_PILLOW = {
    "AVIF": AvifImageFile,
    "BMP": BmpImageFile,
    "JPEG2000": Jpeg2KImageFile,
    "PPM": PpmImageFile,
    "TIFF": TiffImageFile,
}
# Bytes of a pixel while it is decoded, with the copy that is read; those of other decoders.
_PIXEL_BYTES, _MORE_PIXEL_BYTES = 10, {"AVIF": 20, "JPEG2000": 28, "pillow-heif": 20}

# PIL modes that Pillow converts, and to what. Modes P, I and F are in `_pil_samples`.
_CONVERTED = {
    "1": "L",
    "La": "LA",
    "PA": "RGBA",
    "RGBa": "RGBA",
    **dict.fromkeys(("RGBX", "YCbCr", "HSV", "LAB"), "RGB"),
}
# Pillow decodes a lazily opened image in place, from a file that all threads share.
_decoding = threading.Lock()


def _resizing_bytes(wanted: Sequence[tuple[RectPx, Size]], pixel: int) -> int:
    return max(
        resizing_bytes(x1 - x0, y1 - y0, pixel, max(1.0, (y1 - y0) / size[1]))
        for (x0, y0, x1, y1), size in wanted
    )


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
        orientation: int = 1,
    ) -> None:
        self.name, self.orientation = name, orientation
        self.height, self.width, bands = pixels.shape
        self.bits, self.nbytes = 8 * pixels.dtype.itemsize, pixels.nbytes
        check_size(name, self.width, self.height, limits)
        gray, color = ("grey16", "rgb16") if pixels.dtype == np.uint16 else ("b-w", "srgb")
        interpretation = interpretation or (gray if bands < 3 else color)
        self._image = from_array(np.ascontiguousarray(pixels), interpretation, profile)

    def read(self, wanted: Sequence[tuple[RectPx, Size]]) -> list[list[VipsImage]]:
        """See `Reader.read`."""
        return [[crop(self._image, rect)] for rect, _ in wanted]

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """See `Reader.cost`."""
        return _resizing_bytes(wanted, pixel_bytes(self._image))


# --- numpy arrays ----------------------------------------------------------------------------------------


def read_array(array: np.ndarray, limits: Limits) -> RasterReader:
    """Open an array of uint8, uint16 or bool, shape (height, width) or (height, width, 1, 3 or 4).

    One channel is gray, three are RGB, the fourth is alpha. A contiguous array is not copied: do not write to
    it afterwards.

    Raises:
        InputError: another shape or type, or too many pixels; names the conversion that is missing.
    """
    name = f"array {'×'.join(map(str, array.shape))} {array.dtype}"
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise InputError(
            f"{name}: an image is (height, width) or (height, width, 1, 3 or 4){_shape_hint(array.shape)}"
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    array = _native(array)
    if array.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{name}: samples are uint8 (0–255), uint16 (0–65,535) or bool{_type_hint(array)}")
    return RasterReader(name, array, limits)


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _shape_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return ": give one image of the batch, array[0]"
    if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[0] < shape[2]:
        return ": move the channels last, array.transpose(1, 2, 0)"
    return ": choose the channels to show, array[:, :, 0]" if len(shape) == 3 else ""


def _type_hint(array: np.ndarray) -> str:
    values = array[np.isfinite(array)] if array.dtype.kind in "iuf" else array[:0]
    if not values.size:
        return ""
    low, high = float(values.min()), float(values.max())
    hint = "scale them to 0–255 and give them as uint8"
    if low >= 0 and high <= 1 and array.dtype.kind == "f":
        hint = "give (array * 255).round().astype('uint8')"
    elif low >= 0 and high <= 65535:
        hint = f"give array.astype('{'uint8' if high <= 255 else 'uint16'}')"
    return f"; these lie within {low:g} to {high:g}: {hint}"


# --- PIL images ------------------------------------------------------------------------------------------


def read_pil(image: PIL.Image.Image, limits: Limits, name: str = "") -> RasterReader:
    """Open a PIL image with its EXIF orientation, transparency, palette and ICC profile.

    It is decoded now, if it is not yet; by one thread at a time, so that several may be given one image.

    Raises:
        InputError: it cannot be decoded, or has too many pixels.
    """
    name = name or str(getattr(image, "filename", ""))
    name = name or f"PIL image {image.mode} {image.width}×{image.height}"
    lazy = isinstance(image, PIL.ImageFile.ImageFile)
    whole_bytes = _PIXEL_BYTES * image.width * image.height if lazy else 0
    check_size(name, image.width, image.height, limits, whole_bytes=whole_bytes)
    profile = image.info.get("icc_profile")
    if image.mode == "LAB" or not isinstance(profile, bytes):
        profile = None
    try:
        with _decoding:
            pixels = _pil_samples(image)
            orientation = _exif_orientation(image)
    except MemoryError:
        raise
    except Exception as error:  # plugins raise exceptions of any type
        reason = " ".join(str(error).split()) or "its file is closed"
        hint = "a PIL image must be undamaged, and decoded (image.load()) before its file is closed"
        raise InputError(f"{name}: {reason}: {hint}") from error
    interpretation = "cmyk" if image.mode == "CMYK" else ""
    return RasterReader(
        name, pixels, limits, interpretation=interpretation, profile=profile, orientation=orientation
    )


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
    if samples.shape[2] in (1, 3) and samples.dtype.kind == "u" and isinstance(transparent, (int, tuple)):
        samples = _with_alpha(samples, np.atleast_1d(transparent))
    frame = getattr(image, "dispose_extent", None)
    if frame and image.format == "GIF" and image.tell() == 0:
        # Outside of its first frame a GIF is empty, and Pillow fills with some color of the palette.
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


def _exif_orientation(image: PIL.Image.Image) -> int:
    # After decoding: Pillow turns TIFF files upright then, and removes the tag.
    try:
        return int(image.getexif().get(Tag.Orientation, 1))
    except Exception:  # noqa: BLE001 - EXIF data that cannot be read has no orientation
        return 1


# --- files that are decoded whole ------------------------------------------------------------------------


class _PillowFile:
    """A file that Pillow decodes, of which only the header is read."""

    notes: tuple[str, ...] = ()

    def __init__(self, decoder: str, data: bytes) -> None:
        self.image = _PILLOW[decoder](io.BytesIO(data))
        self.size = self.image.size
        self.bits = {"I": 16, "F": 32}.get(self.image.mode[0], 8)
        # Pillow turns TIFF files upright when it decodes them, and gives their upright size before.
        self.orientation = 1 if decoder == "TIFF" else _exif_orientation(self.image)


class WholeReader:
    """A file that is decoded whole when pixels are wanted. They are kept if there is room for them."""

    def __init__(
        self, name: str, kind: Format, origin: Path | bytes, limits: Limits, page: int | None = None
    ) -> None:
        self.name, self._decoder, self._limits = name, kind.decoder, limits
        self._origin, self._page = origin, page
        header = self._open()
        self.pages = header.pages if isinstance(header, PdfPage) else 1
        size: tuple[int, int] = header.size
        self.width, self.height = size
        self.bits, self.orientation, self.notes = header.bits, header.orientation, header.notes
        pixel = _MORE_PIXEL_BYTES.get(kind.decoder, _PIXEL_BYTES)
        self._whole_bytes = self.width * self.height * pixel
        check_size(name, self.width, self.height, limits, whole_bytes=self._whole_bytes)
        self._kept: RasterReader | None = None
        self._room: Reservation | None = None  # of the kept pixels
        self._lock = threading.Lock()

    def _open(self) -> HeicImage | PdfPage | _PillowFile:
        # They hold what they have decoded: a new one each time.
        if self._decoder == "pdfium":
            return PdfPage(self.name, self._origin, self._page)
        data = self._origin if isinstance(self._origin, bytes) else self._origin.read_bytes()
        if self._decoder == "pillow-heif":
            return HeicImage(self.name, data)
        return _PillowFile(self._decoder, data)

    def _decoded(self) -> RasterReader:
        file = self._open()
        if not isinstance(file, _PillowFile):
            pixels, profile = file.decode()
            return RasterReader(self.name, pixels, self._limits, profile=profile)
        file.image.load()  # here, so that an error is one of the file
        return read_pil(file.image, self._limits, self.name)

    def read(self, wanted: Sequence[tuple[RectPx, Size]]) -> list[list[VipsImage]]:
        """See `Reader.read`."""
        with self._lock:
            raster = self._kept
            if raster is None:
                raster = self._decoded()
                self._room = kept.try_reserve(raster.nbytes)
                self._kept = raster if self._room else None
        return raster.read(wanted)

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """See `Reader.cost`."""
        return self._whole_bytes + _resizing_bytes(wanted, self.bits // 2)
