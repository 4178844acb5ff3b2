"""TIFF files: which directory is the image, which are levels of it, and what its samples mean."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import PIL.features
import PIL.Image
import pytest
import pyvips

from p2r.errors import InputError
from p2r.images import ImageSource
from tests.image_files import difference, encoded, smooth
from tests.tiff_files import Directory, Order, tiff

if TYPE_CHECKING:
    from pathlib import Path

REDUCED, MASK = {254: (4, [1])}, {254: (4, [4]), 262: (3, [4])}
GREEN = (0, 200, 0)


def plain(color: tuple[int, ...], width: int, height: int) -> np.ndarray:
    return np.full((height, width, len(color)), color, np.uint8)


def opened(data: bytes) -> ImageSource:
    """A source, of which the first page is smooth and 640×480."""
    source = ImageSource.open(data)
    assert source.size == (640, 480)
    assert difference(source.region((0, 0, 64, 64), (64, 64)).pixels, smooth(640, 480)[:64, :64]) == 0
    return source


def is_green(pixels: np.ndarray) -> bool:
    return bool((pixels == GREEN).all())


# --- pages and levels ------------------------------------------------------------------------------------

PAGE = Directory(smooth(640, 480))
TILED = Directory(smooth(640, 480), tile=64)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tile", [0, 64])
def test_a_level_is_what_the_file_calls_so(order: Order, big: bool, tile: int) -> None:
    level = Directory(plain(GREEN, 320, 240), REDUCED, tile=tile)
    source = opened(tiff(Directory(smooth(640, 480), tile=tile), level, order=order, big=big))
    assert is_green(source.overview((320, 240)).pixels)
    assert is_green(source.overview((96, 64)).pixels)
    assert difference(source.overview((640, 480)).pixels, smooth(640, 480)) == 0
    assert source.notes == ()


@pytest.mark.parametrize("big", [False, True])
def test_sub_directories_are_levels(big: bool) -> None:
    levels = [Directory(plain(GREEN, 320, 240)), Directory(plain(GREEN, 160, 120), REDUCED)]
    source = opened(tiff(Directory(smooth(640, 480), children=levels), big=big))
    assert is_green(source.overview((320, 240)).pixels)
    assert is_green(source.overview((96, 64)).pixels)


def test_the_tiled_pages_of_aperio_are_levels_and_the_others_are_not() -> None:
    about = {270: (2, b"Aperio Image Library v11\0")}
    thumbnail, label = Directory(plain((9, 9, 9), 160, 120)), Directory(plain((9, 9, 9), 80, 60), REDUCED)
    pages = [TILED, thumbnail, Directory(plain(GREEN, 160, 120), tile=64), label]
    pages[0] = Directory(smooth(640, 480), about, tile=64)
    source = opened(tiff(*pages))
    assert is_green(source.overview((160, 120)).pixels)
    assert is_green(source.overview((40, 30)).pixels)


@pytest.mark.parametrize(
    "second",
    [
        Directory(plain(GREEN, 320, 240)),
        Directory(plain(GREEN, 320, 240), {254: (4, [2])}),
        Directory(plain(GREEN, 320, 240), tile=64),
        Directory(plain(GREEN, 320, 300), REDUCED),
        Directory(plain((0, 200, 0, 9), 320, 240), REDUCED),
        Directory(plain(GREEN, 320, 240).astype(np.uint16), REDUCED),
        Directory(plain(GREEN, 320, 240), {254: (4, [5])}),
    ],
    ids=[
        "a page",
        "a page by its own words",
        "tiled",
        "another shape",
        "more samples",
        "more bits",
        "a mask",
    ],
)
@pytest.mark.parametrize("first", [PAGE, TILED], ids=["strips", "tiles"])
def test_what_is_no_level_is_not_shown(first: Directory, second: Directory) -> None:
    overview = opened(tiff(first, second)).overview((320, 240)).pixels
    assert difference(overview, smooth(320, 240)) <= 4


def test_the_level_of_a_later_page_is_not_one_of_the_first() -> None:
    later = Directory(plain((200, 0, 0), 640, 480))
    source = opened(tiff(PAGE, later, Directory(plain(GREEN, 320, 240), REDUCED)))
    assert difference(source.overview((320, 240)).pixels, smooth(320, 240)) <= 4


def test_a_thumbnail_before_its_image_is_not_the_image() -> None:
    thumbnail = Directory(plain(GREEN, 160, 120), REDUCED)
    source = opened(tiff(thumbnail, PAGE))
    assert difference(source.overview((160, 120)).pixels, smooth(160, 120)) <= 4
    assert ImageSource.open(tiff(thumbnail)).size == (160, 120)


def test_pages_that_were_left_out_are_counted() -> None:
    second = Directory(plain(GREEN, 10, 10))
    level = Directory(plain(GREEN, 320, 240), REDUCED)
    mask = Directory(plain((1,), 640, 480), MASK)
    assert opened(tiff(PAGE, mask, level, second, second)).notes == (
        "the file has 3 pages: the first was read",
    )
    assert opened(tiff(PAGE, level, mask)).notes == ()


def test_a_level_shows_the_colors_of_the_pages_profile() -> None:
    color = (200, 60, 40)
    wide = pyvips.Image.new_from_array(plain(color, 8, 8)).copy(interpretation="srgb")
    profile = wide.icc_transform("p3", input_profile="srgb").get("icc-profile-data")
    for place in ("page", "child"):
        level = Directory(plain(color, 64, 64), REDUCED)
        page = Directory(plain(color, 128, 128), {34675: (7, profile)}, children=[level] * (place == "child"))
        source = ImageSource.open(tiff(*([page, level] if place == "page" else [page])))
        crop = source.region((0, 0, 64, 64), (64, 64)).pixels
        assert crop[0, 0, 0] > 210
        assert difference(source.overview((64, 64)).pixels, crop) == 0


# --- what else is in the file does not matter ------------------------------------------------------------

FLOATS = Directory(np.random.default_rng(0).random((100, 100, 1), np.float32))


@pytest.mark.parametrize(
    "others",
    [
        [Directory(plain((1,), 640, 480), MASK)],
        [
            Directory(
                plain((1,), 640, 480), {254: (4, [4]), 262: (3, [4]), 258: (3, [1])}, data=[bytes(80 * 480)]
            )
        ],
        [Directory(plain((1,), 640, 480), {258: (3, [12])})],
        [FLOATS],
        [Directory(plain((1,), 640, 480), {259: (3, [31337])})],
        [Directory(plain(GREEN, 640, 480), {322: (4, [7]), 323: (4, [7]), 324: (4, [8]), 325: (4, [1])})],
        [Directory(plain(GREEN, 320, 240), {**REDUCED, 259: (3, [31337])})],
        [Directory(plain(GREEN, 320, 240), {**REDUCED, 259: (3, [8])})],
        [Directory(plain(GREEN, 320, 240), {**REDUCED, 259: (3, [8])}, tile=64)],
    ],
    ids=[
        "mask",
        "mask of one bit",
        "12 bits",
        "float",
        "unknown compression",
        "impossible tiles",
        "level of unknown compression",
        "damaged level",
        "damaged tiled level",
    ],
)
@pytest.mark.parametrize("first", [PAGE, TILED], ids=["strips", "tiles"])
def test_the_first_page_is_read_whatever_follows_it(first: Directory, others: list[Directory]) -> None:
    source = opened(tiff(first, *others))
    assert difference(source.overview((320, 240)).pixels, smooth(320, 240)) <= 4
    assert difference(source.region((0, 0, 640, 480), (320, 240)).pixels, smooth(320, 240)) <= 4


@pytest.mark.parametrize("last", [9, 2_000_000_000])
def test_the_first_page_is_read_if_the_second_directory_is_damaged(last: int) -> None:
    assert difference(opened(tiff(PAGE, last=last)).overview((320, 240)).pixels, smooth(320, 240)) <= 4


def test_a_damaged_level_is_noted() -> None:
    source = opened(tiff(PAGE, Directory(plain(GREEN, 320, 240), {**REDUCED, 259: (3, [8])})))
    assert source.notes == ()
    source.overview((320, 240))
    assert list(source.notes) == ["a smaller level in the file is damaged: the image itself was read"]


def test_directories_that_lead_in_a_circle_come_to_an_end() -> None:
    assert opened(tiff(PAGE, PAGE, last=8)).notes == ("the file has 2 pages: the first was read",)


@pytest.mark.parametrize(
    "tags",
    [
        {271: (2, b"Canon")},
        {305: (2, b"scan\0ner\0")},
        {297: (3, [0])},
        {34737: (2, b"WGS 84|")},
        {65000: (3, [7])},
        {282: (3, [72])},
        {33432: (4, [2**31])},
    ],
)
@pytest.mark.parametrize("first", [PAGE, TILED], ids=["strips", "tiles"])
def test_a_harmless_warning_is_a_note(first: Directory, tags: dict[int, tuple[int, bytes]]) -> None:
    source = opened(tiff(Directory(first.pixels, tags, tile=first.tile)))
    assert difference(source.overview((640, 480)).pixels, smooth(640, 480)) == 0
    assert all("\n" not in note for note in source.notes)
    if not tags.keys() & {282, 65000}:  # of which libtiff says nothing
        assert any(note.startswith("read in spite of a warning: ") for note in source.notes)


def test_tags_in_the_wrong_order_are_read() -> None:
    data = bytearray(tiff(PAGE))
    count = int.from_bytes(data[8:10], "little")
    entries = [bytes(data[10 + 12 * index : 22 + 12 * index]) for index in range(count)]
    data[10 : 10 + 12 * count] = b"".join(reversed(entries))
    assert any("not sorted" in note for note in opened(bytes(data)).notes)


@pytest.mark.parametrize("warned", [False, True])
@pytest.mark.parametrize("tile", [0, 64])
def test_what_cannot_be_decoded_is_never_shown_black(warned: bool, tile: int) -> None:
    pixels = smooth(128, 128)
    parts = (
        [pixels[y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64)]
        if tile
        else [pixels[:64], pixels[64:]]
    )
    data = [zlib.compress(part.tobytes()) for part in parts]
    tags = {259: (3, [8]), 278: (4, [64])} | ({271: (2, b"Canon")} if warned else {})
    source = ImageSource.open(tiff(Directory(pixels, tags, tile=tile, data=data)))
    assert difference(source.overview((128, 128)).pixels, pixels) == 0
    data[-1] = data[-1][:20] + bytes(len(data[-1]) - 20)
    damaged = ImageSource.open(tiff(Directory(pixels, tags, tile=tile, data=data)))
    with pytest.raises(InputError, match="damaged"):
        damaged.overview((128, 128))
    with pytest.raises(InputError, match="damaged"):
        damaged.region((70, 70, 128, 128), (58, 58))


# --- what the samples mean -------------------------------------------------------------------------------


def shown(
    pixels: np.ndarray, tags: dict[int, tuple[int, list[int]]], *, planes: bool = False, tile: int = 0
) -> list[int]:
    """The color in which a plain image is shown."""
    source = ImageSource.open(tiff(Directory(pixels, tags, planes=planes, tile=tile)))
    color = source.overview(source.size).pixels
    assert (color == color[0, 0]).all()
    return [int(value) for value in color[0, 0]]


RED = [200, 30, 30]


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize(
    ("samples", "extra", "expected"),
    [
        ((200, 30, 30, 0), [0], RED),
        ((200, 30, 30, 0), None, RED),
        ((200, 30, 30, 0), [2], [255, 255, 255]),
        ((255, 0, 0, 51), [2], [255, 204, 204]),
        ((128, 0, 0, 128), [1], [255, 127, 127]),
        ((200, 30, 30, 0), [999], [255, 255, 255]),
        ((200, 30, 30, 0, 0), [0, 0], RED),
        ((200, 30, 30, 9, 255), [0, 2], RED),
        ((200, 30, 30, 9, 0), [0, 2], [255, 255, 255]),
        ((200, 30, 30, 0, 9), [2, 0], [255, 255, 255]),
        ((200, 30, 30, 0, 0), [2, 2], RED),
        ((200, 30, 30, 0, 0, 0), [0, 0, 0], RED),
    ],
)
def test_transparency_is_what_the_file_calls_so(
    samples: tuple[int, ...], extra: list[int] | None, expected: list[int], planes: bool, tile: int
) -> None:
    tags = {262: (3, [2])} | ({} if extra is None else {338: (3, extra)})
    found = shown(plain(samples, 32, 32), tags, planes=planes, tile=tile)
    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) <= 1


@pytest.mark.parametrize(
    ("samples", "extra", "expected"),
    [
        ((90, 0), [0], [90] * 3),
        ((90, 0), [2], [255] * 3),
        ((90, 0), [1], [255] * 3),
        ((200, 30, 30, 0), [0, 0, 0], RED),
        ((200, 30, 30, 0), [0, 0, 2], [255] * 3),
    ],
)
def test_extra_samples_of_gray(samples: tuple[int, ...], extra: list[int], expected: list[int]) -> None:
    assert shown(plain(samples, 32, 32), {262: (3, [1]), 338: (3, extra)}) == expected


def test_channels_that_are_not_shown_are_noted() -> None:
    tags = {262: (3, [1]), 338: (3, [0] * 4)}
    source = ImageSource.open(tiff(Directory(plain((200, 30, 30, 7, 8), 32, 32), tags)))
    assert source.notes == ("the file has 5 channels: the first three are shown as red, green and blue",)


def test_extra_samples_of_inks() -> None:
    white = shown(plain((0, 0, 0, 0), 32, 32), {262: (3, [5])})
    assert min(white) >= 250
    assert shown(plain((0, 0, 0, 255, 0), 32, 32), {262: (3, [5]), 338: (3, [2])}) == [255] * 3
    assert max(shown(plain((0, 0, 0, 255, 0), 32, 32), {262: (3, [5]), 338: (3, [0])})) < 70


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [(640, 480), (64, 64), (100, 70)])
def test_a_file_with_tiles_for_each_sample(dtype: type, order: Order, size: tuple[int, int]) -> None:
    pixels = smooth(*size).astype(dtype) * dtype(257 if dtype is np.uint16 else 1)
    source = ImageSource.open(tiff(Directory(pixels, tile=64, planes=True), order=order))
    assert difference(source.overview(size).pixels, smooth(*size)) <= 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("width", [96, 97])
@pytest.mark.parametrize("samples", [1, 3])
def test_samples_of_twelve_bits(order: Order, width: int, samples: int) -> None:
    values = (smooth(width, 64)[:, :, :samples].astype(np.uint16) * 16 + 5).reshape(64, -1)
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(64, -1, 2), axis=2)[:, :, 4:]
    row = np.packbits(bits.reshape(64, -1), axis=1).tobytes()
    page = Directory(smooth(width, 64)[:, :, :samples], {258: (3, [12] * samples)}, data=[row])
    pixels = ImageSource.open(tiff(page, order=order)).overview((width, 64)).pixels
    assert difference(pixels[:, :, :samples], smooth(width, 64)[:, :, :samples]) <= 1


@pytest.mark.parametrize(
    ("pixels", "tags", "noted"),
    [
        (smooth().astype(np.float32) / 255, {}, True),
        (smooth().astype(np.float32) / 255, {340: (12, [0.0]), 341: (12, [1.0])}, False),
        (smooth().astype(np.float32) * 10 - 50, {340: (12, [-50.0]), 341: (12, [2500.0])}, False),
        (smooth().astype(np.float32) * 10 - 50, {}, True),
        (smooth().astype(np.uint32) * 1000, {}, True),
        (smooth().astype(np.int16) * 100 - 9000, {}, True),
        (smooth().astype(np.int32), {340: (4, [0]), 341: (4, [255])}, False),
    ],
    ids=[
        "0 to 1",
        "0 to 1 in the file",
        "range in the file",
        "float",
        "32 bits",
        "16 bits with a sign",
        "range of integers",
    ],
)
@pytest.mark.parametrize("tile", [0, 16])
def test_samples_of_other_types(
    pixels: np.ndarray, tags: dict[int, tuple[int, list[int]]], noted: bool, tile: int
) -> None:
    source = ImageSource.open(tiff(Directory(pixels, tags, tile=tile)))
    assert difference(source.overview((96, 64)).pixels, smooth()) <= 1
    assert bool(source.notes) == noted
    if noted:
        assert "stretched to the full range" in source.notes[0]


def test_pixels_without_a_value_do_not_count_for_the_range() -> None:
    pixels = smooth().astype(np.float32) * 10
    pixels[0, 0], pixels[0, 1], pixels[0, 2] = np.nan, np.inf, -9999
    source = ImageSource.open(tiff(Directory(pixels, {42113: (2, b"-9999\0")})))
    assert difference(source.overview((96, 64)).pixels[1:], smooth()[1:]) <= 1


@pytest.mark.parametrize("photometric", [8, 9])
def test_lab(photometric: int) -> None:
    # Lightness, and two differences: with a sign (CIELab), or around 128 (ICCLab).
    offset = 128 if photometric == 9 else 0
    for lab, expected in (((137, 0, 0), 129), ((255, 0, 0), 255), ((0, 0, 0), 0)):
        stored = (lab[0], lab[1] + offset, lab[2] + offset)
        assert (
            max(abs(value - expected) for value in shown(plain(stored, 32, 32), {262: (3, [photometric])}))
            <= 3
        )
    red = shown(plain((int(53 * 2.55), 80 + offset, 67 + offset), 32, 32), {262: (3, [photometric])})
    assert red[0] > 240
    assert max(red[1:]) < 40


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (Directory(plain((7,), 32, 32), {258: (3, [14])}), "samples of 14 bits"),
        (Directory(smooth() / 255), "samples of 64 bits"),
        (
            Directory(plain(GREEN, 32, 32), {259: (3, [34887])}),
            "compressed by LERC is not read: save it with",
        ),
        (Directory(plain((1,) * 3, 32, 32), {277: (4, [300_000_000])}), "300000000 samples"),
        (Directory(plain(GREEN, 32, 32), {262: (3, [10])}), "photometric interpretation 10"),
        (Directory(plain((7,), 32, 32), {258: (3, [12])}, tile=16), "12 bits"),
        (Directory(plain(GREEN, 32, 32), {262: (3, [6])}, planes=True), "samples stored apart"),
        (Directory(plain(GREEN, 32, 32), {262: (3, [6])}, planes=True, tile=16), "samples stored apart"),
        (Directory(plain((7,), 32, 32).astype(np.uint16), {259: (3, [31337])}), "not supported"),
    ],
)
def test_what_cannot_be_shown_is_refused(page: Directory, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageSource.open(tiff(page)).overview((32, 32))


def test_a_fax_that_does_not_say_so_has_black_ink_on_white() -> None:
    image = PIL.Image.new("1", (64, 48), 0)
    image.paste(1, (8, 8, 24, 24))
    file = io.BytesIO()
    image.save(file, "TIFF", compression="group4")
    says, silent = struct.pack("<HHI", 262, 3, 1), struct.pack("<HHI", 263, 3, 1)  # 263: how it was reduced
    assert file.getvalue().count(says) == 1
    ink, paper = (8, 8, 24, 24), (30, 30, 60, 40)
    for data, expected in [(file.getvalue(), [255, 0]), (file.getvalue().replace(says, silent), [0, 255])]:
        source = ImageSource.open(data)
        assert [int(source.region(rect, (8, 8)).pixels.mean()) for rect in (ink, paper)] == expected


SENSOR = Directory(plain((7,), 640, 480), {262: (3, [32803])})


@pytest.mark.parametrize(
    "pages",
    [
        [SENSOR],
        [Directory(plain(GREEN, 160, 120), REDUCED, children=[SENSOR])],
        [Directory(plain(GREEN, 160, 120), children=[Directory(plain((7,), 640, 480), {262: (3, [34892])})])],
        [Directory(plain(GREEN, 160, 120), REDUCED), SENSOR],
        [Directory(plain(GREEN, 160, 120), {50706: (1, [1, 4, 0, 0])})],
    ],
    ids=["first", "behind its preview", "linear", "the page after its preview", "DNG"],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_camera_raw_file_is_named(pages: list[Directory], order: Order) -> None:
    with pytest.raises(InputError, match="this is a camera raw file: develop it"):
        ImageSource.open(tiff(*pages, order=order))


@pytest.mark.parametrize("compression", ["lzma", "zstd"])
def test_what_only_pillow_decompresses(compression: str) -> None:
    if not PIL.features.check("libtiff"):
        pytest.skip("this Pillow has no libtiff")
    for orientation, expected in ((1, smooth()), (6, np.rot90(smooth(), -1))):
        tags = {"compression": compression, "tiffinfo": {274: orientation}}
        image = ImageSource.open(encoded(PIL.Image.fromarray(smooth()), "TIFF", **tags))
        assert image.size == expected.shape[1::-1]
        assert difference(image.overview(image.size).pixels, expected) == 0


def test_the_tag_that_says_what_the_samples_are_may_be_left_out() -> None:
    for pixels in (smooth(), smooth()[:, :, :1]):
        data = bytearray(tiff(Directory(pixels)))
        data[data.index(b"\x06\x01\x03\0") + 1] = 0xF0  # a private tag instead
        found = ImageSource.open(bytes(data)).overview((96, 64)).pixels
        assert difference(found[:, :, : pixels.shape[2]], pixels) == 0


def test_every_orientation_is_applied() -> None:
    xmp = b'<rdf:Description tiff:Orientation="6" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"/>'
    for tags, size in (
        ({274: (3, [6])}, (64, 96)),
        ({700: (1, xmp)}, (64, 96)),
        ({274: (3, [1]), 700: (1, xmp)}, (96, 64)),
    ):
        assert ImageSource.open(tiff(Directory(smooth(), tags))).size == size


def test_a_file_is_as_pillow_sees_it(tmp_path: Path) -> None:
    # Bytes and a path are read alike, though other bytes are put over them for libvips.
    path = tmp_path / "a.tif"
    path.write_bytes(encoded(PIL.Image.fromarray(smooth()), "TIFF", compression="tiff_lzw"))
    before = path.read_bytes()
    assert difference(ImageSource.open(path).overview((96, 64)).pixels, smooth()) == 0
    assert path.read_bytes() == before
