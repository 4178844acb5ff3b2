"""MME-RealWorld and its Lite subset: five options each, by task (perception, reasoning) and domain.

`index`, `question`, `multi-choice options` (a list from "(A) …" to "(E) …"), `answer`, `category` such as
`Perception/OCR with Complex Context`, `l2-category` and `bytes` (base64).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2r.datasets.cells import image, letter, optional_text, options, text
from p2r.datasets.tables import Table
from p2r.evaluation.benchmarks.base import Entry, Layout
from p2r.evaluation.benchmarks.tabular import Tabular
from p2r.types import Question, Sample

if TYPE_CHECKING:
    from pathlib import Path

LAYOUT = Layout(sections="task", breakdowns=("subtask",))
_HUB = {
    "mme-realworld": "yifanzhang114/MME-RealWorld-Lmms-eval",
    "mme-realworld-lite": "yifanzhang114/MME-RealWorld-lite-lmms-eval",
}


def open_mme_realworld(data: str | None, name: str) -> Tabular:
    """The table of `mme-realworld` or `mme-realworld-lite`."""
    patterns = ("**/train-*.parquet", "**/*.parquet", "**/*.tsv")
    table = Table(data or _HUB[name], patterns=patterns)
    columns = ("index", "question", "multi-choice options", "answer", "category", "bytes")
    return Tabular(name, table, columns, ("bytes",), _read, layout=LAYOUT)


def _read(row: dict[str, Any], root: Path | None) -> Entry:
    choices = options(row, "multi-choice options")
    category = text(row, "category")
    question = Question(image(row, "bytes", root), text(row, "question"), choices, id=text(row, "index"))
    tags = {"task": category.partition("/")[0]}
    if subtask := optional_text(row, "l2-category"):
        tags["subtask"] = subtask
    return Entry(Sample(question, letter(row, "answer", choices), category=category), tags)
