"""The progress of a training for people: round, phase, step, reward, failures, remaining time."""

from __future__ import annotations

import time
from collections import deque
from statistics import fmean
from typing import TYPE_CHECKING

from p2r.runs.progress import RunProgress, clock

if TYPE_CHECKING:
    from rich.console import Console

    from p2r.training.run_folder import PhaseState, StepMetrics

_SMOOTHING = 20  # steps


class TrainingProgress(RunProgress):
    """The progress of a training.

    Args:
        console: where to draw.
        rounds, phases: how many there are in all.
    """

    def __init__(self, console: Console, *, rounds: int, phases: int) -> None:
        super().__init__(console)
        self._rounds = rounds
        self._phases = phases
        self._rows: deque[StepMetrics] = deque(maxlen=_SMOOTHING)

    def doing(self, text: str) -> None:
        """Show the current work before the first step."""
        self._bar.update(self._task, description=text)

    def on_phase(self, state: PhaseState) -> None:
        """A phase starts or continues."""
        self._rows.clear()
        self._last_line = time.monotonic()
        continued = f", from step {state.step}" if state.step else ""
        self.say(f"{self._name(state)}: starting{continued}")
        self._bar.reset(self._task, description=self._name(state), total=state.steps or None, state="loading")

    def on_step(self, state: PhaseState, row: StepMetrics) -> None:
        """A step is done."""
        self._rows.append(row)
        seconds = self._mean("seconds/step")
        left = clock(seconds * (state.steps - row.step))
        reward = f"{self._mean('reward'):.3f}"
        if len(row.rewards) > 1:
            means = (f"{role} {self._mean(f'reward/{role}'):.3f}" for role in row.rewards)
            reward += f" ({', '.join(means)})"
        failed = f"{100 * self._mean('failed'):.1f} %"
        text = f"reward {reward} · failed {failed} · {seconds:.1f} s a step · {left} left"
        last = row.step == state.steps
        self._show(row.step, state.steps, text, name=f"{self._name(state)}: step ", last=last)

    def _name(self, state: PhaseState) -> str:
        number = f"phase {state.number}/{self._phases}"
        return f"round {state.round}/{self._rounds} · {number} {state.role}"

    def _mean(self, key: str) -> float:
        return fmean(row.values.get(key, 0.0) for row in self._rows)
