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
from p2r.images.limits import check_size
from p2r.images.memory import may_keep
from p2r.images.pillow import PIXEL_BYTES, RasterReader, read_pil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2r.images._vips import Size, VipsImage
    from p2r.images.decoders import Whole
    from p2r.images.formats import Format
    from p2r.images.limits import Limits
    from p2r.types import RectPx

# Pillow's readers themselves: `PIL.Image.open` has a limit of its own, and plugins may change what it does.
_PILLOW = {
    "AVIF": AvifImageFile,
    "BMP": BmpImageFile,
    "JPEG2000": Jpeg2KImageFile,
    "PPM": PpmImageFile,
    "TIFF": TiffImageFile,
}


# What a pixel takes while it is decoded, with the copy that is read.
_PIXEL_BYTES = {"AVIF": 20, "BMP": PIXEL_BYTES, "JPEG2000": 28, "PPM": PIXEL_BYTES, "pillow-heif": 20}


class WholeReader:
    """A file of which the header was read. It is decoded for its pixels, which are kept if there is room."""

    def __init__(
        self, name: str, size: Size, bits: int, whole_bytes: int, decode: Callable[[], RasterReader]
    ) -> None:
        self.name, self.bits, self.orientation = name, bits, 1
        self.width, self.height = size
        self._whole_bytes = whole_bytes
        self._decode = decode
        self._decoded: RasterReader | None = None
        self._lock = threading.Lock()

    def _raster(self) -> RasterReader:
        with self._lock:
            decoded = self._decoded or self._decode()
            if self._decoded is None and may_keep(self, decoded.nbytes):
                self._decoded = decoded
            return decoded

    def whole(self, size: Size) -> Whole:
        """See `Reader.whole`."""
        return self._raster().whole(size)

    def pieces(self, wanted: Sequence[tuple[RectPx, Size]]) -> list[VipsImage]:
        """See `Reader.pieces`."""
        return self._raster().pieces(wanted) if wanted else []

    def cost(self, wanted: Sequence[tuple[RectPx, Size]]) -> int:
        """See `Reader.cost`."""
        return self._whole_bytes + max(
            resizing_bytes(x1 - x0, y1 - y0, self.bits // 2, max(1.0, (y1 - y0) / size[1]))
            for (x0, y0, x1, y1), size in wanted
        )


def read_whole(name: str, kind: Format, data: bytes, limits: Limits) -> WholeReader:
    """Open the bytes of a file by its header.

    Raises:
        InputError: it cannot be read, or is too large; pillow-heif is needed and not installed.
    """
    size, bits, decode = (_heic if kind.decoder == "pillow-heif" else _by_pillow)(name, kind, data, limits)
    whole_bytes = size[0] * size[1] * _PIXEL_BYTES[kind.decoder]
    check_size(name, *size, limits, whole_bytes=whole_bytes)
    return WholeReader(name, size, bits, whole_bytes, decode)


def _heic(name: str, _: Format, data: bytes, limits: Limits) -> tuple[Size, int, Callable[[], RasterReader]]:
    image = HeicImage(name, data)

    def decode() -> RasterReader:
        again = HeicImage(name, data)  # an image that was decoded keeps its pixels
        return RasterReader(name, again.decode(), limits, profile=again.profile())

    return image.size, image.bits, decode


def _by_pillow(
    name: str, kind: Format, data: bytes, limits: Limits
) -> tuple[Size, int, Callable[[], RasterReader]]:
    image = _PILLOW[kind.decoder](io.BytesIO(data))

    def decode() -> RasterReader:
        again = _PILLOW[kind.decoder](io.BytesIO(data))  # an image that was decoded keeps its pixels
        again.load()  # here, so that an error is one of the file
        return read_pil(again, limits, name)

    return image.size, {"I": 16, "F": 32}.get(image.mode[0], 8), decode
