"""Pictures at a budget: the whole at a size, or a region at a size, without holding the full raster.

Built on libvips. A picture is opened by its header alone; `overview` uses shrink-on-load (JPEG) and the
levels of pyramidal TIFF files, `region` reads what it needs. What comes out is always 8-bit sRGB, upright
(EXIF orientation applied), with transparency flattened on white.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
import PIL.Image
import pyvips

from p2r.decoding import (
    Limits,
    check_bytes,
    read_array,
    read_bytes,
    read_path,
    read_pil,
    vips_problem,
)
from p2r.errors import InputError
from p2r.pixels import fit_size

if TYPE_CHECKING:
    from p2r.decoding import Reader, VipsImage
    from p2r.types import RectPx

__all__ = ["ImageInput", "ImageSource", "Limits", "Picture", "fit_size"]

ImageInput: TypeAlias = Union[str, "os.PathLike[str]", bytes, PIL.Image.Image, np.ndarray, "ImageSource"]

PNG_MAX_PIXELS = 500_000
JPEG_QUALITY = 95

_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://|(?:file|https?|blob|ftp):)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Picture:
    """Final pixels for a model.

    Attributes:
        pixels: RGB, uint8, shape (height, width, 3), read-only.
    """

    pixels: np.ndarray

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise InputError(
                f"a picture is uint8 (height, width, 3), not {self.pixels.dtype} {self.pixels.shape}"
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
        return self._encoded

    @cached_property
    def _encoded(self) -> tuple[str, bytes]:
        image = pyvips.Image.new_from_memory(self.pixels.data, self.width, self.height, 3, "uchar")
        image = image.copy(interpretation="srgb")
        if self.width * self.height <= PNG_MAX_PIXELS:
            return "image/png", image.pngsave_buffer(compression=3)
        return "image/jpeg", image.jpegsave_buffer(Q=JPEG_QUALITY)

    def data_uri(self) -> str:
        """The encoded picture as a `data:` URI."""
        mime, data = self.encode()
        return f"data:{mime};base64,{base64.b64encode(data).decode()}"


class ImageSource:
    """An opened picture: its upright size, the whole of it at a size, or a region of it at a size.

    Safe to use from several threads: every call reads for itself.

    Attributes:
        name: what errors call the picture.
        width, height: upright, in pixels.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.name = reader.name
        self.width, self.height = reader.width, reader.height
        if reader.orientation >= 5:
            self.width, self.height = self.height, self.width

    @classmethod
    def open(cls, image: ImageInput, limits: Limits = Limits()) -> ImageSource:
        """Open a picture by its header; an `ImageSource` is passed through.

        Args:
            image: a path, encoded bytes, a base64 `data:` URI, a PIL image, or an array (see `read_array`).
            limits: what it may be at most.

        Raises:
            InputError: it cannot be read or is too large; the text names it and says why.
        """
        if isinstance(image, ImageSource):
            return image
        if isinstance(image, str):
            return cls(_read_text(image, limits))
        if isinstance(image, os.PathLike):
            return cls(read_path(Path(image), limits))
        if isinstance(image, bytes | bytearray | memoryview):
            return cls(read_bytes(f"picture of {len(image):,} bytes", bytes(image), limits))
        if isinstance(image, PIL.Image.Image):
            return cls(read_pil(image, limits))
        if isinstance(image, np.ndarray):
            return cls(read_array(image, limits))
        raise InputError(
            f"a picture is a path, bytes, data: URI, PIL image or numpy array, not {type(image).__name__}"
        )

    @property
    def size(self) -> tuple[int, int]:
        """`(width, height)`, upright, in pixels."""
        return self.width, self.height

    def overview(self, size: tuple[int, int]) -> Picture:
        """The whole picture, resized to exactly `size` = (width, height).

        Raises:
            InputError: the picture turns out to be truncated or damaged.
        """
        return self.region((0, 0, self.width, self.height), size)

    def region(self, rect_px: RectPx, size: tuple[int, int]) -> Picture:
        """A rectangle of the upright picture (half-open pixels), resized to exactly `size` = (width, height).

        Raises:
            InputError: the rectangle is empty or not inside the picture, or the picture is damaged there.
        """
        x0, y0, x1, y1 = rect_px
        if not (0 <= x0 < x1 <= self.width and 0 <= y0 < y1 <= self.height):
            raise InputError(f"{self.name}: {rect_px} is not a rectangle inside {self.width}×{self.height}")
        reader = self._reader
        stored_rect = _to_stored(rect_px, self.size, reader.orientation)
        stored_size = size if reader.orientation < 5 else (size[1], size[0])
        try:
            pixels = _cut(reader, stored_rect, stored_size)
        except pyvips.Error as error:
            raise InputError(f"{self.name}: {vips_problem(error)}") from error
        return Picture(_to_upright(pixels, reader.orientation))


def _read_text(text: str, limits: Limits) -> Reader:
    if text[:5].lower() == "data:":
        return _read_data_uri(text, limits)
    if match := _URL.match(text):
        raise InputError(f"{text[:80]}: {match[0]} is not read: give a path, or the bytes, or a data: URI")
    return read_path(Path(text), limits)


def _read_data_uri(uri: str, limits: Limits) -> Reader:
    head, comma, body = uri.partition(",")
    name = f"data URI {head[5:60]!r}"
    if not comma or not head.lower().endswith(";base64"):
        raise InputError(f"{name}: only base64 is read: data:image/png;base64,…")
    check_bytes(name, len(body) * 3 // 4 - 2, limits)
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name}: {error}") from error
    return read_bytes(name, data, limits)


def _cut(reader: Reader, rect: RectPx, size: tuple[int, int]) -> np.ndarray:
    x0, y0, x1, y1 = rect
    whole = rect == (0, 0, reader.width, reader.height)
    shrink = max(1.0, min((x1 - x0) / size[0], (y1 - y0) / size[1]))
    image = reader.load(shrink, whole=whole)
    if not whole:
        scale_x, scale_y = image.width / reader.width, image.height / reader.height
        left = min(round(x0 * scale_x), image.width - 1)
        top = min(round(y0 * scale_y), image.height - 1)
        right = max(left + 1, min(round(x1 * scale_x), image.width))
        bottom = max(top + 1, min(round(y1 * scale_y), image.height))
        image = image.crop(left, top, right - left, bottom - top)
    return _resize_to_rgb(image, size, reader.name)


def _resize_to_rgb(image: VipsImage, size: tuple[int, int], name: str) -> np.ndarray:
    # Flatten before resizing, so that hidden colours do not bleed; convert colours after it, on fewer pixels.
    interpretation = image.interpretation
    if image.format not in ("uchar", "ushort") and interpretation not in ("lab", "labs", "scrgb"):
        raise InputError(
            f"{name}: samples of type {image.format} have no known range: save it with 8 or 16 bits"
        )
    if image.hasalpha():
        paper = 0 if interpretation == "cmyk" else 65535 if image.format == "ushort" else 255
        image = image.flatten(background=[paper], max_alpha=65535 if image.format == "ushort" else 255)
    if interpretation == "multiband":
        image = image.extract_band(0, n=3 if image.bands >= 3 else 1)
        image = image.copy(interpretation="srgb" if image.bands == 3 else "b-w")
    if (image.width, image.height) != size:
        image = image.resize(size[0] / image.width, vscale=size[1] / image.height, kernel="lanczos3")
    if (image.width, image.height) != size:
        # libvips rounds the sides; a pixel may be missing or too much.
        image = image.gravity("north-west", *size, extend="copy")
    image = _to_srgb(image)
    data = image.write_to_memory()
    return np.frombuffer(data, np.uint8).reshape(size[1], size[0], 3)


def _to_srgb(image: VipsImage) -> VipsImage:
    if image.get_typeof("icc-profile-data"):
        try:
            image = image.icc_transform(
                "srgb", embedded=True, intent="relative", black_point_compensation=True
            )
        except pyvips.Error:
            # A profile that does not fit its picture is common, and the pixels are still there.
            image.remove("icc-profile-data")
    if image.interpretation != "srgb":
        image = image.colourspace("srgb")
    if image.bands != 3:
        image = (
            image.extract_band(0, n=3) if image.bands > 3 else image.extract_band(0).bandjoin([image[0]] * 2)
        )
    return image.cast("uchar")


def _to_stored(rect: RectPx, size: tuple[int, int], orientation: int) -> RectPx:
    # The inverse of `_to_upright` for rectangles; `size` is the upright one.
    x0, y0, x1, y1 = rect
    width, height = size
    mirrored_x, mirrored_y = (width - x1, width - x0), (height - y1, height - y0)
    stored_x, stored_y = {
        2: (mirrored_x, (y0, y1)),
        3: (mirrored_x, mirrored_y),
        4: ((x0, x1), mirrored_y),
        5: ((y0, y1), (x0, x1)),
        6: ((y0, y1), mirrored_x),
        7: (mirrored_y, mirrored_x),
        8: (mirrored_y, (x0, x1)),
    }.get(orientation, ((x0, x1), (y0, y1)))
    return stored_x[0], stored_y[0], stored_x[1], stored_y[1]


def _to_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    # The eight values of the EXIF tag Orientation.
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
