"""The format of a file: named in one line with a remedy, or read through Pillow or pillow-heif."""

from __future__ import annotations

import gzip
import io
import re
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from p2r.errors import InputError
from p2r.images import ImageSource, Limits
from p2r.images.formats import FORMATS, HEAD_BYTES
from tests.image_files import difference, encoded, smooth

GRAY = PIL.Image.fromarray(smooth()[:, :, 0])


def refusal(data: bytes, limits: Limits = Limits()) -> str:
    with pytest.raises(InputError) as caught:
        ImageSource.open(data, limits, name="a.jpg")
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 250
    return line


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * 100)
    return file.getvalue()


def tiff(order: str, *entries: tuple[int, int, int, int]) -> bytes:
    """The head of a TIFF file with one directory: `(tag, type, count, value)`."""
    body = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    for tag, kind, count, value in entries:
        packed = struct.pack(f"{order}I", value) if kind != 3 else struct.pack(f"{order}HH", value, 0)
        body += struct.pack(f"{order}HHI", tag, kind, count) + packed
    return body + bytes(500)


def ftyp(major: str, *others: str) -> bytes:
    brands = "".join((major, "\0\0\0\0", *others)).encode()
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + struct.pack(">I4s", 8, b"mdat")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "SVG: render it: rsvg-convert"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made -->\n<svg:svg xmlns:svg='x'>", "SVG"),
        (bytes(128) + b"DICM" + bytes(60), "DICOM: map its window to 8 bits"),
        (encoded(GRAY, "TGA"), "TGA: save it as PNG, or give the PIL image"),
        (encoded(GRAY, "TGA", compression="tga_rle"), "TGA"),
        (encoded(GRAY.convert("P"), "TGA"), "TGA"),
        (encoded(GRAY.resize((16, 16)), "ICO"), "ICO"),
        (encoded(GRAY, "PCX"), "PCX"),
        (encoded(smooth(), "DDS"), "DDS"),
        (encoded(smooth(), "QOI"), "QOI"),
        (encoded(smooth(), "SGI"), "SGI"),
        (encoded(GRAY.convert("1"), "XBM"), "XBM"),
        (encoded(GRAY.convert("F"), "PPM"), "PFM: map its values to 8 bits"),
        (b"8BPS\0\x01" + bytes(20), "Photoshop (PSD): save it as PNG"),
        (b"\x76\x2f\x31\x01\x02\0\0\0", "OpenEXR: map its values"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "Radiance HDR"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"\x93NUMPY\x01\0v\0{'descr': '|u1'}", "a NumPy array: give the array: numpy.load(path)"),
        (b"\xff\x0a\xfa\x1f\x01\x90", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"II\xbc\x01\x20\0\0\0", "JPEG XR"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(40), "a camera raw file: develop it"),
        (tiff("<", (254, 4, 1, 0), (262, 3, 1, 32803)), "a camera raw file"),
        (tiff(">", (254, 4, 1, 0), (262, 3, 1, 34892)), "a camera raw file"),
        (b"IIRO\x08\0\0\0", "a camera raw file"),
        (b"FUJIFILMCCD-RAW 0201", "a camera raw file"),
        (ftyp("crx ", "crx ", "isom"), "a camera raw file"),
        (ftyp("isom", "iso2", "avc1"), "an MP4 or QuickTime video: take a frame of it: ffmpeg"),
        (ftyp("qt  "), "an MP4 or QuickTime video"),
        (ftyp("msf1", "hevc", "iso8"), "a HEIF image sequence without a still image: take a frame"),
        (b"\x1a\x45\xdf\xa3\x9f", "a WebM or Matroska video"),
        (b"RIFF\x10\0\0\0AVI LIST", "an AVI video"),
        (zipped("[Content_Types].xml", "word/document.xml"), "an Office document: export"),
        (zipped("scan.png"), "an archive: unpack it"),
        (gzip.compress(b"x", mtime=0), "a compressed file: unpack it"),
        (b"<!DOCTYPE html>\n<html><body><svg></svg>404", "an HTML page: it may be the error page"),
        (b"\n<!-- a --><!-- b -->\n<HTML>", "an HTML page"),
        (b'{"error": "not found"}', "JSON"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a Git LFS pointer: get the file"),
        (b"data:image/png;base64,iVBORw0KGgo=", "base64 text: decode it"),
        (b"/9j/4AAQSkZJRgABAQAAAQABAAD/", "base64 text"),
        ("Кот сидит на окне.\n".encode(), "a text file"),
        (bytes(2000), "a file of zeros: copy or download it again"),
        (b"\x89PNG\n\x1a\n\0\0\0\nIHDR", "PNG with changed first bytes: transfer it again as binary"),
    ],
)
def test_files_that_are_not_read_are_named_with_what_to_do(data: bytes, expected: str) -> None:
    assert refusal(data).startswith(f"a.jpg: this is {expected}")


def test_the_guide_names_what_is_read_and_what_is_not() -> None:
    guide = (Path(__file__).parents[2] / "docs/images.md").read_text()
    rows = [row.split(" | ") for row in guide.splitlines() if row.startswith("| ")]
    for kind in FORMATS:
        if kind.decoder:
            assert kind.name in next(row[1] for row in rows if row[0].startswith("| path"))
        else:
            assert kind.name in next(row[0] for row in rows if row[1].removesuffix(" |") == kind.hint)


@pytest.mark.parametrize(
    "data",
    [b"\x08\xf2\xa6\xb6" + bytes(100), b"\x81\x92\x03\x04" * 9, b"\xff\xd8"],
    ids=["vips", "noise", "cut"],
)
def test_a_file_of_an_unknown_kind_names_what_is_read(data: bytes) -> None:
    known = "JPEG, PNG, WebP, TIFF, GIF, AVIF, HEIC, BMP, JPEG 2000, PNM, PDF"
    assert refusal(data) == f"a.jpg: not an image in a known format ({known})"


@pytest.mark.parametrize("rest", [b"", bytes(3000)], ids=["nothing", "zeros"])
@pytest.mark.parametrize(
    "signature",
    [
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x10\0\0\0WEBP",
        b"II*\0",
        b"GIF89a",
        ftyp("avif", "mif1"),
        b"BM" + bytes(12) + b"\x28\0\0\0",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"\xff\x4f\xff\x51",
        b"P6\n",
    ],
)
def test_a_file_that_ends_after_its_signature(signature: bytes, rest: bytes) -> None:
    assert "truncated" in refusal(signature + rest)


def test_a_tiff_with_small_later_pages_is_no_camera_raw() -> None:
    file = io.BytesIO()
    pages = [PIL.Image.fromarray(smooth(48, 32)) for _ in range(2)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], tiffinfo={254: 0})
    assert ImageSource.open(file.getvalue()).size == (48, 32)


@pytest.mark.parametrize(
    "data",
    [
        b"<!-- -->" * 200,
        b"<" * 2000,
        b"#define " * 200,
        b"/*" + b"*/ #define x" * 200,
        b"P7\n" * 700,
        b"II*\0" + b"\x06\x01\x03\0" * 500,
        b"\xc3\xa9" * 600 + b"\0",
        ftyp("mif1", *["    "] * 300),
    ],
)
def test_no_bytes_take_long_to_recognize(data: bytes) -> None:
    begin = time.process_time()
    for kind in FORMATS:
        re.match(kind.signature, data[:HEAD_BYTES], re.DOTALL)
    assert time.process_time() - begin < 0.5


# --- read through Pillow ---------------------------------------------------------------------------------


def read(data: bytes) -> np.ndarray:
    source = ImageSource.open(data)
    return source.overview(source.size).pixels


@pytest.mark.parametrize(
    ("kind", "image", "options"),
    [
        ("JPEG2000", PIL.Image.fromarray(smooth()), {}),
        ("JPEG2000", PIL.Image.fromarray(smooth()), {"no_jp2": True}),
        ("JPEG2000", GRAY, {}),
        ("PPM", PIL.Image.fromarray(smooth()), {}),
        ("PPM", GRAY, {}),
        ("PPM", GRAY.point(lambda value: 255 * (value > 128), "1"), {}),
    ],
)
def test_formats_that_pillow_reads(kind: str, image: PIL.Image.Image, options: dict[str, object]) -> None:
    assert difference(read(encoded(image, kind, **options)), np.asarray(image.convert("RGB"))) <= 1


@pytest.mark.parametrize("kind", ["JPEG2000", "PPM"])
def test_sixteen_bits_by_pillow(kind: str) -> None:
    deep = PIL.Image.fromarray(np.asarray(GRAY).astype(np.uint16) * 257)
    assert difference(read(encoded(deep, kind))[:, :, 0], np.asarray(GRAY)) <= 1


def test_transparency_of_jpeg_2000_is_flattened_on_white() -> None:
    rgba = np.dstack([smooth(), np.zeros((64, 96), np.uint8)])
    assert (read(encoded(rgba, "JPEG2000")) == 255).all()


def test_text_portable_pixmaps() -> None:
    assert read(b"P3 2 1 255\n255 0 0  0 0 255\n").tolist() == [[[255, 0, 0], [0, 0, 255]]]


@pytest.mark.parametrize("kind", ["JPEG2000", "PPM"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
def test_what_pillow_reads_may_be_truncated(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    data = encoded(noise, kind)
    with pytest.raises(InputError, match=r"^a.jpg: .*truncated"):
        ImageSource.open(data[: int(len(data) * share)], name="a.jpg").overview((32, 32))


def test_what_is_decoded_whole_is_refused_by_its_header() -> None:
    assert "takes 4,000,000,000 bytes" in refusal(b"P6 20000 20000 255\n", Limits(max_decoded_bytes=2**31))
    jp2 = bytearray(encoded(smooth(), "JPEG2000", no_jp2=True))
    at = jp2.index(b"\xff\x51") + 6
    jp2[at : at + 8] = struct.pack(">II", 30_000, 20_000)
    assert "takes 16,800,000,000 bytes" in refusal(bytes(jp2))


def test_a_gray_avif_is_turned_as_the_file_says() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = encoded(GRAY, "AVIF", quality=95, exif=exif)
    assert difference(read(data)[:, :, 0], np.rot90(np.asarray(GRAY), -1)) <= 8


# --- HEIC ------------------------------------------------------------------------------------------------

pillow_heif = pytest.importorskip("pillow_heif")


def heic(image: PIL.Image.Image | np.ndarray, **options: object) -> bytes:
    image = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(
        file, **{"quality": -1, "chroma": 444, "matrix_coefficients": 0} | options
    )
    return file.getvalue()


def test_heic() -> None:
    assert difference(read(heic(smooth())), smooth()) <= 2
    assert difference(read(heic(GRAY))[:, :, 0], np.asarray(GRAY)) <= 2


def test_a_crop_of_heic(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"  # phones and messengers give it any name
    path.write_bytes(heic(smooth(192, 128)))
    crop = ImageSource.open(path).region((64, 32, 128, 96), (64, 64)).pixels
    assert difference(crop, smooth(192, 128)[32:96, 64:128]) <= 2


def test_heic_is_turned_once() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    # The rotation is written twice, as cameras do: for the decoder (irot) and in the EXIF data.
    pillow_heif.encode("RGB", (96, 64), smooth().tobytes(), file, quality=-1, chroma=444, exif=exif.tobytes())
    assert b"irot" in file.getvalue()
    assert difference(read(file.getvalue()), np.rot90(smooth(), -1)) <= 4


def test_transparency_of_heic_is_flattened_on_white() -> None:
    rgba = np.dstack([smooth(), np.full((64, 96), 255, np.uint8)])
    rgba[:, :48] = (255, 0, 0, 0)
    pixels = read(heic(rgba))
    assert pixels[:, :40].min() >= 250
    assert difference(pixels[:, 56:], smooth()[:, 56:]) <= 4


def test_premultiplied_transparency_of_heic() -> None:
    rgba = PIL.Image.fromarray(np.full((64, 64, 4), (200, 100, 0, 128), np.uint8)).convert("RGBa")
    file = io.BytesIO()
    pillow_heif.encode("RGBa", rgba.size, rgba.tobytes(), file, quality=-1, chroma=444)
    expected = 127 + np.array([200, 100, 0]) * 128 / 255
    assert difference(read(file.getvalue()), np.full((64, 64, 3), expected.round())) <= 3


def test_ten_bits_of_heic_are_not_stretched() -> None:
    deep = (smooth()[:, :, 0] // 8).astype(np.uint16) * 257  # dark
    file = io.BytesIO()
    pillow_heif.encode("RGB;16", (96, 64), np.dstack([deep] * 3).tobytes(), file, quality=-1, chroma=444)
    assert pillow_heif.open_heif(file.getvalue(), convert_hdr_to_8bit=False).info["bit_depth"] == 10
    assert difference(read(file.getvalue())[:, :, 0], smooth()[:, :, 0] // 8) <= 2


def test_the_primary_image_of_several_is_read() -> None:
    file = io.BytesIO()
    images = pillow_heif.from_pillow(PIL.Image.new("RGB", (96, 64), "red"))
    images.add_from_pillow(PIL.Image.fromarray(smooth()))
    images.add_from_pillow(PIL.Image.new("RGB", (32, 32), "blue"))
    images.save(file, primary_index=1, quality=-1, chroma=444, thumbnails=[32])
    assert difference(read(file.getvalue()), smooth()) <= 4
    assert ImageSource.open(file.getvalue()).notes == ("the file has 3 images: the primary one was read",)


def test_a_grid_of_tiles_is_one_image() -> None:
    data = heic(smooth(400, 300), tile_size=128)
    assert data.count(b"hvc1") > 4
    assert difference(read(data), smooth(400, 300)) <= 4


def test_the_icc_profile_of_heic_is_applied() -> None:
    p3 = pillow_heif_p3(smooth())
    image = PIL.Image.fromarray(p3[0])
    image.info["icc_profile"] = p3[1]
    assert np.abs(read(heic(image)).astype(int) - smooth()).mean() < 1.5


def pillow_heif_p3(srgb: np.ndarray) -> tuple[np.ndarray, bytes]:
    import pyvips

    wide = (
        pyvips.Image.new_from_array(srgb)
        .copy(interpretation="srgb")
        .icc_transform("p3", input_profile="srgb")
    )
    pixels = np.frombuffer(wide.write_to_memory(), np.uint8).reshape(srgb.shape)
    return pixels, wide.get("icc-profile-data")


def test_the_nclx_profile_of_heic_is_applied() -> None:
    pixels, _ = pillow_heif_p3(smooth())
    nclx = {"color_primaries": 12, "transfer_characteristics": 13, "full_range_flag": 1}
    file = io.BytesIO()
    pillow_heif.from_pillow(PIL.Image.fromarray(pixels)).save(
        file, quality=-1, chroma=444, matrix_coefficients=0, **nclx
    )
    assert np.abs(read(file.getvalue()).astype(int) - smooth()).mean() < 1.5


@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
def test_high_dynamic_range_of_heic_is_shown_with_its_highlights(transfer: int) -> None:
    ramp = np.dstack([np.tile(np.linspace(0, 65535, 256), (64, 1)).astype(np.uint16)] * 3)
    file = io.BytesIO()
    pillow_heif.encode(
        "RGB;16", (256, 64), ramp.tobytes(), file, quality=-1, chroma=444,
        color_primaries=9, transfer_characteristics=transfer, matrix_coefficients=9, full_range_flag=1,
    )  # fmt: skip
    assert "high dynamic range" in ImageSource.open(file.getvalue()).notes[0]
    row = read(file.getvalue())[32, :, 1].astype(int)
    assert (np.diff(row) >= -1).all()
    assert row[0] <= 2
    assert row[-1] >= 253
    # Diffuse white (203 nits) is light, and what is four times as bright is distinct from it.
    white, bright = (148, 185) if transfer == 16 else (191, 235)
    assert 185 <= row[white] <= 235
    assert row[bright] - row[white] >= 15


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_truncated_heic_is_refused(share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    data = heic(noise)
    with pytest.raises(InputError, match=r"^a.jpg: .*"):
        ImageSource.open(data[: int(len(data) * share)], name="a.jpg").overview((32, 32))


def test_a_large_heic_is_refused_by_its_header() -> None:
    data = heic(smooth())
    with pytest.raises(InputError, match="to decode 96×64 pixels of this kind takes"):
        ImageSource.open(data, Limits(max_decoded_bytes=6143))
    size, large = struct.pack(">4sIII", b"ispe", 0, 96, 64), struct.pack(">4sIII", b"ispe", 0, 30000, 20000)
    assert size in data
    assert "30000×20000" in refusal(data.replace(size, large))


def test_damaged_heic_is_read_or_refused() -> None:
    data, random = heic(smooth(48, 32)), np.random.default_rng(0)
    refused = []
    for _ in range(60):
        damaged = bytearray(data)
        for position in random.integers(0, len(data), 3):
            damaged[position] = random.integers(256)
        try:
            assert ImageSource.open(bytes(damaged)).overview((16, 16)).size == (16, 16)
        except InputError as error:
            refused.append(str(error))
    assert refused
    assert not any("\n" in line for line in refused)


def test_without_pillow_heif_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(heic(smooth()))
    program = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from p2r import ImageSource, MissingExtraError\n"
        "try: ImageSource.open(sys.argv[1])\n"
        "except MissingExtraError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert run.stdout == (
        f"{path}: pillow-heif, which reads HEIC, is not installed: pip install 'perceive-to-reason[heic]'\n"
    )


def test_pillow_is_left_as_it_is() -> None:
    program = (
        "import sys, PIL.Image\n"
        "from p2r import ImageSource\n"
        "ImageSource.open(sys.stdin.buffer.read()).overview((32, 32))\n"
        "PIL.Image.init(); print('HEIF' in PIL.Image.OPEN)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], input=heic(smooth()), capture_output=True, check=True
    )
    assert run.stdout == b"False\n"
