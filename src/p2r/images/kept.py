"""Decoded pixels that are kept between the overview and the crops, within a bound for the process."""

from __future__ import annotations

import math
import threading
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pyvips

from p2r.images._vips import STRIP_ROWS, like, sample_type

if TYPE_CHECKING:
    from p2r.images._vips import VipsImage

MAX_BYTES = 512 * 1024 * 1024  # of all pictures together
MAX_BYTES_EACH = 128 * 1024 * 1024
MAX_SPARE_BYTES = 128 * 1024 * 1024  # that wait for the next picture


class _Room:
    """How many more bytes may be kept, and memory to keep them in.

    Memory that is given back is used again: to get as much from the system anew, and cleared, can take as
    long as to decode a picture into it.
    """

    def __init__(self, free: int) -> None:
        self.free = free
        self._spare: list[np.ndarray] = []
        # The collector may give memory back in the middle of anything.
        self._lock = threading.RLock()

    def take(self, count: int) -> np.ndarray | None:
        """An array of so many bytes, if they are free; given back when nobody refers to it any more."""
        with self._lock:
            if count > min(self.free, MAX_BYTES_EACH):
                return None
            self.free -= count
            sizes = [spare.size for spare in self._spare]
            fitting = [size for size in sizes if count <= size <= 2 * count]
            memory = self._spare.pop(sizes.index(min(fitting))) if fitting else None
        try:
            memory = np.empty(count, np.uint8) if memory is None else memory
        except MemoryError:
            self._give_back(count)
            raise
        # Over a memoryview, so that every array that is made from this one refers to it.
        lent = np.frombuffer(memory.data, np.uint8, count)
        weakref.finalize(lent, self._give_back, count, memory)
        return lent

    def _give_back(self, count: int, memory: np.ndarray | None = None) -> None:
        with self._lock:
            self.free += count
            if memory is not None:
                self._spare.append(memory)
                while sum(spare.size for spare in self._spare) > MAX_SPARE_BYTES:
                    del self._spare[0]


room = _Room(MAX_BYTES)


class KeptPixels:
    """All pixels of a picture, decoded from the top in a thread, so that the first can be used already.

    Attributes:
        image: the pixels; only rows that were waited for may be read.
    """

    def __init__(self, source: VipsImage, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.image = like(source, pixels)
        self._ready = 0
        self._error: Exception | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._decode, args=(source,), name="p2r-decode", daemon=True).start()

    @classmethod
    def keep(cls, source: VipsImage) -> KeptPixels | None:
        """Begin to decode a picture, if there is room for its pixels."""
        shape, kind = (source.height, source.width, source.bands), sample_type(source)
        memory = room.take(math.prod(shape) * np.dtype(kind).itemsize)
        return None if memory is None else cls(source, memory.view(kind).reshape(shape))

    def _decode(self, source: VipsImage) -> None:
        # Straight into the pixels: strips that are fetched and copied take half as long again.
        into = self._pixels.data.cast("B")
        row, written = len(into) // source.height, 0

        def write(rows: bytes) -> int:
            nonlocal written
            begin, written = written, written + len(rows)
            into[begin:written] = rows
            if written // row >= self._ready + STRIP_ROWS:
                self._tell(ready=written // row)
            return len(rows)

        target = pyvips.TargetCustom()
        target.on_write(write)
        try:
            source.rawsave_target(target)
            self._tell(ready=source.height)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, or waits for ever
            self._tell(error=error)

    def _tell(self, *, ready: int = 0, error: Exception | None = None) -> None:
        with self._changed:
            self._ready = max(self._ready, ready)
            self._error = error
            self._changed.notify_all()

    def wait(self, rows: int) -> None:
        """Wait until so many rows are decoded.

        Raises:
            pyvips.Error: the picture is damaged before that.
            MemoryError: memory ran out before that.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._ready >= rows)
            if self._ready < rows and self._error is not None:
                raise self._error
