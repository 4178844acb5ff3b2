"""TreeBench (405 questions about objects in crowded images, with the boxes of what they ask about).

`index`, `image` (base64), `question`, `multi-choice options` (one text, a line for each; up to F), `answer`,
`category` such as `Perception/Attributes` and `target_instances` (x1, y1, x2, y2 in pixels). Beside the
accuracy it is scored by mIoU: for each gold box the best IoU of any predicted box, averaged over the gold
boxes of a question and then over the questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2r.datasets.cells import image, letter, options, pixel_boxes, text
from p2r.datasets.tables import Table
from p2r.evaluation.benchmarks.base import Entry, Layout
from p2r.evaluation.benchmarks.tabular import Tabular
from p2r.types import Question, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.types import Box

LAYOUT = Layout(sections="task")


def open_treebench(data: str | None) -> Tabular:
    """The table, a TSV."""
    patterns = ("**/TreeBench.tsv", "**/*.tsv", "**/*.parquet")
    table = Table(data or "HaochenWang/TreeBench", patterns=patterns)
    columns = ("index", "image", "question", "multi-choice options", "answer", "category", "target_instances")
    return Tabular("treebench", table, columns, ("image",), _read, locate=_locate, layout=LAYOUT)


def _read(row: dict[str, Any], root: Path | None) -> Entry:
    choices = options(row, "multi-choice options")
    category = text(row, "category")
    question = Question(image(row, "image", root), text(row, "question"), choices, id=text(row, "index"))
    sample = Sample(question, letter(row, "answer", choices), category=category)
    return Entry(sample, {"task": category.partition("/")[0]})


def _locate(row: dict[str, Any], size: tuple[int, int]) -> tuple[Box, ...]:
    return pixel_boxes(row, "target_instances", size)
