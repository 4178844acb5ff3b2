"""`ImageSource` and `EncodedImage`: the right pixels at the right size, read once, upright."""

from __future__ import annotations

import base64
import contextlib
import io
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st

from p2r.errors import InputError
from p2r.images import EncodedImage, ImageSource, Limits, encode_all
from p2r.images.limits import kept
from tests.image_files import difference, encoded, smooth

if TYPE_CHECKING:
    from pathlib import Path

Transpose = PIL.Image.Transpose

# How an image is stored under each EXIF orientation.
STORED = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


def tiff(pixels: np.ndarray, path: Path, **options: object) -> Path:
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
    image.tiffsave(str(path), **options)
    return path


# --- sizes and regions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(96, 64), (97, 61), (32, 640), (1, 1), (333, 7)])
def test_every_size_is_exact(size: tuple[int, int]) -> None:
    source = ImageSource.open(encoded(smooth(), "PNG"))
    assert source.overview(size).size == size
    assert source.region((10, 20, 41, 43), size).size == size


def test_the_whole_at_its_own_size_is_the_image_itself() -> None:
    assert (ImageSource.open(encoded(smooth(), "PNG")).overview((96, 64)).pixels == smooth()).all()


def test_a_region_at_its_own_size_is_cut_out() -> None:
    source = ImageSource.open(encoded(smooth(), "PNG"))
    assert (source.region((10, 20, 42, 52), (32, 32)).pixels == smooth()[20:52, 10:42]).all()


def test_shrinking_averages_and_enlarging_interpolates() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    shrunk = ImageSource.open(stripes).overview((16, 16)).pixels[2:-2, 2:-2]
    assert difference(shrunk, np.full((12, 12, 3), 100, np.uint8)) <= 3  # no stripe survives as an alias
    ramp = ImageSource.open(smooth()).region((40, 30, 56, 46), (256, 256)).pixels
    steps = np.diff(ramp[128, 16:-16, 0].astype(int))
    assert steps.min() >= 0
    assert steps.max() <= 1  # a smooth ramp, not blocks of 16 pixels


def test_many_regions_are_the_same_as_one_at_a_time(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
    rects = [(10, 20, 300, 200), (500, 400, 800, 600), (0, 590, 800, 600), (30, 20, 40, 21)]
    sizes = [(290, 180), (64, 64), (32, 32), (10, 1)]
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 95}), ("TIFF", {"compression": "tiff_lzw"})):
        data = encoded(noise, kind, **options)
        together = ImageSource.open(data).regions(rects, sizes)
        for rect, size, image in zip(rects, sizes, together, strict=True):
            alone = ImageSource.open(data).region(rect, size)
            assert image.size == size
            assert difference(image.pixels, alone.pixels) <= 1, (kind, rect)


@pytest.mark.parametrize(
    "rect", [(0, 0, 0, 10), (10, 0, 5, 10), (-1, 0, 10, 10), (0, 0, 97, 10), (0, 0, 10, 65), (90, 60, 96, 60)]
)
def test_a_rectangle_outside_the_image_is_refused(rect: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="not a rectangle inside 96×64"):
        ImageSource.open(smooth()).region(rect, (32, 32))


# --- orientation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "PIL"])
def test_exif_orientation_is_applied_to_overview_and_regions(orientation: int, kind: str) -> None:
    upright = smooth(480, 320)
    transpose = STORED[orientation]
    stored = PIL.Image.fromarray(upright)
    stored = stored if transpose is None else stored.transpose(transpose)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "PNG" if kind == "PIL" else kind, exif=exif, quality=95)
    source = ImageSource.open(PIL.Image.open(io.BytesIO(data)) if kind == "PIL" else data)
    assert source.size == (480, 320)
    straight = ImageSource.open(upright)
    for image, expected in (
        (source.overview((48, 32)), straight.overview((48, 32))),  # reduced on load
        (source.overview((480, 320)), straight.overview((480, 320))),
        (source.region((30, 200, 130, 260), (100, 60)), straight.region((30, 200, 130, 260), (100, 60))),
    ):
        assert difference(image.pixels, expected.pixels) <= 9


def test_avif_is_upright_too() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    stored = PIL.Image.fromarray(smooth()).transpose(Transpose.ROTATE_90)
    source = ImageSource.open(encoded(stored, "AVIF", exif=exif, quality=95))
    assert source.size == (96, 64)
    assert difference(source.overview((96, 64)).pixels, smooth()) <= 9


# --- reading little --------------------------------------------------------------------------------------


def test_shrink_on_load_shows_the_same_image() -> None:
    data = encoded(smooth(1600, 1200), "JPEG", quality=95)
    reduced = ImageSource.open(data).overview((96, 72)).pixels
    exact = ImageSource.open(smooth(1600, 1200)).overview((96, 72)).pixels
    assert difference(reduced, exact) <= 4


@pytest.mark.parametrize("size", [(801, 1203), (1203, 801), (1207, 1205), (333, 1201)])
@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_the_last_corner_of_an_image_of_odd_size_is_read_smaller(size: tuple[int, int], shrink: int) -> None:
    width, height = size
    source = ImageSource.open(encoded(smooth(width, height), "JPEG", quality=95))
    rect = (width // 2, height // 2, width, height)
    wanted = (max(1, (width - rect[0]) // (shrink + 1)), (height - rect[1]) // (shrink + 1))
    crop = source.region(rect, wanted).pixels
    exact = ImageSource.open(smooth(width, height)).region(rect, wanted).pixels
    assert difference(crop, exact) <= 8


def test_a_file_is_decoded_once_for_overview_and_crops(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded(smooth(640, 480), "JPEG", quality=95))
    source = ImageSource.open(path)
    source.overview((512, 384))
    path.unlink()
    crop = source.region((100, 100, 200, 200), (100, 100))
    assert difference(crop.pixels, smooth(640, 480)[100:200, 100:200]) <= 6


def test_pixels_are_not_kept_for_a_small_overview(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded(smooth(640, 480), "JPEG"))
    source = ImageSource.open(path)
    source.overview((64, 48))
    path.unlink()
    with pytest.raises(InputError, match=r"image\.jpg"):
        source.region((100, 100, 200, 200), (100, 100))


def test_kept_pixels_are_given_back_with_their_source() -> None:
    before = kept.held
    source = ImageSource.open(encoded(smooth(640, 480), "PNG"))
    source.overview((512, 384))
    assert kept.held == before + 640 * 480 * 3
    del source
    assert kept.held == before


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_a_source_holds_nothing_after_its_end(kind: str) -> None:
    data = encoded(smooth(), kind)
    source = ImageSource.open(data)
    source.overview((48, 32))
    references = sys.getrefcount(data)
    del source
    assert sys.getrefcount(data) < references  # without a garbage collection


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_no_regions_are_no_images_whether_pixels_are_kept_or_not(kind: str) -> None:
    source = ImageSource.open(encoded(smooth(640, 480), kind))
    assert source.regions([], []) == []
    source.overview((640, 480))
    assert source.regions([], []) == []


def test_when_no_room_is_left_images_are_read_again() -> None:
    source = ImageSource.open(encoded(smooth(640, 480), "PNG"))
    room = kept.try_reserve(kept.most - kept.held)
    assert room is not None
    with room:
        source.overview((512, 384))
        crops = source.regions([(0, 0, 32, 32), (600, 400, 632, 432)], [(32, 32)] * 2)
    assert (crops[1].pixels == smooth(640, 480)[400:432, 600:632]).all()


@pytest.mark.parametrize("subifd", [False, True])
def test_the_pyramids_of_libvips_are_read(tmp_path: Path, subifd: bool) -> None:
    options = {"tile": True, "tile_width": 128, "tile_height": 128, "compression": "deflate"}
    path = tiff(smooth(1024, 768), tmp_path / "p.tif", pyramid=True, subifd=subifd, **options)
    source = ImageSource.open(path)
    assert source.notes == ()
    assert difference(source.overview((256, 192)).pixels, smooth(256, 192)) <= 4


def test_a_region_of_a_tiled_file_reads_only_its_tiles(tmp_path: Path) -> None:
    path = tiff(
        smooth(1024, 768),
        tmp_path / "t.tif",
        tile=True,
        tile_width=128,
        tile_height=128,
        compression="deflate",
    )
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1000] = bytes(1000)  # a few tiles in the middle are damaged
    source = ImageSource.open(bytes(data))
    assert (source.region((0, 0, 128, 128), (128, 128)).pixels == smooth(1024, 768)[:128, :128]).all()
    with pytest.raises(InputError, match="damaged"):
        source.overview((512, 384))


@pytest.fixture(scope="module")
def huge() -> bytes:
    """A tiled file of 34 megapixels that is turned upright by a quarter."""
    image = pyvips.Image.xyz(8192, 4096).linear([1 / 32, 1 / 16], 0).cast("uchar").bandjoin([128, 128])
    image = image.copy(interpretation="srgb")
    image.set_type(pyvips.GValue.gint_type, "orientation", 6)
    options = {"tile": True, "tile_width": 512, "tile_height": 512, "compression": "deflate", "level": 1}
    return image.tiffsave_buffer(**options)


def test_a_huge_tiled_file_is_read_by_several_threads(huge: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(source: ImageSource) -> int:
        # The pixels do not show how many threads have read them.
        return len(next(iter(source._reader.read([((0, 0, 8192, 4096), (512, 256))]))))

    monkeypatch.setattr("os.cpu_count", lambda: 1)
    alone = ImageSource.open(huge)
    assert threads(alone) == 1
    expected = alone.overview((256, 512)).pixels
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    together = ImageSource.open(huge)
    assert threads(together) == 3
    assert difference(together.overview((256, 512)).pixels, expected) <= 1
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert threads(ImageSource.open(huge)) == 5  # of 3 rows of tiles each, which must fit into 256 MiB

    data = bytearray(huge)
    middle = len(data) // 2
    data[middle : middle + 1000] = bytes(1000)
    with pytest.raises(InputError, match="damaged"):
        ImageSource.open(bytes(data)).overview((256, 512))


# --- threads ---------------------------------------------------------------------------------------------


def test_one_source_serves_many_threads() -> None:
    source = ImageSource.open(encoded(smooth(640, 480), "JPEG", quality=95))

    def look(index: int) -> bytes:
        if index % 2:
            return source.overview((320, 256)).pixels.tobytes()
        return source.region((100, 100, 200, 200), (64, 64)).pixels.tobytes()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(look, range(32)))
    assert len(set(results[1::2])) == 1


# --- inputs ----------------------------------------------------------------------------------------------


def test_every_kind_of_input_gives_the_same_pixels(tmp_path: Path) -> None:
    data = encoded(smooth(), "PNG")
    path = tmp_path / "[page=3] ünïcode.png"
    path.write_bytes(data)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    opened = ImageSource.open(path)
    for image in (path, str(path), data, uri, PIL.Image.open(path), smooth(), opened):
        source = ImageSource.open(image)
        assert source.size == (96, 64)
        assert (source.overview((96, 64)).pixels == smooth()).all()
    assert ImageSource.open(opened) is opened


def test_a_path_that_is_no_unicode(tmp_path: Path) -> None:
    path = tmp_path / b"caf\xe9.png".decode("utf-8", "surrogateescape")
    path.write_bytes(encoded(smooth(), "PNG"))
    assert ImageSource.open(path).size == (96, 64)


@pytest.mark.parametrize(
    "url",
    ["http://host/a.png", "https://host/a.png", "file:///etc/passwd", "file:a.png", "FTP://h/a", "blob:x"],
)
def test_urls_are_not_read(url: str) -> None:
    with pytest.raises(InputError, match="is not read: give a path"):
        ImageSource.open(url)


@pytest.mark.parametrize("thing", [None, 7, 1.5, ["a.png"], object()])
def test_what_is_no_image_is_named(thing: object) -> None:
    with pytest.raises(InputError, match=f"not {type(thing).__name__}"):
        ImageSource.open(thing)  # type: ignore[arg-type]


@given(st.text("AQgw019+/=-_ \nä", min_size=4, max_size=12))
def test_what_is_not_base64_is_refused(text: str) -> None:
    refused, taken = (
        "data URI .*: (Non-base64 digit|Incorrect padding)",
        "not an image in a known format|this is|0 bytes",
    )
    said = refused
    with contextlib.suppress(ValueError):
        plain = base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
        # The standard library also takes padding that is not needed, and bits that mean nothing.
        said = taken if plain else f"{refused}|{taken}"
    with pytest.raises(InputError, match=said):
        ImageSource.open(f"data:image/png;base64,{text}")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:image/png;base64,", "0 bytes"),
        ("data:image/png;base64", "only base64"),
        ("data:image/png,abc", "only base64"),
        ("data:,", "only base64"),
        ("data:image/png;base64,", "base64"),
        ("data:image/png;base64,AAAAA", "base64"),
        ("data:image/png;base64,äääää", "base64"),
        ("data:text/plain;base64,aGVsbG8gd29ybGQ=", "this is a text file"),
    ],
)
def test_broken_data_uris(uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageSource.open(uri)


def test_a_long_data_uri_is_refused_before_it_is_decoded() -> None:
    # The characters are not base64 at all: only the length can have been looked at.
    with pytest.raises(InputError, match=r"7,4\d\d bytes are more than the limit of 1,000"):
        ImageSource.open("data:image/png;base64," + "@" * 10_000, Limits(max_bytes=1000))


# --- images --------------------------------------------------------------------------------------------


def test_an_image_is_read_only_and_leaves_the_callers_array_alone() -> None:
    array = smooth()
    image = EncodedImage(array)
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 1
    array[0, 0] = 1
    assert image.size == (image.width, image.height) == (96, 64)
    assert image.to_pil().size == (96, 64)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_an_image_is_rgb_of_eight_bits(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        EncodedImage(pixels)


def test_small_images_are_encoded_without_loss() -> None:
    noise = EncodedImage(np.random.default_rng(0).integers(0, 255, (160, 160, 3), np.uint8))
    mime, data = noise.encode()
    assert mime == "image/png"
    assert (ImageSource.open(data).overview((160, 160)).pixels == noise.pixels).all()
    assert (ImageSource.open(noise.data_uri()).overview((160, 160)).pixels == noise.pixels).all()


def test_large_images_are_encoded_as_jpeg_without_visible_loss() -> None:
    image = EncodedImage(smooth(1024, 768))
    mime, data = image.encode()
    assert mime == "image/jpeg"
    decoded = np.asarray(PIL.Image.open(io.BytesIO(data)))
    assert difference(decoded, image.pixels) <= 4
    assert image.data_uri().startswith("data:image/jpeg;base64,")


def test_images_are_encoded_side_by_side() -> None:
    images = [EncodedImage(smooth(1024, 768 + index)) for index in range(4)] + [EncodedImage(smooth())]
    encode_all(images)
    assert ["_encoded" in vars(image) for image in images] == [True] * 4 + [False]
    assert images[0].encode() == EncodedImage(smooth(1024, 768)).encode()


def test_one_image_does_not_wait_until_another_is_encoded() -> None:
    both = threading.Barrier(2)

    class Waiting(EncodedImage):
        def _encode(self) -> tuple[str, bytes]:
            both.wait(timeout=10)
            return super()._encode()

    encode_all([Waiting(smooth(1024, 768 + index)) for index in range(2)])


def test_an_image_is_encoded_once() -> None:
    image = EncodedImage(smooth())
    assert image.encode()[1] is image.encode()[1]
