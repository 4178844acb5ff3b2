"""What a phase writes while it runs: a line a step, a line a completion, and marks on complete checkpoints.

TRL logs and gathers; this only writes. Lines of steps that a continued phase repeats are removed first, so
that every step is there once.
"""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback

from p2r.runs.journal import Journal
from p2r.training.rewards import RECORD, any_process
from p2r.training.run_folder import METRICS, ROLLOUTS, Rollout, StepMetrics

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from p2r.training.recipe import Phase
    from p2r.training.run_folder import PhaseFolder, PhaseState


class Recorder(TrainerCallback):  # type: ignore[misc]
    """Writes `metrics.jsonl`, `rollouts.jsonl` and `state.json` of a phase.

    Args:
        writes: whether this is the first process, the only one that writes.
        stop: when it is set, training ends after the step, with a checkpoint.

    Attributes:
        logs: gives what TRL gathered for a step.
        random_state: the random state from which the current step can be repeated.
        updating: the weights are no longer those of the step before, and not yet those of this one.
    """

    def __init__(
        self, folder: PhaseFolder, phase: Phase, state: PhaseState, *, writes: bool, stop: threading.Event
    ) -> None:
        self._folder = folder
        self._phase = phase
        self._state = state
        self._writes = writes
        self._stop = stop
        self._started = self._step_started = time.monotonic()
        self._seconds_before = state.seconds
        self._metrics: Journal | None = None
        self._rollouts: Journal | None = None
        self.logs: Callable[[], dict[str, Any]] = dict
        self.random_state: dict[str, Any] = {}
        self.updating = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Drop the steps that will be repeated, and open the files."""
        if self._writes:
            self._folder.drop_after(state.global_step)
            self._metrics = Journal(self._folder.path / METRICS)
            self._rollouts = Journal(self._folder.path / ROLLOUTS)
            self._rollouts.records.clear()  # may be large

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Remember the random state: a step that fails half way can be repeated exactly."""
        self._step_started = time.monotonic()
        self.random_state = take_random_state()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """From here on the weights change."""
        self.updating = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Stop here when asked: between two steps, and in all processes at the same one."""
        self.random_state = take_random_state()
        self.updating = False
        if any_process(self._stop.is_set()):
            control.should_save = True
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:  # noqa: ARG002
        """Write what TRL logged for a step."""
        if self._metrics is None or self._rollouts is None or "reward" not in logs:
            return
        now, phase, step = time.monotonic(), self._state, state.global_step
        numbers = {
            key: value
            for key, value in logs.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        values = {"seconds/step": round(now - self._step_started, 4), **numbers}
        if step % self._phase.rollouts_every == 0 or step == 1:
            self._write_rollouts(self._rollouts, step)
        row = StepMetrics(step, phase.round, phase.number, phase.role, round(time.time(), 3), values)
        self._metrics.append(row.to_json())
        phase.step = step
        phase.seconds = self._seconds_before + now - self._started
        self._folder.write_state(phase)

    def _write_rollouts(self, journal: Journal, step: int) -> None:
        logs = self.logs()
        records = logs.get("extra", {}).get(RECORD, ())
        for position, (record, advantage) in enumerate(zip(records, logs.get("advantages", ()), strict=True)):
            rollout = Rollout.from_json(json.loads(record))
            advantage = round(advantage, 6) if rollout.reward is not None else None
            done = replace(rollout, step=step, group=position // self._phase.group, advantage=advantage)
            journal.append(done.to_json())

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Mark a checkpoint as complete, once everything in it and everything before it is on the disk."""
        if self._writes:
            self._folder.mark_complete(state.global_step)

    def close(self) -> None:
        """Sync and close the files."""
        for journal in (self._metrics, self._rollouts):
            if journal is not None:
                journal.close()


def take_random_state() -> dict[str, Any]:
    """The random states that generation and dropout draw from."""
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}  # noqa: NPY002
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def put_random_state(state: dict[str, Any]) -> None:
    """Go back to a random state."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
