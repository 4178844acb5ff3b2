"""Tiled copies of images: their pixels, their bounds, and which images need one."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
import pyvips

from p2r.errors import InputError
from p2r.images import ImageSource
from p2r.images.limits import MemoryBudget, decoding
from p2r.images.threads import in_image_thread
from tests.image_files import encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2r.images.limits import Reservation

WIDTH, HEIGHT = 701, 497
TILES = {"tile": True, "tile_width": 128, "tile_height": 128}


def spots(width: int = WIDTH, height: int = HEIGHT, bands: int = 3) -> np.ndarray:
    """Soft spots of about thirty pixels."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 30, width // 30, bands), np.uint8)
    image = PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)
    return np.asarray(image)


def vips(pixels: np.ndarray | None = None) -> pyvips.Image:
    """The spots as libvips has them, which writes what Pillow does not."""
    return pyvips.Image.new_from_array(spots() if pixels is None else pixels)


def turned(orientation: int) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return encoded(spots(), "JPEG", quality=95, exif=exif)


def leveled(source: ImageSource) -> ImageSource:
    view = source.with_levels(MemoryBudget(2**30).try_reserve)
    assert view
    return view


def flat(**options: object) -> bytes:
    """A TIFF of 20 megapixels."""
    return pyvips.Image.black(5000, 4000, bands=3).tiffsave_buffer(compression="deflate", **options)


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(spots(), "JPEG", quality=95),
    "progressive": lambda: encoded(spots(), "JPEG", quality=95, progressive=True),
    "cmyk": lambda: encoded(PIL.Image.fromarray(spots()).convert("CMYK"), "JPEG", quality=95),
    "p3": lambda: vips().icc_transform("p3", input_profile="srgb").pngsave_buffer(profile="p3"),
    "png with alpha": lambda: encoded(spots(bands=4), "PNG"),
    "gray": lambda: encoded(spots()[:, :, 0], "PNG"),
    "webp": lambda: encoded(spots(), "WEBP", quality=95),
    "bmp": lambda: encoded(spots(), "BMP"),
    "16 bits": lambda: vips(spots().astype(np.uint16) * 257).pngsave_buffer(bitdepth=16),
    "16 bits, stretched": lambda: vips(spots()[:, :, 0].astype(np.uint16) * 9 + 500).tiffsave_buffer(),
    "strips": lambda: vips().tiffsave_buffer(compression="lzw"),
    "tiles": lambda: vips().tiffsave_buffer(compression="deflate", **TILES),
    "tiles, 16 bits": lambda: vips(spots()[:, :, 0].astype(np.uint16) * 9 + 500).tiffsave_buffer(**TILES),
    **{f"orientation {turn}": partial(turned, turn) for turn in (2, 3, 5, 6, 8)},
}


@pytest.mark.parametrize("kind", FILES)
def test_a_copy_shows_the_same_at_every_size_and_edge(kind: str) -> None:
    source = ImageSource.open(FILES[kind]())
    view = leveled(source)
    assert view.size == source.size
    width, height = source.size
    rects = [(0, 0, width, height), (0, 0, 200, 150), (width - 201, height - 151, width, height)]
    rects += [(width - 1, 0, width, height), (3, height - 1, 200, height), (333, 101, 334, 102)]
    for x0, y0, x1, y1 in rects:
        for density in (1, 0.7, 0.5, 0.33, 0.1):
            size = max(1, int((x1 - x0) * density)), max(1, int((y1 - y0) * density))
            one, other = (each.region((x0, y0, x1, y1), size).pixels for each in (source, view))
            error = np.abs(one.astype(int) - other).mean()
            # A single pixel is no mean. The place on a smaller level is rounded to whole pixels.
            assert error <= (7 if min(size) >= 10 else 24), (x0, y0, x1, y1, density, error)
    assert view.notes == source.notes


def test_a_file_with_tiles_is_shown_itself_where_half_its_size_is_not_enough() -> None:
    source = ImageSource.open(FILES["tiles"]())
    view, rect = leveled(source), (100, 100, 400, 300)
    for size, same in (((300, 200), True), ((160, 120), True), ((140, 90), False)):
        assert (view.region(rect, size).pixels == source.region(rect, size).pixels).all() == same


def test_a_copy_takes_the_memory_that_it_was_given_and_gives_it_back() -> None:
    source, room = ImageSource.open(FILES["jpeg"]()), MemoryBudget(2**30)
    view = source.with_levels(room.try_reserve)
    assert view
    assert 10_000 < room.held < WIDTH * HEIGHT // 4
    held = room.held

    def reserve(most: int, nbytes: int) -> Reservation | None:
        return room.try_reserve(min(nbytes, most))

    del view
    assert room.held == 0
    # Fewer bytes may be reserved than were asked for: then the copy has to fit.
    for most, fits in ((held, True), (held // 2, False), (0, False)):
        view = source.with_levels(partial(reserve, most))
        assert bool(view) == fits
        del view
        assert room.held == decoding.held == 0
    assert source.with_levels(lambda _: None) is None


def test_a_copy_ends_when_it_is_told_to() -> None:
    told = [True] * 3
    room = MemoryBudget(2**30)
    source = ImageSource.open(FILES["jpeg"]())
    assert source.with_levels(room.try_reserve, lambda: bool(told) and told.pop()) is None
    assert (told, room.held, decoding.held) == ([], 0, 0)


def test_damage_is_an_error() -> None:
    with pytest.raises(InputError, match="truncated"):
        leveled(ImageSource.open(FILES["jpeg"]()[:-3000]))
    assert decoding.held == 0


def test_a_copy_that_is_cancelled_ends_at_once() -> None:
    source, begun, ended = ImageSource.open(flat()), threading.Event(), threading.Event()

    def slowly() -> bool:
        begun.set()
        return not ended.wait(0.01)

    def copy() -> None:
        try:
            source.with_levels(MemoryBudget(2**30).try_reserve, slowly)
        finally:
            ended.set()

    async def cancel() -> None:
        task = asyncio.create_task(in_image_thread(copy))
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        assert not ended.is_set()
        await asyncio.to_thread(ended.wait, 60)

    asyncio.run(cancel())
    assert ended.is_set()


@pytest.mark.parametrize(
    ("file", "is_flat"),
    [
        (lambda: encoded(np.zeros((4000, 5000), np.uint8), "JPEG"), True),
        (lambda: encoded(np.zeros((4000, 3900), np.uint8), "JPEG"), False),
        (lambda: flat(), True),
        (lambda: flat(**TILES), True),
        (lambda: flat(**TILES, pyramid=True), False),
        (lambda: flat(tile=True, tile_width=4096, tile_height=4096, pyramid=True), True),
        (lambda: encoded(PIL.Image.new("1", (5000, 4000)), "BMP"), True),
        (lambda: encoded(PIL.Image.new("1", (400, 300)), "BMP"), False),
    ],
)
def test_which_images_are_flat(file: Callable[[], bytes], is_flat: bool) -> None:
    assert ImageSource.open(file()).is_flat is is_flat


@pytest.mark.parametrize("access", ["jpeg", "strips"])
def test_a_region_of_a_copy_costs_a_fraction_of_one_of_the_file(access: str) -> None:
    image = vips(spots(3000, 3000))
    options = {"compression": "lzw", "tile_height": 16}
    data = image.jpegsave_buffer() if access == "jpeg" else image.tiffsave_buffer(**options)
    source = ImageSource.open(data)
    view = leveled(source)

    def cost_s(of: ImageSource, rect: tuple[int, int, int, int]) -> float:
        times = []
        for _ in range(3):
            begin_s = time.process_time()  # of all threads, whatever else the machine does
            of.region(rect, (990, 990))
            times.append(time.process_time() - begin_s)
        return min(times)

    corner = (2000, 2000, 2990, 2990)
    assert cost_s(view, corner) < cost_s(source, corner) / 2
