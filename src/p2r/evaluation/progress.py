"""What a person sees while a run is going on: how far, how fast, how right, and what fails."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from p2r.evaluation.records import Record
    from p2r.types import Mode

_LOG = logging.getLogger("p2r.evaluation")

# How often a line is printed where there is no terminal, and when silence is worth a word.
LINE_EVERY_S = 30.0
SILENCE_S = 60.0


class Progress:
    """A progress bar on a terminal, and a line now and then everywhere else.

    It is told of each attempt on the event loop, and returns at once.

    Args:
        console: where to draw.
        total: how many answers the run will have, over all modes.
        before: mode → right or wrong, of the answers of earlier sessions.
    """

    def __init__(self, console: Console, total: int, before: Mapping[Mode, Sequence[bool]]) -> None:
        self._console = console
        self._asked = {mode: len(answers) for mode, answers in before.items()}
        self._correct = Counter({mode: sum(answers) for mode, answers in before.items()})
        self._failed = 0
        self._new = 0
        self._started = self._last_line = time.monotonic()
        self._bar = Bar(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[state]}"),
            _Silence(),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=300,
        )
        done = sum(self._asked.values())
        self._total = total
        self._task = self._bar.add_task(
            "asking", total=total, completed=done, rate="", state=self._state(), news=self._started
        )

    def on_record(self, record: Record) -> None:
        """A question was answered and scored."""
        mode = record["mode"]
        self._asked[mode] += 1
        self._correct[mode] += bool(record["correct"])
        self._news(advance=1)

    def on_failure(self, failure: Record) -> None:
        """An attempt failed: the first one is shown at once."""
        self._failed += 1
        _LOG.info("%s in mode %s failed: %s", failure["id"], failure["mode"], failure["error"])
        if self._failed == 1:
            self._console.print(
                f"first failure: {failure['id']}: {failure['error']}", markup=False, style="yellow"
            )
        self._news(advance=0)

    def _news(self, advance: int) -> None:
        self._new += advance
        now = time.monotonic()
        rate = self._new / max(now - self._started, 1e-9)
        self._bar.update(self._task, advance=advance, rate=f"{rate:.2f}/s", state=self._state(), news=now)
        if not self._console.is_terminal and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            done = sum(self._asked.values())
            left_s = (self._total - done) / rate if rate else float("inf")
            line = f"{done}/{self._total} · {rate:.2f}/s · {_clock(left_s)} left · {self._state()}"
            self._console.print(line, markup=False)

    def _state(self) -> str:
        shares = [
            f"{mode} {100 * self._correct[mode] / asked:.1f} %"
            for mode, asked in self._asked.items()
            if asked
        ]
        if self._failed:
            shares.append(f"{self._failed} failed")
        return " · ".join(shares)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


class _Silence(ProgressColumn):
    """Says so when nothing has come back for a while: slow models are not dead ones, but people wonder."""

    def render(self, task: Task) -> Text:
        silent_s = time.monotonic() - task.fields["news"]
        if task.finished or silent_s < SILENCE_S:
            return Text("")
        return Text(f"nothing came back for {_clock(silent_s)}", style="yellow")


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
