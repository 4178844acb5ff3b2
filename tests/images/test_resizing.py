"""Images are resized as the processors of Qwen-VL resize them, and as Pillow does with its bicubic filter."""

from __future__ import annotations

import functools
import io

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

from p2r.images import ImageSource, smart_resize
from tests.image_files import encoded

BUDGET = {"max_pixels": 250_000, "min_pixels": 1024, "factor": 32}

# Mean and largest difference of two 8-bit samples. A side that grows is resized by Pillow itself. One that
# shrinks is resized by libvips, whose two passes are in the other order: at the edges of black text on white,
# where both go over the range, they are clipped differently.
GROWN = (0.0, 0)
SHRUNK = (0.7, 24)
SHRUNK_BY_JPEG = (3.5, 45)  # its decoder shrinks first, to twice the size at least

SIZES = [
    pytest.param((480, 500), GROWN, id="one side grows by a few pixels"),
    pytest.param((690, 340), GROWN, id="both sides grow by a few pixels"),
    pytest.param((20, 30), GROWN, id="both sides grow"),
    pytest.param((1, 1), GROWN, id="one pixel"),
    pytest.param((1, 600), GROWN, id="one column"),
    pytest.param((3000, 17), SHRUNK, id="a strip: one side shrinks, the other grows"),
    pytest.param((450, 530), SHRUNK, id="one side shrinks by a few pixels, the other grows"),
    pytest.param((591, 532), SHRUNK, id="both sides shrink"),
    pytest.param((1266, 585), SHRUNK, id="both sides shrink by more than a half"),
    pytest.param((2001, 1499), SHRUNK, id="both sides shrink by more than three quarters"),
]


@functools.cache
def text(width: int, height: int) -> np.ndarray:
    """Small print over soft colors."""
    image = PIL.Image.linear_gradient("L").resize((width, height)).convert("RGB")
    draw, font = PIL.ImageDraw.Draw(image), PIL.ImageFont.load_default(size=13)
    line = "The quick brown fox jumps over the lazy dog 0123456789, invoice no. 48151623 " * (
        1 + width // 400
    )
    for number, y in enumerate(range(0, height, 17)):
        draw.text((5 - 3 * number, y), line, fill=("black", "white", "navy", "red")[number % 4], font=font)
    return np.asarray(image)


def assert_alike(one: np.ndarray, other: np.ndarray, tolerance: tuple[float, int]) -> None:
    assert one.shape == other.shape
    apart = np.abs(one.astype(int) - other.astype(int))
    assert apart.mean() <= tolerance[0]
    assert apart.max() <= tolerance[1]


def by_pillow(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("size", "tolerance"), SIZES)
def test_an_overview_is_as_sharp_as_pillows(size: tuple[int, int], tolerance: tuple[float, int]) -> None:
    shown = smart_resize(*size, **BUDGET)
    pixels = text(*size)
    for image in (pixels, encoded(pixels, "PNG", compress_level=1)):
        assert_alike(ImageSource.open(image).overview(shown).pixels, by_pillow(pixels, shown), tolerance)


@pytest.mark.parametrize(("size", "tolerance"), SIZES)
def test_a_crop_is_as_sharp_as_pillows(size: tuple[int, int], tolerance: tuple[float, int]) -> None:
    width, height = size
    canvas = np.full((height + 9, width + 7, 3), 90, np.uint8)
    canvas[4 : height + 4, 3 : width + 3] = pixels = text(*size)
    shown = smart_resize(*size, **BUDGET)
    crop = ImageSource.open(canvas).region((3, 4, width + 3, height + 4), shown)
    assert_alike(crop.pixels, by_pillow(pixels, shown), tolerance)


@pytest.mark.long
@pytest.mark.parametrize("backend", ["pil", "torchvision"])
@pytest.mark.parametrize(("size", "tolerance"), SIZES)
def test_an_overview_is_as_the_processor_of_the_model_makes_it(
    size: tuple[int, int], tolerance: tuple[float, int], backend: str
) -> None:
    if size == (1, 600):
        pytest.skip("longer than 200:1, which the processor refuses")
    pytest.importorskip("torchvision")
    from transformers.models.qwen2_vl import (
        image_processing_pil_qwen2_vl,
        image_processing_qwen2_vl,
    )

    processor = {
        "pil": image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil,
        "torchvision": image_processing_qwen2_vl.Qwen2VLImageProcessor,
    }[backend](
        size={"shortest_edge": BUDGET["min_pixels"], "longest_edge": BUDGET["max_pixels"]},
        patch_size=16,  # that of Qwen3-VL
        do_rescale=False,
        do_normalize=False,
    )
    pixels = text(*size)
    seen = processor(images=[PIL.Image.fromarray(pixels)], return_tensors="pt")
    rows, columns = (int(count) // 2 for count in seen["image_grid_thw"][0][1:])
    patches = seen["pixel_values"].numpy().reshape(rows, columns, 2, 2, 3, 2, 16, 16)[:, :, :, :, :, 0]
    theirs = patches.transpose(0, 2, 5, 1, 3, 6, 4).reshape(rows * 32, columns * 32, 3)
    ours = ImageSource.open(pixels).overview(smart_resize(*size, **BUDGET)).pixels
    # torchvision rounds a little differently than Pillow.
    mean, most = tolerance
    assert_alike(ours, theirs, (mean + 0.02, most + 2))


@pytest.mark.parametrize("size", [(1600, 1200), (1603, 1201), (1604, 1202)])
def test_a_jpeg_that_its_decoder_shrinks_stays_sharp_and_in_place(size: tuple[int, int]) -> None:
    data = encoded(text(*size), "JPEG", quality=95)
    shown = (size[0] // 5, size[1] // 5)
    decoded = np.asarray(PIL.Image.open(io.BytesIO(data)))
    assert_alike(ImageSource.open(data).overview(shown).pixels, by_pillow(decoded, shown), SHRUNK_BY_JPEG)


def test_all_ways_to_one_image_give_the_same_bytes(tmp_path) -> None:
    for size in ((690, 340), (640, 1999)):
        data = encoded(text(*size), "JPEG", quality=95)
        path = tmp_path / "a.jpg"
        path.write_bytes(data)
        shown = smart_resize(*size, **BUDGET)
        rect, crop = (31, 17, 331, 317), (320, 320)
        first = ImageSource.open(path)
        overview, region = first.overview(shown).pixels, first.region(rect, crop).pixels
        # Read from bytes; the crop before the overview, alone and with others.
        other = ImageSource.open(data)
        assert (other.region(rect, crop).pixels == region).all()
        assert (other.regions([(0, 0, 40, 50), rect], [(64, 64), crop])[1].pixels == region).all()
        assert (other.overview(shown).pixels == overview).all()
