"""The size at which a model sees an image; decoded pixels → upright RGB at that size."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pyvips

from p2r.errors import InputError
from p2r.images._vips import as_array, color_bands, icc_profile, strips
from p2r.images.threads import stopped_if_cancelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.images._vips import RectPx, Size, VipsImage

MAX_ASPECT = 200  # the processors of Qwen-VL refuse longer images
GRAY_LEVELS = 2  # by which red, green and blue of a gray pixel may differ after compression
_QUARTER_TURNS = (5, 6, 7, 8)  # the EXIF orientations that swap width and height


def smart_resize(width: int, height: int, *, max_pixels: int, min_pixels: int, factor: int) -> Size:
    """The size at which a model is shown an image of `width` × `height` pixels.

    Both sides are multiples of `factor`, the aspect ratio is kept as well as that allows, and
    `min_pixels <= w * h <= max_pixels` (the rule of Qwen-VL's processors, so that they leave the image as
    it is). Budgets count in whole cells of factor² pixels; a budget below one cell means one cell. An image
    longer than 200:1 is stretched to 200:1.

    Raises:
        InputError: a side, a budget or the factor is below 1, or the budgets contradict each other.
    """
    if min(width, height, max_pixels, min_pixels, factor) < 1:
        raise InputError(f"sides, pixel budgets and factor must be at least 1 ({width}×{height})")
    most = max(1, max_pixels // factor**2)
    least = -(-min_pixels // factor**2)
    if least > most:
        raise InputError(f"min_pixels {min_pixels} is more than max_pixels {max_pixels} (factor {factor})")
    long, short = float(max(width, height)), float(min(width, height))
    short = max(short, long / MAX_ASPECT)
    cells = (max(1, round(long / factor)), max(1, round(short / factor)))
    shrink = 1.0
    if cells[0] * cells[1] > most:
        shrink = math.sqrt(long * short / max_pixels)
        cells = (max(1, math.floor(long / shrink / factor)), max(1, math.floor(short / shrink / factor)))
    elif cells[0] * cells[1] < least:
        shrink = math.sqrt(long * short / min_pixels)
        cells = (math.ceil(long / shrink / factor), math.ceil(short / shrink / factor))
    if not (least <= cells[0] * cells[1] <= most and cells[0] <= MAX_ASPECT * cells[1]):
        cells = _nearest_legal(long / shrink / factor, short / shrink / factor, least, most)
    sides = (cells[0] * factor, cells[1] * factor)
    return sides if width >= height else (sides[1], sides[0])


def _nearest_legal(ideal_long: float, ideal_short: float, least: int, most: int) -> tuple[int, int]:
    # Rounding left the budget (a side below one cell, budgets close together): of all sizes within it, take
    # the one whose sides are nearest to the ideal, as ratios.
    best: tuple[float, int, int] | None = None
    for short in range(1, math.isqrt(most) + 1):
        longest = min(most // short, MAX_ASPECT * short)
        long = min(longest, max(round(ideal_long), short, -(-least // short)))
        if long * short >= least:
            distance = abs(math.log(long / ideal_long)) + abs(math.log(short / ideal_short))
            best = min(best or (math.inf, 0, 0), (distance, long, short))
    if best is None:
        raise InputError(f"no size of {least} to {most} cells is at most {MAX_ASPECT}:1: widen the budgets")
    return best[1], best[2]


# --- resizing --------------------------------------------------------------------------------------------


def resized_rgb(images: Sequence[VipsImage], size: Size) -> np.ndarray:
    """Decoded pixels as 8-bit sRGB at a size, shape (height, width, 3).

    The images are the same one, once for each thread that should read it.

    Raises:
        pyvips.Error: the image is damaged.
    """
    shrunk = [_to_srgb(_shrunk(_opaque(image), size)) for image in images]
    if len(shrunk) > 1:
        pixels = _read_in_parallel(shrunk)
    else:
        with stopped_if_cancelled(shrunk[0]):
            pixels = as_array(shrunk[0])
    if pixels.shape[1::-1] == size:
        return pixels
    # libvips enlarges with a shift of half a pixel, and blurs. Pillow does what the processors of Qwen-VL do.
    return np.asarray(PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BICUBIC))


def displayed(image: VipsImage, shrink: int = 1) -> VipsImage:
    """An image as 8-bit sRGB without transparency, smaller by a whole factor."""
    return _to_srgb(_opaque(image).shrink(shrink, shrink))


def _read_in_parallel(copies: Sequence[VipsImage]) -> np.ndarray:
    # The first rows by the first copy, and so on.
    width, height = copies[0].width, copies[0].height
    pixels = np.empty((height, width, 3), np.uint8)

    def fill(part: int) -> None:
        top, bottom = height * part // len(copies), height * (part + 1) // len(copies)
        for y, strip in strips(copies[part], (0, top, width, bottom)):
            pixels[y : y + len(strip)] = strip

    with ThreadPoolExecutor(len(copies)) as pool:
        # Each in a copy of the context, in which it can be cancelled.
        filled = [pool.submit(copy_context().run, fill, part) for part in range(len(copies))]
    for part in filled:
        part.result()
    return pixels


def _opaque(image: VipsImage) -> VipsImage:
    # Before resizing, so that hidden colors do not bleed.
    interpretation, colors = image.interpretation, color_bands(image)
    if image.bands > colors + 1:  # one more band is transparency
        image = image.extract_band(0, n=colors)
    if image.hasalpha():
        most = 65535 if image.format == "ushort" else 255
        image = image.flatten(background=[0 if interpretation == "cmyk" else most], max_alpha=most)
    if interpretation == "multiband":
        image = image.copy(interpretation="srgb" if image.bands == 3 else "b-w")
    return image


def _shrunk(image: VipsImage, size: Size) -> VipsImage:
    # Bicubic over the whole footprint of a pixel, as the processors of Qwen-VL resize. With its default gap,
    # libvips averages whole pixels before that at every factor above 4. A side that grows is left as it is.
    width, height = min(size[0], image.width), min(size[1], image.height)
    if (image.width, image.height) != (width, height):
        image = image.resize(width / image.width, vscale=height / image.height, kernel="cubic", gap=4)
    if (image.width, image.height) != (width, height):
        # libvips rounds the sides; a pixel may be missing or too much.
        image = image.gravity("north-west", width, height, extend="copy")
    return image


def _to_srgb(image: VipsImage) -> VipsImage:
    if profile := icc_profile(image):
        if image.bands == 3 and profile[16:20] == b"GRAY":
            image = _gray_of(image)
        try:
            image = image.icc_transform(
                "srgb", embedded=True, intent="relative", black_point_compensation=True
            )
        except pyvips.Error:
            # A profile that does not fit its image is common, and the pixels are still there.
            image = image.copy()
            image.remove("icc-profile-data")
    if image.interpretation != "srgb":
        image = image.colourspace("srgb")
    if image.bands > 3:
        image = image.extract_band(0, n=3)
    elif image.bands < 3:
        image = image.extract_band(0).bandjoin([image[0]] * 2)
    return image.cast("uchar")


def _gray_of(image: VipsImage) -> VipsImage:
    # WebP and palettes hold gray as RGB, which a profile of gray does not fit.
    image = image.copy_memory()
    red, green, blue = image.bandsplit()
    is_gray = max((red - green).abs().max(), (blue - green).abs().max()) <= GRAY_LEVELS
    return green.copy(interpretation="b-w") if is_gray and image.format == "uchar" else image


# --- orientation -----------------------------------------------------------------------------------------


def turned_size(size: Size, orientation: int) -> Size:
    """The stored size of an upright one, or the reverse, under an EXIF orientation."""
    return (size[1], size[0]) if orientation in _QUARTER_TURNS else size


def stored_rect(rect: RectPx, size: Size, orientation: int) -> RectPx:
    """The stored rectangle of an upright one; `size` is the upright size of the image."""
    x0, y0, x1, y1 = rect
    if orientation in (2, 3, 6, 7):
        x0, x1 = size[0] - x1, size[0] - x0
    if orientation in (3, 4, 7, 8):
        y0, y1 = size[1] - y1, size[1] - y0
    return (y0, x0, y1, x1) if orientation in _QUARTER_TURNS else (x0, y0, x1, y1)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels of shape (height, width, …), turned upright."""
    if orientation in _QUARTER_TURNS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels
