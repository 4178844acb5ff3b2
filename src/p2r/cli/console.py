"""What every command shares: results on stdout, everything else on stderr, errors as one line and a code."""

from __future__ import annotations

import functools
import json
import traceback
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from p2r.cli.interrupt import GRACE_S, stoppable
from p2r.errors import ModelError, P2RError
from p2r.text import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from p2r.checks import CheckResult

WRONG_INPUT = 2
MODEL_FAILED = 3


def stdout() -> Console:
    """Where results go."""
    from rich.console import Console

    return Console(highlight=False)


@functools.cache
def stderr(*, quiet: bool = False) -> Console:
    """Where progress, notes and errors go; nowhere when `quiet`.

    One object, so that a line is printed above a spinner that is on the screen, and not behind it.
    """
    from rich.console import Console

    return Console(stderr=True, highlight=False, quiet=quiet)


def printable(text: str) -> str:
    """Text of a model or a file on one line, without what could steer the terminal."""
    return "".join(char if char.isprintable() else "�" for char in " ".join(text.split()))


def say(kind: str, style: str, message: str) -> None:
    """One line on stderr: `kind: message`. Markup in the message is not interpreted, nothing is wrapped."""
    from rich.text import Text

    line = Text.assemble((f"{kind}: ", style), printable(without_secrets(message)))
    stderr().print(line, soft_wrap=True)


def exit_code(error: P2RError) -> int:
    """2 for what the user gave, 3 for a model that failed."""
    return MODEL_FAILED if isinstance(error, ModelError) else WRONG_INPUT


@contextmanager
def readable_errors(
    *, debug: bool, verbose: int = 0, afterwards: str = "", grace_s: float = GRACE_S
) -> Iterator[None]:
    """Run a command: an error raised on purpose is one line and an exit code, and so is an interrupt.

    Args:
        debug: show the trace of an error before its line.
        verbose: 1 logs what happens to stderr, 2 in more detail.
        afterwards: what the user can do after SIGINT or SIGTERM, which are handled (see `cli.interrupt`) if
            it is given.
        grace_s: how long the command may take to stop then.
    """
    try:
        with _logging(verbose), stoppable(_tell, afterwards, grace_s) if afterwards else nullcontext():
            yield
    except P2RError as error:
        if debug:
            traceback.print_exc()
        say("error", "bold red", str(error))
        raise typer.Exit(exit_code(error)) from None
    except KeyboardInterrupt:
        say("stopped", "yellow", "interrupted")
        raise typer.Exit(130) from None


def _tell(kind: str, message: str) -> None:
    say(kind, "yellow", message)


@contextmanager
def _logging(verbose: int) -> Iterator[None]:
    """Show what p2r logs, and each request to a model server, on stderr."""
    if not verbose:
        yield
        return
    import logging

    from rich.text import Text

    class Lines(logging.Handler):
        """Prints through the one console, so that a spinner is not written into."""

        def emit(self, record: logging.LogRecord) -> None:
            line = printable(without_secrets(self.format(record)))
            stderr().print(Text(line, style="dim"), soft_wrap=True)

    handler = Lines()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    # The HTTP libraries of OpenAI's clients, older and newer, log each request to a model server.
    levels = dict.fromkeys(("httpx", "httpx2"), logging.INFO)
    levels["p2r"] = logging.INFO if verbose == 1 else logging.DEBUG
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
            logging.getLogger(name).removeHandler(handler)


# --- findings of `p2r doctor` and `--check` ---------------------------------------------------------------

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red")}


def show_findings(
    findings: Callable[[Callable[[str], None]], Iterable[CheckResult]], *, as_json: bool
) -> None:
    """What was looked at: a line each as it comes, or one JSON object at the end.

    Args:
        findings: makes them; it is given a function that shows what is being looked at.
        as_json: print one object instead of lines.

    Raises:
        typer.Exit: something failed; the code says whether it was but a given model.
    """
    shown = []
    with stderr(quiet=as_json).status("looking …") as status:
        for finding in findings(lambda text: status.update(f"{text} …")):
            shown.append(finding)
            if not as_json:
                # The lines go to stdout, the spinner to stderr: on a terminal they would share a line.
                status.stop()
                _show_result(finding)
                status.start()
    failures = [finding for finding in shown if finding.state == "failure"]
    if as_json:
        rows = [asdict(finding) for finding in shown]
        typer.echo(json.dumps({"ok": not failures, "findings": rows}, ensure_ascii=False))
    if failures:
        raise typer.Exit(MODEL_FAILED if all(finding.of_model for finding in failures) else WRONG_INPUT)


def _show_result(finding: CheckResult) -> None:
    from rich.text import Text

    mark, style = _MARKS[finding.state]
    line = Text.assemble((f"{mark} ", style), (f"{finding.name}  ", "bold"), printable(finding.detail))
    if finding.hint:
        line.append(f"  → {finding.hint}", "cyan")
    stdout().print(line, soft_wrap=True)


# --- tables -----------------------------------------------------------------------------------------------

_GAP = 2  # spaces between two columns


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[str | Text]], *, title: str = "", note: str = ""
) -> None:
    """Print a table so that no word and no number is broken in the middle, however narrow the terminal.

    Where the columns do not fit beside each other, rows and columns change places; where that is too wide
    as well, each row becomes lines of `heading: value`. Columns of numbers are aligned right.

    Args:
        columns: headings; the first column holds the names of the rows.
        rows: as many cells as there are headings.
        title, note: the lines above and below it.
    """
    from rich.text import Text

    grid = [[Text(heading) for heading in columns]]
    grid += [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    console = stdout()
    if title:
        console.print(Text(title, style="bold"))
    for cells in (grid, [list(column) for column in zip(*grid, strict=True)]):
        if widths := _widths(cells, console.width):
            console.print(_table(cells, widths))
            break
    else:
        for row in grid[1:]:
            lines = [Text.assemble(heading, ": ", cell) for heading, cell in zip(grid[0], row, strict=True)]
            console.print(Text("\n").join(lines), "")
    if note:
        console.print(Text(note, style="italic"))
    if title:
        console.print()


def _widths(cells: Sequence[Sequence[Text]], room: int) -> list[int] | None:
    """How wide each column is, so that all fit and only spaces are broken at; None where they cannot."""
    from rich.cells import cell_len

    columns = list(zip(*cells, strict=True))
    least = [max(max(map(cell_len, cell.plain.split()), default=0) for cell in column) for column in columns]
    widths = [max(cell.cell_len for cell in column) for column in columns]
    room -= _GAP * (len(columns) - 1)
    if sum(least) > room:
        return None
    while sum(widths) > room:
        # The widest of those that can still give something.
        widest = max((w, i) for i, w in enumerate(widths) if w > least[i])[1]
        widths[widest] -= 1
    return widths


def _table(cells: Sequence[Sequence[Text]], widths: Sequence[int]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
    for heading, column, width in zip(cells[0], zip(*cells[1:], strict=True), widths, strict=True):
        numbers = all(not cell.plain or cell.plain[0] in "0123456789+−-<" for cell in column)
        table.add_column(heading, justify="right" if numbers else "left", width=width)
    for row in cells[1:]:
        table.add_row(*row)
    return table
