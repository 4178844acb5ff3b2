"""What the page keeps for a while, in memory and within a bound: pictures that were given, and results."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Kept = TypeVar("Kept")


class Shelf(Generic[Kept]):
    """Keeps things under names that nobody can guess; the one that was not used for longest goes first.

    Args:
        max_bytes: of all things together; the newest is kept whatever it weighs.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, tuple[Kept, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, thing: Kept, size: int) -> str:
        """Keep a thing of so many bytes; the name under which it is found."""
        name = secrets.token_urlsafe(18)
        with self._lock:
            self._kept[name] = (thing, size)
            self._bytes += size
            while self._bytes > self._max_bytes and len(self._kept) > 1:
                _, (_, gone) = self._kept.popitem(last=False)
                self._bytes -= gone
        return name

    def get(self, name: str) -> Kept | None:
        """The thing, or None when it is not here, or not any more."""
        with self._lock:
            if name not in self._kept:
                return None
            self._kept.move_to_end(name)
            return self._kept[name][0]
