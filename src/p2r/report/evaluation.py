"""The page of an evaluation: tables, plots, and every question as data for its script."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.benchmarks.base import select
from p2r.evaluation.paper_results import rows_beside
from p2r.evaluation.records import MEANING, AnswerRecord
from p2r.evaluation.statistics import wilson
from p2r.evaluation.summary import Pair, grouped, summarize
from p2r.evaluation.tables import grids, interval, pairs_grid, paper_grid, percent
from p2r.images import open_images
from p2r.report.html import build, card, fitted
from p2r.report.plots import Point, accuracy_plot, split_plot
from p2r.report.thumbnails import Thumbnails, evenly, thumbnails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from p2r.evaluation.records import Record, RunData
    from p2r.evaluation.summary import Key, Summary
    from p2r.evaluation.tables import Grid
    from p2r.images import ImageInput
    from p2r.report.html import Cut
    from p2r.types import Box, Mode, Prediction, RectPx, Sample

    ImageKey = tuple[str, int]  # of a question: its id, and the index of the image

MOST_ILLUSTRATED = 400  # questions with images: with more of them each would be too small to see anything
# Sides of the evidence as a share of the image's, and IoU: where the bins begin and end.
SIZE_BINS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 1.01)
IOU_BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 1.01)


@dataclass(frozen=True, slots=True)
class Column:
    """What the report shows side by side: one run in one mode."""

    label: str
    run: RunData
    mode: Mode
    records: Mapping[str, Record]  # id → the question's answer, or its failure


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
        on_image: called with the number of images that are done, and of all.
        on_trouble: called with the reason when there are no images.

    Raises:
        InputError: a run without answers, or two runs with different questions.
    """
    columns = _columns(runs)
    # In natural order: q2 before q10.
    names = sorted({name for column in columns for name in column.records}, key=_natural)
    summaries = {run.folder: summarize(run) for run in runs}
    regions = {
        (name, image): rects
        for name in illustrated(columns, names)
        for image, rects in _regions(columns, name).items()
    }
    images: dict[ImageKey, Thumbnails] = {}
    try:
        images = thumbnails(_loaders(columns[0].run, data, regions), regions, on_image)
    except InputError as error:
        if on_trouble:
            on_trouble(f"no images: {error}")
    return build(
        "page",
        kind="evaluation",
        items="questions",
        title=f"{runs[0].config.identity.benchmark}: "
        + " against ".join(run.folder.resolve().name for run in runs),
        facts=_facts(columns, len({name for name, _ in images})),
        cards=[_card(series, column, summaries[column.run.folder]) for series, column in enumerate(columns)],
        plots=_plots(columns),
        tables=_grids(runs, columns, summaries),
        provenance={str(run.folder): asdict(run.config) for run in runs},
        data={
            "columns": [column.label for column in columns],
            "pairs": [[columns.index(first), columns.index(second)] for first, second in _pairs(columns)],
            "meaning": MEANING,
            "questions": _questions(columns, names, images),
        },
    )


def _columns(runs: Sequence[RunData]) -> list[Column]:
    names = [run.folder.resolve().name for run in runs]
    if len(set(names)) < len(runs):
        names = [str(run.folder) for run in runs]
    columns = []
    for run, name in zip(runs, names, strict=True):
        if not run.modes:
            raise InputError(f"{run.folder} holds no answers yet")
        for mode in run.modes:
            label = f"{name} · {mode}" if len(runs) > 1 else mode
            columns.append(Column(label, run, mode, {record.id: record for record in run.records(mode)}))
    asked = [f"{run.config.identity.benchmark} {run.config.identity.data}" for run in runs]
    if len(set(asked)) > 1:
        raise InputError(
            f"{runs[0].folder} and {runs[1].folder} asked different questions: {' and '.join(asked)}"
        )
    return columns


def _natural(name: str) -> list[tuple[int, int, str]]:
    pieces = re.split(r"(\d+)", name)
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces if piece]


def _pairs(columns: Sequence[Column]) -> list[tuple[Column, Column]]:
    """What is compared: modes within a run; the same mode, or else everything, between two."""
    first = [column for column in columns if column.run is columns[0].run]
    second = [column for column in columns if column.run is not columns[0].run]
    if not second:
        return list(itertools.combinations(reversed(columns), 2))
    every = [(a, b) for a in first for b in second]
    return [(a, b) for a, b in every if a.mode == b.mode] or every


# Text, cards and tables.


def _facts(columns: Sequence[Column], images: int) -> Iterator[str]:
    identity = columns[0].run.config.identity
    asked = max(len(column.records) for column in columns)
    whole = "" if asked == identity.questions else f" of {identity.questions}"
    yield f"{asked}{whole} questions of {identity.benchmark}"
    identities = [column.run.config.identity for column in columns]
    for model, reasoner in dict.fromkeys((one.model, one.reasoner) for one in identities):
        yield model if reasoner == model else f"{model} perceives, {reasoner} reasons"
    if 0 < images < asked:
        yield f"images of {images} questions, those without a right answer first"


def _card(series: int, column: Column, summary: Summary) -> str:
    figures = summary.modes[column.mode]
    total = figures.total
    counts = {
        "without an answer": figures.no_answer,
        "malformed": figures.malformed,
        "failed": total.failed,
    }
    details = [f"{total.correct} of {total.n} right"]
    details += [f"{count} {words}" for words, count in counts.items() if count]
    if column.mode == "p2r":
        details += [
            f"{percent(found.share_survived)} % of the right ones survive {name}"
            for name, found in summary.controls.items()
            if found.share_survived is not None
        ]
    return card(
        series, column.label, percent(total.accuracy), [f"95 %: {interval(total.ci95)}"], ", ".join(details)
    )


def _grids(
    runs: Sequence[RunData], columns: Sequence[Column], summaries: Mapping[Path, Summary]
) -> Iterator[Grid]:
    for run in runs:
        summary = summaries[run.folder]
        for grid in grids(summary, run.config.layout):
            if len(runs) == 1:
                yield grid
            elif grid.title != "Paired differences":
                yield replace(grid, title=f"{run.folder.resolve().name}: {grid.title}")
        if rows_beside(summary.model):
            yield paper_grid(summary)
    if len(runs) > 1:
        compared = _pairs(columns)
        yield pairs_grid([Pair.of(_answers(a), _answers(b), (a.label, b.label)) for a, b in compared])
        for a, b in compared:
            x, y = (grouped(_answers(column), lambda record: record.category) for column in (a, b))
            rows = [Pair.of(x[name], y[name], ("", name or "other")) for name in x if name in y]
            title = f"{b.label} − {a.label}, by category"
            grid = pairs_grid(rows)
            yield replace(grid, title=title, columns=("category", *grid.columns[1:]), note="")


def _answers(column: Column) -> list[AnswerRecord]:
    return [record for record in column.records.values() if isinstance(record, AnswerRecord)]


# Plots.


def _plots(columns: Sequence[Column]) -> Iterator[str]:
    names = [column.label for column in columns]
    categories = by_category(columns, columns[0].run.config.layout.headings)
    yield accuracy_plot("Accuracy by category, with 95 % intervals", categories, names)
    counts: list[tuple[str, Counter[str]]] = [
        (column.label, Counter(record.outcome for record in column.records.values())) for column in columns
    ]
    yield split_plot("Outcomes of the questions", counts, MEANING)
    sizes = _binned(columns, _evidence_side, SIZE_BINS, _size_label)
    if len(sizes) > 1:
        yield accuracy_plot("Accuracy by the side of the smallest evidence", sizes, names)
    fits = _binned(columns, _iou, IOU_BINS, lambda low, high: f"IoU {low:g}–{min(high, 1):g}")
    if len(fits) > 1:
        yield accuracy_plot("Accuracy by IoU of the worst-fitting box", fits, names)


Groups = list[tuple[str, list[Point]]]


def by_category(columns: Sequence[Column], headings: Mapping[str, str]) -> Groups:
    """Accuracy of each category, then of everything."""
    found = _points(columns, lambda record: record.category)
    order = [name for name in headings if name in found] + [name for name in found if name not in headings]
    groups = [(headings.get(name, name) or "other", found[name]) for name in order]
    whole = ("All", _points(columns, lambda _: 0)[0])
    return [*groups, whole] if len(groups) > 1 else [whole]


def _binned(
    columns: Sequence[Column],
    measure: Callable[[Record], float | None],
    edges: Sequence[float],
    label: Callable[[float, float], str],
) -> Groups:
    def bin_of(record: Record) -> int | None:
        value = measure(record)
        return None if value is None else bisect_right(edges, value) - 1

    return [(label(*edges[at : at + 2]), points) for at, points in _points(columns, bin_of).items()]


def _points(columns: Sequence[Column], key: Callable[[Record], Key | None]) -> dict[Key, list[Point]]:
    """For each value of `key`, in order: the accuracy of each column that has records with it."""
    found: dict[Key, list[Point]] = defaultdict(list)
    for series, column in enumerate(columns):
        for value, records in grouped(column.records.values(), key).items():
            correct = sum(record.correct for record in records)
            share = correct / len(records)
            found[value].append(Point(series, share, *wilson(correct, len(records)), len(records)))
    return dict(sorted(found.items()))


def _evidence_side(record: Record) -> float | None:
    """The side of the smallest gold box, as a share of the image's."""
    boxes = record.gold_boxes if isinstance(record, AnswerRecord) else None
    return min(box.area**0.5 for box in boxes) if boxes else None


def _iou(record: Record) -> float | None:
    found = record.localization
    return min(found.iou) if found and found.iou else None


def _size_label(low: float, high: float) -> str:
    if low == 0:
        bin_ = f"under {100 * high:g}"
    else:
        bin_ = f"over {100 * low:g}" if high > 1 else f"{100 * low:g}–{100 * high:g}"
    return f"{bin_} % of the image's side"


# Questions and their images.


def illustrated(columns: Sequence[Column], names: Sequence[str]) -> list[str]:
    """The questions that get thumbnails: all, or of very many some, evenly, those that went wrong first."""
    found: dict[bool, list[str]] = {False: [], True: []}
    for name in names:
        found[all(column.records[name].correct for column in columns if name in column.records)].append(name)
    first = evenly(found[False], MOST_ILLUSTRATED)
    return [*first, *evenly(found[True], MOST_ILLUSTRATED - len(first))]


def _regions(columns: Sequence[Column], name: str) -> dict[int, set[RectPx]]:
    """The crops of each image of a question that has any, or a gold box; else of the first image.

    Two modes, or two runs, often cut the same one.
    """
    found = [column.records.get(name) for column in columns]
    answered = [record for record in found if isinstance(record, AnswerRecord)]
    gold = [box for record in answered for box in record.gold_boxes or ()]
    return crop_regions([record.prediction for record in answered], gold)


def crop_regions(predictions: Iterable[Prediction], boxes: Iterable[Box] = ()) -> dict[int, set[RectPx]]:
    """The crops of each image in which something was found, or that has one of `boxes`; else of the first."""
    regions: dict[int, set[RectPx]] = {box.image: set() for box in boxes}
    for prediction in predictions:
        for box in prediction.boxes:
            regions.setdefault(box.image, set())
        for box, rect in zip(prediction.boxes, prediction.crops_px, strict=False):
            regions[box.image].add(rect)
    return regions or {0: set()}


def _loaders(
    run: RunData, data: str | None, wanted: Mapping[ImageKey, Any]
) -> Iterator[tuple[ImageKey, Callable[[], ImageInput]]]:
    opening = run.config.opening
    if not opening:
        raise InputError("the run does not say how its benchmark was opened")
    benchmark = open_benchmark(**{**opening, "data": data or opening["data"]})
    selection = select(benchmark)
    if selection.fingerprint != run.config.identity.data:
        raise InputError(f"{benchmark.source} holds other questions than the run asked")
    images: dict[str, list[int]] = defaultdict(list)
    for name, image in wanted:
        images[name].append(image)
    for entry, load in selection.tasks(skip=lambda name: name not in images):
        for image in images[entry.id]:
            yield (entry.id, image), partial(_image, load, image)


def _image(load: Callable[[], Sample], index: int) -> ImageInput:
    return open_images(load().question.images)[index]


def _questions(
    columns: Sequence[Column], names: Sequence[str], images: Mapping[ImageKey, Thumbnails]
) -> list[dict[str, Any]]:
    """Every question as data: what was asked, and what each column saw and answered."""
    questions = fitted(lambda cut: [_question(name, columns, cut) for name in names])
    made: dict[str, dict[int, Thumbnails]] = defaultdict(dict)
    for (name, image), thumbnail in sorted(images.items(), key=lambda item: item[0]):
        made[name][image] = thumbnail
    for question in questions:
        if own := made.get(question["id"]):
            question["images"] = [[image, one.overview] for image, one in own.items()]
            for column, answer in zip(columns, question["answers"], strict=True):
                record = column.records.get(question["id"])
                if isinstance(record, AnswerRecord):
                    answer["crops"] = crop_images(record.prediction, own)
    return questions


def crop_images(prediction: Prediction, images: Mapping[int, Thumbnails]) -> list[str]:
    """The crops of a prediction as data URIs; empty where an image could not be read."""
    cut = zip(prediction.boxes, prediction.crops_px, strict=False)
    return [images[box.image].crops[rect] if box.image in images else "" for box, rect in cut]


def _question(name: str, columns: Sequence[Column], cut: Cut) -> dict[str, Any]:
    records = [column.records.get(name) for column in columns]
    known = next(record for record in records if record)
    answered = next((record for record in records if isinstance(record, AnswerRecord)), None)
    boxes = answered.gold_boxes if answered else None
    return {
        "id": name,
        "question": known.question,
        "choices": known.choices,
        "category": known.category,
        "gold": answered and answered.gold,
        "goldBoxes": None if boxes is None else [_box(box, "") for box in boxes],
        "size": answered and answered.size,
        "count": 1 + len(answered.others) if answered else 1,
        "images": [],
        "answers": [record and _answer(record, cut) for record in records],
    }


def _box(box: Box, label: str | None) -> list[Any]:
    return [*box.as_tuple(), label, box.image]


def _answer(record: Record, cut: Cut) -> dict[str, Any]:
    if not isinstance(record, AnswerRecord):
        return {"outcome": "failed", "error": cut(record.error), "boxes": [], "crops": []}
    return {
        **prediction_data(record.prediction, cut),
        "outcome": record.outcome,
        "why": record.score.reason,
    }


def prediction_data(prediction: Prediction, cut: Cut) -> dict[str, Any]:
    """What the page shows of a prediction."""
    perception = prediction.perception
    return {
        "answer": cut(prediction.answer),
        "boxes": [_box(box, cut(box.label)) for box in prediction.boxes],
        "crops": [],
        "perception": cut(perception.text) if perception else None,
        "looks": [
            {"region": look.region.as_tuple(), "parent": look.parent, "text": cut(look.text)}
            for look in prediction.looks
        ],
        "stopped": prediction.stopped,
        "dropped": [cut(warning) for warning in perception.warnings] if perception else [],
        "text": cut(prediction.text),
        "tokens": prediction.usage.prompt_tokens + prediction.usage.completion_tokens,
        "seconds": round(prediction.seconds.get("total", 0.0), 2),
        "notes": prediction.notes,
    }
