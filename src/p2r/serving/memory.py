"""What a request holds in memory, within a bound for all requests together."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from p2r.serving.errors import RequestFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2r.images.limits import MemoryBudget, Reservation

P = ParamSpec("P")
T = TypeVar("T")

RETRY_AFTER_S = 5

_json = ThreadPoolExecutor(1, thread_name_prefix="p2r-json")


async def in_json_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Read or write large JSON in a thread, one after the other.

    It takes several times its bytes and holds the interpreter's lock: more threads would take more memory
    and no less time.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_json, lambda: function(*args, **kwargs))


class HeldMemory:
    """The bytes of one request: of its body, then of its image and its reply. Released with the `with` block.

    Args:
        budget: of all requests. Its bytes are never waited for: requests that hold some and wait for more
            would wait for each other.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._reservation: Reservation | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        return self._reservation.nbytes if self._reservation else 0

    def resize(self, nbytes: int) -> None:
        """Hold so many bytes in all.

        Raises:
            RequestFailed: 429, other requests hold too much.
        """
        self.release()
        self._reservation = self._budget.try_reserve(nbytes)
        if self._reservation is None:
            raise RequestFailed(
                429,
                "other requests hold all of the server's memory for images: try again later",
                code="out_of_memory",
                headers={"Retry-After": str(RETRY_AFTER_S), "Connection": "close"},
            )

    def release(self) -> None:
        """Hold nothing."""
        if self._reservation:
            self._reservation.release()
            self._reservation = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
