"""The progress of a training for people: round, phase, step, reward, failures, remaining time."""

from __future__ import annotations

import time
from collections import deque
from datetime import timedelta
from statistics import fmean
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

if TYPE_CHECKING:
    from rich.console import Console

    from p2r.training.run_folder import PhaseState, StepMetrics

LINE_EVERY_S = 30.0
_SMOOTHING = 20  # steps


class TrainingProgress:
    """A bar on a terminal, and a line every `LINE_EVERY_S` everywhere else.

    Args:
        console: where to draw.
        rounds, phases: how many there are in all.
    """

    def __init__(self, console: Console, *, rounds: int, phases: int) -> None:
        self._console = console
        self._rounds = rounds
        self._phases = phases
        self._rows: deque[StepMetrics] = deque(maxlen=_SMOOTHING)
        self._last_line = 0.0
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, state="")

    def say(self, text: str) -> None:
        """Print a message."""
        self._console.print(text, markup=False)

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
        left = timedelta(seconds=round(seconds * (state.steps - row.step)))
        text = (
            f"reward {self._mean('reward'):.3f} · failed {100 * self._mean('failed'):.1f} % · "
            f"{seconds:.1f} s a step · {left} left"
        )
        self._bar.update(self._task, completed=row.step, total=state.steps, state=text)
        now = time.monotonic()
        due = now - self._last_line >= LINE_EVERY_S or row.step == state.steps
        if due and not self._console.is_terminal:
            self._last_line = now
            self.say(f"{self._name(state)}: step {row.step}/{state.steps} · {text}")

    def _name(self, state: PhaseState) -> str:
        number = f"phase {state.number}/{self._phases}"
        return f"round {state.round}/{self._rounds} · {number} {state.role}"

    def _mean(self, key: str) -> float:
        return fmean(row.values.get(key, 0.0) for row in self._rows)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
