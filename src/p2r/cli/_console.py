"""Output of every command: results on stdout, the rest on stderr, errors as one line and an exit code."""

from __future__ import annotations

import functools
import json
import logging
import sys
import traceback
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from p2r.cli._interrupt import GRACE_S, stoppable
from p2r.errors import ModelError, P2RError
from p2r.text import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

    from p2r.checks import CheckResult

WRONG_INPUT = 2
MODEL_FAILED = 3


def stdout() -> Console:
    """The console for results."""
    from rich.console import Console

    return Console(highlight=False)


@functools.cache
def stderr(*, quiet: bool = False) -> Console:
    """The console for progress, notes and errors; it prints nothing when `quiet`.

    One object, so that a line is printed above a spinner and not into it.
    """
    from rich.console import Console

    # Jupyter sets FORCE_COLOR for the commands of a cell; each frame of a spinner would be a line there.
    terminal = None if sys.stderr.isatty() else False
    return Console(stderr=True, highlight=False, quiet=quiet, force_terminal=terminal)


def progress_bar() -> Progress:
    """A bar on stderr that disappears at its end; none where stderr is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = stderr()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def printable(text: str) -> str:
    """Text of a model or a file on one line, without control characters of the terminal."""
    return "".join(char if char.isprintable() else "�" for char in " ".join(text.split()))


def say(kind: str, style: str, message: str) -> None:
    """One line on stderr: `kind: message`. Markup in the message is not interpreted, nothing is wrapped."""
    from rich.text import Text

    line = Text.assemble((f"{kind}: ", style), printable(without_secrets(message)))
    stderr().print(line, soft_wrap=True)


@contextmanager
def readable_errors(
    *, debug: bool, verbose: int = 0, afterwards: str = "", grace_s: float = GRACE_S
) -> Iterator[None]:
    """Run a command: a `P2RError` becomes one line and an exit code, and so does an interrupt.

    Args:
        debug: show the trace of an error before its line.
        verbose: 1 logs to stderr, 2 in more detail.
        afterwards: what the user can do after an interrupt. If given, signals are handled by `stoppable`.
        grace_s: see `stoppable`.
    """
    try:
        with _logging(verbose), stoppable(say, afterwards, grace_s) if afterwards else nullcontext():
            yield
    except P2RError as error:
        if debug:
            traceback.print_exc()
        say("error", "bold red", str(error))
        raise typer.Exit(MODEL_FAILED if isinstance(error, ModelError) else WRONG_INPUT) from None
    except KeyboardInterrupt:
        say("stopped", "yellow", "interrupted")
        raise typer.Exit(130) from None


class _LogLines(logging.Handler):
    """Prints log records through `stderr()`, so that they do not break a spinner."""

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        line = printable(without_secrets(self.format(record)))
        stderr().print(Text(line, style="dim"), soft_wrap=True)


@contextmanager
def _logging(verbose: int) -> Iterator[None]:
    """Log p2r and each request to a model server to stderr."""
    if not verbose:
        yield
        return
    handler = _LogLines()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    # Older and newer OpenAI clients log their requests under one of the first two names.
    levels = {"httpx": logging.INFO, "httpx2": logging.INFO}
    levels["p2r"] = logging.INFO if verbose == 1 else logging.DEBUG
    loggers = {name: logging.getLogger(name) for name in levels}
    before = {name: logger.level for name, logger in loggers.items()}
    for name, logger in loggers.items():
        logger.setLevel(levels[name])
        logger.addHandler(handler)
    try:
        yield
    finally:
        for name, logger in loggers.items():
            logger.setLevel(before[name])
            logger.removeHandler(handler)


# Results of `p2r doctor` and `p2r train --check`.

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red")}


def show_checks(checks: Callable[[Callable[[str], None]], Iterable[CheckResult]], *, as_json: bool) -> None:
    """Print the results of checks: a line each as it comes, or one JSON object at the end.

    Args:
        checks: runs them; its argument shows the name of the running check.
        as_json: print one object instead of lines.

    Raises:
        typer.Exit: a check failed; the code is 3 where only models failed.
    """
    results = []
    with stderr(quiet=as_json).status("checking …") as status:
        for result in checks(lambda text: status.update(f"{text} …")):
            results.append(result)
            if not as_json:
                # The lines go to stdout, the spinner to stderr: on a terminal they would share a line.
                status.stop()
                _show_result(result)
                status.start()
    failures = [result for result in results if result.state == "failure"]
    if as_json:
        rows = [asdict(result) for result in results]
        typer.echo(json.dumps({"ok": not failures, "findings": rows}, ensure_ascii=False))
    if failures:
        raise typer.Exit(MODEL_FAILED if all(result.of_model for result in failures) else WRONG_INPUT)


def _show_result(result: CheckResult) -> None:
    from rich.text import Text

    mark, style = _MARKS[result.state]
    line = Text.assemble((f"{mark} ", style), (f"{result.name}  ", "bold"), printable(result.detail))
    if result.hint:
        line.append(f"  → {result.hint}", "cyan")
    stdout().print(line, soft_wrap=True)


# Tables.

_GAP = 2  # spaces between two columns


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[str | Text]], *, title: str = "", note: str = ""
) -> None:
    """Print a table without breaking a word or a number, at any width of the terminal.

    Where the columns do not fit, the table is transposed; where that is too wide as well, each row becomes
    lines of `heading: value`. Columns of numbers are aligned right.

    Args:
        columns: headings; the first column holds the names of the rows.
        rows: as many cells as there are headings.
        title, note: the lines above and below it.
    """
    from rich.text import Text

    grid = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in (columns, *rows)]
    console = stdout()
    if title:
        console.print(Text(title, style="bold"))
    transposed = [list(column) for column in zip(*grid, strict=True)]
    if not (_print_grid(console, grid) or _print_grid(console, transposed)):
        for row in grid[1:]:
            lines = [Text.assemble(heading, ": ", cell) for heading, cell in zip(grid[0], row, strict=True)]
            console.print(Text("\n").join(lines), "")
    if note:
        console.print(Text(note, style="italic"))
    if title:
        console.print()


def _print_grid(console: Console, grid: Sequence[Sequence[Text]]) -> bool:
    """Print a table whose first row holds the headings, if no word need be broken for it."""
    from rich.cells import cell_len
    from rich.table import Table

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
    room = console.width + _GAP
    for heading, *cells in zip(*grid, strict=True):
        words = " ".join(cell.plain for cell in (heading, *cells)).split()
        longest_word = max(map(cell_len, words), default=0)
        room -= longest_word + _GAP
        numbers = all(not cell.plain or cell.plain[0] in "0123456789+−-<" for cell in cells)
        table.add_column(heading, justify="right" if numbers else "left", min_width=longest_word)
    for row in grid[1:]:
        table.add_row(*row)
    if room >= 0:
        console.print(table)
    return room >= 0
