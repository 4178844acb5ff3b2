"""What a batch leaves behind: a line for each row, a table of them, and their counts.

A row is known by what it asks (`row_key`), not by its place, so that a run goes on after rows were added,
corrected or sorted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from os import PathLike, fspath, path
from typing import TYPE_CHECKING, Any

from p2r.datasets.questions import InvalidRow
from p2r.errors import MissingExtraError
from p2r.runs.files import encode_json, read_run_file, replacing, write_error
from p2r.runs.journal import each_line
from p2r.text import is_data_uri

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from p2r.types import Question

CONFIG = "batch.json"
RESULTS = "results.jsonl"
TABLE = "results.parquet"
MOST_ANSWERS = 1_000  # different ones that are counted
_COLUMNS = (  # of the table: those of a line that most readers want
    *("row", "id", "image", "question", "choices", "mode", "status", "answer", "boxes", "crops_px"),
    *("thinking", "text", "prompt_tokens", "completion_tokens", "seconds", "failure", "error"),
)
_TABLE_ROWS = 1_000  # of the table in memory at once


def asked(number: int, question: Question | InvalidRow, root: Path | None) -> dict[str, Any]:
    """What a row asks, as the first keys of its line.

    Args:
        number: of the row, from 1.
        question: the question, or that there is none.
        root: the folder that the paths of images are relative to; None for paths as they are.
    """
    line: dict[str, Any] = {"row": number, "id": question.id}
    if isinstance(question, InvalidRow):
        return {**line, "image": "", "question": "", "choices": [], "answer_type": ""}
    names = [image_name(image, root) for image in question.images]
    return {
        **line,
        "image": names[0],
        **({"images": names} if len(names) > 1 else {}),
        "question": question.text,
        "choices": list(question.choices),
        "answer_type": question.answer_type,
    }


def image_name(image: object, root: Path | None) -> str:
    """The path of an image, relative to `root` where it lies there; empty for an image that is no file."""
    if not isinstance(image, str | PathLike) or is_data_uri(str(image)):
        return ""
    name = str(fspath(image))
    below = path.relpath(name, root) if root is not None else name
    return name if below.startswith("..") else below


def row_key(record: Mapping[str, Any]) -> int:
    """64 bits that are equal for rows with equal id, images, question, choices and type of answer.

    Args:
        record: a line, or what `asked` returns.
    """
    facts = [record[name] for name in ("id", "image", "question", "choices", "answer_type")]
    facts += record.get("images", [])
    return int.from_bytes(hashlib.blake2b(encode_json(facts), digest_size=8).digest())


@dataclass(slots=True)
class BatchSummary:
    """The counts of a batch (`summary.json`).

    Attributes:
        rows: of the input, equal ones counted once.
        answered, no_answer, failed: rows by status; the others have not been asked yet.
        failures: kind → rows; the kind of a row that holds no valid question is `row`.
        answers: answer → rows, the most frequent first, at most `MOST_ANSWERS` different ones.
        prompt_tokens, completion_tokens, calls: of all stages.
    """

    mode: str
    model: str
    reasoner: str
    digest: str
    rows: int
    answered: int = 0
    no_answer: int = 0
    failed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        asked = self.answered + self.no_answer + self.failed
        return {
            **asdict(self),
            "failures": dict(self.failures.most_common()),
            "answers": dict(self.answers.most_common()),
            "complete": asked == self.rows,
        }

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a row."""
        setattr(self, record["status"], getattr(self, record["status"]) + 1)
        if record["status"] == "failed":
            self.failures[record["failure"]] += 1
        answer = record["answer"]
        if answer is not None and (answer in self.answers or len(self.answers) < MOST_ANSWERS):
            self.answers[answer] += 1
        self.prompt_tokens += record["usage"]["prompt_tokens"]
        self.completion_tokens += record["usage"]["completion_tokens"]
        self.calls += record["usage"]["calls"]


def is_batch(folder: Path) -> bool:
    """Whether a folder is the run folder of a batch."""
    return (folder / CONFIG).is_file()


def read_summary(out: Path) -> BatchSummary:
    """Count the lines of a run folder.

    Raises:
        InputError: it is not one of a batch.
    """
    config = read_run_file(out / CONFIG, "p2r batch")
    names = ("mode", "model", "reasoner", "digest")
    summary = BatchSummary(**{name: config["identity"][name] for name in names}, rows=config["rows"])
    for line in each_line(out / RESULTS):
        summary.add(line)
    return summary


def write_table(out: Path) -> None:
    """Write `results.parquet` from `results.jsonl`, with the rows in the same order.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InputError: it cannot be written.
    """
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow.parquet import ParquetWriter  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("eval", "pyarrow") from error
    numbers, corners = pa.int64(), pa.list_(pa.float64())
    types = {
        "row": numbers,
        "choices": pa.list_(pa.string()),
        "boxes": pa.list_(pa.struct({"box": corners, "label": pa.string(), "image": numbers})),
        "crops_px": pa.list_(pa.list_(numbers)),
        "prompt_tokens": numbers,
        "completion_tokens": numbers,
        "seconds": pa.float64(),
    }
    schema = pa.schema([(name, types.get(name, pa.string())) for name in _COLUMNS])
    try:
        with replacing(out / TABLE) as partial, ParquetWriter(partial, schema) as table:
            rows: list[dict[str, Any]] = []
            for record in each_line(out / RESULTS):
                usage = record.pop("usage")
                rows.append({**record, **usage, "seconds": record["seconds"].get("total", 0.0)})
                if len(rows) == _TABLE_ROWS:
                    table.write_table(pa.Table.from_pylist(rows, schema))
                    rows.clear()
            table.write_table(pa.Table.from_pylist(rows, schema))
    except OSError as error:
        raise write_error(out / TABLE, error) from error
