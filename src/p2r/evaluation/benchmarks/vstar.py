"""V* (191 questions about small objects): the table of `lmms-lab/vstar-bench`, and the folder with boxes.

The table has `image`, `text` (question, options and an instruction to strip), `label` (a letter),
`question_id` and `category`. The folder of `craigwu/vstar_bench` has one JSON for each image:
`target_object`, `bbox` (x, y, width, height in pixels), `question` and `options`, of which the first is the
right one: they are shuffled here, each question by its own seed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from p2r.datasets.cells import image, letter, pixel_boxes, text
from p2r.datasets.tables import Table, local_or_fetched, read_json, require
from p2r.errors import InputError, file_problem
from p2r.evaluation.benchmarks.base import Entry, Layout, Unreadable
from p2r.evaluation.benchmarks.tabular import Tabular
from p2r.images import ImageSource
from p2r.parsing.options import legal_choices, split_options
from p2r.types import LETTERS, Question, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LAYOUT = Layout(headings={"direct_attributes": "Attribute", "relative_position": "Spatial"})
_IMAGES = (".jpg", ".jpeg", ".png", ".webp")


def open_vstar(data: str | None) -> Tabular:
    """The table: parquet or TSV."""
    table = Table(
        data or "lmms-lab/vstar-bench",
        patterns=("**/test-*.parquet", "**/*.parquet", "**/*.tsv"),
    )
    columns = ("image", "text", "label", "question_id", "category")
    return Tabular("vstar", table, columns, ("image",), _read, layout=LAYOUT)


def _read(row: dict[str, Any], root: Path | None) -> Entry:
    body, found = split_options(text(row, "text"))
    if not found:
        raise InputError("column 'text': found no lettered options in it")
    question = Question(image(row, "image", root), body, found, id=text(row, "question_id"))
    return Entry(Sample(question, letter(row, "label", found), category=text(row, "category")))


@dataclass(frozen=True, slots=True)
class VStarFolder:
    """The folder release, with gold boxes.

    Attributes:
        root: the folder that holds one folder for each category.
        seed: shuffles the options.
    """

    root: Path
    seed: int
    name: str = "vstar-boxes"
    layout: Layout = LAYOUT
    has_boxes: bool = True

    @property
    def source(self) -> str:
        """The folder."""
        return str(self.root)

    def entries(self) -> Iterator[Entry | Unreadable]:
        """All questions without images; see `Benchmark`."""
        for file in self._files():
            try:
                yield self._read(file)[0]
            except InputError as error:
                yield Unreadable(f"{file.parent.name}/{file.name}", str(error))

    def loaders(self) -> Iterator[Callable[[], Sample]]:
        """All questions; see `Benchmark`."""
        for file in self._files():
            yield partial(self.load, file)

    def load(self, file: Path) -> Sample:
        """One question with its image and gold boxes.

        Raises:
            InputError: names the file.
        """
        entry, row = self._read(file)
        found = [path for suffix in _IMAGES if (path := file.with_suffix(suffix)).is_file()]
        if not found:
            raise InputError(f"{file}: no image {file.stem}{{{','.join(_IMAGES)}}} beside it")
        source = ImageSource.open(found[0])
        boxes = pixel_boxes(row, "bbox", (source.width, source.height), corners="xywh")
        return replace(entry.sample, question=replace(entry.sample.question, image=source), boxes=boxes)

    def _files(self) -> list[Path]:
        return sorted(self.root.glob("*/*.json"))

    def _read(self, file: Path) -> tuple[Entry, dict[str, Any]]:
        row = next(iter(read_json(file)), {})
        require(row, ("target_object", "bbox", "question", "options"), str(file))
        name = f"{file.parent.name}/{file.stem}"
        found = row["options"]
        if not isinstance(found, list) or len(found) < 2:
            raise InputError(f"{file}: column 'options': expected a list of two or more")
        order = list(range(len(found)))
        random.Random(f"{self.seed}:{name}").shuffle(order)
        choices = legal_choices([str(found[place]) for place in order])
        try:
            question = Question(b"", text(row, "question"), choices, id=name)
        except InputError as error:
            raise InputError(f"{file}: {file_problem(error)}") from error
        answer = LETTERS[order.index(0)]
        return Entry(Sample(question, answer, category=file.parent.name)), row


def open_vstar_folder(data: str | None, seed: int) -> VStarFolder:
    """The folder, or a hub id that is fetched into the cache.

    Raises:
        InputError: the folder has no `CATEGORY/*.json`.
    """
    root = local_or_fetched(data or "craigwu/vstar_bench")
    if not any(root.glob("*/*.json")):
        raise InputError(f"{root}: no CATEGORY/*.json in it, as the folder release of V* has")
    return VStarFolder(root, seed)
