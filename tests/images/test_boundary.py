"""Every defect of an image, in every form of input, raises `InputError` and nothing else."""

from __future__ import annotations

import base64
import random
import struct
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest

from p2r.errors import InputError
from p2r.images import ImageSource, Limits
from p2r.images._vips import from_array
from tests.image_files import encoded, smooth
from tests.tiff_files import Directory, tiff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIMITS = Limits(max_pixels=200_000)
SMALL = smooth(48, 32)
EXIF = PIL.Image.Exif()
EXIF[0x0112] = 6


def vips(loader: str, **options: object) -> bytes:
    return getattr(from_array(SMALL, "srgb", None), f"{loader}save_buffer")(**options)


FILES = {
    "JPEG": encoded(SMALL, "JPEG", exif=EXIF),
    "progressive JPEG": encoded(SMALL, "JPEG", progressive=True),
    "PNG": encoded(SMALL, "PNG", exif=EXIF),
    "interlaced PNG": vips("png", interlace=True),
    "palette PNG": encoded(PIL.Image.fromarray(SMALL).quantize(16), "PNG"),
    "WebP": encoded(SMALL, "WEBP", exif=EXIF, xmp=b'tiff:Orientation="3"'),
    "GIF": encoded(
        PIL.Image.fromarray(SMALL), "GIF", save_all=True, append_images=[PIL.Image.new("RGB", (48, 32))]
    ),
    "AVIF": encoded(SMALL, "AVIF"),
    "gray AVIF": encoded(PIL.Image.fromarray(SMALL[:, :, 0]), "AVIF"),
    "BMP": encoded(SMALL, "BMP"),
    "JPEG 2000": encoded(SMALL, "JPEG2000"),
    "PPM": encoded(SMALL, "PPM"),
    "TIFF": encoded(SMALL, "TIFF", compression="tiff_lzw"),
    "LZMA TIFF": encoded(SMALL, "TIFF", compression="lzma"),
    "fax TIFF": encoded(PIL.Image.fromarray(SMALL).convert("1"), "TIFF", compression="group4"),
    "pyramid": vips("tiff", tile=True, tile_width=16, tile_height=16, pyramid=True, compression="jpeg"),
    "sub-directories": vips("tiff", tile=True, tile_width=16, tile_height=16, pyramid=True, subifd=True),
    "BigTIFF": tiff(
        Directory(SMALL, {271: (2, b"Canon")}), Directory(SMALL[::2, ::2], {254: (4, [1])}), big=True
    ),
    "planes": tiff(Directory(np.dstack([SMALL, SMALL]), tile=16, planes=True), order=">"),
    "12 bits": tiff(Directory(SMALL, {258: (3, [12] * 3)}, data=[bytes(216 * 32)])),
    "float": tiff(Directory(SMALL.astype(np.float32), {42113: (2, b"7\0")})),
    "Lab": tiff(Directory(SMALL, {262: (3, [8])})),
}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A file with a few bytes changed, mostly in its header and its end, or cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        place = rng.choice(
            [
                rng.randrange(len(changed)),
                rng.randrange(min(len(changed), 100)),
                -rng.randrange(1, min(len(changed), 300)),
            ]
        )
        match rng.randrange(4):
            case 0:
                changed[place] = rng.randrange(256)
            case 1:
                changed[place] ^= 1 << rng.randrange(8)
            case 2:
                number = struct.pack(rng.choice(["<I", ">I", "<H", ">H"]), rng.choice([0, 1, 0x7FFF, 0xFFFF]))
                changed[place : place + len(number)] = number[: len(changed[place : place + len(number)])]
            case _:
                changed[place] = rng.choice([0, 255])
    return bytes(changed[: rng.randrange(len(changed)) if rng.random() < 0.1 else None])


def seen(image: object) -> bool:
    """Whether an image was read, after every call that a pipeline makes; anything but InputError fails."""
    try:
        source = ImageSource.open(image, LIMITS)  # type: ignore[arg-type]
        width, height = source.size
        source.overview((32, 32))
        source.overview((width, height))
        source.regions([(0, 0, width, height), (0, 0, 1, 1)], [(20, 20), (32, 32)])
        lines, read = source.notes, True
    except InputError as error:
        lines, read = (str(error),), False
    assert not any("\n" in line for line in lines)
    return read


@pytest.mark.parametrize("mutations", [30, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_read_or_refused(kind: str, mutations: int) -> None:
    assert seen(FILES[kind])
    rng = random.Random(f"{kind} {mutations}")
    outcomes = [seen(mutated(FILES[kind], rng)) for _ in range(mutations)]
    assert not all(outcomes)


FORMS: dict[str, Callable[[bytes, Path], object]] = {
    "bytes": lambda data, _: data,
    "path": lambda _, path: path,
    "text": lambda _, path: str(path),
    "data URI": lambda data, _: "data:image/png;base64," + base64.b64encode(data).decode(),
}


def damaged() -> Iterator[tuple[str, bytes]]:
    png, bmp = encoded(SMALL, "PNG"), bytearray(encoded(SMALL, "BMP"))
    bmp[18:22] = struct.pack("<i", -48)
    yield "BMP of a negative width", bytes(bmp)
    yield "PNG without pixels", png[:41] + png[-12:]
    yield "TIFF of nothing", b"II*\0\x08\0\0\0"
    yield "TIFF with a directory far away", b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**64 - 1)
    yield "GIF of nothing", b"GIF89a"
    yield "text", b"nothing"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("what", "data"), list(damaged()))
def test_each_form_of_an_image_is_refused_alike(form: str, what: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / what
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        ImageSource.open(FORMS[form](data, path)).overview((32, 32))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


class Broken(PIL.Image.Image):
    """A PIL image of a plugin that raises any exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._mode, self._size, self.error = "RGB", (8, 8), error

    def load(self) -> object:  # type: ignore[override]
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        struct.error("y"),
        MemoryError(),
        OverflowError("z"),
        RecursionError(),
        AssertionError("a\nb"),
    ],
)
def test_whatever_a_plugin_of_pillow_raises(error: Exception) -> None:
    assert not seen(Broken(error))


class Unnamable:
    """A path whose operations fail."""

    def __fspath__(self) -> str:
        raise OSError("gone")


@pytest.mark.parametrize(
    "image", [Unnamable(), np.zeros((0, 5, 3), np.uint8), np.empty((4, 4, 3), object), "\0", "a" * 9000]
)
def test_what_is_no_image_at_all(image: object) -> None:
    assert not seen(image)


def test_a_name_that_is_no_unicode_can_be_printed(tmp_path: Path) -> None:
    path = tmp_path / b"caf\xe9.tif".decode("utf-8", "surrogateescape")
    path.write_bytes(encoded(SMALL, "TIFF")[:300])
    with pytest.raises(InputError) as caught:
        ImageSource.open(path).overview((32, 32))
    assert str(caught.value).encode()


def test_rectangles_and_sizes_that_make_no_sense() -> None:
    source = ImageSource.open(SMALL)
    for size in ((0, 5), (5, -1)):
        with pytest.raises(InputError):
            source.overview(size)
    with pytest.raises(InputError, match="not a rectangle"):
        source.region((5, 5, 5, 9), (3, 3))


def test_a_pipeline_of_libvips_that_fails_later(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8), "PNG"))
    source = ImageSource.open(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"a\.png: "):
        source.overview((400, 400))
