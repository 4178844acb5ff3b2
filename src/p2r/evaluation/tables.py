"""The figures of a summary as tables of texts, which the command line and the report show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2r.evaluation.outcomes import MEANING, OUTCOMES
from p2r.evaluation.paper_results import ROWS, rows_beside

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Summary = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts.

    Attributes:
        title: what it shows.
        columns: headings; the first column holds the names of the rows.
        rows: as many cells as there are headings.
        note: what a reader must know.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def grids(summary: Summary, layout: Mapping[str, Any]) -> Iterator[Grid]:
    """All tables of a run, in reading order.

    Args:
        summary: from `summarize`.
        layout: the benchmark's layout, from the run's config.
    """
    yield modes_grid(summary)
    yield paper_grid(summary, layout)
    yield from _breakdown_grids(summary, layout)
    if summary["pairs"]:
        yield pairs_grid(summary["pairs"])
    yield split_grid(summary)
    if any(figures["localization"] for figures in summary["modes"].values()):
        yield localization_grid(summary)


def modes_grid(summary: Summary) -> Grid:
    """The headline: one row a mode."""
    columns = (
        "mode",
        "questions",
        "correct",
        "accuracy",
        "95 % interval",
        "failed",
        "no answer",
        "malformed",
        "boxes",
        "tokens / question",
        "latency (s)",
        "questions / s",
    )
    rows = []
    for mode, figures in summary["modes"].items():
        rows.append(
            (
                mode,
                f"{figures['n']}",
                f"{figures['correct']}",
                percent(figures["accuracy"]),
                interval(figures["ci95"]),
                f"{figures['failed']}",
                f"{figures['no_answer']}",
                f"{figures['malformed']}" if mode == "p2r" else "",
                number(figures["mean_boxes"], 2),
                number(figures["tokens_per_question"], 0),
                number(figures["seconds_per_question"], 2),
                number(figures["questions_per_second"], 2),
            )
        )
    notes = []
    answered = any(figures["seconds_per_question"] is not None for figures in summary["modes"].values())
    if answered and (in_flight := summary["concurrency"]) > 1:
        notes.append(
            f"Latency is the mean time from question to answer with {in_flight} questions in flight: it "
            "includes waiting for the model."
        )
    if not summary["complete"]:
        notes.append(f"The run is not complete: {summary['questions']} questions were chosen.")
    if unreadable := summary.get("unreadable"):
        shown = ", ".join(row["row"] for row in unreadable[:9]) + (", …" if len(unreadable) > 9 else "")
        notes.append(f"Rows that could not be read and were not asked: {len(unreadable)} ({shown}).")
    unscored = {
        mode: figures["unscored"] for mode, figures in summary["modes"].items() if figures["unscored"]
    }
    notes += [f"{count} answers in mode {mode} could not be scored." for mode, count in unscored.items()]
    for mode, figures in summary["modes"].items():
        if figures["ci95_clustered"]:
            wide = interval(figures["ci95_clustered"])
            notes.append(
                f"Rotations of one question go together; with that, the interval of {mode} is {wide}."
            )
    return Grid(f"Accuracy on {summary['benchmark']}", columns, tuple(rows), " ".join(notes))


def paper_grid(summary: Summary, layout: Mapping[str, Any]) -> Grid:
    """Accuracy by category, laid out as the benchmark's own table: one row a mode."""
    known = dict(layout.get("headings", {}))
    found = sorted({name for figures in summary["modes"].values() for name in figures["categories"]})
    order = [name for name in known if name in found] + [name for name in found if name not in known]
    section = layout.get("sections") or ""
    columns: list[tuple[str, str, str]] = []  # heading, where to look, under which name
    if section:
        values = sorted({v for f in summary["modes"].values() for v in f["breakdowns"].get(section, {})})
        for value in values:
            columns += [(name, "", name) for name in order if name.partition("/")[0] == value]
            columns.append((f"{value} average", section, value))
    else:
        columns = [(known.get(name, name), "", name) for name in order]
    rows = []
    for mode, figures in summary["modes"].items():
        cells = [
            (figures["breakdowns"].get(tag, {}) if tag else figures["categories"]).get(name)
            for _, tag, name in columns
        ]
        shares = [percent(cell["accuracy"]) if cell else "" for cell in cells]
        rows.append((mode, *shares, percent(figures["accuracy"])))
    headings = ("mode", *(heading for heading, _, _ in columns), "Overall")
    return Grid("By category", headings, tuple(rows))


def _breakdown_grids(summary: Summary, layout: Mapping[str, Any]) -> Iterator[Grid]:
    for tag in layout.get("breakdowns", ()):
        values = sorted({v for f in summary["modes"].values() for v in f["breakdowns"].get(tag, {})})
        if not values:
            continue
        rows = []
        for mode, figures in summary["modes"].items():
            cells = [figures["breakdowns"][tag].get(value) for value in values]
            shares = [cell["accuracy"] for cell in cells if cell]
            mean = percent(sum(shares) / len(shares)) if shares else ""
            rows.append((mode, *(percent(cell["accuracy"]) if cell else "" for cell in cells), mean))
        yield Grid(f"By {tag}", ("mode", *values, "Mean"), tuple(rows))


def pairs_grid(pairs: Sequence[Mapping[str, Any]]) -> Grid:
    """Paired differences: is the second better than the first, on the same questions?"""
    rows = tuple(
        (
            f"{pair['second']} − {pair['first']}",
            f"{pair['n']}",
            f"{pair['only_second']}",
            f"{pair['only_first']}",
            points(pair["difference"]),
            f"{points(pair['ci95'][0])} to {points(pair['ci95'][1])}",
            p_value(pair["p"]),
        )
        for pair in pairs
    )
    columns = ("", "questions", "gained", "lost", "difference", "95 % interval", "McNemar p")
    note = "In points, on the questions that both answered. Interval: Tango's score interval. p: exact."
    return Grid("Paired differences", columns, rows, note)


def split_grid(summary: Summary) -> Grid:
    """Where the failures come from: one row an outcome."""
    modes = summary["modes"]
    rows = tuple(
        (MEANING[name], *(str(figures["split"][name]) for figures in modes.values()))
        for name in OUTCOMES
        if any(figures["split"][name] for figures in modes.values())
    )
    return Grid("What became of the questions", ("", *modes), rows)


def localization_grid(summary: Summary) -> Grid:
    """How well the perceiver found the evidence."""
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
            f"{found['questions']}",
            percent(found["complete"]),
            interval(found["complete_ci95"]),
            percent(found["recall"]),
            percent(found["covered"]),
            percent(found["miou"]),
        )
        for mode, figures in summary["modes"].items()
        if (found := figures["localization"])
    )
    note = "Over answered questions with gold boxes. A box is found when its center lies inside a crop."
    return Grid("Localisation", columns, rows, note)


def published_grid(summary: Summary) -> Grid:
    """This run beside the paper's rows of the same model, or beside all rows where it has none."""
    name = summary["benchmark"]
    own = rows_beside(summary["model"])
    rows = [
        (f"this run, {mode}", percent(figures["accuracy"]), interval(figures["ci95"]))
        for mode, figures in summary["modes"].items()
    ]
    rows += [
        (
            f"paper, {row.model}" + (" (P2R + PRA-GRPO)" if row.trained else ""),
            f"{row.accuracy[name]:.1f}",
            "",
        )
        for row in own or ROWS
        if name in row.accuracy
    ]
    note = ""
    if name not in ROWS[0].accuracy:
        note = f"The paper has no figure for {name}."
    elif not own:
        note = f"The paper has no row for {summary['model']}; these are all of its rows."
    return Grid("Beside the paper", ("", "accuracy", "95 % interval"), tuple(rows), note)


def percent(share: float) -> str:
    """0.6124 → `61.2`."""
    return f"{100 * share:.1f}"


def interval(ci95: Sequence[float]) -> str:
    """An interval of shares in percent."""
    return f"{100 * ci95[0]:.1f}–{100 * ci95[1]:.1f}"


def points(difference: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def p_value(p: float) -> str:
    """A p value that does not pretend."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def number(value: float | None, digits: int) -> str:
    """A number, or nothing where there is none."""
    return "" if value is None else f"{value:,.{digits}f}"
