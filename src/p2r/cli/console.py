"""What every command shares: results on stdout, everything else on stderr, errors as one line and a code."""

from __future__ import annotations

import json
import traceback
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from p2r.errors import ModelError, P2RError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from p2r.doctor import Finding

WRONG_INPUT = 2
MODEL_FAILED = 3


def stdout() -> Console:
    """Where results go."""
    from rich.console import Console

    return Console(highlight=False)


def stderr(*, quiet: bool = False) -> Console:
    """Where progress, notes and errors go; nowhere when `quiet`."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, quiet=quiet)


def printable(text: str) -> str:
    """Text of a model or a file on one line, without what could steer the terminal."""
    return "".join(char if char.isprintable() else "�" for char in " ".join(text.split()))


def say(kind: str, style: str, message: str) -> None:
    """One line on stderr: `kind: message`. Markup in the message is not interpreted, nothing is wrapped."""
    from rich.text import Text

    line = Text.assemble((f"{kind}: ", style), printable(message))
    stderr().print(line, soft_wrap=True)


def exit_code(error: P2RError) -> int:
    """2 for what the user gave, 3 for a model that failed."""
    return MODEL_FAILED if isinstance(error, ModelError) else WRONG_INPUT


_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red")}


def show_findings(findings: Iterable[Finding], *, as_json: bool) -> None:
    """What was looked at: a line each as it comes, or one JSON object at the end.

    Raises:
        typer.Exit: something failed; the code says whether it was but a given model.
    """
    shown = []
    for finding in findings:
        shown.append(finding)
        if not as_json:
            _show_finding(finding)
    failures = [finding for finding in shown if finding.state == "failure"]
    if as_json:
        rows = [asdict(finding) for finding in shown]
        typer.echo(json.dumps({"ok": not failures, "findings": rows}, ensure_ascii=False))
    if failures:
        raise typer.Exit(MODEL_FAILED if all(finding.of_model for finding in failures) else WRONG_INPUT)


def _show_finding(finding: Finding) -> None:
    from rich.text import Text

    mark, style = _MARKS[finding.state]
    line = Text.assemble((f"{mark} ", style), (f"{finding.name}  ", "bold"), printable(finding.detail))
    if finding.cure:
        line.append(f"  → {finding.cure}", "cyan")
    stdout().print(line, soft_wrap=True)


@contextmanager
def readable_errors(*, debug: bool) -> Iterator[None]:
    """Turn an error raised on purpose into one line and an exit code; `debug` shows the trace before it."""
    try:
        yield
    except P2RError as error:
        if debug:
            traceback.print_exc()
        say("error", "bold red", str(error))
        raise typer.Exit(exit_code(error)) from None
    except KeyboardInterrupt:
        say("stopped", "yellow", "interrupted")
        raise typer.Exit(130) from None
