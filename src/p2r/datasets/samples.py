"""Questions with gold answers from a JSON-lines file, as `p2r scenes` and `p2r data` write them.

{"image": "images/7.jpg", "question": "Which digit is on the door?", "choices": ["3", "8"], "answer": "B"}

Needed: `image` (relative to the file, or a data: URI) or `images` (a list of them), `question`, `answer`.
Optional: `id`, `choices`, `answer_type`, `boxes` ([[x0, y0, x1, y1], …] in 0–1000, or null when unknown; of
the second image: {"box": [x0, y0, x1, y1], "image": 1}), `family` (the category of the results), `aliases`
(other right texts). Other keys are ignored, unless one looks like a misspelled key.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from p2r.errors import InputError, MissingExtraError, file_problem
from p2r.images import Limits
from p2r.images.source import decode_data_uri, split_pages
from p2r.parsing.answers import read_option
from p2r.parsing.numbers import Quantity, read_quantity
from p2r.parsing.options import split_options
from p2r.text import encodable, is_data_uri
from p2r.types import AnswerType, Box, Question, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from datasets import Dataset


def _text(value: object) -> object:
    # A number is as good as its text; true and false are not.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return encodable(value) if isinstance(value, str) else value


_Text = Annotated[str, BeforeValidator(_text)]
_Words = Annotated[str, BeforeValidator(lambda value: encodable(value) if isinstance(value, str) else value)]


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    image: _Words | None = None
    question: _Words
    answer: _Text
    images: list[_Words] | None = None
    id: _Text = ""
    choices: list[_Text] | None = None
    answer_type: AnswerType | None = None
    boxes: list[list[float] | dict[str, Any]] | None = None
    family: _Words | None = None
    aliases: list[_Text] | None = None


def read_samples(path: Path) -> list[Sample]:
    """Read a JSON-lines file of samples.

    Without `choices`, options in the text of the question are read (see `p2r.parsing.options`), unless
    `choices` is empty or `answer_type` says that there are none. Without an `answer_type`, it is inferred.
    The answer of a choice question may be the letter or the exact text of an option. Without an `id`, it is
    the number of the line.

    Raises:
        InputError: the file cannot be read or holds no sample, or a line is wrong; it names line and key.
    """
    samples: list[Sample] = []
    lines: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    sample = _sample(_row(line), number, path.parent)
                    name = sample.question.id
                    if name in lines:
                        raise InputError(f"id {name!r} is taken by line {lines[name]}")
                except InputError as error:
                    raise InputError(f"{path}, line {number}: {error}") from error
                lines[name] = number
                samples.append(sample)
    except (OSError, UnicodeDecodeError) as error:
        hint = "p2r scenes FOLDER and p2r data NAME FOLDER make one, and docs/data.md has the format"
        raise InputError(f"samples {path}: {file_problem(error, hint)}") from error
    if not samples:
        raise InputError(f"samples {path}: the file is empty")
    return samples


def to_dataset(samples: Sequence[Sample]) -> Dataset:
    """The samples as a `datasets.Dataset`, one row each; Pillow decodes an image when it is read.

    Columns: `id`, `image`, `question`, `choices`, `answer_type`, `answer`, `boxes` ([[x0, y0, x1, y1], …],
    0–1000, None when unknown), `category`, `aliases`. Where a question has several images, `images` is a
    list of them, and `box_images` has the index of each box's image.

    Raises:
        MissingExtraError: `datasets` is not installed.
    """
    several = any(len(sample.question.images) > 1 for sample in samples)
    columns: dict[str, Any] = {"id": "string"} | ({"images": ["image"]} if several else {"image": "image"})
    columns |= {"question": "string", "choices": ["string"], "answer_type": "string", "answer": "string"}
    columns |= {"boxes": [["float64"]]} | ({"box_images": ["int32"]} if several else {})
    columns |= {"category": "string", "aliases": ["string"]}
    rows = []
    for sample in samples:
        question, boxes = sample.question, sample.boxes
        row: dict[str, Any] = {"id": question.id, "question": question.text, "choices": question.choices}
        row |= {"answer_type": question.answer_type, "answer": sample.answer, "boxes": corners(boxes)}
        row |= {"category": sample.category, "aliases": sample.aliases}
        row["images"] = images = [_stored(image) for image in question.images]
        row |= {"image": images[0], "box_images": boxes and [box.image for box in boxes]}
        rows.append({name: row[name] for name in columns})
    return dataset(rows, columns)


def corners(boxes: Iterable[Box] | None) -> list[list[float]] | None:
    """Boxes as lists of four numbers, 0–1000."""
    return None if boxes is None else [list(box.as_tuple()) for box in boxes]


def dataset(rows: list[dict[str, Any]], columns: Mapping[str, Any]) -> Dataset:
    """Rows as a `datasets.Dataset`.

    Args:
        rows: plain data.
        columns: the type of each column, also where all its values are None: `image`, the name of a plain
            type, or a list that holds the type of its elements.

    Raises:
        MissingExtraError: `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("eval", "datasets") from error

    def feature(kind: Any) -> Any:
        if isinstance(kind, list):
            return datasets.List(feature(kind[0]))
        return datasets.Image() if kind == "image" else datasets.Value(kind)

    features = datasets.Features({name: feature(kind) for name, kind in columns.items()})
    return datasets.Dataset.from_list(rows, features=features)


def _stored(image: Any) -> Any:
    if not isinstance(image, str):
        return image
    if is_data_uri(image):
        return decode_data_uri(image, Limits())[1]
    return str(Path(image).absolute())


def infer_type(answer: str, choices: tuple[str, ...]) -> AnswerType:
    """The type of an answer: `choice` with choices, `number` for a plain number, `free` for any other."""
    if choices:
        return "choice"
    quantity = read_quantity(answer)
    plain = isinstance(quantity, Quantity) and not quantity.words and not quantity.code_like
    return "number" if plain and any(char.isdecimal() for char in answer) else "free"


def _row(line: str) -> _Row:
    try:
        line.encode()
        data = json.loads(line)
    except UnicodeEncodeError as error:
        raise InputError("it is not a text file (UTF-8)") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"an object is needed, not {type(data).__name__}")
    _refuse_misspelled(data)
    try:
        return _Row.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if key == "answer" and first["type"] == "missing":
            raise InputError(
                "answer: is missing, and these questions are scored; without gold answers: P2R.answer_many"
            ) from error
        raise InputError(f"{key}: {first['msg']}") from error


def _refuse_misspelled(data: dict[str, Any]) -> None:
    missing = _Row.model_fields.keys() - data.keys()
    for key in data.keys() - _Row.model_fields.keys():
        if meant := difflib.get_close_matches(key, missing, n=1, cutoff=0.85):
            raise InputError(f"{key}: did you mean {meant[0]!r}? Rename the key if not")


def _sample(row: _Row, number: int, folder: Path) -> Sample:
    text, choices = row.question, tuple(row.choices or ())
    if row.choices is None and row.answer_type in (None, "choice"):
        body, found = split_options(text)
        if body and found:
            text, choices = body, found
    if (row.image is None) == (row.images is None):
        raise InputError("image: one of image and images is needed")
    question = Question(
        image=[_image(image, folder) for image in (row.images if row.image is None else [row.image]) or ()],
        text=text,
        choices=choices,
        answer_type=row.answer_type or infer_type(row.answer, choices),
        id=row.id or str(number),
    )
    boxes = None if row.boxes is None else tuple(_box(index, box) for index, box in enumerate(row.boxes))
    answer = _letter(row.answer, question) if choices else row.answer.strip()
    if not answer:
        raise InputError("answer: is empty")
    return Sample(question, answer, boxes, row.family or "", tuple(row.aliases or ()))


def _image(image: str, folder: Path) -> str:
    if is_data_uri(image):
        return image
    path = folder / image
    try:
        found = Path(split_pages(path)[0]).is_file()
    except ValueError:  # a null character in the name
        found = False
    if not found:
        raise InputError(f"image: no file {str(path)[:200]!r}")
    return str(path)


def _letter(answer: str, question: Question) -> str:
    letter, reason = read_option(answer, question)
    if letter is None:
        raise InputError(
            f"answer: {answer!r} is neither a letter of {question.letters} nor an option: {reason}"
        )
    return letter


def _box(index: int, given: list[float] | dict[str, Any]) -> Box:
    corners = given if isinstance(given, list) else given.get("box", ())
    if len(corners) != 4:
        raise InputError(f"boxes.{index}: a box has 4 numbers, not {len(corners)}")
    try:
        return Box.from_json(given)
    except (InputError, TypeError) as error:
        raise InputError(f"boxes.{index}: {error}") from error
