"""`p2r report RUN [RUN]`: a run, or two side by side, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.console import readable_errors, say, stderr
from p2r.cli.options import DebugOption
from p2r.errors import InputError


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN [RUN]", help="One run folder of p2r eval, or two to compare.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.html", help="RUN/report.html if not given.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="PATH_OR_HUB_ID", help="Where the pictures are, if they were moved."),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Write a run, or two compared, as one HTML page.

    Tables, plots and every question; it works offline.

    Exit codes: 0 written, 2 wrong usage or unreadable input.
    """
    with readable_errors(debug=debug):
        if len(runs) > 2:
            raise InputError(f"{len(runs)} runs: a report shows one, or compares two")
        from p2r.evaluation.folder import RunData
        from p2r.report.page import build_page

        console = stderr()
        with console.status("reading …") as status:
            page = build_page(
                [RunData.read(folder) for folder in runs],
                data=data,
                on_picture=lambda done, total: status.update(f"pictures: {done} of {total}"),
                on_trouble=lambda message: say("note", "yellow", message),
            )
        names = "-against-".join(folder.resolve().name for folder in runs)
        path = out or (runs[0] / "report.html" if len(runs) == 1 else Path(f"{names}.html"))
        try:
            path.write_text(page, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        say("report", "dim", f"{path} ({len(page.encode()) / 1e6:.1f} MB)")
