"""Rows for the harnesses that ask the server: scenes in the schemas of benchmarks, and what `p2r eval` finds.

The images are small and without loss, so that a harness that sends PNG asks about the very same pixels.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import hashlib
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import PIL.Image
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from rich.console import Console

from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.run import EvaluationPlan, evaluate
from p2r.nano import bundled
from p2r.runs.journal import read_lines
from p2r.scenes import make_sample
from p2r.types import LETTERS
from tests.fake_model import FakeModel, said
from tests.serving.live_server import BOXES, perceiving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from p2r.models.base import Message, Model

ROWS = 16
SIZE = "1280x896"
HOW = "Answer with the option's letter from the given choices directly."
NONE = "The image does not feature the object."


@dataclass(frozen=True)
class Scene:
    """One question with its image.

    Attributes:
        png: the image.
        text, options, answer: the question; the answer is a letter.
        box_px: where the first piece of evidence is, x0, y0, x1, y1.
    """

    png: bytes
    text: str
    options: tuple[str, ...]
    answer: str
    box_px: tuple[int, int, int, int]

    @property
    def base64(self) -> str:
        return base64.b64encode(self.png).decode()


def scenes(count: int, options: int = 2) -> list[Scene]:
    """Questions with so many options or more."""
    return list(_scenes(count, options))


def _scenes(count: int, options: int) -> Iterator[Scene]:
    index = -1
    while count:
        index += 1
        made = make_sample("test", index, size=SIZE)
        if len(made.task.choices) < options or not made.boxes:
            continue
        count -= 1
        file = io.BytesIO()
        image = PIL.Image.fromarray(made.render())
        image.save(file, "PNG")
        x0, y0, x1, y1 = made.boxes[0].as_tuple()
        width, height = image.size
        scaled = zip((x0, y0, x1, y1), (width, height) * 2, strict=True)
        left, top, right, bottom = (round(n * side / 1000) for n, side in scaled)
        yield Scene(
            file.getvalue(), made.task.text, made.task.choices, made.task.answer, (left, top, right, bottom)
        )


def vstar_rows(options: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "image": {"bytes": scene.png, "path": None},
            "text": "\n".join([scene.text, *(f"({letter}) {text}" for letter, text in lettered(scene)), HOW]),
            "label": scene.answer,
            "question_id": str(index),
            "category": "direct_attributes" if index % 2 else "relative_position",
        }
        for index, scene in enumerate(scenes(ROWS, options))
    ]


def hrbench_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes(ROWS // 4, options=4)):
        right = scene.options[LETTERS.index(scene.answer)]
        for rotation in range(4):
            turned = scene.options[rotation:] + scene.options[:rotation]
            rows.append(
                {
                    "index": len(rows),
                    "question": scene.text,
                    "answer": LETTERS[turned.index(right)],
                    "category": "cross" if number % 2 else "single",
                    **dict(zip("ABCD", turned, strict=True)),
                    "cycle_category": str(rotation),
                    "image": scene.base64,
                }
            )
    return rows


def mme_realworld_rows() -> list[dict[str, Any]]:
    kinds = [
        ("Perception/OCR with Complex Context", "license"),
        ("Reasoning/Autonomous_Driving", "intention"),
    ]
    return [
        {
            "index": str(index),
            "question": scene.text,
            "multi-choice options": [
                f"({letter}) {text}" for letter, text in zip("ABCDE", (*scene.options, NONE), strict=True)
            ],
            "answer": scene.answer,
            "category": kinds[index % 2][0],
            "l2-category": kinds[index % 2][1],
            "bytes": scene.base64,
        }
        for index, scene in enumerate(scenes(ROWS, options=4))
    ]


def treebench_rows(options: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "image": scene.base64,
            "question": scene.text,
            "multi-choice options": "\n".join(f"{letter}. {text}" for letter, text in lettered(scene)),
            "answer": scene.answer,
            "category": "Perception/Attributes" if index % 2 else "Reasoning/Ordering",
            "target_instances": str([list(scene.box_px)]),
        }
        for index, scene in enumerate(scenes(ROWS, options))
    ]


def lettered(scene: Scene) -> Iterator[tuple[str, str]]:
    return zip(LETTERS, scene.options, strict=False)


def write_hub_parquet(path: Path, rows: Sequence[dict[str, Any]], image: str = "") -> None:
    """Parquet as the hub holds it; the column `image` is marked as one that holds images."""
    schema = None
    if image:
        features: dict[str, Any] = {name: {"_type": "Value", "dtype": "string"} for name in rows[0]}
        features[image] = {"_type": "Image"}
        cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        schema = pa.schema(
            [(name, cell if name == image else pa.string()) for name in rows[0]],
            metadata={"huggingface": json.dumps({"info": {"features": features}})},
        )
    table = pa.Table.from_pylist(list(rows), schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_tsv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def model() -> str | Model:
    """The bundled model, or a scripted one whose letter depends on the question alone."""
    return next(iter(bundled()), None) or FakeModel(_scripted)


def _scripted(messages: Sequence[Message]) -> str:
    if perceiving(messages):
        return BOXES
    asked = said(messages).partition("Question: ")[2]
    letter = "AB"[hashlib.sha256(asked.encode()).digest()[0] % 2]
    return f"<think>It is {letter}.</think><answer>{letter}</answer>"


def letters_of_p2r_eval(name: str, data: Path, out: Path, asked: str | Model) -> tuple[list[str], int]:
    """What `p2r eval` answers, by the order of the rows, and how many of it is right."""
    plan = EvaluationPlan(open_benchmark(name, str(data)), out, asked, concurrency=4)
    total = asyncio.run(evaluate(plan, Console(quiet=True))).modes["p2r"].total
    assert (total.n, total.failed) == (ROWS, 0)
    answers = {int(line["id"]): line["answer"] or "" for line in read_lines(out / "predictions-p2r.jsonl")}
    return [answers[index] for index in sorted(answers)], total.correct
