"""Metrics for Prometheus, and readiness."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from p2r.errors import ModelError
from p2r.pipeline import P2R
from p2r.types import Question

if TYPE_CHECKING:
    from p2r.serving.limiter import Limiter
    from p2r.types import Prediction

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 20, 40, 80, 160)
_KEPT_S, _KEPT_AFTER_FAILURE_S, _TIMEOUT_S = 30.0, 5.0, 30.0
_GRAY = np.full((64, 64, 3), 128, np.uint8)


class Metrics:
    """The metrics of one application, in a registry of its own. No label comes from a client."""

    def __init__(self, limiter: Limiter) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "p2r_requests", "Chat requests by HTTP status; 499: gone.", ["status"], registry=registry
        )
        self._outcomes = Counter(
            "p2r_outcomes",
            "Answered questions by mode, status and perception.",
            ["mode", "status", "perception"],
            registry=registry,
        )
        self._stages = Histogram(
            "p2r_stage_seconds", "Seconds of each stage.", ["stage"], buckets=_SECONDS, registry=registry
        )
        self._tokens = Counter("p2r_tokens", "Tokens of both stages.", ["kind"], registry=registry)
        self._calls = Counter("p2r_model_calls", "Model calls that succeeded.", registry=registry)
        running = Gauge("p2r_running", "Requests being answered.", registry=registry)
        running.set_function(lambda: limiter.running)
        queued = Gauge("p2r_queued", "Requests that wait for a slot.", registry=registry)
        queued.set_function(lambda: limiter.queued)

    def count_reply(self, status: int) -> None:
        """Count a chat request."""
        self._requests.labels(str(status)).inc()

    def count_prediction(self, prediction: Prediction) -> None:
        """Count a question, its stages and its tokens."""
        perception = prediction.perception.outcome if prediction.perception else "none"
        self._outcomes.labels(prediction.mode, prediction.status, perception).inc()
        for stage, seconds in prediction.seconds.items():
            self._stages.labels(stage).observe(seconds)
        self._tokens.labels("prompt").inc(prediction.usage.prompt_tokens)
        self._tokens.labels("completion").inc(prediction.usage.completion_tokens)
        self._calls.inc(prediction.usage.calls)

    def text(self) -> bytes:
        """All of them, in the text format of Prometheus."""
        return generate_latest(self._registry)


class Readiness:
    """Whether the models answer: a question about a small gray image, whose result is kept for a while."""

    def __init__(self, p2r: P2R) -> None:
        self._p2r = p2r
        self._lock = asyncio.Lock()
        self._problem: str | None = None
        self._until_s = 0.0

    async def problem(self) -> str | None:
        """Why the server is not ready; None if it is."""
        async with self._lock:
            if time.monotonic() >= self._until_s:
                self._problem = await self._ask()
                kept_s = _KEPT_AFTER_FAILURE_S if self._problem else _KEPT_S
                self._until_s = time.monotonic() + kept_s
            return self._problem

    async def _ask(self) -> str | None:
        question = Question(_GRAY, "Which color is this?", id="readiness")
        models = {"perceiver": self._p2r.perceiver, "reasoner": self._p2r.reasoner}
        if self._p2r.reasoner is self._p2r.perceiver:
            del models["reasoner"]
        for role, model in models.items():
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    await P2R(model, settings=self._p2r.settings).predict(question, "direct")
            except TimeoutError:
                return f"the {role} did not answer within {_TIMEOUT_S:.0f} s"
            except ModelError as error:
                return f"the {role} failed: {error.kind}"
        return None
