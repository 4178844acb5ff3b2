"""Progress of a run for people."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY_S = 30.0


class RunProgress:
    """A bar on a terminal, and a line every `LINE_EVERY_S` everywhere else.

    Args:
        console: where to draw.
        columns: further columns of the bar.
    """

    def __init__(self, console: Console, *columns: ProgressColumn) -> None:
        self._console = console
        self._last_line = time.monotonic()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            *columns,
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, state="")

    def say(self, text: str, style: str = "") -> None:
        """Print a message."""
        self._console.print(text, markup=False, style=style, soft_wrap=True)

    def _show(self, done: int, total: int, state: str, *, name: str = "", last: bool = False) -> None:
        now = time.monotonic()
        self._bar.update(self._task, completed=done, total=total, state=state)
        due = last or now - self._last_line >= LINE_EVERY_S
        if due and not self._console.is_terminal:
            self._last_line = now
            self.say(f"{name}{done}/{total} · {state}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def clock(seconds: float) -> str:
    """A duration, such as `0:01:30`."""
    return str(timedelta(seconds=round(seconds)))
