"""The released data sets, each in its own schema: a row → question, gold answer, and its image.

deepeyes, visualprobe   a JSON list: `images` [path], `doc_id`, `problem` (starts with `<image>`), `solution`,
                        `data_source`
zwz                     a CSV whose lists are literals: `problem`, `original_images`, `crop_images`, `bbox`
                        (x1, y1, x2, y2 in pixels), `answer`, `ability`, `data_source`
p2r-10k                 parquet of the paper's authors: `prompt` [{role, content}], `images`,
                        `reward_model.ground_truth`, `data_source`, `extra_info.answer_form` and `.index`

Only the last says of which form an answer is; for the others it is inferred (`infer_type`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2r.datasets.cells import optional_text, text
from p2r.datasets.samples import infer_type
from p2r.errors import InputError
from p2r.parsing.answers import read_option
from p2r.parsing.options import split_options
from p2r.types import Question

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from p2r.types import AnswerType

    Row = Mapping[str, Any]

_FORMS: dict[str, AnswerType] = {"mca": "choice", "na": "number", "free_form": "free"}
# The questions of ZwZ were asked about an image with a box drawn on it; the released image has none.
_ABOUT_THE_BOX = re.compile(
    r"(?:only\s+)?focus\s+on\s+[^.\n]*\bred\s+bounding\s+box\b[^.\n]*\.?", re.IGNORECASE
)
_DRAWN_BOX = re.compile(r"\bred\s+bounding\s+box\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Item:
    """A row before its image is read."""

    id: str  # the source's own name of the row; empty when it has none
    question: str  # as in sample files, like the next three; with choices, the answer is a letter
    choices: tuple[str, ...]
    answer: str
    answer_type: AnswerType
    inferred: bool  # the source does not say of which type the answer is
    category: str  # the source's name for this kind of question


@dataclass(frozen=True, slots=True)
class Source:
    """A released data set."""

    hub: str  # where it is published
    patterns: tuple[str, ...]  # its table, among the files of a folder or repository
    columns: tuple[str, ...]  # that a row must have
    image: str  # the column with the image, or with a list of one
    read: Callable[[Row], Item]  # a row → an item; InputError says why the row cannot be used
    embedded: bool = False  # images are in the table, so rows are first read without them
    boxes: str = ""  # the column with gold boxes in pixels; empty for none


def _read_listed(row: Row) -> Item:
    return _item(row, text(row, "problem"), text(row, "solution"), optional_text(row, "doc_id"))


def _read_zwz(row: Row) -> Item:
    problem = _ABOUT_THE_BOX.sub("", text(row, "problem"))
    return _item(row, problem, text(row, "answer"), "", category=optional_text(row, "ability"))


def _read_released(row: Row) -> Item:
    prompt, reward, extra = row["prompt"], row["reward_model"] or {}, row.get("extra_info") or {}
    turns = [turn for turn in prompt or () if turn.get("role") == "user"]
    if not turns:
        raise InputError("column 'prompt': no turn of the user")
    form = extra.get("answer_form")
    if form is not None and form not in _FORMS:
        raise InputError(f"column 'extra_info': answer_form {form!r} is none of {', '.join(_FORMS)}")
    problem, answer = text(turns[-1], "content"), text(reward, "ground_truth")
    return _item(row, problem, answer, optional_text(extra, "index"), form=_FORMS[form] if form else None)


def _item(
    row: Row, problem: str, answer: str, name: str, *, form: AnswerType | None = None, category: str = ""
) -> Item:
    question = problem.replace("<image>", " ").strip()
    choices: tuple[str, ...] = ()
    if _DRAWN_BOX.search(question):
        raise InputError("the question is about a box that is drawn on the image, and none is")
    body, found = split_options(question)
    if found and form in (None, "choice"):
        question, choices = body, found
        letter, reason = read_option(answer, Question(b"", question, choices))
        if letter is None:
            raise InputError(f"the answer {answer[:60]!r} is none of the options: {reason}")
        answer = letter
    elif form == "choice":
        raise InputError("a question of form mca without options in its text")
    kind = form or infer_type(answer, choices)
    Question(b"", question, choices, kind)  # what no Question can hold is left out with its reason
    category = category or optional_text(row, "data_source")
    return Item(name, question, choices, answer, kind, form is None, category)


_LIST_COLUMNS = ("images", "problem", "solution")
_LIST_FILES = ("train.json", "**/train.json", "*.json", "*.jsonl", "**/*.parquet")

SOURCES: dict[str, Source] = {
    "deepeyes": Source("Mini-o3/DeepEyes_train_4K", _LIST_FILES, _LIST_COLUMNS, "images", _read_listed),
    "visualprobe": Source("Mini-o3/VisualProbe_train", _LIST_FILES, _LIST_COLUMNS, "images", _read_listed),
    "zwz": Source(
        "muyuho/ZwZ-RL-VQA-mini",
        ("train*.csv", "*.csv", "**/*.csv", "**/*.parquet"),
        ("problem", "original_images", "answer"),
        "original_images",
        _read_zwz,
        boxes="bbox",
    ),
    "p2r-10k": Source(
        "hongxingli/P2R-10k",
        ("**/train*.parquet", "**/*.parquet"),
        ("prompt", "images", "reward_model"),
        "images",
        _read_released,
        embedded=True,
    ),
}
