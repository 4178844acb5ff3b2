"""The folder release of V* (`craigwu/vstar_bench`), with gold boxes.

One JSON for each image: `target_object`, `bbox` (x, y, width, height in pixels), `question` and `options`, of
which the first is the right one. They are shuffled here, those of each question by its own seed.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from p2r.datasets.cells import pixel_boxes, text
from p2r.datasets.tables import local_or_fetched, read_json, require
from p2r.errors import InputError, file_problem
from p2r.evaluation.benchmarks.base import Benchmark, Entry, Layout, Unreadable, with_question
from p2r.evaluation.benchmarks.tabular import VSTAR_HEADINGS
from p2r.images import ImageSource
from p2r.parsing.options import legal_choices
from p2r.types import LETTERS, Question, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")


def open_vstar_folder(data: str | None, seed: int) -> Benchmark:
    """A folder with one folder for each category.

    Args:
        data: the folder, or a hub id that is fetched into the cache; None for where it is published.
        seed: shuffles the options.

    Raises:
        InputError: the folder has no `CATEGORY/*.json`.
    """
    root = local_or_fetched(data or "craigwu/vstar_bench")
    files = sorted(root.glob("*/*.json"))
    if not files:
        raise InputError(f"{root}: no CATEGORY/*.json in it, as the folder release of V* has")

    def entries() -> Iterator[Entry | Unreadable]:
        for file in files:
            try:
                yield _entry(file, seed)
            except InputError as error:
                yield Unreadable(f"{file.parent.name}/{file.name}", str(error))

    return Benchmark(
        name="vstar-boxes",
        source=str(root),
        layout=Layout(headings=VSTAR_HEADINGS),
        has_boxes=True,
        entries=entries,
        loaders=lambda: (partial(_sample, file, seed) for file in files),
    )


def _row(file: Path) -> dict[str, Any]:
    row = next(iter(read_json(file)), {})
    require(row, ("target_object", "bbox", "question", "options"), str(file))
    return row


def _entry(file: Path, seed: int) -> Entry:
    row = _row(file)
    name = f"{file.parent.name}/{file.stem}"
    found = row["options"]
    if not isinstance(found, list) or len(found) < 2:
        raise InputError(f"{file}: column 'options': expected a list of two or more")
    order = list(range(len(found)))
    random.Random(f"{seed}:{name}").shuffle(order)
    choices = legal_choices([str(found[place]) for place in order])
    try:
        question = Question(b"", text(row, "question"), choices, id=name)
    except InputError as error:
        raise InputError(f"{file}: {file_problem(error)}") from error
    return Entry(Sample(question, LETTERS[order.index(0)], category=file.parent.name))


def _sample(file: Path, seed: int) -> Sample:
    found = [path for suffix in _IMAGES if (path := file.with_suffix(suffix)).is_file()]
    if not found:
        raise InputError(f"{file}: no image {file.stem}{{{','.join(_IMAGES)}}} beside it")
    source = ImageSource.open(found[0])
    boxes = pixel_boxes(_row(file), "bbox", source.size, corners="xywh")
    return replace(with_question(_entry(file, seed).sample, image=source), boxes=boxes)
