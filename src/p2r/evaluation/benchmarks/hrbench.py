"""HR-Bench (200 questions in four rotations of their options, at 4K and 8K).

`index`, `question`, `answer`, `category` (`single`: one instance, FSP; `cross`: several, FCP), `A`–`D`,
`cycle_category` (the rotation) and `image` (base64). The overall figure is the mean over the rotations.

The rotations of one question are one cluster: one image. The same question with the same options is asked
about several images, and the images are not read to tell them apart: in each rotation the first of such
questions is about the first of these images, and so on.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

from p2r.datasets.cells import image, letter, optional_text, text
from p2r.errors import InputError
from p2r.evaluation.benchmarks.base import Entry, Layout
from p2r.evaluation.benchmarks.tabular import Release, open_table
from p2r.parsing.options import legal_choices
from p2r.text import encodable
from p2r.types import LETTERS, Question, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.evaluation.benchmarks.base import Benchmark
    from p2r.evaluation.benchmarks.tabular import Row


def open_hrbench(data: str | None, size: str) -> Benchmark:
    """The table for `size`, `4k` or `8k`."""
    name = f"hr_bench_{size}"
    patterns = (f"**/{name}*.parquet", f"**/*{size}*.parquet", f"**/*{size}*.tsv", f"**/*{size.upper()}*.tsv")
    columns = ("index", "question", "answer", "category", "A", "B", "C", "D", "cycle_category", "image")
    layout = Layout(headings={"single": "FSP", "cross": "FCP"}, breakdowns=("rotation",))
    # The rows that ask the same in one rotation, in the order in which they came first.
    seen: dict[tuple[str, ...], list[str]] = defaultdict(list)

    def read(row: Row, root: Path | None) -> Entry:
        found = [optional_text(row, column) for column in LETTERS if column in row]
        while found and not found[-1]:
            found.pop()
        if len(found) < 2:
            raise InputError("columns 'A' to 'D': fewer than two options")
        body, choices, rotation = text(row, "question"), legal_choices(found), text(row, "cycle_category")
        question = Question(image(row, "image", root), body, choices, id=text(row, "index"))
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
