"""What the server counts, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from p2r.serving.limiter import Admission
    from p2r.types import Prediction

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 20, 40, 80, 160)


class Metrics:
    """The counters of one application, in a registry of its own. No label comes from a client's text."""

    def __init__(self, admission: Admission) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "p2r_requests", "Chat requests by HTTP status; 499: gone.", ["status"], registry=self._registry
        )
        self._outcomes = Counter(
            "p2r_outcomes",
            "Answered questions by mode, status and perception.",
            ["mode", "status", "perception"],
            registry=self._registry,
        )
        self._stages = Histogram(
            "p2r_stage_seconds",
            "Seconds of each stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._tokens = Counter("p2r_tokens", "Tokens of both stages.", ["kind"], registry=self._registry)
        self._calls = Counter("p2r_model_calls", "Model calls that succeeded.", registry=self._registry)
        running = Gauge("p2r_running", "Requests being answered.", registry=self._registry)
        running.set_function(lambda: admission.running)
        queued = Gauge("p2r_queued", "Requests that wait for a slot.", registry=self._registry)
        queued.set_function(lambda: admission.queued)

    def replied(self, status: int) -> None:
        """Count a chat request."""
        self._requests.labels(str(status)).inc()

    def predicted(self, prediction: Prediction) -> None:
        """Count a question, its stages and its tokens."""
        perception = prediction.perception.outcome if prediction.perception else "none"
        self._outcomes.labels(prediction.mode, prediction.status, perception).inc()
        for stage, seconds in prediction.seconds.items():
            self._stages.labels(stage).observe(seconds)
        self._tokens.labels("prompt").inc(prediction.usage.prompt_tokens)
        self._tokens.labels("completion").inc(prediction.usage.completion_tokens)
        self._calls.inc(prediction.usage.calls)

    def exposed(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._registry)
