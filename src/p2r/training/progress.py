"""What a person sees while a run trains: round, phase, step, reward, what fails, the time that is left."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from rich.console import Console

    from p2r.training.run_folder import PhaseState

LINE_EVERY_S = 30.0
_SMOOTHING = 20  # steps


class Progress:
    """A bar on a terminal, and a line now and then everywhere else.

    Args:
        console: where to draw.
        rounds, phases: how many there are in all.
    """

    def __init__(self, console: Console, *, rounds: int, phases: int) -> None:
        self._console = console
        self._rounds = rounds
        self._phases = phases
        self._rows: deque[dict[str, Any]] = deque(maxlen=_SMOOTHING)
        self._last_line = 0.0
        self._bar = Bar(
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
        """Something that happens once."""
        self._console.print(text, markup=False)

    def doing(self, text: str) -> None:
        """What is being done before the first step."""
        self._bar.update(self._task, description=text)

    def on_phase(self, state: PhaseState) -> None:
        """A phase begins or goes on."""
        self._rows.clear()
        self._last_line = time.monotonic()
        going_on = f", from step {state.step}" if state.step else ""
        self.say(f"{self._name(state)}: starting{going_on}")
        self._bar.reset(self._task, description=self._name(state), total=state.steps or None, state="loading")

    def on_row(self, state: PhaseState, row: dict[str, Any]) -> None:
        """A step is done."""
        self._rows.append(row)
        text = self._state(state, row["step"])
        self._bar.update(self._task, completed=row["step"], total=state.steps, state=text)
        now = time.monotonic()
        last = row["step"] == state.steps
        if not self._console.is_terminal and (now - self._last_line >= LINE_EVERY_S or last):
            self._last_line = now
            self.say(f"{self._name(state)}: step {row['step']}/{state.steps} · {text}")

    def _name(self, state: PhaseState) -> str:
        number = f"phase {state.number}/{self._phases}"
        return f"round {state.round}/{self._rounds} · {number} {state.role}"

    def _state(self, state: PhaseState, step: int) -> str:
        reward = _mean([row["reward"] for row in self._rows if "reward" in row])
        failed = _mean([row.get("failed", 0.0) for row in self._rows])
        seconds = _mean([row.get("seconds/step", 0.0) for row in self._rows])
        left = _clock(seconds * (state.steps - step))
        return f"reward {reward:.3f} · failed {100 * failed:.1f} % · {seconds:.1f} s a step · {left} left"

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
