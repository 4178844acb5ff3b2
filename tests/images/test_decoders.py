"""Files of every kind become eight-bit sRGB; other files are refused with one clear line."""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st

from p2r.errors import InputError
from p2r.images import ImageInput, ImageSource, Limits
from tests.image_files import difference, encoded, smooth

if TYPE_CHECKING:
    from pathlib import Path

RGB16 = pyvips.Image.new_from_array(smooth().astype(np.uint16) * 257).copy(interpretation="rgb16")
GRAY = PIL.Image.fromarray(smooth()[:, :, 0])


def read(data: bytes) -> np.ndarray:
    source = ImageSource.open(data)
    return source.overview(source.size).pixels


def refusal(image: ImageInput, limits: Limits = Limits()) -> str:
    """The one line with which an image is refused, by header or by its pixels."""
    with pytest.raises(InputError) as caught:
        ImageSource.open(image, limits).overview((32, 32))
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 400
    return line


# --- what can be read ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95}, 5),
        ("JPEG", {"quality": 95, "progressive": True}, 5),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 6),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_deflate"}, 0),
        ("GIF", {}, 16),
        ("AVIF", {"quality": 95}, 8),
        ("BMP", {}, 0),
    ],
)
def test_every_format(kind: str, options: dict[str, object], tolerance: int) -> None:
    assert difference(read(encoded(smooth(), kind, **options)), smooth()) <= tolerance


def test_an_interlaced_png() -> None:
    image = pyvips.Image.new_from_array(smooth()).copy(interpretation="srgb")
    assert (read(image.pngsave_buffer(interlace=True)) == smooth()).all()


@pytest.mark.parametrize(
    "data", [RGB16.pngsave_buffer(bitdepth=16), RGB16.tiffsave_buffer()], ids=["png", "tiff"]
)
def test_sixteen_bits(data: bytes) -> None:
    assert difference(read(data), smooth()) <= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_gray_becomes_rgb(kind: str) -> None:
    pixels = read(encoded(GRAY, kind))
    assert difference(pixels[:, :, 0], smooth()[:, :, 0]) <= 5
    assert difference(pixels[:, :, 0], pixels[:, :, 2]) <= 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_and_white(kind: str) -> None:
    pixels = read(encoded(GRAY.point(lambda value: 255 * (value > 128), "1"), kind))
    assert set(np.unique(pixels)) == {0, 255}
    assert pixels[0, -1].tolist() == [255] * 3


def test_fax_tiff() -> None:
    pixels = read(encoded(GRAY.point(lambda value: 255 * (value > 128), "1"), "TIFF", compression="group4"))
    assert pixels[0, 0].tolist() == [0] * 3
    assert pixels[0, -1].tolist() == [255] * 3


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP"])
def test_a_palette_is_resolved(kind: str) -> None:
    image = PIL.Image.fromarray(smooth()).quantize(64)
    assert difference(read(encoded(image, kind)), np.asarray(image.convert("RGB"))) == 0


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted(kind: str) -> None:
    inks = PIL.Image.new("CMYK", (96, 64), (0, 0, 0, 0))
    inks.paste((255, 0, 0, 0), (32, 0, 64, 64))
    inks.paste((0, 0, 0, 255), (64, 0, 96, 64))
    pixels = read(encoded(inks, kind, **({"quality": 95} if kind == "JPEG" else {})))
    paper, cyan, black = pixels[32, 10].astype(int), pixels[32, 48].astype(int), pixels[32, 85].astype(int)
    assert paper.min() >= 250
    assert cyan[0] < 80
    assert cyan[2] > 180
    assert black.max() < 70


def test_an_icc_profile_is_applied() -> None:
    image = pyvips.Image.new_from_array(smooth()).copy(interpretation="srgb")
    wide = image.icc_transform("p3", input_profile="srgb")
    stored = np.asarray(wide.write_to_memory())
    assert np.frombuffer(stored, np.uint8).reshape(64, 96, 3)[0, -1, 0] < 240  # P3 writes sRGB red smaller
    pixels = read(wide.pngsave_buffer())
    assert difference(pixels, smooth()) <= 10  # eight bits twice, and steep in the dark
    assert np.abs(pixels.astype(int) - smooth()).mean() < 1


def test_a_broken_icc_profile_is_ignored() -> None:
    assert (read(encoded(smooth(), "PNG", icc_profile=b"no profile" * 20)) == smooth()).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "GIF"])
def test_transparency_is_flattened_on_white(kind: str) -> None:
    rgba = np.dstack([smooth(), np.full((64, 96), 255, np.uint8)])
    rgba[:, :48, 3] = 0
    rgba[:, :48, :3] = (255, 0, 0)  # hidden under full transparency
    pixels = read(encoded(rgba, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert pixels[:, :40].min() >= 250
    assert difference(pixels[:, 56:], smooth()[:, 56:]) <= 16


def test_half_transparency_is_mixed_with_white() -> None:
    gray_alpha = PIL.Image.merge("LA", [PIL.Image.new("L", (8, 8), 0), PIL.Image.new("L", (8, 8), 128)])
    assert difference(read(encoded(gray_alpha, "PNG")), np.full((8, 8, 3), 127, np.uint8)) <= 1


def test_sixteen_bit_transparency() -> None:
    rgba = np.dstack([smooth(), np.full((64, 96), 0, np.uint8)]).astype(np.uint16) * 257
    image = pyvips.Image.new_from_array(rgba).copy(interpretation="rgb16")
    assert (read(image.pngsave_buffer(bitdepth=16)) == 255).all()


def test_hidden_colors_do_not_bleed_when_resized() -> None:
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[:, ::2] = (255, 0, 0, 0)
    rgba[:, 1::2] = (255, 255, 255, 255)
    image = ImageSource.open(encoded(rgba, "PNG")).overview((16, 16))
    assert image.pixels.min() == 255


def test_more_channels_than_colors_show_the_first_three() -> None:
    bands = pyvips.Image.new_from_array(np.dstack([smooth(), smooth(), smooth()]))
    data = bands.copy(interpretation="multiband").tiffsave_buffer()
    assert difference(read(data), smooth()) == 0


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (1, 1), (5_000, 3)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_extreme_shapes(size: tuple[int, int], kind: str) -> None:
    source = ImageSource.open(encoded(PIL.Image.new("RGB", size, (200, 100, 50)), kind))
    assert source.size == size
    for image in (source.overview((320, 64)), source.region((0, 0, *size), (64, 320))):
        assert np.abs(image.pixels.astype(int) - (200, 100, 50)).max() <= 3


# --- what cannot -----------------------------------------------------------------------------------------


def test_files_that_are_no_images(tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("I am no image, whatever my name says.")
    assert refusal(text) == f"{text}: this is a text file: give the image itself"
    empty = tmp_path / "empty.png"
    empty.touch()
    assert refusal(empty) == f"{empty}: the file is empty (0 bytes)"
    assert refusal(tmp_path) == f"{tmp_path}: a folder, not an image"
    assert refusal(tmp_path / "none.png") == f"{tmp_path / 'none.png'}: no such file"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert refusal(pipe) == f"{pipe}: not a regular file"
    assert "null" in refusal("a\0b.png")
    assert "too long" in refusal("a" * 5000)
    assert refusal(b"") == "image of 0 bytes: the file is empty (0 bytes)"


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(smooth(), "PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert refusal(path) == f"{path}: Permission denied"


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("GIF", {}),
        ("AVIF", {}),
        ("BMP", {}),
    ],
)
def test_a_truncated_file_is_refused_and_never_half_gray(
    kind: str, options: dict[str, object], share: float, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    data = encoded(noise, kind, **options)
    path = tmp_path / "half.image"
    path.write_bytes(data[: int(len(data) * share)])
    assert refusal(path).startswith(f"{path}: ")
    assert "truncated" in refusal(path)


def test_a_truncated_jpeg_is_refused_by_its_regions_too() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
    data = encoded(noise, "JPEG")
    source = ImageSource.open(data[: len(data) // 2])
    assert source.region((0, 0, 100, 100), (32, 32)).size == (32, 32)  # read before the end is missed
    with pytest.raises(InputError, match="truncated"):
        source.regions([(0, 0, 100, 100), (0, 500, 100, 600)], [(100, 100)] * 2)


def png_header(width: int, height: int, *, interlace: int = 0) -> bytes:
    """A small PNG file whose header promises any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def tiff_header(width: int, height: int) -> bytes:
    """A small TIFF file whose header promises any size, in one strip."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, 100)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + bytes(100)


def test_bombs_are_refused_by_their_header() -> None:
    assert "more than the limit of 1,500,000,000" in refusal(png_header(60_000, 60_000))
    assert "more than the limit of 1,500,000,000" in refusal(tiff_header(60_000, 60_000))
    assert "a side of 50,000,000 pixels is more than the limit" in refusal(png_header(50_000_000, 8))
    assert "a side of 2,000,000 pixels is more than the limit" in refusal(tiff_header(1, 2_000_000))
    assert "takes 4,800,000,000 bytes" in refusal(png_header(40_000, 40_000, interlace=1), Limits(2**31))
    bmp = bytearray(encoded(smooth(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 40_000, 30_000)
    assert "takes 12,000,000,000 bytes" in refusal(bytes(bmp))
    # Within the limits, but the pixels are not there.
    assert "truncated" in refusal(png_header(30_000, 30_000))
    assert "truncated" in refusal(tiff_header(30_000, 30_000))


def test_a_file_that_unpacks_to_far_more_than_it_is_needs_little_memory() -> None:
    # 400 megapixels of one color in 1.2 MB: legal, and read a strip at a time.
    assert ImageSource.open(png_header(20_000, 20_000)).size == (20_000, 20_000)


def test_limits_can_be_set() -> None:
    data = encoded(smooth(), "PNG")
    exact = Limits(max_pixels=96 * 64, max_bytes=len(data))
    assert ImageSource.open(data, exact).size == (96, 64)
    assert "96×64 pixels are more than the limit of 6,143" in refusal(data, Limits(max_pixels=96 * 64 - 1))
    assert "bytes are more than the limit of" in refusal(data, Limits(max_bytes=len(data) - 1))


@pytest.mark.parametrize(
    ("kind", "options", "pixel_bytes"),
    [
        ("WEBP", {}, 8),
        ("GIF", {}, 5),
        ("AVIF", {}, 20),
        ("BMP", {}, 10),
        ("JPEG", {"progressive": True}, 6),
    ],
)
def test_what_is_decoded_whole_is_bounded_by_what_that_takes(
    kind: str, options: dict[str, object], pixel_bytes: int
) -> None:
    data, takes = encoded(smooth(), kind, **options), pixel_bytes * 96 * 64
    said = refusal(data, Limits(max_decoded_bytes=takes - 1))
    assert f"takes {takes:,} bytes, more than the limit of {takes - 1:,}: make it smaller" in said
    assert ImageSource.open(data, Limits(max_decoded_bytes=takes)).size == (96, 64)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {}), ("TIFF", {})])
def test_what_is_read_by_rows_is_bounded_before_it_is_read(kind: str, options: dict[str, object]) -> None:
    small = Limits(max_decoded_bytes=40_000)
    source = ImageSource.open(encoded(smooth(), kind, **options), small)
    with pytest.raises(InputError, match="to decode 96×64 pixels of this kind takes"):
        source.overview((96, 64))
    with pytest.raises(InputError, match="to decode 96×64 pixels of this kind takes"):
        source.region((0, 0, 96, 64), (960, 640))


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(10_000_000_000)
    assert refusal(path) == f"{path}: 10,000,000,000 bytes are more than the limit of 8,589,934,592"
    path.write_bytes(encoded(smooth(), "BMP"))
    assert "bytes are more than the limit of 1,000" in refusal(path, Limits(max_bytes=1000))


def test_other_loaders_are_blocked_in_the_whole_process(tmp_path: Path) -> None:
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'></svg>"
    with pytest.raises(pyvips.Error, match="blocked"):
        pyvips.Image.svgload_buffer(svg)
    table = tmp_path / "a.csv"
    table.write_text("1,2\n3,4\n")
    with pytest.raises(pyvips.Error):
        pyvips.Image.new_from_file(str(table))


@settings(deadline=None)
@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF", "BMP"]))
def test_damaged_files_are_read_or_refused(data: st.DataObject, kind: str) -> None:
    file = bytearray(encoded(smooth(48, 32), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = ImageSource.open(bytes(file), Limits(max_pixels=1_000_000)).overview((32, 32))
    except InputError:
        return
    assert image.size == (32, 32)
