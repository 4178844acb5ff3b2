"""`p2r report RUN [RUN]`: an evaluation or a training, or two evaluations side by side, as one HTML file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.console import readable_errors, say, stderr
from p2r.cli.options import DebugOption
from p2r.errors import InputError


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN [RUN]", help="A run folder of p2r eval or p2r train; two of p2r eval."),
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

    Of an evaluation: tables, plots and every question. Of a training: curves and rollouts. It works offline.

    Exit codes: 0 written, 2 wrong usage or unreadable input.
    """
    with readable_errors(debug=debug):
        if len(runs) > 2:
            raise InputError(f"{len(runs)} runs: a report shows one, or compares two")
        from p2r.training.folder import is_training_run

        training = [folder for folder in runs if is_training_run(folder)]
        if training and len(runs) > 1:
            raise InputError(
                f"{training[0]} is a training: a report shows one, and compares evaluations only"
            )
        with stderr().status("reading …") as status:

            def on_picture(done: int, total: int) -> None:
                status.update(f"pictures: {done} of {total}")

            page = (_of_training if training else _of_evaluation)(runs, data, on_picture)
        names = "-against-".join(folder.resolve().name for folder in runs)
        path = out or (runs[0] / "report.html" if len(runs) == 1 else Path(f"{names}.html"))
        try:
            path.write_text(page, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        say("report", "dim", f"{path} ({len(page.encode()) / 1e6:.1f} MB)")


def _of_evaluation(runs: list[Path], data: str | None, on_picture: Callable[[int, int], None]) -> str:
    from p2r.evaluation.folder import RunData
    from p2r.report.page import build_page

    read = [RunData.read(folder) for folder in runs]
    return build_page(read, data=data, on_picture=on_picture, on_trouble=_note)


def _of_training(runs: list[Path], data: str | None, on_picture: Callable[[int, int], None]) -> str:
    from p2r.report.training_page import build_training_page
    from p2r.training.folder import TrainingRun

    run = TrainingRun.read(runs[0])
    for note in run.notes:
        _note(note)
    return build_training_page(run, data=data, on_picture=on_picture, on_trouble=_note)


def _note(message: str) -> None:
    say("note", "yellow", message)
