"""The limits of an image, and the memory budget of decoding."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.errors import InputError
from p2r.images.threads import raise_if_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

DECODED_BYTES = 512 * 1024 * 1024
KEPT_BYTES = 192 * 1024 * 1024
_POLL_S = 0.1  # how often a waiting thread checks whether it was cancelled


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an image, checked from its header before anything is decoded.

    Attributes:
        max_pixels: width × height.
        max_bytes: encoded bytes in memory: those given as bytes, or in a data URI (after decoding).
        max_file_bytes: bytes of a file, which is read piece by piece.
        max_side: width or height, in pixels.
        max_decoded_bytes: memory that decoding may take. Formats that are decoded whole (WebP, GIF, AVIF,
            HEIC, BMP, interlaced PNG, progressive JPEG) take up to 28 bytes a pixel, others much less.
        max_pages: of one file whose pages are asked about together; 0 refuses PDF documents.
    """

    max_pixels: int = 1_500_000_000
    max_bytes: int = 512 * 1024 * 1024
    max_file_bytes: int = 8 * 1024 * 1024 * 1024
    max_side: int = 1_000_000
    max_decoded_bytes: int = 4 * 1024 * 1024 * 1024
    max_pages: int = 64


def check_size(name: str, width: int, height: int, limits: Limits, *, whole_bytes: int = 0) -> None:
    """Raise `InputError` if an image is empty or too large; `whole_bytes` are those of decoding it whole."""
    if min(width, height) < 1:
        raise InputError(f"{name}: the image is empty ({width}×{height} pixels)")
    if width * height > limits.max_pixels:
        raise InputError(f"{name}: {width}×{height} pixels are more than the limit of {limits.max_pixels:,}")
    if max(width, height) > limits.max_side:
        raise InputError(
            f"{name}: a side of {max(width, height):,} pixels is more than the limit of {limits.max_side:,}: "
            "cut it into parts"
        )
    check_decoding(name, (width, height), whole_bytes, limits)


def check_decoding(name: str, size: tuple[int, int], nbytes: int, limits: Limits) -> None:
    """Raise `InputError` if decoding takes too much memory."""
    if nbytes > limits.max_decoded_bytes:
        raise InputError(
            f"{name}: to decode {size[0]}×{size[1]} pixels of this kind takes {nbytes:,} bytes, more than "
            f"the limit of {limits.max_decoded_bytes:,}: make it smaller, or save it as a tiled TIFF, "
            "a baseline JPEG or a plain PNG of 8 bits"
        )


def check_bytes(name: str, size: int, most: int) -> None:
    """Raise `InputError` if a file, or bytes, are empty or too large."""
    if size == 0:
        raise InputError(f"{name}: the file is empty (0 bytes)")
    if size > most:
        raise InputError(f"{name}: {size:,} bytes are more than the limit of {most:,}")


class Reservation(AbstractContextManager["Reservation"]):
    """Bytes of a `MemoryBudget`, held until `release()`, the end of a `with` block, or of this object."""

    def __init__(self, nbytes: int, give_back: Callable[[int], None]) -> None:
        self.nbytes = nbytes
        self.release = weakref.finalize(self, give_back, nbytes)  # a second call does nothing

    def __exit__(self, *_: object) -> None:
        self.release()


class MemoryBudget:
    """At most `most` bytes that are held at once, by any number of threads."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def held(self) -> int:
        """Reserved bytes."""
        return self._held

    @property
    def waiting(self) -> int:
        """The number of waiting threads."""
        return len(self._waiting)

    def reserve(self, nbytes: int) -> Reservation:
        """Wait for bytes in a thread, first in, first out.

        More than `most` is given only while nothing else is held: `Limits` bounds the cost of one image. A
        thread that waits must hold no other reservation of this budget, or two threads could wait for each
        other.

        Raises:
            Cancelled: the work of this thread was cancelled.
        """
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or (self._held and self._held + nbytes > self.most):
                    raise_if_cancelled()
                    self._changed.wait(_POLL_S)
                self._held += nbytes
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        return Reservation(nbytes, self._give_back)

    def try_reserve(self, nbytes: int) -> Reservation | None:
        """Reserve bytes without waiting; None if they are not free, or if a thread waits for some."""
        with self._changed:
            if self._waiting or self._held + nbytes > self.most:
                return None
            self._held += nbytes
        return Reservation(nbytes, self._give_back)

    def _give_back(self, nbytes: int) -> None:
        with self._changed:
            self._held -= nbytes
            self._changed.notify_all()


decoding = MemoryBudget(DECODED_BYTES)
"""Budget of the images that are being decoded in this process. Request bodies have a budget of their own: a
body that waits for its image to be decoded would otherwise hold what decoding waits for."""

kept = MemoryBudget(KEPT_BYTES)
"""Budget of decoded images that are kept for later crops. It is never waited for, since a reader that holds
some of it may wait for `decoding`."""
