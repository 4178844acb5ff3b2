"""TIFF files: which directory is the image, which are smaller levels of it, and what its samples mean.

libvips decodes. It is never given the file as it is, but a view of it whose only directory is the wanted one,
with nothing but the tags that decoding needs. So another page that is damaged, or a tag that libtiff warns
of, costs nothing, and libvips can refuse at the first warning: a tile that cannot be decoded is no more than
that to it, and would come out black.
"""

from __future__ import annotations

import io
import math
import re
import struct
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import pyvips

from p2r.errors import InputError
from p2r.images._vips import Level, heard_warnings, opened
from p2r.images.formats import DEVELOP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from p2r.images._vips import VipsImage

MAX_DIRECTORIES = 4096
MAX_ENTRIES = 4096  # of a directory
MAX_ALL_ENTRIES = 100_000
MAX_XMP_BYTES = 1 << 20
MAX_SAMPLES = 10_000  # of a pixel
MAX_LEVELS = 24
MAX_WARNINGS = 3  # that are repeated in the notes

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_DESCRIPTION, _ORIENTATION, _SAMPLES, _PLANAR, _TILE_HEIGHT, _OFFSETS, _BYTES = (
    270,
    274,
    277,
    284,
    323,
    324,
    325,
)
_SUB_DIRECTORIES, _EXTRA, _FORMAT, _LEAST, _MOST, _XMP, _PROFILE, _NO_DATA = (
    330,
    338,
    339,
    340,
    341,
    700,
    34675,
    42113,
)

# What libtiff needs to decode, and the ICC profile.
_DECODING = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA, _FORMAT),
    *(266, 273, 278, 279, 322, _TILE_HEIGHT, _OFFSETS, _BYTES),  # order of bits, strips and tiles
    *(292, 293, 317, 320, 332, 32996, _PROFILE, 50674),  # fax, predictor, palette, inks, LERC
    *(347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),  # JPEG, new and old, and YCbCr
}
# The types of values, as letters of `struct`; fractions are of no interest here.
_LETTERS = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I"}
_LETTERS |= {16: "Q", 17: "q", 18: "Q"}

_REDUCED, _OF_A_DOCUMENT, _MASK = 1, 2, 4  # bits of NewSubfileType
_SEPARATE = 2  # PlanarConfiguration
_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _CMYK, _YCBCR, _CIELAB, _ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_GRAY, _LAB = (_WHITE_IS_0, _BLACK_IS_0), (_CIELAB, _ICCLAB)  # photometric interpretations
_COLORS = {_WHITE_IS_0: 1, _BLACK_IS_0: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _CIELAB: 3, _ICCLAB: 3}
_DNG_VERSION = 50706
_SENSOR = (32803, 34892)  # photometric interpretations: behind a color filter, and linear
_LZW, _JPEG, _FAX = 5, (6, 7), (2, 3, 4)  # compressions
_BY_PILLOW = (6, 34925, 50000)  # JPEG of old, LZMA, Zstandard
_NOT_READ = {34712: "JPEG 2000", 50002: "JPEG XL", 52546: "JPEG XL", 34934: "JPEG XR", 22610: "JPEG XR"}
_NOT_READ |= {34887: "LERC", 34933: "PNG"}
_STRIPS = 273
_UNSIGNED, _FLOAT = (1, 4), 3  # SampleFormat; 4: undefined
_PACKED = 12  # bits of samples that libvips does not unpack
_END = 2**62  # no file is longer
_ASSOCIATED = 1  # ExtraSamples: transparency by which the colors are multiplied
_ALPHA = (1, 2, 999)  # ExtraSamples: associated, unassociated, and what Corel writes for it

_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")


class _Numbers:
    """Numbers in a TIFF file, of either byte order, with offsets of 32 or (BigTIFF) 64 bits.

    In formats, P is an offset and N the number of entries of a directory, both as wide as the file says.
    """

    def __init__(self, head: bytes) -> None:
        self._order = "<" if head[:2] == b"II" else ">"
        self._wide = {"P": "Q", "N": "Q"} if b"+" in head[2:4] else {"P": "I", "N": "H"}
        self.pointer = self.size("P")  # bytes of an offset, and where the first of them is

    def _format(self, letters: str) -> str:
        return self._order + "".join(self._wide.get(letter, letter) for letter in letters)

    def size(self, letters: str) -> int:
        return struct.calcsize(self._format(letters))

    def pack(self, letters: str, *values: int) -> bytes:
        return struct.pack(self._format(letters), *values)

    def unpack(self, letters: str, data: bytes) -> tuple[Any, ...]:
        return struct.unpack_from(self._format(letters), data)

    def entry(self, tag: int, value: int) -> bytes:
        """An entry of a directory with one value of 32 bits."""
        return self.pack("HHPI", tag, 4, 1, value).ljust(self.size("HHPP"), b"\0")


class _Place(NamedTuple):
    """Where the values of a tag are."""

    kind: int
    values: int
    offset: int


class Page:
    """A directory of a TIFF file: what it says about its pixels.

    Raises:
        ValueError, struct.error: it is damaged.
    """

    def __init__(self, numbers: _Numbers, file: BinaryIO, offset: int) -> None:
        self._numbers = numbers
        self.offset = offset
        self._entries: list[tuple[int, bytes]] = []  # tags, and their entries as they are stored
        self._places: dict[int, _Place] = {}
        self.next = self._read_entries(file)

        def value(tag: int, default: int = 0) -> int:
            return int((self._values(file, tag) or (default,))[0])

        self.subfile = value(_SUBFILE, int(value(_OLD_SUBFILE) == 2))
        self.sub_directories = self._values(file, _SUB_DIRECTORIES, MAX_LEVELS)
        self.is_aperio = self._text(file, _DESCRIPTION, 6) == b"Aperio"
        self.width, self.height, self.tile_height = value(_WIDTH), value(_HEIGHT), value(_TILE_HEIGHT)
        self.bits, self.samples, self.sample_format = value(_BITS, 1), value(_SAMPLES, 1), value(_FORMAT, 1)
        if self.samples > MAX_SAMPLES:
            raise ValueError(f"{self.samples} samples a pixel")
        self.compression = value(_COMPRESSION, 1)
        one = _WHITE_IS_0 if self.compression in _FAX else _BLACK_IS_0
        self.photometric = value(_PHOTOMETRIC, _RGB if self.samples >= 3 else one)
        file.seek(min(value(_STRIPS), _END))
        self.is_old_lzw = self.compression == _LZW and file.read(2) in (
            b"\0\1",
            b"\0\3",
        )  # as libtiff tells it
        ends = (*self._values(file, _LEAST), *self._values(file, _MOST))
        known = len(ends) == 2 and -math.inf < ends[0] < ends[1] < math.inf
        self.range: tuple[float, float] | None = ends if known else None  # least and greatest value
        self.no_data = _number(self._text(file, _NO_DATA, 32))
        # What the samples beyond the colors are.
        self.extra = max(0, self.samples - _COLORS.get(self.photometric, 1))
        kinds = (*self._values(file, _EXTRA, 64), *[0] * self.extra)[: self.extra]
        alphas = [index for index, kind in enumerate(kinds) if kind in _ALPHA]
        # Which of them is transparency; libvips writes of all channels of a satellite that they are.
        self.alpha = alphas[0] if len(alphas) == 1 else None
        self.is_associated = self.alpha is not None and kinds[self.alpha] == _ASSOCIATED
        self.planes: list[Mapping[int, bytes | None]] = []
        self.is_separate = self.samples > 1 and value(_PLANAR, 1) == _SEPARATE
        if self.is_separate and self.tile_height:
            self.planes = [self._plane(file, sample) for sample in self.shown(self.samples)]

    def _read_entries(self, file: BinaryIO) -> int:
        # Returns where the next directory is.
        numbers = self._numbers
        file.seek(min(self.offset, _END))
        (count,) = numbers.unpack("N", file.read(numbers.size("N")))
        if not 1 <= count <= MAX_ENTRIES:
            raise ValueError(f"a directory of {count} entries")
        each = numbers.size("HHPP")
        block = file.read(count * each + numbers.pointer)
        for start in range(0, min(len(block) // each, count) * each, each):
            stored = block[start : start + each]
            tag, kind, values, offset = numbers.unpack("HHPP", stored)
            self._entries.append((tag, stored))
            if kind in _LETTERS:
                if values * struct.calcsize(_LETTERS[kind]) <= numbers.pointer:
                    offset = self.offset + numbers.size("N") + start + each - numbers.pointer
                self._places.setdefault(tag, _Place(kind, values, offset))
        after = block[count * each :]
        return int(numbers.unpack("P", after)[0]) if len(after) == numbers.pointer else 0

    def _values(self, file: BinaryIO, tag: int, most: int = 1) -> tuple[Any, ...]:
        place = self._places.get(tag, _Place(1, 0, 0))
        letters = _LETTERS[place.kind] * min(place.values, most)
        file.seek(min(place.offset, _END))
        data = file.read(self._numbers.size(letters))
        return self._numbers.unpack(letters, data) if len(data) == self._numbers.size(letters) else ()

    def _text(self, file: BinaryIO, tag: int, most: int) -> bytes:
        place = self._places.get(tag, _Place(1, 0, 0))
        file.seek(min(place.offset, _END))
        return file.read(min(place.values, most))

    def orientation(self, file: BinaryIO) -> int:
        """1 to 8, as the tag says, or else the XMP; 0 without both."""
        (stored,) = self._values(file, _ORIENTATION) or (0,)
        return int(stored) if 1 <= stored <= 8 else xmp_orientation(self._text(file, _XMP, MAX_XMP_BYTES))

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self._entries)

    # Which directories are what.

    @property
    def is_page(self) -> bool:
        """Whether it is no smaller copy and no mask of another, by its own words."""
        return not self.subfile & (_REDUCED | _MASK)

    def has_shape_of(self, larger: Page) -> bool:
        """Whether its size is that of a larger page, divided by some number and rounded."""
        skew = abs(larger.width * self.height - larger.height * self.width)
        return (
            0 < 1.5 * self.width <= larger.width and self.height > 0 and skew <= larger.width + larger.height
        )

    def is_level_of(self, page: Page) -> bool:
        """Whether it has the shape of a page, and samples of the same kind."""
        kinds = [(one.samples, one.bits, one.sample_format, one.alpha) for one in (self, page)]
        rgb = {self.photometric, page.photometric} <= {_RGB, _YCBCR}
        return (
            kinds[0] == kinds[1]
            and (rgb or self.photometric == page.photometric)
            and self.has_shape_of(page)
            and bool(self.tile_height or not page.tile_height)
        )

    @property
    def is_raw(self) -> bool:
        """Whether it belongs to a camera's raw file."""
        return self.photometric in _SENSOR or _DNG_VERSION in self._places

    # Which samples are shown.

    @property
    def is_multispectral(self) -> bool:
        """Whether gray has so many channels more that the first three are shown as red, green and blue."""
        return self.photometric in _GRAY and (self.extra if self.alpha is None else self.alpha) >= 2

    def shown(self, bands: int) -> list[int]:
        """Which of the decoded bands are the colors, and then which is the transparency."""
        colors = bands - self.extra if self.photometric == _PALETTE else _COLORS[self.photometric]
        colors = 3 if self.is_multispectral else colors
        return [*range(colors), *([] if self.alpha is None else [bands - self.extra + self.alpha])]

    # How libvips is to see it.

    def directory(self, changes: Mapping[int, bytes | None] | None) -> bytes:
        """A directory for this page with nothing behind it, for any place in the file.

        Args:
            changes: entries to replace or (None) to leave out; all that decoding does not need are left out.
                None for all entries, as they are.
        """
        numbers, entries = self._numbers, [stored for _, stored in self._entries]
        if changes is not None:
            kept = {tag: stored for tag, stored in reversed(self._entries) if tag in _DECODING}
            # libvips wants it, and some writers leave it out.
            kept.setdefault(_PHOTOMETRIC, numbers.entry(_PHOTOMETRIC, self.photometric))
            changed = {**kept, **{tag: stored for tag, stored in changes.items() if tag in kept}}
            entries = [stored for _, stored in sorted(changed.items()) if stored]
        return numbers.pack("N", len(entries)) + b"".join(entries) + numbers.pack("P", 0)

    def _plane(self, file: BinaryIO, sample: int) -> Mapping[int, bytes | None]:
        # The changes that give one sample of a page with tiles for each sample apart, as a gray page.
        numbers = self._numbers
        gray = self.photometric if self.photometric in _GRAY else _BLACK_IS_0
        values = {_SAMPLES: 1, _PLANAR: 1, _BITS: self.bits, _FORMAT: self.sample_format, _PHOTOMETRIC: gray}
        changes = self._changes(values, _EXTRA)
        for tag in (_OFFSETS, _BYTES):
            kind, count, offset = self._places.get(tag, _Place(1, 0, 0))
            tiles = count // self.samples
            size = tiles * struct.calcsize(_LETTERS[kind])
            offset = min(offset, _END) + sample * size
            place = numbers.pack("P", offset)
            if size <= numbers.pointer:
                file.seek(offset)
                place = file.read(size).ljust(numbers.pointer, b"\0")
            changes[tag] = numbers.pack("HHP", tag, kind, tiles) + place
        return changes

    def bytes_of_rows(self) -> Mapping[int, bytes | None]:
        """The changes (see `directory`) that give the bytes of each row as samples of 8 bits."""
        row = -(-self.width * self.samples * self.bits // 8)
        return self._changes({_WIDTH: row, _SAMPLES: 1, _BITS: 8, _PHOTOMETRIC: _BLACK_IS_0}, _EXTRA, _FORMAT)

    def as_stored(self) -> Mapping[int, bytes | None]:
        """The changes (see `directory`) that give samples of Lab as they are; of all others none."""
        return self._changes({_PHOTOMETRIC: _RGB} if self.photometric in _LAB else {})

    def _changes(self, values: Mapping[int, int], *left_out: int) -> dict[int, bytes | None]:
        entries = {tag: self._numbers.entry(tag, value) for tag, value in values.items()}
        return {**entries, **dict.fromkeys(left_out)}


def _number(text: bytes) -> float:
    # Of a text that ends with a NUL.
    try:
        return float(text.split(b"\0")[0])
    except ValueError:
        return math.nan


def xmp_orientation(xmp: bytes) -> int:
    """The value of `tiff:Orientation` in a packet of XMP; 0 without."""
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found else 0


def exif_orientation(exif: bytes) -> int:
    """The orientation in a block of EXIF, which is a TIFF file without pixels; 0 without."""
    exif = exif.removeprefix(b"Exif\0\0")
    with suppress(ValueError, struct.error):
        numbers = _Numbers(exif[:4])
        file = io.BytesIO(exif)
        return Page(numbers, file, numbers.unpack("P", exif[numbers.pointer :])[0]).orientation(file)
    return 0


def is_for_pillow(origin: Path | bytes) -> bool:
    """Whether the first page of a TIFF file is compressed in a way that Pillow reads and libvips does not."""
    with opened(origin) as file, suppress(ValueError, struct.error):
        return next(_chain(_Numbers(file.read(4)), file)).compression in _BY_PILLOW
    return False


class TiffFile:
    """A TIFF file, or its bytes: the page that is shown, its smaller levels, and their pixels.

    Attributes:
        orientation: 1 to 8, as EXIF has it.
        bits: of a sample: 8, 16, or 32 for floating-point ones.
        whole_bytes: 0; see `VipsFile`.
        tile_row_bytes: of a column of pixels as high as a tile; 0 for strips, which are only read in order.
        notes: what was left out, and what libtiff warns of.

    Raises:
        InputError: it is damaged, or has samples that cannot be shown.
    """

    whole_bytes = 0

    def __init__(self, name: str, origin: Path | bytes) -> None:
        self._name = name
        self._origin = origin
        self._fail_on = "warning"
        with opened(origin) as file:
            try:
                self._numbers = numbers = _Numbers(file.read(4))
                pages = list(_chain(numbers, file))
            except (ValueError, struct.error) as error:
                raise InputError(f"{name}: it is truncated or damaged ({error})") from error
            first = pages[0]
            larger = (page for page in pages if page.is_page and first.has_shape_of(page))
            self._page = page = first if first.is_page else next(larger, first)
            parts = list(_sub_directories(numbers, file, page))
            self.orientation = page.orientation(file) or 1
        if any(one.is_raw for one in (*pages, *parts)):
            raise InputError(f"{name}: this is a camera raw file: {DEVELOP}")
        self._check()
        smaller = [one for one in (*parts, *_followers(page, pages)) if one.is_level_of(page)][:MAX_LEVELS]
        self._smaller = smaller
        self.tile_row_bytes = page.tile_height * page.samples * -(-page.bits // 8)
        plain = page.sample_format in _UNSIGNED and page.bits <= 16
        self.bits = 8 if page.photometric in _LAB or (plain and page.bits <= 8) else 16
        if not plain and not page.range:
            self.bits = 32
        self.notes = tuple(self._notes(sum(one.is_page and one not in smaller for one in pages)))
        with heard_warnings() as warnings:
            header = self._load(self._directories(page)[0])
        if (warnings or page.is_old_lzw) and not page.tile_height:
            # It will warn again. But what libtiff cannot decode of a strip is an error to it.
            self._fail_on = "error"
        profile = header.get_typeof("icc-profile-data")
        self._profile: bytes | None = header.get("icc-profile-data") if profile else None

    def levels(self) -> list[Level]:
        """The page, and smaller copies of it.

        They are what the tag NewSubfileType calls so, the sub-directories of the page, and the tiled pages of
        Aperio.
        """
        pages = (self._page, *self._smaller)
        return [Level(page.width, page.height, partial(self.open, page)) for page in pages]

    def _notes(self, pages: int) -> Iterator[str]:
        page = self._page
        if pages > 1 and not page.is_aperio:
            yield f"the file has {pages} pages: the first was read"
        if page.is_multispectral:
            yield f"the file has {page.samples} channels: the first three are shown as red, green and blue"
        with heard_warnings() as warnings, suppress(pyvips.Error):
            self._load(page.directory(None))
        for text in warnings[:MAX_WARNINGS]:
            yield f"read in spite of a warning: {text}"

    def _check(self) -> None:
        page, way = self._page, "save it with 8 or 16 bits a sample"
        bits = (8, 12, 16, 32) if page.samples > 1 else (1, 2, 4, 8, 12, 16, 32)
        if page.photometric not in _COLORS:
            kind = f"the photometric interpretation {page.photometric}"
            raise InputError(f"{self._name}: a TIFF of {kind} is not read: convert it to RGB, and {way}")
        if page.compression in _NOT_READ:
            kind = _NOT_READ[page.compression]
            raise InputError(
                f"{self._name}: a TIFF compressed by {kind} is not read: save it with Deflate or LZW"
            )
        if page.bits not in bits:
            raise InputError(f"{self._name}: samples of {page.bits} bits are not read: {way}")
        if page.is_separate and page.photometric in (_PALETTE, _YCBCR):
            raise InputError(f"{self._name}: samples stored apart are read of gray, RGB and CMYK only: {way}")
        if page.bits == _PACKED and (page.is_separate or page.tile_height or page.compression in _JPEG):
            raise InputError(f"{self._name}: samples of 12 bits are read from interleaved strips only: {way}")

    def _directories(self, page: Page) -> list[bytes]:
        if page.planes:
            return [page.directory(changes) for changes in page.planes]
        return [page.directory(page.bytes_of_rows() if page.bits == _PACKED else page.as_stored())]

    def _load(self, directory: bytes, access: str = "sequential") -> VipsImage:
        view = _View(opened(self._origin), self._numbers, directory)
        source = pyvips.SourceCustom()
        source.on_read(view.read)
        source.on_seek(view.seek)
        return pyvips.Image.new_from_source(source, "", access=access, fail_on=self._fail_on)

    def open(self, page: Page, access: str = "sequential") -> VipsImage:
        """The pixels of the page or of a level: gray, RGB or CMYK, and then transparency, if any.

        Raises:
            pyvips.Error: it is damaged.
        """
        image = self._decoded(page, access)
        if page.photometric in _LAB:
            return _from_lab(image, page)
        if image.format not in ("uchar", "ushort"):
            image = self._scaled(image)
        gray, rgb = ("grey16", "rgb16") if image.format == "ushort" else ("b-w", "srgb")
        colors = image.bands - (page.alpha is not None)
        image = image.copy(interpretation={1: gray, 3: rgb, 4: "cmyk"}[colors])
        if page is not self._page:
            # A level shows the colors of its page, and seldom has a profile of its own.
            image.remove("icc-profile-data")
            if self._profile:
                image.set_type(pyvips.GValue.blob_type, "icc-profile-data", self._profile)
        return image

    def _decoded(self, page: Page, access: str = "sequential") -> VipsImage:
        # The samples that are shown: the colors and then the transparency.
        images = [self._load(directory, access) for directory in self._directories(page)]
        image = images[0].bandjoin(images[1:]) if page.planes else images[0]
        if page.bits == _PACKED:
            image = _unpacked(image, page)
        if page.planes:
            # libvips does it for all other pages.
            return image.unpremultiply().rint().cast(image.format) if page.is_associated else image
        shown = page.shown(image.bands)
        if shown == list(range(image.bands)):
            return image
        return image.extract_band(shown[0]).bandjoin([image.extract_band(band) for band in shown[1:]])

    def _scaled(self, image: VipsImage) -> VipsImage:
        # Samples of other types: to 16 bits where their range is known, or else to floating-point ones; those
        # without a value are no number then.
        page = self._page
        alpha = [] if page.alpha is None else [image.extract_band(image.bands - 1)]
        colors = image.extract_band(0, n=image.bands - len(alpha)).cast("float")
        most = 1 if page.sample_format == _FLOAT else 2**page.bits - 1
        alpha = [(band * (65535 / most)).cast("float") for band in alpha]
        if page.range is None:
            return (colors == page.no_data).ifthenelse(math.nan, colors).bandjoin(alpha)
        low, high = page.range
        return ((colors - low) * (65535 / (high - low))).bandjoin(alpha).rint().cast("ushort")


def _chain(numbers: _Numbers, file: BinaryIO) -> Iterator[Page]:
    # The directories that the first one leads to, up to one that is damaged.
    file.seek(numbers.pointer)
    (offset,) = numbers.unpack("P", file.read(numbers.pointer))
    seen: set[int] = set()
    entries = 0
    while offset not in seen and (offset or not seen):
        try:
            page = Page(numbers, file, offset)
        except (ValueError, struct.error):
            if not seen:
                raise
            return
        yield page
        seen.add(offset)
        entries += page.size
        if len(seen) == MAX_DIRECTORIES or entries > MAX_ALL_ENTRIES:
            return
        offset = page.next


def _sub_directories(numbers: _Numbers, file: BinaryIO, page: Page) -> Iterator[Page]:
    for offset in page.sub_directories:
        with suppress(ValueError, struct.error):
            if not (sub := Page(numbers, file, offset)).subfile & _MASK:
                yield sub


def _followers(page: Page, pages: Sequence[Page]) -> Iterator[Page]:
    # The directories behind a page that are smaller copies by their own words, up to the next page.
    for other in pages[pages.index(page) + 1 :]:
        if other.subfile in (_REDUCED, _REDUCED | _OF_A_DOCUMENT) or (page.is_aperio and other.tile_height):
            yield other
        elif other.is_page and not page.is_aperio:
            return


class _View:
    """A TIFF file as libvips is to see it: with another directory behind its end, which is the first."""

    def __init__(self, file: BinaryIO, numbers: _Numbers, directory: bytes) -> None:
        size = file.seek(0, io.SEEK_END)
        place = size + size % 2
        self._end = place + len(directory)
        self._patches = (numbers.pointer, numbers.pack("P", place)), (place, directory)
        self._file = file
        file.seek(0)
        weakref.finalize(self, file.close)

    def read(self, count: int) -> bytes:
        """The next bytes; none at the end, and where the file cannot be read."""
        start = self._file.tell()
        try:
            data = self._file.read(count)
        except OSError:
            return b""
        for place, patch in self._patches:
            first, last = max(start, place), min(start + count, place + len(patch))
            if first < last:
                before, after = data[: first - start].ljust(first - start, b"\0"), data[last - start :]
                data = before + patch[first - place : last - place] + after
        self._file.seek(start + len(data))
        return data

    def seek(self, offset: int, whence: int) -> int:
        """Go to a place, as files do."""
        start = {io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._end}.get(whence, 0)
        return self._file.seek(max(0, start + offset))


def _unpacked(rows: VipsImage, page: Page) -> VipsImage:
    # Two samples of 12 bits in three bytes, to samples of 16 bits.
    first, middle, last = _every(rows, 3)
    odd = pyvips.Image.xyz(2 * first.width, rows.height).extract_band(0) & 1
    row = odd.ifthenelse(((middle & 15) * 256 + last).zoom(2, 1), (first * 16 + (middle >> 4)).zoom(2, 1))
    if page.photometric == _WHITE_IS_0:
        row = 4095 - row
    bands = _every(row.crop(0, 0, page.width * page.samples, rows.height), page.samples)
    return (bands[0].bandjoin(bands[1:]) * (65535 / 4095)).rint().cast("ushort")


def _every(image: VipsImage, step: int) -> list[VipsImage]:
    # Every column with the number 0, 1, …, `step` - 1 of so many.
    columns = -(-image.width // step) * step
    image = image.embed(0, 0, columns + step, image.height)
    return [image.crop(start, 0, columns, image.height).subsample(step, 1) for start in range(step)]


def _from_lab(image: VipsImage, page: Page) -> VipsImage:
    # Lightness and two differences, to sRGB; transparency is left out.
    most, step, signed = (255, 1, "char") if image.format == "uchar" else (65535, 256, "short")
    lightness = image.extract_band(0) * (100 / most)
    differences = image.extract_band(1, n=2)
    if page.photometric == _ICCLAB:
        differences = differences / step - 128
    else:
        differences = differences.copy(format=signed) / step
    image = lightness.bandjoin(differences).copy(interpretation="lab")
    return image.icc_export(pcs="lab", output_profile="srgb", intent="relative", depth=8)
