"""Pictures that are decoded already: numpy arrays and PIL images."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
import pyvips

from p2r.errors import InputError
from p2r.images import ImageSource, Limits
from pictures import difference, encoded, smooth

RGBA = np.dstack([smooth(), np.zeros((64, 96), np.uint8)])


def read(image: np.ndarray | PIL.Image.Image) -> np.ndarray:
    source = ImageSource.open(image)
    return source.overview(source.size).pixels


@pytest.mark.parametrize(
    "array",
    [
        smooth(),
        smooth().astype(np.uint16) * 257,
        (smooth().astype(">u2") * 257),
        np.asfortranarray(smooth()),
        smooth(192, 128)[::2, ::2] * 0 + smooth(),
    ],
    ids=["uint8", "uint16", "big-endian", "fortran", "strided"],
)
def test_arrays(array: np.ndarray) -> None:
    assert (read(array) == smooth()).all()


def test_grey_arrays() -> None:
    grey = smooth()[:, :, 0]
    for array in (grey, grey[:, :, None], grey.astype(np.uint16) * 257):
        assert (read(array) == np.dstack([grey] * 3)).all()
    assert set(np.unique(read(grey > 100))) == {0, 255}


def test_alpha_is_flattened_on_white() -> None:
    assert (read(RGBA) == 255).all()
    assert (read(RGBA.astype(np.uint16) * 257) == 255).all()
    assert (read(PIL.Image.fromarray(RGBA)) == 255).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (smooth().astype(np.float32) / 255, "float32: its range is not known"),
        (smooth().astype(np.int32), "int32: its range is not known"),
        (np.zeros((4, 4, 2), np.uint8), r"4×4×2 uint8: a picture is \(height, width\)"),
        (np.zeros((4, 4, 5), np.uint8), "a picture is"),
        (np.zeros(16, np.uint8), "a picture is"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageSource.open(array)


def test_arrays_and_pil_images_have_limits_too() -> None:
    for image in (smooth(), PIL.Image.fromarray(smooth())):
        with pytest.raises(InputError, match="96×64 pixels are more than the limit of 100"):
            ImageSource.open(image, Limits(max_pixels=100))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "YCbCr", "HSV", "L", "LA", "1", "P", "CMYK"])
def test_pil_modes(mode: str) -> None:
    image = PIL.Image.fromarray(smooth()).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    # CMYK is converted by a press profile, so that only its shape can be compared.
    assert difference(read(image), expected) <= (255 if mode == "CMYK" else 1)


def test_pil_images_of_sixteen_bits() -> None:
    deep = PIL.Image.fromarray(smooth()[:, :, 0].astype(np.uint16) * 257)
    grey = np.dstack([smooth()[:, :, 0]] * 3)
    assert (read(deep) == grey).all()
    assert (read(deep.convert("I")) == grey).all()


def test_pil_modes_without_a_known_range() -> None:
    grey = PIL.Image.fromarray(smooth()[:, :, 0])
    for image in (grey.convert("F"), PIL.Image.fromarray(np.full((4, 4), -5, np.int32))):
        with pytest.raises(InputError, match=f"mode {image.mode} has no known range"):
            ImageSource.open(image)


def test_a_palette_with_transparency() -> None:
    image = PIL.Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.info["transparency"] = 1
    assert (read(image) == 255).all()


def test_the_icc_profile_of_a_pil_image_is_applied() -> None:
    image = pyvips.Image.new_from_array(smooth()).copy(interpretation="srgb")
    wide = image.icc_transform("p3", input_profile="srgb").pngsave_buffer()
    assert np.abs(read(PIL.Image.open(io.BytesIO(wide))).astype(int) - smooth()).mean() < 1


def test_a_truncated_pil_image_is_named() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    image = PIL.Image.open(io.BytesIO(encoded(noise, "JPEG")[:3000]))
    with pytest.raises(InputError, match="truncated"):
        ImageSource.open(image)
