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
from p2r.evaluation.benchmarks.base import Entry, Layout, Unreadable
from p2r.evaluation.benchmarks.tabular import VSTAR_HEADINGS
from p2r.images import ImageSource
from p2r.parsing.options import legal_choices
from p2r.types import LETTERS, Question, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")


class VStarFolder:
    """A folder with one folder for each category; see `Benchmark`.

    Args:
        data: the folder, or a hub id that is fetched into the cache; None for where it is published.
        seed: shuffles the options.

    Raises:
        InputError: the folder has no `CATEGORY/*.json`.
    """

    name = "vstar-boxes"
    layout = Layout(headings=VSTAR_HEADINGS)
    has_boxes = True

    def __init__(self, data: str | None, seed: int) -> None:
        root = local_or_fetched(data or "craigwu/vstar_bench")
        self.source = str(root)
        self._files = sorted(root.glob("*/*.json"))
        self._seed = seed
        if not self._files:
            raise InputError(f"{root}: no CATEGORY/*.json in it, as the folder release of V* has")

    def entries(self) -> Iterator[Entry | Unreadable]:
        """All questions without images."""
        for file in self._files:
            try:
                yield self._read(file)[0]
            except InputError as error:
                yield Unreadable(f"{file.parent.name}/{file.name}", str(error))

    def loaders(self) -> Iterator[Callable[[], Sample]]:
        """All questions with their images and gold boxes."""
        for file in self._files:
            yield partial(self._load, file)

    def _load(self, file: Path) -> Sample:
        entry, row = self._read(file)
        found = [path for suffix in _IMAGES if (path := file.with_suffix(suffix)).is_file()]
        if not found:
            raise InputError(f"{file}: no image {file.stem}{{{','.join(_IMAGES)}}} beside it")
        source = ImageSource.open(found[0])
        boxes = pixel_boxes(row, "bbox", source.size, corners="xywh")
        return replace(entry.sample, question=replace(entry.sample.question, image=source), boxes=boxes)

    def _read(self, file: Path) -> tuple[Entry, dict[str, Any]]:
        row = next(iter(read_json(file)), {})
        require(row, ("target_object", "bbox", "question", "options"), str(file))
        name = f"{file.parent.name}/{file.stem}"
        found = row["options"]
        if not isinstance(found, list) or len(found) < 2:
            raise InputError(f"{file}: column 'options': expected a list of two or more")
        order = list(range(len(found)))
        random.Random(f"{self._seed}:{name}").shuffle(order)
        choices = legal_choices([str(found[place]) for place in order])
        try:
            question = Question(b"", text(row, "question"), choices, id=name)
        except InputError as error:
            raise InputError(f"{file}: {file_problem(error)}") from error
        answer = LETTERS[order.index(0)]
        return Entry(Sample(question, answer, category=file.parent.name)), row
