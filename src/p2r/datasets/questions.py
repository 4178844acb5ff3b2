"""Questions without gold answers, one by one: the rows of a table, or the images of a folder.

{"image": "images/7.jpg", "question": "Which digit is on the door?", "choices": ["3", "8"], "id": "7"}

Rows of JSON lines, CSV, TSV and parquet have `image` (a path relative to the file, a data: URI, base64 or
bytes), or `images` (a list of them), and `question`. Optional are `id`, `choices` (a list, or a text with a
lettered line for each) and `answer_type`. Other columns are ignored. Only the row that is read is held.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from p2r.datasets import cells
from p2r.datasets.tables import Table, json_lines, parquet_types, require, text_rows
from p2r.errors import InputError
from p2r.parsing.options import split_options
from p2r.types import Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from p2r.images import ImageInput
    from p2r.types import AnswerType

    Row = dict[str, Any]

COLUMNS = ("id", "image", "images", "question", "choices", "answer_type")
TABLES = (".jsonl", ".csv", ".tsv", ".parquet")
IMAGES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".avif", ".heic", ".heif"),
    *(".jp2", ".jxl", ".svs", ".ndpi", ".pdf"),
)
_NOT_READ = b"an image in the table"


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that holds no valid question, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class QuestionSource:
    """Where the questions of a batch come from.

    Attributes:
        path: a table (`TABLES`), or a folder whose images are asked about, those in its folders too.
        text: the question about images of a folder, and in rows that have none.
        choices, answer_type: of that question.

    Raises:
        InputError: the path is neither, or a folder comes without a question.
    """

    path: Path
    text: str = ""
    choices: tuple[str, ...] = ()
    answer_type: AnswerType | None = None

    def __post_init__(self) -> None:
        if not self.path.is_dir() and (not self.path.is_file() or self.path.suffix.lower() not in TABLES):
            problem = "not a table of questions" if self.path.is_file() else "there is no such file or folder"
            raise InputError(
                f"{self.path}: {problem}; give a file of {', '.join(TABLES)}, or a folder of images"
            )
        if self.path.is_dir() and not self.text:
            raise InputError(f"{self.path}: a folder of images needs a question; give --question TEXT")
        if self.text:
            Question(b"", self.text, self.choices, self.answer_type or ("choice" if self.choices else "free"))

    @property
    def root(self) -> Path:
        """The folder that the paths of images start from."""
        return self.path if self.path.is_dir() else self.path.parent

    def questions(self, *, images: bool = True) -> Iterator[tuple[int, Question | InvalidRow]]:
        """Each row's number, from 1, and its question, or why it cannot be asked.

        The number is that of the line in a file of JSON lines. An `id` is the row's own, the path of an image
        within the folder, or the number. Whether an image can be read is seen when it is asked about.

        Args:
            images: read images that are in the table itself, too, and not only their paths.

        Raises:
            InputError: the table cannot be read.
        """
        common = {
            "question": self.text,
            "choices": list(self.choices) or None,
            "answer_type": self.answer_type,
        }
        for number, row in self._rows(images=images):
            name = str(number)
            try:
                if isinstance(row, InputError):
                    raise row
                name = cells.optional_text(row, "id") or name
                question = question_of(common | row if self.text else row, self.root)
            except InputError as error:
                yield number, InvalidRow(name, str(error))
            else:
                yield number, replace(question, id=name)

    def _rows(self, *, images: bool) -> Iterator[tuple[int, Row | InputError]]:
        kind = self.path.suffix.lower()
        if self.path.is_dir():
            names = (image.relative_to(self.path).as_posix() for image in _images(self.path))
            return enumerate(({"image": name, "id": name} for name in names), start=1)
        if kind == ".jsonl":
            return json_lines(self.path)
        if kind != ".parquet":
            return enumerate(text_rows(self.path), start=1)
        types = parquet_types(self.path)
        inside = [name for name in ("image", "images") if "binary" in types.get(name, "") and not images]
        unread = [name for name in types if name not in COLUMNS]
        rows = Table(self.path, patterns=()).rows([*unread, *inside])
        return enumerate((row | {name: [_NOT_READ] for name in inside[:1]} for row in rows), start=1)


def question_of(row: Row, root: Path | None = None) -> Question:
    """The question in a row.

    Without `choices`, options in the text of the question are read, unless `choices` is an empty list.

    Args:
        row: column → cell, as described above.
        root: the folder that paths of images start from.

    Raises:
        InputError: names the column and what is wrong with it.
    """
    several = row.get("images")
    require(row, ("question",) if several else ("image", "question"), "the row")
    text = cells.text(row, "question")
    answer_type = cast("AnswerType | None", cells.optional_text(row, "answer_type") or None)
    choices = cells.options(row, "choices") if row.get("choices") else ()
    if row.get("choices") in (None, "") and answer_type in (None, "choice"):
        body, found = split_options(text)
        text, choices = (body, found) if body and found else (text, ())
    return Question(
        image=[_image({"image": one}, root) for one in several] if several else _image(row, root),
        text=text,
        choices=choices,
        answer_type=answer_type or ("choice" if choices else "free"),
        id=cells.optional_text(row, "id"),
    )


def _image(row: Row, root: Path | None) -> ImageInput:
    name = cells.only_image(row, "image")
    if not isinstance(name, str) or name.startswith("data:") or not name.lower().endswith(IMAGES):
        return cells.image(row, "image", root)
    # A path is one also where there is no file: the error then belongs to the image, not to the row.
    return name if "://" in name else (root or Path()) / name


def _images(folder: Path) -> Iterator[Path]:
    """The images in a folder and in its folders, by name; hidden ones are left out."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(IMAGES) and not name.startswith("."):
                yield Path(parent, name)
