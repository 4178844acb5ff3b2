"""Whether the models answer: a real call to each, remembered for a while."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np

from p2r.errors import ModelError
from p2r.pipeline import P2R
from p2r.types import Question

if TYPE_CHECKING:
    from p2r.models.base import Model

KEPT_S = 30.0
KEPT_AFTER_FAILURE_S = 5.0
TIMEOUT_S = 30.0

_GRAY = np.full((64, 64, 3), 128, np.uint8)


class Readiness:
    """Asks each model for a few words about a small gray image, at most once in a while."""

    def __init__(self, p2r: P2R) -> None:
        self._p2r = p2r
        self._lock = asyncio.Lock()
        self._problem: str | None = None
        self._until_s = 0.0

    async def problem(self) -> str | None:
        """Why the server is not ready; None when it is."""
        async with self._lock:
            if time.monotonic() >= self._until_s:
                self._problem = await self._ask()
                kept_s = KEPT_AFTER_FAILURE_S if self._problem else KEPT_S
                self._until_s = time.monotonic() + kept_s
            return self._problem

    async def _ask(self) -> str | None:
        models = {"perceiver": self._p2r.perceiver}
        if self._p2r.reasoner is not self._p2r.perceiver:
            models["reasoner"] = self._p2r.reasoner
        for role, model in models.items():
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._call(model)
            except TimeoutError:
                return f"the {role} did not answer within {TIMEOUT_S:.0f} s"
            except ModelError as error:
                return f"the {role} failed: {error.kind}"
        return None

    async def _call(self, model: Model) -> None:
        question = Question(_GRAY, "Which color is this?", id="readiness")
        await P2R(model, settings=self._p2r.settings).predict(question, "direct")
