"""Between TRL and the rewarder: one step's completions in, rewards out, and what is logged about them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from p2r.training.metrics import RECORD
from p2r.training.rewards import reward_metrics, rollout_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2r.health import Health
    from p2r.training.rewards import Rewarder


async def reward_batch(
    rewarder: Rewarder,
    health: Health,
    indices: Sequence[int],
    texts: Sequence[str],
    log_extra: Callable[[str, list[Any]], None],
    log_metric: Callable[[str, float], None],
) -> list[float | None]:
    """Reward the completions of a step on this process.

    Raises:
        ModelError: too many of the last calls failed; the text names the cause.
    """
    began = time.perf_counter()
    frozen = rewarder.frozen
    frozen_before = frozen.seconds if frozen else 0.0
    verdicts = await rewarder.reward(indices, texts)
    for verdict in verdicts:
        if verdict.reward is None:
            health.note_failure(verdict.error)
        else:
            health.note_success()
    samples = rewarder.rows.samples
    records = [
        json.dumps(rollout_record(samples[index], text, verdict), ensure_ascii=False)
        for index, text, verdict in zip(indices, texts, verdicts, strict=True)
    ]
    log_extra(RECORD, records)
    for name, value in reward_metrics(verdicts).items():
        log_metric(name, value)
    log_metric("seconds/reward", time.perf_counter() - began)
    if frozen:
        log_metric("seconds/frozen", frozen.seconds - frozen_before)
    return [verdict.reward for verdict in verdicts]
