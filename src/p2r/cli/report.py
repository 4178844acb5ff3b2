"""`p2r report RUN [SECOND]`: a run of any kind, or two evaluations side by side, as one HTML file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from p2r.cli import _options as opt
from p2r.cli._console import readable_errors, say, stderr
from p2r.errors import InputError, file_problem
from p2r.runs.files import check_output, write_file

MADE_BY = '<meta name="generator" content="perceive-to-reason">'
EXAMPLES = opt.examples(
    "p2r report runs/vstar",
    "p2r report runs/before runs/after",
    "p2r report runs/nano --out nano.html",
)
_OUT = "Default: report.html in RUN; with SECOND, report-against-SECOND.html there."


def report(
    run: Annotated[Path, opt.path_argument("RUN", "A run folder of p2r eval, p2r batch or p2r train.")],
    second: Annotated[
        Path | None, opt.path_argument("SECOND", "A second run of p2r eval, to compare.", show_default=False)
    ] = None,
    out: Annotated[Path | None, opt.path_option("FILE.html", _OUT, "--out", "-o")] = None,
    data: Annotated[
        str | None, opt.option("PATH_OR_HUB_ID", "Where the images are. Default: where they were.")
    ] = None,
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Write a run, or two compared, as one HTML page.

    Of an evaluation: tables, plots and every question. Of a batch: counts and some rows. Of a training:
    curves and rollouts. The page works offline.

    Exit codes: 0 written, 2 wrong usage or unreadable input.
    """
    with readable_errors(debug=debug, verbose=verbose, afterwards="no report was written"):
        runs = [run, second] if second else [run]
        name = f"report-against-{second.resolve().name}.html" if second else "report.html"
        target = out or run / name
        if out or run.is_dir():
            check_output(target, "report", "report.html", _is_report)
        from p2r.evaluation.batch_results import is_batch
        from p2r.training.run_folder import is_training_run

        pages = {"training": is_training_run, "batch": is_batch}
        found = [(kind, folder) for folder in runs for kind, is_one in pages.items() if is_one(folder)]
        if found and second:
            kind, folder = found[0]
            raise InputError(f"{folder} is a {kind} run; only evaluation runs can be compared")
        make = {"training": _training_page, "batch": _batch_page}[found[0][0]] if found else _evaluation_page
        with stderr().status("reading …") as status:

            def on_image(done: int, total: int) -> None:
                status.update(f"images: {done} of {total}")

            page = make(runs, data, on_image)
        write_file(target, page)
        say("report", "dim", f"{target} ({target.stat().st_size / 1e6:.1f} MB)")


def _is_report(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8", errors="replace") as text:
            return MADE_BY in text.read(2000)
    except OSError as error:
        raise InputError(f"{file}: {file_problem(error)}") from error


def _evaluation_page(runs: list[Path], data: str | None, on_image: Callable[[int, int], None]) -> str:
    from p2r.evaluation.records import RunData
    from p2r.report.evaluation import build_page

    read = [RunData.read(folder) for folder in runs]
    return build_page(read, data=data, on_image=on_image, on_trouble=_note)


def _batch_page(runs: list[Path], data: str | None, on_image: Callable[[int, int], None]) -> str:
    from p2r.report.batch import build_batch_page

    return build_batch_page(runs[0], data=data, on_image=on_image, on_trouble=_note)


def _training_page(runs: list[Path], data: str | None, on_image: Callable[[int, int], None]) -> str:
    from p2r.report.training import build_training_page
    from p2r.training.run_folder import TrainingRun

    run = TrainingRun.read(runs[0])
    for note in run.notes:
        _note(note)
    return build_training_page(run, data=data, on_image=on_image, on_trouble=_note)


def _note(message: str) -> None:
    say("note", "yellow", message)
