"""Bounds the bytes that may be held at once: of images that are decoded, of request bodies at the server.

An image is decoded under a reservation of what decoding it costs. Reservations are served in the order of
their arrival. A thread that waits for one must not hold another: no two threads can wait for each other.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Self

from p2r.images.abandoning import raise_if_abandoned

if TYPE_CHECKING:
    from collections.abc import Callable

DECODED_BYTES = 512 * 1024 * 1024
KEPT_BYTES = 192 * 1024 * 1024
_POLL_S = 0.1  # how often a thread that waits looks whether it was abandoned


class Reservation:
    """Bytes that are held until `release`, or until the end of a `with` block."""

    def __init__(self, nbytes: int, give_back: Callable[[int], None]) -> None:
        self.nbytes = nbytes
        self._give_back: Callable[[int], None] | None = give_back

    def release(self) -> None:
        """Give the bytes back. Safe to call twice."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self.nbytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class MemoryBudget:
    """Bytes that may be held at once. Safe to use from several threads.

    Attributes:
        most: the bound.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def held(self) -> int:
        """Bytes that are reserved now."""
        return self._held

    @property
    def waiting(self) -> int:
        """How many threads wait for their turn."""
        return len(self._waiting)

    def reserve(self, nbytes: int) -> Reservation:
        """Wait for bytes, first in, first out; for threads, never on an event loop.

        More than `most` is given only while nothing else is held: what a single image may cost at most is
        for `Limits` to say.

        Raises:
            Abandoned: nobody waits for the result of this thread any more.
        """
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while not (self._waiting[0] is ticket and self._fits(nbytes)):
                    raise_if_abandoned()
                    self._changed.wait(_POLL_S)
                self._held += nbytes
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        return Reservation(nbytes, self._give_back)

    def try_reserve(self, nbytes: int) -> Reservation | None:
        """Take bytes if they are free and no thread waits for some; never waits itself."""
        with self._changed:
            if self._waiting or self._held + nbytes > self.most:
                return None
            self._held += nbytes
        return Reservation(nbytes, self._give_back)

    def _fits(self, nbytes: int) -> bool:
        return self._held == 0 or self._held + nbytes <= self.most

    def _give_back(self, nbytes: int) -> None:
        with self._changed:
            self._held -= nbytes
            self._changed.notify_all()


decoding = MemoryBudget(DECODED_BYTES)
"""Of the images that are being decoded in this process. Other uses have a budget of their own: request bodies
that wait for decoding would otherwise hold what decoding waits for."""

kept = MemoryBudget(KEPT_BYTES)
"""Of decoded images that are kept for the crops that may follow. It is only tried, never waited for, because
who holds some of it may wait for `decoding`."""


def may_keep(owner: object, nbytes: int) -> bool:
    """Whether an object may keep so many bytes of decoded pixels as long as it lives."""
    room = kept.try_reserve(nbytes)
    if room is None:
        return False
    weakref.finalize(owner, room.release)
    return True
