"""Directories of a TIFF file: pages and smaller levels, what their samples mean, and how to decode them."""

from __future__ import annotations

import io
import math
import re
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from PIL.ExifTags import Base as Tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    # Tags of a directory with new entries, or None to leave them out.
    Changes = Mapping[int, bytes | None]

MAX_DIRECTORIES = 4096
MAX_ENTRIES = 4096  # of a directory
MAX_ALL_ENTRIES = 100_000
MAX_XMP_BYTES = 1 << 20
MAX_SAMPLES = 10_000  # of a pixel
MAX_LEVELS = 24
_END = 2**62  # no file is longer

_NO_DATA = 42113  # of GDAL
# What libtiff needs to decode, and the ICC profile.
_DECODING = {
    *(Tag.ImageWidth, Tag.ImageLength, Tag.BitsPerSample, Tag.Compression, Tag.PhotometricInterpretation),
    *(Tag.SamplesPerPixel, Tag.PlanarConfiguration, Tag.ExtraSamples, Tag.SampleFormat, Tag.FillOrder),
    *(Tag.StripOffsets, Tag.RowsPerStrip, Tag.StripByteCounts, Tag.InterColorProfile),
    *(Tag.TileWidth, Tag.TileLength, Tag.TileOffsets, Tag.TileByteCounts),
    *(Tag.T4Options, Tag.T6Options, Tag.Predictor, Tag.ColorMap, Tag.InkSet, 32996, 50674),  # 50674: LERC
    *(Tag.JPEGTables, *range(512, 516), *range(517, 522), *range(529, 533)),  # JPEG, new and old, and YCbCr
}
# The types of values, as letters of `struct`; fractions are of no interest here.
_LETTERS = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I"}
_LETTERS |= {16: "Q", 17: "q", 18: "Q"}

_REDUCED, _OF_A_DOCUMENT, MASK = 1, 2, 4  # bits of NewSubfileType
_SEPARATE = 2  # PlanarConfiguration
WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _CMYK, _YCBCR, _CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_GRAY, LAB = (WHITE_IS_0, _BLACK_IS_0), (_CIELAB, ICCLAB)  # photometric interpretations
_COLORS = {WHITE_IS_0: 1, _BLACK_IS_0: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _CIELAB: 3, ICCLAB: 3}
_SENSOR = (32803, 34892)  # photometric interpretations: behind a color filter, and linear
_LZW, _JPEG, _FAX = 5, (6, 7), (2, 3, 4)  # compressions
_OLD_LZW = (b"\0\1", b"\0\3")  # the first bytes of a strip, by which libtiff recognizes it
BY_PILLOW = (6, 34925, 50000)  # old JPEG, LZMA, Zstandard
_NOT_READ = {34712: "JPEG 2000", 50002: "JPEG XL", 52546: "JPEG XL", 34934: "JPEG XR", 22610: "JPEG XR"}
_NOT_READ |= {34887: "LERC", 34933: "PNG"}
_UNSIGNED, FLOAT = (1, 4), 3  # SampleFormat; 4: undefined
PACKED = 12  # bits of samples that libvips does not unpack
_ASSOCIATED = 1  # ExtraSamples: transparency by which the colors are multiplied
_ALPHA = (1, 2, 999)  # ExtraSamples: associated, unassociated, and what Corel writes for it

_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")


class Numbers:
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
        """Bytes of a format."""
        return struct.calcsize(self._format(letters))

    def pack(self, letters: str, *values: int) -> bytes:
        """Bytes of numbers."""
        return struct.pack(self._format(letters), *values)

    def unpack(self, letters: str, data: bytes) -> tuple[Any, ...]:
        """Numbers of bytes."""
        return struct.unpack_from(self._format(letters), data)

    def entries(self, values: Mapping[Tag, int], *left_out: int) -> dict[int, bytes | None]:
        """Changes that give tags one value of 32 bits each, and leave others out."""
        size = self.size("HHPP")
        changes: dict[int, bytes | None] = dict.fromkeys(left_out)
        for tag, value in values.items():
            changes[tag] = self.pack("HHPI", tag, 4, 1, value).ljust(size, b"\0")
        return changes


class _Place(NamedTuple):
    """Where the values of a tag are."""

    kind: int = 1
    values: int = 0
    offset: int = 0


class Page:
    """A directory of a TIFF file: what it says about its pixels.

    Raises:
        ValueError, struct.error: it is damaged.
    """

    def __init__(self, numbers: Numbers, file: BinaryIO, offset: int) -> None:
        self.numbers, self._file, self.offset = numbers, file, offset
        self._entries: list[tuple[int, bytes]] = []  # tags, and their entries as they are stored
        self._places: dict[int, _Place] = {}
        self.next = self._read_entries()

        value = self._value
        self.size = len(self._entries)
        self.subfile = value(Tag.NewSubfileType, int(value(Tag.SubfileType) == 2))
        self.sub_directories = self._values(Tag.SubIFDs, MAX_LEVELS)
        self.is_aperio = self._text(Tag.ImageDescription, 6) == b"Aperio"
        self.width, self.height = value(Tag.ImageWidth), value(Tag.ImageLength)
        self.tile_height = value(Tag.TileLength)
        self.bits, self.samples = value(Tag.BitsPerSample, 1), value(Tag.SamplesPerPixel, 1)
        self.sample_format = value(Tag.SampleFormat, 1)
        if self.samples > MAX_SAMPLES:
            raise ValueError(f"{self.samples} samples a pixel")
        self.compression = value(Tag.Compression, 1)
        one = WHITE_IS_0 if self.compression in _FAX else _BLACK_IS_0
        self.photometric = value(Tag.PhotometricInterpretation, _RGB if self.samples >= 3 else one)
        self.is_old_lzw = self.compression == _LZW and self._bytes(value(Tag.StripOffsets), 2) in _OLD_LZW
        ends = (*self._values(Tag.SMinSampleValue), *self._values(Tag.SMaxSampleValue))
        known = len(ends) == 2 and -math.inf < ends[0] < ends[1] < math.inf
        self.range: tuple[float, float] | None = ends if known else None  # least and greatest value
        self.no_data = math.nan
        with suppress(ValueError):
            self.no_data = float(self._text(_NO_DATA, 32).split(b"\0")[0])
        # What the samples beyond the colors are.
        self.extra = max(0, self.samples - _COLORS.get(self.photometric, 1))
        kinds = (*self._values(Tag.ExtraSamples, 64), *[0] * self.extra)[: self.extra]
        alphas = [index for index, kind in enumerate(kinds) if kind in _ALPHA]
        # Which of them is transparency. libvips writes that all channels of a satellite image are.
        self.alpha = alphas[0] if len(alphas) == 1 else None
        self.is_associated = self.alpha is not None and kinds[self.alpha] == _ASSOCIATED
        self.is_separate = self.samples > 1 and value(Tag.PlanarConfiguration, 1) == _SEPARATE
        # Whether gray has enough extra channels to show the first three as red, green and blue.
        first_extra = self.extra if self.alpha is None else self.alpha
        self.is_multispectral = self.photometric in _GRAY and first_extra >= 2
        # Whether it belongs to the raw file of a camera.
        self.is_raw = self.photometric in _SENSOR or Tag.DNGVersion in self._places
        self.is_page = not self.subfile & (_REDUCED | MASK)  # no smaller copy and no mask of another
        self._planes: list[Changes] = []
        if self.is_separate and self.tile_height and self.photometric in _COLORS:
            self._planes = [self._plane(sample) for sample in self.shown(self.samples)]

    def _read_entries(self) -> int:
        # Returns the offset of the next directory.
        numbers = self.numbers
        (count,) = numbers.unpack("N", self._bytes(self.offset, numbers.size("N")))
        if not 1 <= count <= MAX_ENTRIES:
            raise ValueError(f"a directory of {count} entries")
        each = numbers.size("HHPP")
        block = self._file.read(count * each + numbers.pointer)
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

    def _bytes(self, offset: int, count: int) -> bytes:
        self._file.seek(min(offset, _END))
        return self._file.read(count)

    def _values(self, tag: int, most: int = 1) -> tuple[Any, ...]:
        place = self._places.get(tag, _Place())
        letters = _LETTERS[place.kind] * min(place.values, most)
        data = self._bytes(place.offset, self.numbers.size(letters))
        return self.numbers.unpack(letters, data) if len(data) == self.numbers.size(letters) else ()

    def _value(self, tag: int, default: int = 0) -> int:
        return int((self._values(tag) or (default,))[0])

    def _text(self, tag: int, most: int) -> bytes:
        place = self._places.get(tag, _Place())
        return self._bytes(place.offset, min(place.values, most))

    def orientation(self) -> int:
        """1 to 8, as the tag says, or else the XMP; 0 without both. Reads the file."""
        stored = self._value(Tag.Orientation)
        return stored if 1 <= stored <= 8 else xmp_orientation(self._text(Tag.XMLPacket, MAX_XMP_BYTES))

    def has_shape_of(self, page: Page) -> bool:
        """Whether its size is that of a page, divided by some number and rounded."""
        skew = abs(page.width * self.height - page.height * self.width)
        return 0 < 1.5 * self.width <= page.width and self.height > 0 and skew <= page.width + page.height

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

    def shown(self, bands: int) -> list[int]:
        """Which of the decoded bands are the colors, and then which is the transparency."""
        colors = bands - self.extra if self.photometric == _PALETTE else _COLORS[self.photometric]
        colors = 3 if self.is_multispectral else colors
        return [*range(colors), *([] if self.alpha is None else [bands - self.extra + self.alpha])]

    @property
    def shown_bits(self) -> int:
        """Of a sample that is shown: 8, 16, or 32 for floating-point ones."""
        plain = self.sample_format in _UNSIGNED and self.bits <= 16
        if self.photometric in LAB or (plain and self.bits <= 8):
            return 8
        return 16 if plain or self.range else 32

    def problem(self) -> str:
        """Why it cannot be shown, and what to do; empty if it can."""
        bits = (8, 12, 16, 32) if self.samples > 1 else (1, 2, 4, 8, 12, 16, 32)
        hint = "save it with 8 or 16 bits a sample"
        if self.photometric not in _COLORS:
            kind = f"the photometric interpretation {self.photometric}"
            return f"a TIFF of {kind} is not read: convert it to RGB, and {hint}"
        if self.compression in _NOT_READ:
            kind = _NOT_READ[self.compression]
            return f"a TIFF compressed by {kind} is not read: save it with Deflate or LZW"
        if self.bits not in bits:
            return f"samples of {self.bits} bits are not read: {hint}"
        if self.is_separate and self.photometric in (_PALETTE, _YCBCR):
            return f"samples stored apart are read of gray, RGB and CMYK only: {hint}"
        if self.bits == PACKED and (self.is_separate or self.tile_height or self.compression in _JPEG):
            return f"samples of 12 bits are read from interleaved strips only: {hint}"
        return ""

    def as_stored(self) -> bytes:
        """A directory with all entries, as they are."""
        return self._packed([stored for _, stored in self._entries])

    def directories(self) -> list[bytes]:
        """Directories with what decoding needs: one, or one for each shown sample if each has its tiles."""
        if self._planes:
            return [self._directory(plane) for plane in self._planes]
        changes: Changes = {}
        if self.bits == PACKED:
            # The bytes of each row as samples of 8 bits.
            row = -(-self.width * self.samples * self.bits // 8)
            values = {Tag.ImageWidth: row, Tag.SamplesPerPixel: 1, Tag.BitsPerSample: 8}
            values[Tag.PhotometricInterpretation] = _BLACK_IS_0
            changes = self.numbers.entries(values, Tag.ExtraSamples, Tag.SampleFormat)
        elif self.photometric in LAB:
            changes = self.numbers.entries({Tag.PhotometricInterpretation: _RGB})
        return [self._directory(changes)]

    def _directory(self, changes: Changes) -> bytes:
        kept: dict[int, bytes | None] = {
            tag: stored for tag, stored in reversed(self._entries) if tag in _DECODING
        }
        # libvips needs it, and some writers leave it out.
        photometric = self.numbers.entries({Tag.PhotometricInterpretation: self.photometric})
        changed = {**photometric, **kept}
        changed |= {tag: stored for tag, stored in changes.items() if tag in changed}
        return self._packed([stored for _, stored in sorted(changed.items()) if stored])

    def _packed(self, entries: Sequence[bytes]) -> bytes:
        numbers = self.numbers
        return numbers.pack("N", len(entries)) + b"".join(entries) + numbers.pack("P", 0)

    def _plane(self, sample: int) -> Changes:
        # Gray, with the tiles of one sample.
        numbers = self.numbers
        gray = self.photometric if self.photometric in _GRAY else _BLACK_IS_0
        values = {Tag.SamplesPerPixel: 1, Tag.PlanarConfiguration: 1, Tag.BitsPerSample: self.bits}
        values |= {Tag.SampleFormat: self.sample_format, Tag.PhotometricInterpretation: gray}
        changes = numbers.entries(values, Tag.ExtraSamples)
        for tag in (Tag.TileOffsets, Tag.TileByteCounts):
            kind, count, offset = self._places.get(tag, _Place())
            tiles = count // self.samples
            size = tiles * struct.calcsize(_LETTERS[kind])
            offset = min(offset, _END) + sample * size
            place = numbers.pack("P", offset)
            if size <= numbers.pointer:
                place = self._bytes(offset, size).ljust(numbers.pointer, b"\0")
            changes[tag] = numbers.pack("HHP", tag, kind, tiles) + place
        return changes


def xmp_orientation(xmp: bytes) -> int:
    """The value of `tiff:Orientation` in a packet of XMP; 0 without."""
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found else 0


def exif_orientation(exif: bytes) -> int:
    """The orientation in a block of EXIF, which is a TIFF file without pixels; 0 without."""
    exif = exif.removeprefix(b"Exif\0\0")
    with suppress(ValueError, struct.error):
        numbers = Numbers(exif[:4])
        return Page(numbers, io.BytesIO(exif), numbers.unpack("P", exif[numbers.pointer :])[0]).orientation()
    return 0


def page_chain(numbers: Numbers, file: BinaryIO) -> Iterator[Page]:
    """The directories in the chain from the first one, up to one that is damaged."""
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


def levels_of(page: Page, pages: Sequence[Page], parts: Sequence[Page]) -> Iterator[Page]:
    """The smaller copies of a page.

    They are sub-directories of it, or directories behind it, up to the next page, with NewSubfileType or (by
    Aperio) with tiles.
    """
    yield from (part for part in parts if part.is_level_of(page))
    for other in pages[pages.index(page) + 1 :]:
        if other.subfile in (_REDUCED, _REDUCED | _OF_A_DOCUMENT) or (page.is_aperio and other.tile_height):
            if other.is_level_of(page):
                yield other
        elif other.is_page and not page.is_aperio:
            return
