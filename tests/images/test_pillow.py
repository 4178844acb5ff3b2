"""Images that are decoded already: numpy arrays and PIL images."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
import pyvips

from p2r.errors import InputError
from p2r.images import ImageSource, Limits
from tests.image_files import difference, encoded, smooth

if TYPE_CHECKING:
    from pathlib import Path

RGBA = np.dstack([smooth(), np.zeros((64, 96), np.uint8)])


def read(image: np.ndarray | PIL.Image.Image) -> np.ndarray:
    source = ImageSource.open(image)
    return source.overview(source.size).pixels


@pytest.mark.parametrize(
    "array",
    [
        smooth(),
        smooth().astype(np.uint16) * 257,
        (smooth().astype(np.uint16) * 257).astype(">u2"),
        (smooth().astype(np.uint16) * 257).astype("<u2"),
        np.asfortranarray(smooth()),
        np.repeat(np.repeat(smooth(), 2, axis=0), 2, axis=1)[::2, ::2],
        smooth()[::-1, ::-1].copy()[::-1, ::-1],
        np.ascontiguousarray(smooth().transpose(2, 0, 1)).transpose(1, 2, 0),
        np.frombuffer(smooth().tobytes(), np.uint8).reshape(64, 96, 3),
        np.ma.masked_array(smooth()),
    ],
    ids=[
        "uint8",
        "uint16",
        "big-endian",
        "little-endian",
        "fortran",
        "strided",
        "reversed",
        "planes",
        "read-only",
        "masked",
    ],
)
def test_arrays(array: np.ndarray) -> None:
    assert (read(array) == smooth()).all()


def test_gray_arrays() -> None:
    gray = smooth()[:, :, 0]
    for array in (gray, gray[:, :, None], gray.astype(np.uint16) * 257):
        assert (read(array) == np.dstack([gray] * 3)).all()
    assert set(np.unique(read(gray > 100))) == {0, 255}


def test_alpha_is_flattened_on_white() -> None:
    assert (read(RGBA) == 255).all()
    assert (read(RGBA.astype(np.uint16) * 257) == 255).all()
    assert (read(PIL.Image.fromarray(RGBA)) == 255).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (smooth() / 255, r"float64: .*within 0 to 1: give \(array \* 255\)\.round\(\)\.astype\('uint8'\)"),
        (smooth().astype(np.float32), r"within 0 to 255: give array\.astype\('uint8'\)"),
        (smooth().astype(np.int64), r"int64: samples are uint8 .* give array\.astype\('uint8'\)"),
        (smooth().astype(np.int32) * 9, r"within 0 to 2295: give array\.astype\('uint16'\)"),
        (smooth().astype(np.int16) - 9, "within -9 to 246: scale them to 0–255 and give them as uint8"),
        (np.full((4, 4), np.nan), "float64: samples are uint8"),
        (smooth().astype(complex), "complex128: samples are uint8"),
        (smooth().astype(object), "object: samples are uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"4×4×2 uint8: an image is \(height, width\).*array\[:, :, 0\]"),
        (np.zeros((40, 40, 5), np.uint8), "choose the channels to show"),
        (np.zeros((3, 40, 50), np.uint8), r"channels last, array\.transpose\(1, 2, 0\)"),
        (np.zeros((1, 40, 50), np.uint8), r"channels last, array\.transpose\(1, 2, 0\)"),
        (np.zeros((2, 40, 50, 3), np.uint8), r"one image of the batch, array\[0\]"),
        (np.zeros(16, np.uint8), "an image is"),
        (np.zeros((), np.uint8), "an image is"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 0), np.float32), "samples are uint8"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, message: str) -> None:
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
    gray = np.dstack([smooth()[:, :, 0]] * 3)
    assert (read(deep) == gray).all()
    assert (read(deep.convert("I")) == gray).all()


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "LAB", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"])
def test_more_pil_modes(mode: str) -> None:
    image = PIL.Image.fromarray(smooth()).convert("RGBA")
    if mode in ("La", "I", "F") or mode.startswith("I;16"):
        image = image.convert("L").convert("LA" if mode == "La" else "I")
    image = image.convert(mode)
    # Pillow has no way from La to RGB.
    expected = np.asarray((image.convert("LA") if mode == "La" else image).convert("RGB"))
    pixels = read(image)
    if mode.startswith("I;16") or mode == "F":
        # Of 16 bits these use 8, and floating-point samples have no known range: both are stretched.
        low, high = expected.min(), expected.max()
        expected = np.round((expected.astype(float) - low) * 255 / (high - low)).astype(np.uint8)
    assert difference(pixels, expected) <= 2


def test_modes_with_transparency_are_flattened_on_white() -> None:
    half = PIL.Image.fromarray(np.dstack([smooth(), np.full((64, 96), 128, np.uint8)]))
    for mode in ("LA", "La", "PA", "RGBa"):
        image = half.convert("LA").convert(mode) if mode == "La" else half.convert(mode)
        plain = image.convert("LA" if mode == "La" else "RGBA").convert("RGBA")
        white = PIL.Image.new("RGBA", plain.size, "white")
        expected = np.asarray(PIL.Image.alpha_composite(white, plain).convert("RGB"))
        assert difference(read(image), expected) <= 2


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "P"])
def test_a_transparent_color_is_as_in_the_file(mode: str) -> None:
    image = PIL.Image.fromarray(smooth()[:, ::4]).convert(mode)
    if mode == "I;16":
        image = PIL.Image.fromarray(smooth()[:, :, 0].astype(np.uint16) * 256)
    image.putpixel((3, 3), image.getpixel((0, 0)))  # type: ignore[arg-type]
    key = image.getpixel((3, 3))
    data = encoded(image, "PNG", transparency=key)
    lazy = PIL.Image.open(io.BytesIO(data))
    assert "transparency" in lazy.info
    by_path = ImageSource.open(data)
    expected = by_path.overview(by_path.size).pixels
    assert expected[3, 3].tolist() == [255, 255, 255]
    assert difference(read(lazy), expected) <= 1


def test_a_transparent_color_of_sixteen_bits_a_sample() -> None:
    # Pillow reads eight bits of each sample, and sixteen of the color.
    deep = smooth().astype(np.uint16) * 257
    image = pyvips.Image.new_from_array(deep).copy(interpretation="rgb16")
    data = bytearray(image.pngsave_buffer())
    key = deep[20, 30].astype(">u2").tobytes()
    chunk = b"tRNS" + key
    chunk = struct.pack(">I", 6) + chunk + struct.pack(">I", zlib.crc32(chunk))
    at = data.index(b"IDAT") - 4
    data[at:at] = chunk
    by_path = ImageSource.open(bytes(data))
    expected = by_path.overview(by_path.size).pixels
    assert expected[20, 30].tolist() == [255, 255, 255] != expected[20, 40].tolist()
    assert difference(read(PIL.Image.open(io.BytesIO(data))), expected) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP", "AVIF"])
def test_a_pil_image_is_turned_once(kind: str, orientation: int) -> None:
    # Pillow turns TIFF files when it decodes them, and no others.
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth(), kind, exif=exif, quality=95)
    by_path = ImageSource.open(data)
    expected = by_path.overview(by_path.size).pixels
    lazy, loaded, asked = (PIL.Image.open(io.BytesIO(data)) for _ in range(3))
    loaded.load()
    asked.getexif()
    for image in (lazy, loaded, asked, loaded.copy(), lazy):
        assert np.abs(read(image).astype(int) - expected).mean() < 2


def test_several_threads_may_be_given_one_image_that_is_not_decoded() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (700, 900, 3), np.uint8)
    data = encoded(noise, "PNG")
    image = PIL.Image.open(io.BytesIO(data))
    with ThreadPoolExecutor(8) as pool:
        assert all((pixels == noise).all() for pixels in pool.map(read, [image] * 8))


def test_the_frame_that_is_shown_is_read() -> None:
    frames = [PIL.Image.new("RGB", (20, 10), color) for color in ("red", "lime", "blue")]
    for kind in ("GIF", "TIFF", "PNG"):
        image = PIL.Image.open(io.BytesIO(encoded(frames[0], kind, save_all=True, append_images=frames[1:])))
        for index in (0, 2, 1):
            image.seek(index)
            assert difference(read(image), np.asarray(frames[index])) <= 1


def test_around_a_first_gif_frame_that_is_smaller_than_its_image_is_white() -> None:
    palette = PIL.Image.new("P", (20, 10), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    data = bytearray(encoded(palette, "GIF"))
    data[6:10] = struct.pack("<HH", 40, 30)
    at = data.index(b",\0\0\0\0") + 1
    data[at : at + 4] = struct.pack("<HH", 5, 6)
    expected = np.full((30, 40, 3), 255, np.uint8)
    expected[6:16, 5:25] = (255, 0, 0)
    for image in (bytes(data), PIL.Image.open(io.BytesIO(data))):
        source = ImageSource.open(image)
        assert (source.overview(source.size).pixels == expected).all()


def test_a_closed_pil_image_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(smooth(), "PNG"))
    with PIL.Image.open(path) as lazy:
        pass
    with PIL.Image.open(path) as file:
        file.fp.close()  # type: ignore[union-attr]
    with PIL.Image.open(path) as loaded:
        loaded.load()
    assert (read(loaded) == smooth()).all()
    loaded.close()
    for image in (lazy, file, loaded):
        with pytest.raises(InputError, match=r"a\.png: .*closed.*image\.load\(\)") as refused:
            ImageSource.open(image)
        assert "\n" not in str(refused.value)


def test_an_image_that_is_not_decoded_is_bounded_before_it_is() -> None:
    data = encoded(smooth(), "PNG")
    limits = Limits(max_decoded_bytes=10_000)
    with pytest.raises(InputError, match="more than the limit of 10,000"):
        ImageSource.open(PIL.Image.open(io.BytesIO(data)), limits)
    assert ImageSource.open(PIL.Image.fromarray(smooth()), limits).size == (96, 64)


def test_a_subclass_of_a_pil_image_that_cannot_be_decoded_is_refused() -> None:
    class Broken(PIL.Image.Image):
        size = (4, 4)

        def load(self) -> None:
            raise RuntimeError("first\nsecond")

    with pytest.raises(InputError, match="first second: a PIL image must be undamaged"):
        ImageSource.open(Broken())


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
