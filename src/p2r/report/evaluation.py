"""Puts the page of an evaluation together: tables, plots, and every question as data for its script."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.evaluation.outcomes import MEANING
from p2r.evaluation.paper_results import rows_beside
from p2r.evaluation.summary import compared, grouped, summarize
from p2r.evaluation.tables import Grid, grids, interval, pairs_grid, percent, published_grid
from p2r.report.columns import Column, columns_of, outcome_counts, pairs, question_ids
from p2r.report.groups import by_category, by_evidence_size, by_iou
from p2r.report.html import filled, shown, table
from p2r.report.plots import accuracy_plot, split_plot
from p2r.report.questions import embedded
from p2r.report.thumbnails import Thumbnails, illustrated, thumbnails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from p2r.evaluation.folder import RunData
    from p2r.evaluation.records import Record
    from p2r.evaluation.tables import Summary


def build_page(
    runs: Sequence[RunData],
    *,
    data: str | None = None,
    on_image: Callable[[int, int], None] | None = None,
    on_trouble: Callable[[str], None] | None = None,
) -> str:
    """The whole page for one run, or for two that asked the same questions.

    Args:
        runs: one or two.
        data: where the benchmark is now, for the images; None for where it was.
        on_image: is told how many questions have their images, of those that get some.
        on_trouble: is told why there are no images.

    Raises:
        InputError: a run without answers, or two runs with different questions.
    """
    columns = columns_of(runs)
    names = question_ids(columns)
    summaries = {run.folder: summarize(run) for run in runs}
    images: dict[str, Thumbnails] = {}
    wanted = illustrated(columns, names)
    try:
        for name, made in thumbnails(columns, wanted, data):
            images[name] = made
            if on_image:
                on_image(len(images), len(wanted))
    except InputError as error:
        if on_trouble:
            on_trouble(f"no images: {error}")
    return filled(
        "page",
        kind="evaluation",
        items="questions",
        title=escape(_title(runs)),
        lead=_lead(columns, len(images)),
        cards="".join(
            _card(position, column, summaries[column.run.folder]) for position, column in enumerate(columns)
        ),
        tables="".join(table(grid) for grid in _grids(runs, columns, summaries)),
        plots="".join(_plots(columns)),
        provenance="".join(_provenance(run) for run in runs),
        data=embedded(columns, names, images),
    )


def _title(runs: Sequence[RunData]) -> str:
    benchmark = runs[0].config["identity"]["benchmark"]
    return f"{benchmark}: " + " against ".join(run.folder.resolve().name for run in runs)


def _lead(columns: Sequence[Column], images: int) -> str:
    identity = columns[0].run.config["identity"]
    asked = max(len(column.lines) for column in columns)
    models = dict.fromkeys(_models(column.run) for column in columns)
    made = datetime.now(UTC).strftime("%Y-%m-%d")
    whole = "" if asked == identity["questions"] else f" of {identity['questions']}"
    facts = [f"{asked}{whole} questions of {identity['benchmark']}", *models, f"page made {made}"]
    if 0 < images < asked:
        facts.append(f"images of {images} questions, those without a right answer first")
    return " · ".join(escape(fact) for fact in facts)


def _models(run: RunData) -> str:
    identity = run.config["identity"]
    if identity["reasoner"] == identity["model"]:
        return str(identity["model"])
    return f"{identity['model']} looks, {identity['reasoner']} reasons"


def _card(position: int, column: Column, summary: Summary) -> str:
    figures = summary["modes"][column.mode]
    details = [f"{figures['correct']} of {figures['n']} right"]
    details += [f"{figures[name]} {words}" for name, words in _WORTH_SAYING.items() if figures[name]]
    return (
        f'<article class="card series-{position}"><h3>{escape(column.label)}</h3>'
        f'<p class="big">{percent(figures["accuracy"])}<span> %</span></p>'
        f'<p class="interval">95 %: {interval(figures["ci95"])}</p>'
        f"<p>{escape(', '.join(details))}</p></article>"
    )


_WORTH_SAYING = {"no_answer": "without an answer", "malformed": "malformed", "failed": "failed"}


def _grids(
    runs: Sequence[RunData], columns: Sequence[Column], summaries: Mapping[Path, Summary]
) -> Iterator[Grid]:
    for run in runs:
        summary = summaries[run.folder]
        prefix = f"{run.folder.resolve().name}: " if len(runs) > 1 else ""
        for grid in grids(summary, run.config.get("layout", {})):
            if len(runs) == 1 or grid.title != "Paired differences":
                yield Grid(prefix + grid.title, grid.columns, grid.rows, grid.note)
        if rows_beside(summary["model"]):
            yield published_grid(summary)
    if len(runs) > 1:
        yield pairs_grid([_compared(a, b) for a, b in pairs(columns)])
        for first, second in pairs(columns):
            yield _pairs_by_category(first, second)


def _compared(first: Column, second: Column) -> dict[str, Any]:
    return compared(_answers(first), _answers(second), first.label, second.label)


def _answers(column: Column) -> list[Record]:
    return [line for line in column.lines.values() if "error" not in line]


def _pairs_by_category(first: Column, second: Column) -> Grid:
    groups = [grouped(_answers(column), lambda line: line["category"]) for column in (first, second)]
    rows = [
        {**compared(groups[0][name], groups[1][name], "", ""), "second": name or "other", "first": ""}
        for name in groups[0]
        if name in groups[1]
    ]
    grid = pairs_grid(rows)
    named = tuple((str(row["second"]), *cells[1:]) for row, cells in zip(rows, grid.rows, strict=True))
    return Grid(f"{second.label} − {first.label}, by category", ("category", *grid.columns[1:]), named)


def _plots(columns: Sequence[Column]) -> Iterator[str]:
    names = [column.label for column in columns]
    headings = columns[0].run.config.get("layout", {}).get("headings", {})
    yield accuracy_plot("Accuracy by category, with 95 % intervals", by_category(columns, headings), names)
    rows = [(column.label, outcome_counts(column)) for column in columns]
    yield split_plot("What became of the questions", rows, MEANING)
    sizes, fits = by_evidence_size(columns), by_iou(columns)
    if len(sizes) > 1:
        yield accuracy_plot("Accuracy by the side of the smallest evidence", sizes, names)
    if len(fits) > 1:
        yield accuracy_plot("Are good boxes worth it? Accuracy by IoU of the worst-fitting box", fits, names)


def _provenance(run: RunData) -> str:
    return shown(str(run.folder), json.dumps(run.config, indent=2, ensure_ascii=False))
