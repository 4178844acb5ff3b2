"""Files that are decoded whole into memory: HEIC by pillow-heif; the others by Pillow."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile

from p2r.images._vips import resizing_bytes
from p2r.images.heif import HeicImage
from p2r.images.limits import Reservation, check_size, kept
from p2r.images.pillow import PIXEL_BYTES, RasterReader, exif_orientation, read_pil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.images._vips import Size, VipsImage
    from p2r.images.decoders import Whole
    from p2r.images.formats import Format
    from p2r.images.limits import Limits
    from p2r.images.sizing import RectPx

# Pillow's readers themselves: `PIL.Image.open` has a limit of its own, and plugins may change what it does.
_PILLOW = {
    "AVIF": AvifImageFile,
    "BMP": BmpImageFile,
    "JPEG2000": Jpeg2KImageFile,
    "PPM": PpmImageFile,
    "TIFF": TiffImageFile,
}
# What a pixel takes while it is decoded, with the copy that is read.
_PIXEL_BYTES = {
    "AVIF": 20,
    "BMP": PIXEL_BYTES,
    "JPEG2000": 28,
    "PPM": PIXEL_BYTES,
    "TIFF": PIXEL_BYTES,
    "pillow-heif": 20,
}


class _PillowFile:
    """A file that Pillow decodes, of which only the header is read."""

    notes: tuple[str, ...] = ()

    def __init__(self, name: str, kind: Format, data: bytes) -> None:
        self._name = name
        self._image = _PILLOW[kind.decoder](io.BytesIO(data))
        self.size = self._image.size
        self.bits = {"I": 16, "F": 32}.get(self._image.mode[0], 8)
        # Pillow turns TIFF files upright when it decodes them, and says their upright size before.
        self.orientation = 1 if kind.decoder == "TIFF" else exif_orientation(self._image)

    def decode(self, limits: Limits) -> RasterReader:
        self._image.load()  # here, so that an error is one of the file
        return read_pil(self._image, limits, self._name)


class WholeReader:
    """A file that is decoded whole when pixels are wanted. They are kept as long as there is room for them.

    Raises:
        InputError: it is too large; pillow-heif is needed and not installed.
    """

    def __init__(self, name: str, kind: Format, data: bytes, limits: Limits) -> None:
        self.name, self._kind, self._data, self._limits = name, kind, data, limits
        header = self._open()
        self.width, self.height = header.size
        self.bits, self.orientation, self.notes = header.bits, header.orientation, header.notes
        self._whole_bytes = self.width * self.height * _PIXEL_BYTES[kind.decoder]
        check_size(name, *header.size, limits, whole_bytes=self._whole_bytes)
        self._kept: RasterReader | None = None
        self._room: Reservation | None = None
        self._lock = threading.Lock()

    def _open(self) -> HeicImage | _PillowFile:
        # Both hold what they have decoded: a new one each time.
        if self._kind.decoder == "pillow-heif":
            return HeicImage(self.name, self._data)
        return _PillowFile(self.name, self._kind, self._data)

    def _decoded(self) -> RasterReader:
        with self._lock:
            if self._kept is not None:
                return self._kept
            raster = self._open().decode(self._limits)
            if room := kept.try_reserve(raster.nbytes):
                self._room = room
                self._kept = raster
            return raster

    def whole(self, size: Size) -> Whole:
        """See `Reader.whole`."""
        return self._decoded().whole(size)

    def pieces(self, wanted: Sequence[tuple[RectPx, Size]]) -> list[VipsImage]:
        """See `Reader.pieces`."""
        return self._decoded().pieces(wanted) if wanted else []

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """See `Reader.cost`."""
        return self._whole_bytes + max(
            resizing_bytes(x1 - x0, y1 - y0, self.bits // 2, max(1.0, (y1 - y0) / size[1]))
            for (x0, y0, x1, y1), size in wanted
        )
