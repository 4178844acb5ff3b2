"""A model wrapper that measures the requests in flight."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Completion, Message, Model, Sampling


class Metered:
    """A model, and how busy its caller keeps it."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._in_flight = 0
        self._last = self._start = time.perf_counter()
        self._idle_s = self._load = 0.0

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Pass a request on."""
        self._count(+1)
        try:
            return await self._model.complete(messages, sampling)
        finally:
            self._count(-1)

    async def aclose(self) -> None:
        """Close the model."""
        await self._model.aclose()

    def _count(self, change: int) -> None:
        now = time.perf_counter()
        self._idle_s += (now - self._last) * (self._in_flight == 0)
        self._load += (now - self._last) * self._in_flight
        self._in_flight += change
        self._last = now

    def measured(self) -> dict[str, float]:
        """Share of the time without a request, and the mean number of requests in flight."""
        self._count(0)
        total = self._last - self._start
        return {"idle": self._idle_s / total, "in_flight": self._load / total}
