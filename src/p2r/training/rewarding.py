"""Between TRL and the rewarder: one step's completions in, rewards out, and what is logged about them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from p2r.errors import ModelError
from p2r.training.callback import RECORD, any_process
from p2r.training.rewards import reward_metrics, rollout_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2r.runs.failures import FailureMonitor
    from p2r.training.rewards import Rewarder


class Rewards:
    """The reward function that TRL calls.

    Async inside. TRL would run an async function in a thread of its own, where a frozen role in this process
    must not calculate (see `FrozenWeights`); so the loop is ours, in the thread that trains.

    Args:
        health: stops the phase when too much fails.

    Attributes:
        rewarder: set after the trainer is made, because the frozen role is the trainer's own reference.
    """

    rewarder: Rewarder

    def __init__(self, health: FailureMonitor) -> None:
        self._health = health
        # One for all steps: a client of a server belongs to its loop.
        self._loop = asyncio.Runner()

    def answer(
        self,
        completions: list[Any],
        index: list[int],
        log_extra: Callable[[str, list[Any]], None],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float | None]:
        """Reward the completions of a step on this process: is the final answer right?

        Args:
            completions: each a conversation of one assistant message.
            index: of their samples.
            log_extra, log_metric: TRL's ways to log.

        Raises:
            ModelError: too many of the last calls failed, or none of the completions of all processes has a
                reward, and there is nothing to train on. The text names the cause.
        """
        texts = [completion[0]["content"] for completion in completions]
        began = time.perf_counter()
        frozen = self.rewarder.frozen
        frozen_before = frozen.seconds if frozen else 0.0
        verdicts = self._loop.run(self.rewarder.reward(index, texts))
        for verdict in verdicts:
            if verdict.reward is None:
                self._health.note_failure(verdict.error)
            else:
                self._health.note_success()
        if not any_process(any(verdict.reward is not None for verdict in verdicts)):
            cause, times = Counter(verdict.error for verdict in verdicts).most_common(1)[0]
            raise ModelError(
                f"none of the {len(verdicts)} completions of a step has a reward, {times} of them because: "
                f"{cause}; see to it and run the same command again: it does this step again",
                kind="overloaded",
            )
        rows = self.rewarder.rows
        log_extra(
            RECORD,
            [
                json.dumps(
                    rollout_record(rows.role, rows.samples[which], text, verdict).to_json(),
                    ensure_ascii=False,
                )
                for which, text, verdict in zip(index, texts, verdicts, strict=True)
            ],
        )
        for name, value in reward_metrics(verdicts).items():
            log_metric(name, value)
        log_metric("seconds/reward", time.perf_counter() - began)
        if frozen:
            log_metric("seconds/frozen", frozen.seconds - frozen_before)
        return [verdict.reward for verdict in verdicts]

    def close(self) -> None:
        """End the loop. Safe to call twice."""
        self._loop.close()
