"""Files that are decoded whole into memory: HEIC by pillow-heif; BMP, JPEG 2000, PNM, gray AVIF by Pillow."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.PpmImagePlugin import PpmImageFile

from p2r.images.heif import HeicImage
from p2r.images.limits import check_size
from p2r.images.pillow import RasterReader, read_pil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2r.images._vips import Size, VipsImage
    from p2r.images.decoders import Whole
    from p2r.images.formats import Format
    from p2r.images.limits import Limits
    from p2r.types import RectPx

# Pillow's readers themselves: `PIL.Image.open` has a limit of its own, and plugins may change what it does.
_PILLOW = {"AVIF": AvifImageFile, "BMP": BmpImageFile, "JPEG2000": Jpeg2KImageFile, "PPM": PpmImageFile}


class WholeReader:
    """A file of which the header was read. It is decoded when pixels are wanted, and then kept."""

    def __init__(self, name: str, size: Size, bits: int, decode: Callable[[], RasterReader]) -> None:
        self.name, self.bits, self.orientation = name, bits, 1
        self.width, self.height = size
        self._decode = decode
        self._decoded: RasterReader | None = None
        self._lock = threading.Lock()

    def _raster(self) -> RasterReader:
        with self._lock:
            if self._decoded is None:
                self._decoded = self._decode()
            return self._decoded

    def whole(self, size: Size) -> Whole:
        """See `Reader.whole`."""
        return self._raster().whole(size)

    def pieces(self, wanted: Sequence[tuple[RectPx, Size]]) -> list[VipsImage]:
        """See `Reader.pieces`."""
        return self._raster().pieces(wanted)


def read_whole(name: str, kind: Format, data: bytes, limits: Limits) -> WholeReader:
    """Open the bytes of a file by its header.

    Raises:
        InputError: it cannot be read, or is too large; pillow-heif is needed and not installed.
    """
    size, bits, decode = (_heic if kind.decoder == "pillow-heif" else _by_pillow)(name, kind, data, limits)
    check_size(name, *size, limits, whole=True)
    return WholeReader(name, size, bits, decode)


def _heic(name: str, _: Format, data: bytes, limits: Limits) -> tuple[Size, int, Callable[[], RasterReader]]:
    image = HeicImage(name, data)

    def decode() -> RasterReader:
        return RasterReader(name, image.decode(), limits, profile=image.profile())

    return image.size, image.bits, decode


def _by_pillow(
    name: str, kind: Format, data: bytes, limits: Limits
) -> tuple[Size, int, Callable[[], RasterReader]]:
    image = _PILLOW[kind.decoder](io.BytesIO(data))

    def decode() -> RasterReader:
        image.load()  # here, so that an error is one of the file
        return read_pil(image, limits, name)

    return image.size, {"I": 16, "F": 32}.get(image.mode[0], 8), decode
