"""VisualProbe (141 easy, 268 medium, 106 hard questions): free form, judged.

`val.json`, a list: `images` (one path, which may start with the name of the data set), `doc_id`, `problem`
(starts with `<image>`), `solution` and `data_source`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.datasets.cells import text
from p2r.datasets.tables import Table, local_or_fetched
from p2r.errors import InputError
from p2r.evaluation.benchmarks.base import Entry
from p2r.evaluation.benchmarks.tabular import Tabular
from p2r.types import Question, Sample

if TYPE_CHECKING:
    from p2r.images import ImageInput


def open_visualprobe(data: str | None, level: str) -> Tabular:
    """The list of one level: `easy`, `medium` or `hard`."""
    name = f"VisualProbe_{level.capitalize()}"
    place = local_or_fetched(data or f"Mini-o3/{name}")
    patterns = ("val.json", f"{name}/val.json", "**/val.json", "*.json")
    table = Table(place, patterns=patterns)
    return Tabular(f"visualprobe-{level}", table, ("images", "problem", "solution"), ("images",), _read)


def _read(row: dict[str, Any], root: Path | None) -> Entry:
    body = text(row, "problem").replace("<image>", "").strip()
    number = row.get("doc_id", "")
    question = Question(_image(row, root), body, id=str(number))
    return Entry(Sample(question, text(row, "solution"), category=str(row.get("data_source") or "")))


def _image(row: dict[str, Any], root: Path | None) -> ImageInput:
    if "images" not in row:
        return b""
    paths = [row["images"]] if isinstance(row["images"], str) else row["images"]
    if not isinstance(paths, list) or len(paths) != 1:
        raise InputError(f"column 'images': expected one path, found {paths!r}")
    path = Path(str(paths[0]))
    root = root or Path()
    for candidate in (root / path, root.joinpath(*path.parts[1:]), root.parent / path):
        if candidate.is_file():
            return candidate
    raise InputError(f"column 'images': no image {path} in {root}")
