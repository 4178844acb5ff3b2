"""The figures of a summary as tables of texts, which the command line and the report show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.evaluation.paper_results import ROWS, rows_beside
from p2r.evaluation.records import MEANING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.evaluation.benchmarks.base import Layout
    from p2r.evaluation.summary import Accuracy, Pair, Summary


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts."""

    title: str
    columns: tuple[str, ...]  # headings; the first column holds the names of the rows
    rows: tuple[tuple[str, ...], ...]
    note: str = ""  # an explanation for the reader


def grids(summary: Summary, layout: Layout) -> Iterator[Grid]:
    """All tables of a run, in reading order."""
    yield modes_grid(summary)
    if summary.controls:
        yield _controls_grid(summary)
    yield category_grid(summary, layout)
    yield from _breakdown_grids(summary, layout)
    if summary.pairs:
        yield pairs_grid(summary.pairs)
    yield _split_grid(summary)
    if any(figures.localization for figures in summary.modes.values()):
        yield _localization_grid(summary)


def modes_grid(summary: Summary) -> Grid:
    """The headline: one row a mode."""
    columns = (
        *("mode", "questions", "correct", "accuracy", "95 % interval", "failed", "no answer", "malformed"),
        *("boxes", "tokens / question", "latency (s)", "questions / s"),
    )
    rows = tuple(
        (
            mode,
            f"{figures.total.n}",
            f"{figures.total.correct}",
            percent(figures.total.accuracy),
            interval(figures.total.ci95),
            f"{figures.total.failed}",
            f"{figures.no_answer}",
            f"{figures.malformed}" if mode == "p2r" else "",
            _number(figures.mean_boxes, 2),
            _number(figures.tokens_per_question, 0),
            _number(figures.seconds_per_question, 2),
            _number(figures.questions_per_second, 2),
        )
        for mode, figures in summary.modes.items()
    )
    return Grid(f"Accuracy on {summary.benchmark}", columns, rows, " ".join(_notes(summary)))


def _notes(summary: Summary) -> Iterator[str]:
    answered = any(figures.seconds_per_question is not None for figures in summary.modes.values())
    if answered and summary.concurrency > 1:
        yield (
            f"Latency is the mean time from question to answer with {summary.concurrency} questions in "
            "flight: it includes waiting for the model."
        )
    if not summary.complete:
        yield f"The run is not complete: {summary.questions} questions were chosen."
    if rows := summary.unreadable:
        shown = ", ".join(row.row for row in rows[:9]) + (", …" if len(rows) > 9 else "")
        yield f"Rows that could not be read and were not asked: {len(rows)} ({shown})."
    for mode, figures in summary.modes.items():
        if figures.unscored:
            yield f"{figures.unscored} answers in mode {mode} could not be scored."
    for mode, figures in summary.modes.items():
        if figures.ci95_clustered:
            wide = interval(figures.ci95_clustered)
            yield (
                f"Rotations of one question are not independent; with that, the interval of {mode} is {wide}."
            )


def _controls_grid(summary: Summary) -> Grid:
    columns = (
        *("control", "questions", "right with evidence", "right without", "right answers that survive"),
        *("95 % interval", "by guessing", "mode think"),
    )
    rows = tuple(
        (
            name,
            f"{figures.n}",
            percent(figures.correct / figures.n) if figures.n else "",
            percent(figures.correct_without / figures.n) if figures.n else "",
            "" if figures.share_survived is None else percent(figures.share_survived),
            interval(figures.ci95),
            percent(figures.guessing),
            "" if figures.think is None else percent(figures.think),
        )
        for name, figures in summary.controls.items()
    )
    note = (
        "In percent, on the questions with boxes, asked about the same boxes with and without what they show."
    )
    return Grid("Without the evidence", columns, rows, note)


def category_grid(summary: Summary, layout: Layout) -> Grid:
    """Accuracy by category, in the layout of the benchmark's own table: one row a mode."""
    found = {name for figures in summary.modes.values() for name in figures.categories}
    order = [name for name in layout.headings if name in found] + sorted(found - layout.headings.keys())
    sections = _values(summary, layout.sections)
    columns = [(layout.headings.get(name, name), "", name) for name in order]  # heading, tag, value
    if layout.sections:
        columns = []
        for value in sections:
            columns += [(name, "", name) for name in order if name.partition("/")[0] == value]
            columns.append((f"{value} average", layout.sections, value))
    rows = []
    for mode, figures in summary.modes.items():
        found_by = {"": figures.categories, **figures.breakdowns}
        shares = (_share(found_by[tag].get(name)) for _, tag, name in columns)
        rows.append((mode, *shares, percent(figures.total.accuracy)))
    headings = ("mode", *(heading for heading, _, _ in columns), "Overall")
    return Grid("By category", headings, tuple(rows))


def _breakdown_grids(summary: Summary, layout: Layout) -> Iterator[Grid]:
    for tag in layout.breakdowns:
        if values := _values(summary, tag):
            rows = []
            for mode, figures in summary.modes.items():
                cells = [figures.breakdowns[tag].get(value) for value in values]
                shares = [cell.accuracy for cell in cells if cell]
                mean = percent(sum(shares) / len(shares)) if shares else ""
                rows.append((mode, *map(_share, cells), mean))
            yield Grid(f"By {tag}", ("mode", *values, "Mean"), tuple(rows))


def _values(summary: Summary, tag: str) -> list[str]:
    return sorted({value for figures in summary.modes.values() for value in figures.breakdowns.get(tag, ())})


def pairs_grid(pairs: Sequence[Pair]) -> Grid:
    """Paired differences: is the second better than the first, on the same questions?"""
    columns = ("", "questions", "gained", "lost", "difference", "95 % interval", "McNemar p")
    rows = tuple(
        (
            f"{pair.second} − {pair.first}" if pair.first else pair.second,
            f"{pair.n}",
            f"{pair.only_second}",
            f"{pair.only_first}",
            _points(pair.difference),
            f"{_points(pair.ci95[0])} to {_points(pair.ci95[1])}",
            "< 0.0001" if pair.p < 0.0001 else f"{pair.p:.4f}",
        )
        for pair in pairs
    )
    note = "In points, on the questions that both answered. Interval: Tango's score interval. p: exact."
    return Grid("Paired differences", columns, rows, note)


def _split_grid(summary: Summary) -> Grid:
    counts = {name: [figures.split[name] for figures in summary.modes.values()] for name in MEANING}
    rows = tuple((MEANING[name], *map(str, found)) for name, found in counts.items() if any(found))
    return Grid("Outcomes of the questions", ("", *summary.modes), rows)


def _localization_grid(summary: Summary) -> Grid:
    columns = (
        "mode",
        "questions",
        "evidence in crops",
        "95 % interval",
        "recall of boxes",
        "area covered",
        "mIoU",
    )
    rows = tuple(
        (
            mode,
            f"{found.questions}",
            percent(found.complete),
            interval(found.complete_ci95),
            percent(found.recall),
            percent(found.covered),
            percent(found.miou),
        )
        for mode, figures in summary.modes.items()
        if (found := figures.localization)
    )
    note = "Over answered questions with gold boxes. A box is found when its center lies inside a crop."
    return Grid("Localization", columns, rows, note)


def paper_grid(summary: Summary) -> Grid:
    """This run beside the paper's rows of the same model, or beside all rows where it has none."""
    name = summary.benchmark
    own = rows_beside(summary.model)
    rows = [
        (f"this run, {mode}", percent(figures.total.accuracy), interval(figures.total.ci95))
        for mode, figures in summary.modes.items()
    ]
    rows += [
        (f"paper, {row.model}{' (P2R + PRA-GRPO)' if row.trained else ''}", f"{row.accuracy[name]:.1f}", "")
        for row in own or ROWS
        if name in row.accuracy
    ]
    note = ""
    if name not in ROWS[0].accuracy:
        note = f"The paper has no figure for {name}."
    elif not own:
        note = f"The paper has no row for {summary.model}; these are all of its rows."
    return Grid("Beside the paper", ("", "accuracy", "95 % interval"), tuple(rows), note)


def percent(share: float) -> str:
    """0.6124 → `61.2`."""
    return f"{100 * share:.1f}"


def interval(ci95: Sequence[float]) -> str:
    """An interval of shares in percent."""
    return f"{percent(ci95[0])}–{percent(ci95[1])}"


def _share(accuracy: Accuracy | None) -> str:
    return percent(accuracy.accuracy) if accuracy else ""


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
