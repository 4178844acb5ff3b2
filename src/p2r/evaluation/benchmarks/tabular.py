"""Benchmarks that are released as tables, and how a row of each is read.

V*: `image`, `text` (question, options and an instruction to strip), `label`, `question_id`, `category`.
MME-RealWorld: `index`, `question`, `multi-choice options` (a list from "(A) …" to "(E) …"), `answer`,
`category` such as `Perception/OCR with Complex Context`, `l2-category`, `bytes` (base64).
TreeBench: the same with `image`, options as one text up to F, and `target_instances` (x1, y1, x2, y2 in
pixels).
VisualProbe: `val.json`, a list: `images` (one path, which may start with the name of the data set), `doc_id`,
`problem` (starts with `<image>`), `solution`, `data_source`.
ZoomBench: `image`, `query` (question, options and often an instruction to strip), `response` (a letter, a
text or a number), `question_type` (`mcq` or `blank`), `bbox` (x1, y1, x2, y2 in pixels), `id`; the gold crop
`crop_image` is never read. Its dataset card calls `query` and `response` `prompt` and `answer`.
HR-Bench (200 questions in four rotations of their options): `index`, `question`, `answer`, `category`
(`single`: one instance, FSP; `cross`: several, FCP), `A`–`D`, `cycle_category` (the rotation) and `image`
(base64). The overall figure is the mean over the rotations.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from p2r.datasets.cells import image, letter, only_image, optional_text, options, pixel_boxes, text
from p2r.datasets.tables import Table, local_or_fetched, require
from p2r.errors import InputError
from p2r.evaluation.benchmarks.base import Benchmark, Entry, Layout, Unreadable, with_question
from p2r.images import ImageSource
from p2r.parsing.options import legal_choices, split_options
from p2r.text import encodable
from p2r.types import LETTERS, Question, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Release:
    """How a benchmark is released.

    `read` turns a row of the table, with or without its images, into the question.
    """

    hub: str
    patterns: tuple[str, ...]  # the files of the table, as globs; the first that matches decides
    columns: tuple[str, ...]  # that a row must have
    read: Callable[[Row, Table], Entry]
    images: tuple[str, ...] = ("image",)  # the columns that hold images
    boxes: str = ""  # the column with gold boxes in pixels
    layout: Layout = Layout()  # noqa: RUF009  (it is frozen)
    files_beside: bool = False  # images are files beside the table: the whole repository is needed


def open_table(name: str, data: str | None, release: Release) -> Benchmark:
    """A benchmark whose questions are the rows of a table.

    Args:
        name: on the command line.
        data: a file, a folder or a hub id; None for where the benchmark is published.
        release: how it is released.

    Raises:
        InputError: there is no such data.
    """
    place = data or release.hub
    table = Table(local_or_fetched(place) if release.files_beside else place, patterns=release.patterns)
    needed = [column for column in release.columns if column not in release.images]

    def entries() -> Iterator[Entry | Unreadable]:
        for number, row in enumerate(table.rows(without=release.images), start=1):
            require(row, needed, f"{name}: row {number}")
            try:
                yield release.read(row, table)
            except InputError as error:
                yield Unreadable(f"row {number}", str(error))

    def loaders() -> Iterator[Callable[[], Sample]]:
        for number, row in enumerate(table.rows(), start=1):
            require(row, release.images[:1], name)
            yield partial(load, number, row)

    def load(number: int, row: Row) -> Sample:
        try:
            sample = release.read(row, table).sample
            if not release.boxes:
                return sample
            source = ImageSource.open(sample.question.images[0])
            boxes = pixel_boxes(row, release.boxes, source.size)
        except InputError as error:
            raise InputError(f"{name}: row {number}: {error}") from error
        return replace(with_question(sample, image=source), boxes=boxes)

    return Benchmark(name, table.source, release.layout, bool(release.boxes), entries, loaders)


VSTAR_HEADINGS = {"direct_attributes": "Attribute", "relative_position": "Spatial"}


def _vstar(row: Row, table: Table) -> Entry:
    body, found = split_options(text(row, "text"))
    if not found:
        raise InputError("column 'text': found no lettered options in it")
    question = Question(image(row, "image", table.root), body, found, id=text(row, "question_id"))
    return Entry(Sample(question, letter(row, "label", found), category=text(row, "category")))


def _by_task(row: Row, table: Table, *, shown: str = "image") -> Entry:
    choices = options(row, "multi-choice options")
    category = text(row, "category")
    question = Question(image(row, shown, table.root), text(row, "question"), choices, id=text(row, "index"))
    tags = {"task": category.partition("/")[0], "subtask": optional_text(row, "l2-category")}
    sample = Sample(question, letter(row, "answer", choices), category=category)
    return Entry(sample, {name: value for name, value in tags.items() if value})


def _visualprobe(row: Row, table: Table) -> Entry:
    body = text(row, "problem").replace("<image>", "").strip()
    shown = table.image(str(only_image(row, "images"))) if "images" in row else b""
    question = Question(shown, body, id=str(row.get("doc_id", "")))
    return Entry(Sample(question, text(row, "solution"), category=str(row.get("data_source") or "")))


def _zoombench(row: Row, table: Table) -> Entry:
    asked = "prompt" if "prompt" in row and "query" not in row else "query"
    answered = "answer" if "answer" in row and "response" not in row else "response"
    body, found = split_options(text(row, asked).replace("<image>", ""))
    kind = optional_text(row, "question_type") or ("mcq" if found else "blank")
    shown, name = image(row, "image", table.root), optional_text(row, "id")
    category = optional_text(row, "category") or kind
    if kind == "mcq" and found:
        question = Question(shown, body, found, id=name)
        return Entry(Sample(question, letter(row, answered, found), category=category))
    gold = text(row, answered)
    numeric = gold.replace(",", "").lstrip("+-").replace(".", "", 1).isdigit()
    question = Question(shown, body, answer_type="number" if numeric else "free", id=name)
    return Entry(Sample(question, gold, category=category))


def _mme_realworld(hub: str) -> Release:
    return Release(
        hub,
        ("**/train-*.parquet", "**/*.parquet", "**/*.tsv"),
        ("index", "question", "multi-choice options", "answer", "category", "bytes"),
        partial(_by_task, shown="bytes"),
        images=("bytes",),
        layout=Layout(sections="task", breakdowns=("subtask",)),
    )


def _visualprobe_level(level: str) -> Release:
    name = f"VisualProbe_{level}"
    return Release(
        f"Mini-o3/{name}",
        ("val.json", f"{name}/val.json", "**/val.json", "*.json"),
        ("images", "problem", "solution"),
        _visualprobe,
        images=("images",),
        files_beside=True,
    )


RELEASES: dict[str, Release] = {
    "vstar": Release(
        "lmms-lab/vstar-bench",
        ("**/test-*.parquet", "**/*.parquet", "**/*.tsv"),
        ("image", "text", "label", "question_id", "category"),
        _vstar,
        layout=Layout(headings=VSTAR_HEADINGS),
    ),
    "mme-realworld": _mme_realworld("yifanzhang114/MME-RealWorld-Lmms-eval"),
    "mme-realworld-lite": _mme_realworld("yifanzhang114/MME-RealWorld-lite-lmms-eval"),
    "treebench": Release(
        "HaochenWang/TreeBench",
        ("**/TreeBench.tsv", "**/*.tsv", "**/*.parquet"),
        ("index", "image", "question", "multi-choice options", "answer", "category", "target_instances"),
        _by_task,
        boxes="target_instances",
        layout=Layout(sections="task"),
    ),
    "visualprobe-easy": _visualprobe_level("Easy"),
    "visualprobe-medium": _visualprobe_level("Medium"),
    "visualprobe-hard": _visualprobe_level("Hard"),
    "zoombench": Release(
        "inclusionAI/ZoomBench",
        ("**/test*.parquet", "**/*.parquet", "**/*.tsv"),
        ("image", "bbox"),
        _zoombench,
        images=("image", "crop_image"),
        boxes="bbox",
    ),
}


def open_hrbench(data: str | None, size: str) -> Benchmark:
    """HR-Bench at `size`, `4k` or `8k`.

    The rotations of one question are one cluster: one image. The same question with the same options is asked
    about several images, and the images are not read to tell them apart: in each rotation the first of such
    questions is about the first of these images, and so on.
    """
    name = f"hr_bench_{size}"
    patterns = (f"**/{name}*.parquet", f"**/*{size}*.parquet", f"**/*{size}*.tsv", f"**/*{size.upper()}*.tsv")
    columns = ("index", "question", "answer", "category", "A", "B", "C", "D", "cycle_category", "image")
    layout = Layout(headings={"single": "FSP", "cross": "FCP"}, breakdowns=("rotation",))
    # The rows that ask the same in one rotation, in the order in which they came first.
    seen: dict[tuple[str, ...], list[str]] = defaultdict(list)

    def read(row: Row, table: Table) -> Entry:
        found = [optional_text(row, column) for column in LETTERS if column in row]
        while found and not found[-1]:
            found.pop()
        if len(found) < 2:
            raise InputError("columns 'A' to 'D': fewer than two options")
        body, choices, rotation = text(row, "question"), legal_choices(found), text(row, "cycle_category")
        question = Question(image(row, "image", table.root), body, choices, id=text(row, "index"))
        sample = Sample(question, letter(row, "answer", choices), category=text(row, "category"))
        asked = (body, *sorted(filter(None, found)), found[question.letters.index(sample.answer)])
        rows = seen[(*asked, rotation)]
        if question.id not in rows:
            rows.append(question.id)
        same = "\n".join((*asked, str(rows.index(question.id))))
        cluster = hashlib.sha256(encodable(same).encode()).hexdigest()[:12]
        return Entry(sample, {"rotation": rotation, "cluster": cluster})

    return open_table(
        f"hrbench-{size}", data, Release("DreamMr/HR-Bench", patterns, columns, read, layout=layout)
    )
