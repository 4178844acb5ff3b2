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
    from p2r.images.depth import StretchedReader

QUALITY = 85  # of JPEG, with colors at half the resolution
TILE = 256  # pixels a side


def copying_bytes(width: int) -> int:
    """Memory to write the copy of an image, besides the copy: rows of tiles of all levels, twice."""
    return 4 * TILE * width * 3


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
        shown: the same, stretched if it has more than 8 bits.
        copy: by `tiled_copy`, as the image is stored, or at half its size.
    """

    bits = 8

    def __init__(self, reader: Reader, shown: Reader | StretchedReader, copy: bytes) -> None:
        self._reader, self._shown = reader, shown
        self._copy = EncodedReader(reader.name, "tiffload", copy, Limits(max_bytes=len(copy)))
        self.name, self.orientation = reader.name, reader.orientation
        self.width, self.height = reader.width, reader.height

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Reader.notes`."""
        return self._shown.notes

    def read(self, wanted: Sequence[tuple[RectPx, Size]]) -> Iterator[Sequence[VipsImage]]:
        """See `Reader.read`."""
        for rect, size in wanted:
            part = self._on_copy(rect, size)
            yield from self._copy.read([(part, size)]) if part else self._shown.read([(rect, size)])

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """See `Reader.cost`."""
        parts = [(self._on_copy(rect, size), rect, size) for rect, size in wanted]
        return max(
            self._copy.cost([(part, size)]) if part else self._reader.cost([(rect, size)])
            for part, rect, size in parts
        )

    def _on_copy(self, rect: RectPx, size: Size) -> RectPx | None:
        # The rectangle in pixels of the copy; None where it has too few.
        if self._copy.width >= self.width:
            return rect
        x0, y0, x1, y1 = rect
        if x1 - x0 < 2 * size[0] or y1 - y0 < 2 * size[1]:
            return None
        return x0 // 2, y0 // 2, x1 // 2, y1 // 2
