"""Metadata that libvips does not give: orientation, the first frame of a GIF, how a file is stored."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest

from p2r.images import ImageSource
from tests.image_files import difference, encoded, smooth

EXIF = PIL.Image.Exif()
EXIF[0x0112] = 6
RAW_EXIF = EXIF.tobytes()
XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
XMP_ELEMENT = b"<rdf:Description><tiff:Orientation>6</tiff:Orientation></rdf:Description>"
TURNED = PIL.Image.fromarray(smooth()).transpose(PIL.Image.Transpose.ROTATE_90)

# The left half black and the right half white, 64×64: a lossless JPEG, and a gray AVIF of limited range.
LOSSLESS = "eNr7f+P/EQZRBkZGBlTA8f8wAzcHgwODAyODIMP/WwwcQBVsDAzzDwAl4x8wjIIRC/7fBABv+Ax/"
GRAY_AVIF = (
    "eNpjYGCQSSupLEgsy0xjAAIQnZuZZpibmQjif8hNLUlkgACNjJScIiiboSAzuYQBCeRkJsGM4CvILMkFCzICsVxmTn4yiOMC4jNC"
    "RBlFgLQ8yMzMzLw0uFopICeVCcpLLDMwdM7PyQdbmZFZUFQApD0zC5LzgbRIZnFBKtRqBygG2luRCdbMASR4EssMnRsZZEACwsn5"
    "OUV5yTkVQHN5GdhAQuKZBbkwjwGdxcLI1MwCZKrnpiSWCDFwcUqI1v9tY5LicTASEGDYEsKy1o+li+3o/CnF0hwAkYc1+Q=="
)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def hex_text(exif: bytes) -> bytes:
    """EXIF as ImageMagick writes it into a text."""
    digits = exif.hex()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    return f"\nexif\n{len(exif):8}\n{lines}\n".encode()


def gray_profile() -> bytes:
    """An ICC profile of linear gray."""
    tags = {
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D),
        b"kTRC": b"curv" + bytes(4) + struct.pack(">IHxx", 1, 256),
    }
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for tag, body in tags.items():
        table += tag + struct.pack(">II", start + len(data), len(body))
        data += body
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x3i",
        start + len(data),
        0x02400000,
        b"mntr",
        b"GRAY",
        b"XYZ ",
        b"acsp",
        0xF6D6,
        0x10000,
        0xD32D,
    )
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


# --- orientation -----------------------------------------------------------------------------------------

PNG_CHUNKS = {
    "EXIF": chunk(b"eXIf", RAW_EXIF.removeprefix(b"Exif\0\0")),
    "EXIF with a prefix": chunk(b"eXIf", RAW_EXIF),
    "hex digits": chunk(b"tEXt", b"Raw profile type exif\0" + hex_text(RAW_EXIF)),
    "APP1": chunk(b"tEXt", b"Raw profile type APP1\0" + hex_text(RAW_EXIF)),
    "compressed hex digits": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(hex_text(RAW_EXIF))),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "compressed XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
    "XMP element": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0en\0x\0" + XMP_ELEMENT),
}


@pytest.mark.parametrize("where", PNG_CHUNKS)
@pytest.mark.parametrize("late", [False, True])
def test_the_orientation_of_a_png_is_applied_wherever_it_is(where: str, late: bool) -> None:
    data = encoded(TURNED, "PNG")
    at = len(data) - 12 if late else 33
    source = ImageSource.open(data[:at] + PNG_CHUNKS[where] + data[at:])
    assert source.size == (96, 64)
    assert difference(source.overview((96, 64)).pixels, smooth()) == 0


def test_exif_decides_before_xmp() -> None:
    data = encoded(TURNED, "PNG")
    upright = PIL.Image.Exif()
    upright[0x0112] = 1
    exif = chunk(b"eXIf", upright.tobytes().removeprefix(b"Exif\0\0"))
    assert ImageSource.open(data[:33] + PNG_CHUNKS["XMP"] + exif + data[33:]).size == (64, 96)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("options", [{"xmp": XMP}, {"xmp": XMP_ELEMENT}, {"exif": EXIF}])
def test_the_orientation_of_other_files(kind: str, options: dict[str, object]) -> None:
    assert ImageSource.open(encoded(TURNED, kind, **options)).size == (96, 64)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_impossible_orientation_is_none(value: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = value
    assert ImageSource.open(encoded(smooth(), "JPEG", exif=exif)).size == (96, 64)


@pytest.mark.parametrize("keyword", ["Título", "Ti\x80tle"])
def test_text_that_is_no_utf8_does_not_matter(keyword: str) -> None:
    data = encoded(smooth(), "PNG")
    text = chunk(b"tEXt", keyword.encode("latin-1") + b"\0Se\xf1or")
    assert difference(ImageSource.open(data[:33] + text + data[33:]).overview((96, 64)).pixels, smooth()) == 0


# --- one of several --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_an_animation_is_read_as_its_first_frame(kind: str) -> None:
    second = PIL.Image.new("RGB", (96, 64), "red")
    data = encoded(PIL.Image.fromarray(smooth()), kind, save_all=True, append_images=[second, second])
    source = ImageSource.open(data)
    assert difference(source.overview((96, 64)).pixels, smooth()) <= 32
    assert len(source.notes) == 1
    assert source.notes[0].endswith("images: the first was read")


@pytest.mark.parametrize("transparent", [False, True])
def test_around_the_first_frame_of_a_gif_is_white(transparent: bool) -> None:
    options = {"transparency": 255} if transparent else {}
    data = bytearray(encoded(PIL.Image.new("P", (20, 10), 0), "GIF", **options))
    data[6:10] = struct.pack("<2H", 60, 40)
    frame = data.index(b"," + bytes(4) + struct.pack("<2H", 20, 10))
    data[frame + 1 : frame + 5] = struct.pack("<2H", 5, 7)
    source = ImageSource.open(bytes(data))
    expected = np.full((40, 60, 3), 255, np.uint8)
    expected[7:17, 5:25] = 0
    assert difference(source.overview((60, 40)).pixels, expected) == 0
    assert difference(source.region((0, 0, 30, 20), (30, 20)).pixels, expected[:20, :30]) == 0


# --- what libvips would show wrongly ---------------------------------------------------------------------


def halves(blob: str) -> ImageSource:
    return ImageSource.open(zlib.decompress(base64.b64decode(blob)))


@pytest.mark.parametrize("side", [64, 16, 8])
@pytest.mark.parametrize("blob", [LOSSLESS, GRAY_AVIF], ids=["lossless JPEG", "gray AVIF of limited range"])
def test_files_that_libvips_shows_wrongly(blob: str, side: int) -> None:
    pixels = halves(blob).overview((side, side)).pixels
    assert difference(pixels[:, : side // 4], np.zeros((side, side // 4, 3), np.uint8)) <= 2
    assert difference(pixels[:, -side // 4 :], np.full((side, side // 4, 3), 255, np.uint8)) <= 2


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("PNG", "L"),
        ("PNG", "LA"),
        ("JPEG", "L"),
        ("TIFF", "L"),
        ("TIFF", "P"),
        ("WEBP", "L"),
        ("JPEG", "RGB"),
        ("AVIF", "L"),
    ],
)
def test_a_profile_of_gray_is_applied(kind: str, mode: str) -> None:
    gray = PIL.Image.fromarray(np.tile(np.arange(0, 256, 16, dtype=np.uint8).repeat(16), (16, 1)))
    profile = PIL.ImageCms.ImageCmsProfile(io.BytesIO(gray_profile()))
    srgb = PIL.ImageCms.createProfile("sRGB")
    expected = np.asarray(PIL.ImageCms.profileToProfile(gray, profile, srgb, outputMode="RGB"))
    options = {"lossless": True} if kind == "WEBP" else {} if kind in ("PNG", "TIFF") else {"quality": 100}
    data = encoded(gray.convert(mode), kind, icc_profile=gray_profile(), **options)
    pixels = ImageSource.open(data).overview((256, 16)).pixels
    assert difference(pixels[:, 32:], expected[:, 32:]) <= 8


def test_a_profile_of_gray_does_not_turn_colors_gray() -> None:
    data = encoded(smooth(), "WEBP", icc_profile=gray_profile(), lossless=True)
    assert difference(ImageSource.open(data).overview((96, 64)).pixels, smooth()) == 0
