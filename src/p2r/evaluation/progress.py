"""Progress of an evaluation: questions done, speed, accuracy, failures."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.progress import ProgressColumn, Task
from rich.text import Text

from p2r.runs.progress import RunProgress, clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

_LOG = logging.getLogger("p2r.evaluation")

SILENCE_S = 60.0  # after which the bar shows the time without a reply


class EvaluationProgress(RunProgress):
    """The progress of an evaluation.

    Args:
        console: where to draw.
        total: how many answers the run will have, over all modes.
        before: mode → how many questions earlier sessions answered, and how many of them right; None where
            answers are not scored.
    """

    def __init__(self, console: Console, total: int, before: Mapping[str, tuple[int, int | None]]) -> None:
        super().__init__(console, _Silence())
        self._total = total
        self._asked = Counter({mode: asked for mode, (asked, _) in before.items()})
        self._correct = {mode: correct for mode, (_, correct) in before.items() if correct is not None}
        self._failed = 0
        self._before = self._asked.total()
        self._started = time.monotonic()
        self._update()

    def on_answer(self, mode: str, *, correct: bool = False) -> None:
        """A question was answered, and scored unless the run has no gold answers."""
        self._asked[mode] += 1
        if mode in self._correct:
            self._correct[mode] += correct
        self._update()

    def on_failure(self, name: str, error: str) -> None:
        """An attempt failed: the first one is shown at once."""
        self._failed += 1
        _LOG.info("%s failed: %s", name, error)
        if self._failed == 1:
            self.say(f"first failure: {name}: {error}", "yellow")
        self._update()

    def _update(self) -> None:
        now, done = time.monotonic(), self._asked.total()
        rate = (done - self._before) / max(now - self._started, 1e-9)
        parts = [f"{rate:.2f}/s", f"{clock((self._total - done) / rate) if rate else '?'} left"]
        parts += [
            f"{mode} {100 * correct / self._asked[mode]:.1f} %"
            for mode, correct in self._correct.items()
            if self._asked[mode]
        ]
        parts += [f"{self._failed} failed"] if self._failed else []
        self._bar.update(self._task, last=now)
        self._show(done, self._total, " · ".join(parts))


class _Silence(ProgressColumn):
    """The time since the last reply: a slow model, or a server that hangs."""

    def render(self, task: Task) -> Text:
        silent_s = time.monotonic() - task.fields["last"]
        quiet = task.finished or silent_s < SILENCE_S
        return Text("" if quiet else f"nothing came back for {clock(silent_s)}", style="yellow")
