"""Every benchmark in the schema of its release, made from scenes: a few rows each, with the odd cases."""

from __future__ import annotations

import base64
import csv
import io
import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import PIL.Image
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from p2r.scenes import make_sample

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT = 640, 360
INSTRUCTION = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class Shot:
    """A scene in the form of a benchmark's image."""

    jpeg: bytes
    box_px: tuple[int, int, int, int]

    @property
    def base64(self) -> str:
        return base64.b64encode(self.jpeg).decode()

    @property
    def xywh(self) -> list[int]:
        x0, y0, x1, y1 = self.box_px
        return [x0, y0, x1 - x0, y1 - y0]


@cache
def shot(index: int) -> Shot:
    made = make_sample("test", index, size=f"{WIDTH}x{HEIGHT}", family="read")
    buffer = io.BytesIO()
    PIL.Image.fromarray(made.render()).save(buffer, "JPEG", quality=90)
    box = made.boxes[0]
    scale = (WIDTH / 1000, HEIGHT / 1000)
    x0, y0, x1, y1 = (round(n * scale[i % 2]) for i, n in enumerate(box.as_tuple()))
    return Shot(buffer.getvalue(), (x0, y0, x1, y1))


def write_parquet(path: Path, rows: list[dict], images: tuple[str, ...] = ()) -> None:
    """Parquet as the hub holds it: image columns are structs of bytes and path, marked as images."""
    features = {
        name: {"_type": "Image"} if name in images else {"dtype": "string", "_type": "Value"}
        for name in rows[0]
    }
    table = pa.Table.from_pylist(rows)
    if images:
        marked = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": marked})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_tsv(path: Path, rows: list[dict]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def image_cell(index: int) -> dict:
    return {"bytes": shot(index).jpeg, "path": None}


def vstar(root: Path) -> Path:
    rows = [
        {
            "image": image_cell(0),
            "text": "What is the material of the glove?\n(A) rubber\n(B) cotton\n(C) kevlar\n(D) leather\n"
            + INSTRUCTION,
            "label": "A",
            "question_id": "0",
            "category": "direct_attributes",
        },
        {
            "image": image_cell(1),
            "text": f"What is the color of the flag?\n(A) red\n(B) blue\n(C) white\n(D) green\n{INSTRUCTION}",
            "label": "C",
            "question_id": "1",
            "category": "direct_attributes",
        },
        {
            "image": image_cell(2),
            "text": f"Is the dog on the left or right side of the bench?\n(A) right\n(B) left\n{INSTRUCTION}",
            "label": "B",
            "question_id": "1",  # ids repeat between the two parts
            "category": "relative_position",
        },
    ]
    write_parquet(root / "data/test-00000-of-00001.parquet", rows, images=("image",))
    return root


def vstar_folder(root: Path) -> Path:
    for position, (folder, name) in enumerate([("direct_attributes", "sa_1"), ("relative_position", "sa_2")]):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"{name}.jpg").write_bytes(shot(position).jpeg)
        row = {
            "target_object": ["glove"],
            "bbox": [shot(position).xywh],
            "question": "What is the material of the glove?",
            "options": ["The material is rubber.", "The material is cotton.", "Kevlar.", "Leather."],
        }
        (root / folder / f"{name}.json").write_text(json.dumps(row))
    return root


def hrbench(root: Path, size: str = "4k") -> Path:
    """Two questions in four rotations; the options NA, 007 and 1.10 must stay as they are."""
    asked = [
        ("What is the number on the bus?", ["007", "NA", "12", "1.10"], "single"),
        ("Where is the cat relative to the dog?", ["left", "right", "above", "below"], "cross"),
    ]
    rows: list[dict[str, Any]] = []
    for rotation in range(4):
        for position, (question, options, category) in enumerate(asked):
            turned = options[rotation:] + options[:rotation]
            rows.append(
                {
                    "index": len(rows),
                    "question": question,
                    "answer": "ABCD"[turned.index(options[0])],
                    "category": category,
                    **dict(zip("ABCD", turned, strict=True)),
                    "cycle_category": f"cycle_{rotation}",
                    "image": shot(position).base64,
                }
            )
    root.mkdir(parents=True, exist_ok=True)
    write_parquet(root / f"hr_bench_{size}.parquet", rows)
    other = [{**row, "question": "the other size"} for row in rows]
    write_parquet(root / f"hr_bench_{'8k' if size == '4k' else '4k'}.parquet", other)
    return root


def hrbench_tsv(root: Path) -> Path:
    rows = pq.read_table(hrbench(root / "parquet") / "hr_bench_4k.parquet").to_pylist()
    write_tsv(root / "HRBench4K.tsv", rows)
    return root / "HRBench4K.tsv"


def mme_realworld(root: Path) -> Path:
    options = ["(A) 12", "(B) 17", "(C) 21", "(D) 25", "(E) The image does not feature the number."]
    kinds = [
        ("Perception/OCR with Complex Context", "license"),
        ("Reasoning/Autonomous_Driving", "intention"),
    ]
    rows = [
        {
            "index": position,
            "question": "What is the number?",
            "multi-choice options": options,
            "answer": "E" if position % 2 else "B",
            "category": kinds[position % 2][0],
            "l2-category": kinds[position % 2][1],
            "bytes": shot(position).base64,
        }
        for position in range(4)
    ]
    write_parquet(root / "data/train-00000-of-00001.parquet", rows)
    return root


def treebench(root: Path) -> Path:
    """A TSV whose options are one text, whose boxes are literals, and of whose answers one is F."""
    rows = [
        {
            "index": position,
            "image": shot(position).base64,
            "question": "Which hat does the man wear?",
            "multi-choice options": "A. red\nB. green\nC. blue\nD. none\nE. white\nF. black",
            "answer": "F" if position else "A",
            "category": "Perception/Attributes" if position else "Reasoning/Ordering",
            "target_instances": str([list(shot(position).box_px)]),
        }
        for position in range(2)
    ]
    root.mkdir(parents=True, exist_ok=True)
    write_tsv(root / "TreeBench.tsv", rows)
    return root


def visualprobe(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    for position in range(2):
        (root / "data" / f"{position}.jpg").write_bytes(shot(position).jpeg)
    rows = [
        {
            "images": [f"VisualProbe_Hard/data/{position}.jpg"],
            "doc_id": f"hard_{position}",
            "problem": "<image>\nWhat does the sign say?",
            "solution": ["STOP", "5"][position],
            "data_source": "VisualProbe_Hard",
        }
        for position in range(2)
    ]
    (root / "val.json").write_text(json.dumps(rows))
    return root


def zoombench(root: Path) -> Path:
    queries = [
        (f"What color is the hat?\nA. Red\nB. Blue\nC. Green\nD. White\n{INSTRUCTION}", "B", "mcq"),
        ("How many windows are lit? Answer with an Arabic numeral.", "3", "blank"),
    ]
    rows = [
        {
            "id": f"zoom_{position}",
            "image": image_cell(position),
            "crop_image": image_cell(position),
            "query": query,
            "response": response,
            "question_type": kind,
            "bbox": list(shot(position).box_px),
        }
        for position, (query, response, kind) in enumerate(queries)
    ]
    write_parquet(root / "data/test.parquet", rows, images=("image", "crop_image"))
    return root
