"""ZoomBench (845 questions: 621 with options, 224 to fill in), with the box of the region that was zoomed.

`image`, `query` (question, options and often an instruction to strip), `response` (a letter, or a text or
number), `question_type` (`mcq` or `blank`), `bbox` (x1, y1, x2, y2 in pixels) and `id`; `crop_image`, the
gold crop, is never read. The dataset card calls `query` and `response` by other names: `prompt` and `answer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2r.datasets.cells import (
    image,
    letter,
    optional_text,
    pixel_boxes,
    text,
)
from p2r.datasets.tables import Table
from p2r.evaluation.benchmarks.base import Entry
from p2r.evaluation.benchmarks.tabular import Tabular
from p2r.parsing.options import split_options
from p2r.types import Question, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.types import Box

_IMAGES = ("image", "crop_image")


def open_zoombench(data: str | None) -> Tabular:
    """The table, parquet."""
    patterns = ("**/test*.parquet", "**/*.parquet", "**/*.tsv")
    table = Table(data or "inclusionAI/ZoomBench", patterns=patterns)
    return Tabular("zoombench", table, ("image", "bbox"), _IMAGES, _read, locate=_locate)


def _read(row: dict[str, Any], root: Path | None) -> Entry:
    asked = "prompt" if "prompt" in row and "query" not in row else "query"
    answered = "answer" if "answer" in row and "response" not in row else "response"
    body, found = split_options(text(row, asked).replace("<image>", ""))
    kind = optional_text(row, "question_type") or ("mcq" if found else "blank")
    shown, name = image(row, "image", root), optional_text(row, "id")
    category = optional_text(row, "category") or kind
    if kind == "mcq" and found:
        question = Question(shown, body, found, id=name)
        return Entry(Sample(question, letter(row, answered, found), category=category))
    gold = text(row, answered)
    numeric = gold.replace(",", "").lstrip("+-").replace(".", "", 1).isdigit()
    question = Question(shown, body, answer_type="number" if numeric else "free", id=name)
    return Entry(Sample(question, gold, category=category))


def _locate(row: dict[str, Any], size: tuple[int, int]) -> tuple[Box, ...]:
    return pixel_boxes(row, "bbox", size)
