"""What people look at of a batch: its page, and figures of some rows."""

from __future__ import annotations

from array import array
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.datasets.questions import InvalidRow, QuestionSource
from p2r.errors import InputError
from p2r.evaluation.batch_results import CONFIG, RESULTS, asked, read_summary, row_key
from p2r.evaluation.tables import Grid, percent
from p2r.images import open_images
from p2r.report.evaluation import MOST_ILLUSTRATED, crop_images, crop_regions, prediction_data
from p2r.report.html import build, card, fitted
from p2r.report.plots import split_plot
from p2r.report.thumbnails import Thumbnails, evenly, thumbnails
from p2r.runs.files import read_run_file
from p2r.runs.journal import each_line
from p2r.types import Prediction
from p2r.visualization.figure import figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from p2r.images import ImageSource
    from p2r.report.html import Cut
    from p2r.types import AnswerType, Question

    Line = dict[str, Any]

MEANING = {
    "answered": "answered",
    "no_answer": "the reply names no answer",
    "failed": "the row, the image or a call failed; nothing was answered",
}
_MOST_ANSWERS = 20  # in the table


def build_batch_page(
    out: Path,
    *,
    data: str | None = None,
    on_image: Callable[[int, int], None] | None = None,
    on_trouble: Callable[[str], None] | None = None,
) -> str:
    """The page of a batch: counts, and some rows with their images, those without an answer first.

    Args:
        out: the run folder.
        data: where the questions are now, for the images; None for where they were.
        on_image: called with the number of images that are done, and of all.
        on_trouble: called with the reason when there are no images.

    Raises:
        InputError: it is no run folder of a batch, or holds no lines yet.
    """
    config, summary = read_run_file(out / CONFIG, "p2r batch"), read_summary(out)
    lines = {row_key(line): line for line in chosen(out, MOST_ILLUSTRATED)}
    if not lines:
        raise InputError(f"{out} holds no answers yet")
    predictions = {key: Prediction.from_json(line) for key, line in lines.items()}
    regions = {
        (key, image): rects
        for key, prediction in predictions.items()
        for image, rects in crop_regions([prediction]).items()
    }
    images: dict[tuple[int, int], Thumbnails] = {}
    try:
        source = _source(**{**config["source"], "path": data or config["source"]["path"]})
        loaders = (
            ((key, image), partial(_image, question, image))
            for key, question in questions_of(source, lines.values())
            for image in crop_regions([predictions[key]])
        )
        images = thumbnails(loaders, regions, on_image)
    except InputError as error:
        if on_trouble:
            on_trouble(f"no images: {error}")
    counts = {name: getattr(summary, name) for name in MEANING}
    done = sum(counts.values())
    kinds = ", ".join(f"{count:,} failed ({kind})" for kind, count in summary.failures.items())
    facts = [f"{done:,} of {summary.rows:,} rows of {config['source']['path']}", summary.model]
    facts += [f"{len(lines)} of them below, those without an answer first"] if len(lines) < done else []
    return build(
        "page",
        kind="batch",
        items="questions",
        title=out.resolve().name,
        facts=facts,
        cards=[card(0, "answered", percent(summary.answered / done), [f"{summary.answered:,} rows"], kinds)],
        plots=[split_plot("Rows by status", [(summary.mode, counts)], MEANING)],
        tables=list(_tables(summary.to_json(), done)),
        provenance={str(out): config},
        data={
            "columns": [summary.mode],
            "pairs": [],
            "meaning": MEANING,
            "questions": _rows(lines, predictions, images),
        },
    )


def _tables(summary: dict[str, Any], done: int) -> Iterator[Grid]:
    tokens = [summary[name] / done for name in ("prompt_tokens", "completion_tokens", "calls")]
    cells = (summary["mode"], *(f"{summary[name]:,}" for name in ("rows", *MEANING)))
    columns = ("mode", "rows", "answered", "no answer", "failed")
    costs = ("prompt tokens / row", "completion tokens / row", "calls / row")
    yield Grid("Rows", (*columns, *costs), ((*cells, *(f"{value:,.1f}" for value in tokens)),))
    answers = list(summary["answers"].items())[:_MOST_ANSWERS]
    rows = tuple((text, f"{count:,}", percent(count / done)) for text, count in answers)
    yield Grid("The most frequent answers", ("answer", "rows", "% of the rows"), rows)


def _rows(
    lines: dict[int, Line], predictions: dict[int, Prediction], images: dict[tuple[int, int], Thumbnails]
) -> list[dict[str, Any]]:
    rows = fitted(lambda cut: [_row(line, predictions[key], cut) for key, line in lines.items()])
    made: dict[int, dict[int, Thumbnails]] = defaultdict(dict)
    for (key, image), thumbnail in sorted(images.items()):
        made[key][image] = thumbnail
    for row, key in zip(rows, lines, strict=True):
        row["images"] = [[image, one.overview] for image, one in made[key].items()]
        row["answers"][0]["crops"] = crop_images(predictions[key], made[key])
    return rows


def _row(line: Line, prediction: Prediction, cut: Cut) -> dict[str, Any]:
    answer = {"outcome": line["status"], "error": cut(line["error"])}
    return {
        **{name: line[name] for name in ("id", "question", "choices")},
        "category": line["failure"],
        "count": 1 + max((box.image for box in prediction.boxes), default=0),
        "answers": [prediction_data(prediction, cut) | answer],
    }


def _image(question: Question, index: int) -> ImageSource:
    return open_images(question.images)[index]


def write_figures(out: Path, source: QuestionSource, most: int) -> Path:
    """Draw `most` rows, evenly from the first to the last, as `RUN/figures/ROW.webp`; returns the folder.

    Raises:
        InputError: a figure cannot be written.
    """
    folder = out / "figures"
    folder.mkdir(exist_ok=True)
    lines = {row_key(line): line for line in chosen(out, most, failed=False)}
    for key, question in questions_of(source, lines.values()):
        path = folder / f"{lines[key]['row']}.webp"
        figure(Prediction.from_json(lines[key]), question, path)
    return folder


def _source(path: str, text: str, choices: list[str], answer_type: AnswerType | None) -> QuestionSource:
    return QuestionSource(Path(path), text, tuple(choices), answer_type)


def chosen(out: Path, most: int, *, failed: bool = True) -> list[Line]:
    """At most `most` lines, evenly from the first to the last; at most half of them are without an answer.

    Args:
        out: the run folder.
        most: how many.
        failed: whether lines of status `failed` may be among them.
    """
    places: dict[bool, array[int]] = {True: array("Q"), False: array("Q")}
    for place, line in enumerate(each_line(out / RESULTS)):
        if failed or line["status"] != "failed":
            places[line["status"] == "answered"].append(place)
    without = evenly(places[False], max(most // 2, most - len(places[True])))
    wanted = {*without, *evenly(places[True], most - len(without))}
    found = [line for place, line in enumerate(each_line(out / RESULTS)) if place in wanted]
    return sorted(found, key=lambda line: (line["status"] == "answered", line["row"]))


def questions_of(source: QuestionSource, lines: Iterable[Line]) -> Iterator[tuple[int, Question]]:
    """The key and the question of each line whose row is still in the source.

    Raises:
        InputError: the source cannot be read.
    """
    wanted = {row_key(line) for line in lines}
    for number, question in source.questions():
        key = row_key(asked(number, question, source.root))
        if key in wanted:
            wanted.remove(key)
            if not isinstance(question, InvalidRow):
                yield key, question
        if not wanted:
            return
