"""Progress of an evaluation: how far, how fast, how right, and what fails."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.progress import ProgressColumn, Task
from rich.text import Text

from p2r.runs.progress import RunProgress, clock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from p2r.evaluation.records import AnswerRecord, FailureRecord
    from p2r.types import Mode

_LOG = logging.getLogger("p2r.evaluation")

SILENCE_S = 60.0  # after which the bar says that nothing has come back


class EvaluationProgress(RunProgress):
    """The progress of an evaluation.

    Args:
        console: where to draw.
        total: how many answers the run will have, over all modes.
        before: mode → right or wrong, of the answers of earlier sessions.
    """

    def __init__(self, console: Console, total: int, before: Mapping[Mode, Sequence[bool]]) -> None:
        super().__init__(console, _Silence())
        self._total = total
        self._asked = Counter({mode: len(answers) for mode, answers in before.items()})
        self._correct = Counter({mode: sum(answers) for mode, answers in before.items()})
        self._failed = 0
        self._before = self._asked.total()
        self._started = time.monotonic()
        self._update()

    def on_answer(self, record: AnswerRecord) -> None:
        """A question was answered and scored."""
        self._asked[record.mode] += 1
        self._correct[record.mode] += record.correct
        self._update()

    def on_failure(self, failure: FailureRecord) -> None:
        """An attempt failed: the first one is shown at once."""
        self._failed += 1
        _LOG.info("%s in mode %s failed: %s", failure.id, failure.mode, failure.error)
        if self._failed == 1:
            self.say(f"first failure: {failure.id}: {failure.error}", "yellow")
        self._update()

    def _update(self) -> None:
        now, done = time.monotonic(), self._asked.total()
        rate = (done - self._before) / max(now - self._started, 1e-9)
        parts = [f"{rate:.2f}/s", f"{clock((self._total - done) / rate) if rate else '?'} left"]
        parts += [
            f"{mode} {100 * self._correct[mode] / asked:.1f} %"
            for mode, asked in self._asked.items()
            if asked
        ]
        parts += [f"{self._failed} failed"] if self._failed else []
        self._bar.update(self._task, last=now)
        self._show(done, self._total, " · ".join(parts))


class _Silence(ProgressColumn):
    """Since when nothing has come back: a slow model, or a server that hangs."""

    def render(self, task: Task) -> Text:
        silent_s = time.monotonic() - task.fields["last"]
        quiet = task.finished or silent_s < SILENCE_S
        return Text("" if quiet else f"nothing came back for {clock(silent_s)}", style="yellow")
