"""A tiled copy of an image, in memory, so that any part of it can be looked at, at any size, without a wait.

A large file without levels is read from its top for every part, or whole for every view. Its copy is made in
one pass. It is for people: what a model is shown always comes from the file itself.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyvips

from p2r.images.decoders import EncodedReader
from p2r.images.limits import Limits
from p2r.images.threads import stopped_if_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from p2r.images._vips import RectPx, Size, VipsImage
    from p2r.images.decoders import Reader
    from p2r.images.limits import Reservation

QUALITY = 85  # of JPEG, with colors at half the resolution
TILE = 256  # pixels a side
COPYING_BYTES = 4 * TILE * 3  # of a column, besides the copy: rows of tiles of all levels, twice


def tiled_copy(image: VipsImage, may_hold: Callable[[int], bool]) -> bytes | None:
    """An image of 8-bit sRGB as a tiled TIFF with smaller levels, compressed as JPEG.

    Copies of its edge fill the right and the bottom, so that levels are smaller by exactly 2, 4, …

    Args:
        image: it.
        may_hold: called with the number of bytes so far, all through; when it is false, there is no copy.

    Raises:
        pyvips.Error: the image is damaged.
        Cancelled: the work was cancelled.
    """
    # With whole blocks of JPEG in all levels: an incomplete one is filled up with black, which shows.
    block = 1 << max(4, (min(image.width, image.height) // 16).bit_length() - 1)
    width, height = (-(-side // block) * block for side in (image.width, image.height))
    image = image.embed(0, 0, width, height, extend="copy")
    file, refused = io.BytesIO(), False

    def write(data: bytes) -> int:
        nonlocal refused
        refused = refused or not may_hold(max(file.tell() + len(data), file.getbuffer().nbytes))
        return 0 if refused else file.write(data)

    target = pyvips.TargetCustom()
    target.on_write(write)
    target.on_read(file.read)
    target.on_seek(file.seek)
    options = {"tile": True, "tile_width": TILE, "tile_height": TILE, "pyramid": True, "keep": "none"}
    try:
        with stopped_if_cancelled(image):
            image.write_to_target(target, ".tif", compression="jpeg", Q=QUALITY, **options)
    except pyvips.Error:
        if not refused:
            raise
    return None if refused else file.getvalue()


class LeveledReader:
    """Reads from a copy what the copy has in enough detail, and the rest from the image itself.

    Args:
        reader: of the image.
        copy: by `tiled_copy`, of the image as it is stored, or of half its size.
        room: memory of the copy, held as long as this reader.
    """

    bits = 8

    def __init__(self, reader: Reader, copy: bytes, room: Reservation) -> None:
        self._reader, self._room = reader, room
        self._copy = EncodedReader(reader.name, "tiffload", copy, Limits(max_bytes=len(copy)))
        self.name, self.orientation = reader.name, reader.orientation
        self.width, self.height = reader.width, reader.height

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Reader.notes`."""
        return self._reader.notes

    def read(self, wanted: Sequence[tuple[RectPx, Size]]) -> Iterator[Sequence[VipsImage]]:
        """See `Reader.read`."""
        for reader, part in map(self._from, wanted):
            yield from reader.read([part])

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """See `Reader.cost`."""
        return max(reader.cost([part]) for reader, part in map(self._from, wanted))

    def _from(self, part: tuple[RectPx, Size]) -> tuple[Reader, tuple[RectPx, Size]]:
        (x0, y0, x1, y1), size = part
        if self._copy.width >= self.width:
            return self._copy, part
        if x1 - x0 < 2 * size[0] or y1 - y0 < 2 * size[1]:
            return self._reader, part
        return self._copy, ((x0 // 2, y0 // 2, x1 // 2, y1 // 2), size)
