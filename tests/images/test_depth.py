"""Deep images that use a small part of their range are stretched to all of it, and others are left alone."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
import pyvips

from p2r.evidence import build_evidence, plain_overview
from p2r.images import ImageSource
from p2r.settings import Settings
from p2r.types import Box
from tests.image_files import difference, encoded, smooth

# 12 bits in 16: from 12 on the left to 3,980 on the right, in steps of 8 columns.
TWELVE = np.repeat(np.tile(np.linspace(12, 3980, 64).astype(np.uint16), (64, 1)), 8, axis=1)
RIGHT = np.repeat(np.tile(np.linspace(0, 255, 64), (64, 1)), 8, axis=1)
NOTE = "16-bit samples use 12–3,980 of 65,535: stretched to the full range"


def inputs(pixels: np.ndarray) -> dict[str, np.ndarray | bytes | PIL.Image.Image]:
    png = encoded(pixels, "PNG")
    return {
        "array": pixels,
        "swapped": pixels.astype(">u2"),
        "png": png,
        "tiff": encoded(pixels, "TIFF"),
        "pil": PIL.Image.fromarray(pixels),
        "lazy": PIL.Image.open(io.BytesIO(png)),
    }


def shown(source: ImageSource) -> np.ndarray:
    return source.overview(source.size).pixels


@pytest.mark.parametrize("kind", ["array", "swapped", "png", "tiff", "pil", "lazy"])
def test_twelve_of_sixteen_bits_are_stretched_with_a_note(kind: str) -> None:
    source = ImageSource.open(inputs(TWELVE)[kind])
    assert np.abs(shown(source)[:, :, 0] - RIGHT).max() <= 1
    assert source.notes == (NOTE,)


def test_a_photograph_of_low_contrast_is_left_alone_and_a_measurement_is_not() -> None:
    bright = TWELVE + np.uint16(27_000)  # hundredths of a kelvin, or a photograph in fog
    gray, color = ImageSource.open(bright), ImageSource.open(np.dstack([bright] * 3))
    assert np.abs(shown(gray)[:, :, 0] - RIGHT).max() <= 1
    assert (shown(color) == (bright >> 8)[:, :, None]).all()
    assert (len(gray.notes), color.notes) == (1, ())


def test_a_pixel_has_one_value_in_the_overview_and_in_every_crop() -> None:
    for image in inputs(TWELVE).values():
        source = ImageSource.open(image)
        rects = [(0, 0, 64, 64), (200, 10, 264, 42), (448, 0, 512, 64)]
        sizes = [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in rects]
        # Crops first, so that nothing is known from an overview.
        crops = source.regions(rects, sizes)
        whole = shown(source)
        for crop, (x0, y0, x1, y1) in zip(crops, rects, strict=True):
            assert (crop.pixels == whole[y0:y1, x0:x1]).all()


def test_channels_are_stretched_alike_and_transparency_not_at_all() -> None:
    deep = np.dstack([TWELVE, TWELVE // 2, np.full_like(TWELVE, 12)])
    pixels = shown(ImageSource.open(deep))
    assert np.abs(pixels[:, :, 0] - RIGHT).max() <= 1
    assert np.abs(pixels[:, :, 1] - RIGHT / 2).max() < 1.5
    alpha = np.full_like(TWELVE, 65535)
    alpha[:, :256] = 0
    deep[:, :256] = 60000  # cannot be seen
    pixels = shown(ImageSource.open(np.dstack([deep, alpha])))
    assert (pixels[:, :256] == 255).all()
    assert pixels[32, 300, 2] == 0
    assert pixels[32, -1, 0] == 255


def test_hot_and_dead_pixels_do_not_count() -> None:
    noisy = TWELVE + np.uint16(1000)
    rng = np.random.default_rng(0)
    noisy[rng.integers(0, 64, 12), rng.integers(0, 512, 12)] = 65535
    noisy[5, 9] = 0
    source = ImageSource.open(noisy)
    pixels = shown(source)
    assert 245 <= np.median(pixels[:, -8:]) <= 255
    assert np.median(pixels[:, :8]) <= 10
    assert len(source.notes) == 1


@pytest.mark.parametrize("side", [2, 5])
def test_a_small_object_uses_the_range(side: int) -> None:
    # Four pixels of a light object in a dark image, or of a dark one on paper, are no damage of a sensor.
    for ground, thing in ((300, 60000), (65000, 2000)):
        deep = np.full((500, 400), ground, np.uint16)
        deep += np.random.default_rng(0).integers(0, 50, deep.shape, np.uint16)
        deep[100 : 100 + side, 201 : 201 + side] = thing
        source = ImageSource.open(encoded(deep, "PNG"))
        assert (shown(source)[:, :, 0] == deep >> 8).all()
        assert source.notes == ()


@pytest.mark.parametrize(
    "deep",
    [
        smooth().astype(np.uint16) * 257,
        smooth().astype(np.uint16) * 70,  # 18,000: a dark photograph
        np.full((40, 40), 300, np.uint16),
        np.full((40, 40), 65535, np.uint16),
        np.zeros((1, 1), np.uint16),
    ],
    ids=["all", "dark", "black", "white", "pixel"],
)
def test_other_images_are_left_alone(deep: np.ndarray) -> None:
    source = ImageSource.open(deep)
    expected = (deep if deep.ndim == 3 else np.dstack([deep] * 3)) >> 8
    assert (shown(source) == expected).all()
    assert source.notes == ()


def test_eight_bits_are_never_stretched() -> None:
    dim = smooth() // 8
    for image in (dim, PIL.Image.fromarray(dim), encoded(dim, "PNG"), PIL.Image.fromarray(dim).convert("L")):
        source = ImageSource.open(image)
        assert shown(source).max() <= 31
        assert source.notes == ()


def test_the_range_of_a_pyramid_is_found_in_a_level_with_room_for_what_it_averages() -> None:
    fine = np.tile(TWELVE, (66, 9))
    fine[1000:1004, 1000:1004] = 4400  # averaged away in the levels
    image = pyvips.Image.new_from_array(fine).copy(interpretation="grey16")
    data = image.tiffsave_buffer(tile=True, pyramid=True, subifd=True, compression="deflate")
    source = ImageSource.open(data)
    crop = source.region((990, 990, 1014, 1014), (24, 24)).pixels
    assert crop[12, 12, 0] == crop.max() > crop[0, 0, 0] + 10
    assert crop.max() < 255
    small = source.overview((source.width // 8, source.height // 8)).pixels
    assert small.max() > 160


def test_of_a_large_tiled_image_parts_are_searched() -> None:
    fine = np.tile(TWELVE, (90, 12))  # 6,144 × 5,760
    fine[1000:1004, 1000:1004] = 4400  # between the parts
    image = pyvips.Image.new_from_array(fine).copy(interpretation="grey16")
    source = ImageSource.open(image.tiffsave_buffer(tile=True))
    crop = source.region((990, 990, 1014, 1014), (24, 24)).pixels
    assert crop[12, 12, 0] == crop.max() > crop[0, 0, 0] + 10
    assert crop.max() < 255
    assert source.overview((512, 480)).pixels.max() > 160


def test_samples_without_a_known_range() -> None:
    values = TWELVE.astype(np.float32) / 1e6 - 1
    values[0, 0], values[9, 9], values[20, 20] = np.nan, np.inf, -np.inf
    for image in (PIL.Image.fromarray(values), PIL.Image.fromarray(TWELVE.astype(np.int32) * 1000)):
        source = ImageSource.open(image)
        pixels = shown(source)[:, :, 0].astype(float)
        pixels[[0, 9, 20], [0, 9, 20]] = RIGHT[[0, 9, 20], [0, 9, 20]]
        assert np.abs(pixels - RIGHT).max() <= 1
        assert source.notes[0].startswith("32-bit samples use")


def test_a_setting_turns_it_off() -> None:
    source = ImageSource.open(TWELVE)
    box = [Box(100, 100, 900, 900)]
    on, off = Settings(), Settings(stretch_depth=False)
    assert on.digest != off.digest
    assert plain_overview(source, on).pixels.max() >= 254
    assert plain_overview(source, off).pixels.max() == 3980 >> 8
    assert build_evidence(source, box, on).crops[0].image.pixels.max() >= 250
    assert NOTE in build_evidence(source, box, on).notes
    assert build_evidence(source, box, off).crops[0].image.pixels.max() == 3980 >> 8


def test_a_lossless_file_and_an_array_agree() -> None:
    source, file = ImageSource.open(TWELVE), ImageSource.open(encoded(TWELVE, "TIFF"))
    assert difference(source.overview((100, 60)).pixels, file.overview((100, 60)).pixels) <= 1
