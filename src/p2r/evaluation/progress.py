"""Progress of an evaluation: questions done, speed, accuracy, failures."""

from __future__ import annotations

import logging
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from p2r.evaluation.records import AnswerRecord, FailureRecord
    from p2r.types import Mode

_LOG = logging.getLogger("p2r.evaluation")

LINE_EVERY_S = 30.0  # without a terminal
SILENCE_S = 60.0  # after which the bar shows the time without a reply


class EvaluationProgress:
    """A bar on a terminal, and a line now and then everywhere else.

    Args:
        console: where to draw.
        total: how many answers the run will have, over all modes.
        before: mode → right or wrong, of the answers of earlier sessions.
    """

    def __init__(self, console: Console, total: int, before: Mapping[Mode, Sequence[bool]]) -> None:
        self._console = console
        self._total = total
        self._asked = Counter({mode: len(answers) for mode, answers in before.items()})
        self._correct = Counter({mode: sum(answers) for mode, answers in before.items()})
        self._failed = 0
        self._before = self._asked.total()
        self._started = self._last_line = time.monotonic()
        self._bar = Progress(
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
        self._task = self._bar.add_task(
            "asking", total=total, completed=self._before, rate="", state=self._state(), last=self._started
        )

    def on_answer(self, record: AnswerRecord) -> None:
        """A question was answered and scored."""
        self._asked[record.mode] += 1
        self._correct[record.mode] += record.score.correct is True
        self._update()

    def on_failure(self, failure: FailureRecord) -> None:
        """An attempt failed: the first one is shown at once."""
        self._failed += 1
        _LOG.info("%s in mode %s failed: %s", failure.id, failure.mode, failure.error)
        if self._failed == 1:
            self._console.print(f"first failure: {failure.id}: {failure.error}", markup=False, style="yellow")
        self._update()

    def _update(self) -> None:
        now, done, state = time.monotonic(), self._asked.total(), self._state()
        rate = (done - self._before) / max(now - self._started, 1e-9)
        self._bar.update(self._task, completed=done, rate=f"{rate:.2f}/s", state=state, last=now)
        if not self._console.is_terminal and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            left = _clock((self._total - done) / rate) if rate else "?"
            self._console.print(f"{done}/{self._total} · {rate:.2f}/s · {left} left · {state}", markup=False)

    def _state(self) -> str:
        shares = [
            f"{mode} {100 * self._correct[mode] / asked:.1f} %"
            for mode, asked in self._asked.items()
            if asked
        ]
        return " · ".join([*shares, *([f"{self._failed} failed"] if self._failed else [])])

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


class _Silence(ProgressColumn):
    """The time since the last reply: a slow model, or a server that hangs."""

    def render(self, task: Task) -> Text:
        silent_s = time.monotonic() - task.fields["last"]
        quiet = task.finished or silent_s < SILENCE_S
        return Text("" if quiet else f"nothing came back for {_clock(silent_s)}", style="yellow")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
