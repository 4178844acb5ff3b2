"""`p2r data NAME OUT`: training data of the paper, as a file of samples."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2r.cli import _options as opt
from p2r.cli._console import progress_bar, readable_errors, say, show_table
from p2r.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.progress import Progress

    from p2r.datasets.p2r10k.overlap import Reference

MIXED = "p2r-10k"
RELEASED = "p2r-10k-released"
EXAMPLES = opt.examples(
    "p2r data p2r-10k data/p2r-10k",
    "p2r data zwz data/zwz -n 500",
    "p2r data zwz data/zwz --from zwz=/disk/zwz    # no network",
    "p2r data p2r-10k data/p2r-10k --against vstar --drop-overlap",
)
_NAME = "The data set to build; a wrong name lists them all."
_FROM = "Read a source from a file, a folder or another hub id; repeat it for more."
_AGAINST = "Report the overlap with a benchmark of p2r eval; repeat it for more."


def data(
    name: Annotated[str, typer.Argument(metavar="NAME", help=_NAME)],
    out: Annotated[Path, opt.path_argument("OUT", "The folder; continued if it exists.")],
    n: Annotated[
        int | None,
        opt.option("N", "The number of samples. Default: 10000 of p2r-10k, else all.", "--n", "-n", min=1),
    ] = None,
    seed: Annotated[int, opt.option("N", "Selects the rows and their order.", min=0)] = 0,
    from_: Annotated[list[str], opt.option("SOURCE=PLACE", _FROM, "--from")] = [],  # noqa: B006  (typer copies it)
    against: Annotated[list[str], opt.option("NAME[=PLACE]", _AGAINST)] = [],  # noqa: B006
    drop_overlap: Annotated[
        bool, typer.Option("--drop-overlap", help="Leave out images of those benchmarks.")
    ] = False,
    json_output: opt.Json = False,
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Build training data in the format of p2r.datasets.samples.

    It is the paper's mixture of three sources (p2r-10k), one of them, or the set that its authors released.
    Writes OUT/samples.jsonl, OUT/images and OUT/report.json. The same command continues after any
    interruption.

    Exit codes: 0 built, 2 wrong usage, unreadable data or a full disk.
    """
    with readable_errors(debug=debug, verbose=verbose, afterwards="the same command continues"):
        from p2r.datasets.p2r10k import build as building
        from p2r.datasets.p2r10k.report import report_of
        from p2r.datasets.p2r10k.sources import SOURCES
        from p2r.runs.files import NO_LIMIT, folder_lock, write_json

        counts = _counts(name, n)
        opt.check_folder(out)
        building.check_folder(out)
        places = dict(_pairs(from_, "--from", list(SOURCES)))
        with progress_bar() as bar:
            with folder_lock(out) if against else nullcontext():
                references = dict(_reference(asked, out, bar) for asked in against)
            tasks = {source: bar.add_task(source, total=count) for source, count in counts.items()}
            plan = building.BuildPlan(counts, out, places, seed, references, drop_overlap)
            drawn = building.build(plan, lambda source, kept: bar.advance(tasks[source], int(kept)))
        report = report_of(plan, drawn)
        with folder_lock(out, wait_s=NO_LIMIT):
            write_json(out / "report.json", report)
        if json_output:
            typer.echo(json.dumps(report, ensure_ascii=False))
        else:
            _show(report)
        for note in report["notes"]:
            say("note", "yellow", note)
        say("written", "dim", f"{report['samples']} samples in {out / 'samples.jsonl'}")


def _counts(name: str, n: int | None) -> Mapping[str, int | None]:
    from p2r.datasets.p2r10k.build import MIXTURE, scaled
    from p2r.datasets.p2r10k.sources import SOURCES

    if name == MIXED:
        return dict(scaled(n) if n else MIXTURE)
    if name == RELEASED:
        return {"p2r-10k": n}
    if name in MIXTURE:
        return {name: n}
    known = ", ".join((MIXED, RELEASED, *(source for source in SOURCES if source != MIXED)))
    raise InputError(f"unknown data {name!r}: one of {known}")


def _pairs(given: Iterable[str], option: str, known: list[str]) -> Iterable[tuple[str, str]]:
    for pair in given:
        name, equals, place = pair.partition("=")
        if not equals or not place or name not in known:
            raise InputError(f"{option} {pair}: write SOURCE=PATH_OR_ID, with one of {', '.join(known)}")
        yield name, str(opt.as_path(place).resolve()) if opt.as_path(place).exists() else place


def _reference(asked: str, out: Path, bar: Progress) -> tuple[str, Reference]:
    from p2r.datasets.p2r10k.overlap import read_reference
    from p2r.evaluation.benchmarks import open_benchmark
    from p2r.evaluation.benchmarks.base import Unreadable

    name, _, place = asked.partition("=")
    benchmark = open_benchmark(name, place or None)
    questions = (
        (entry.sample.question, load)
        for entry, load in zip(benchmark.entries(), benchmark.loaders(), strict=True)
        if not isinstance(entry, Unreadable)
    )
    task = bar.add_task(f"reading {name}", total=None)
    cache = out / "against" / f"{name}.json"
    reference = read_reference(benchmark.source, questions, cache, lambda: bar.advance(task, 1))
    bar.remove_task(task)
    return name, reference


def _show(report: Mapping[str, Any]) -> None:
    rows = []
    for name, source in report["sources"].items():
        left_out = sum(source["unusable"].values()) + len(source["dropped"])
        types = [source["answer_types"].get(kind, 0) for kind in ("choice", "number", "free")]
        figures = (source["samples"], *types, source["inferred"], source["gold_boxes"], left_out)
        rows.append((name, *(str(figure) for figure in figures)))
    show_table(("source", "samples", "choice", "number", "free", "inferred", "gold boxes", "left out"), rows)
    for name, found in report["overlap"].items():
        typer.echo(
            f"{name}: {found['images']} samples show one of its images, "
            f"{found['questions']} ask one of its questions, {found['both']} do both"
        )
