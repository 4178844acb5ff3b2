"""The released training sets in the schema of their releases, a few rows each, with the odd cases."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from tests.image_files import encoded

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT = 96, 64


def pixels(seed: int) -> np.ndarray:
    """An image of its own: coarse colored blocks."""
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 12, 3), np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)


def jpeg(seed: int, quality: int = 90) -> bytes:
    return encoded(pixels(seed), "JPEG", quality=quality)


def deepeyes(root: Path, count: int = 6) -> Path:
    """A JSON list; paths start with the name of the data set; questions with and without options."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    rows = []
    for k in range(count):
        (root / "data" / f"{k}.jpg").write_bytes(jpeg(k))
        options = "\nA. red\nB. blue\nC. green\nD. white\nAnswer with the option's letter." if k % 2 else ""
        rows.append(
            {
                "images": [f"DeepEyes_train_4K/data/{k}.jpg"],
                "doc_id": f"deepeyes_{k}",
                "problem": f"<image>\nWhat is the color of car {k}?{options}",
                "solution": "B. blue" if k % 2 else "The car is blue.",
                "data_source": "DeepEyes_train_4K",
            }
        )
    (root / "train.json").write_text(json.dumps(rows))
    return root


def visualprobe(root: Path, count: int = 6) -> Path:
    """The same schema, beside its folder of images; answers are texts or numbers."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for k in range(count):
        (root / "images" / f"p{k}.png").write_bytes(encoded(pixels(100 + k), "PNG"))
        rows.append(
            {
                "images": [f"images/p{k}.png"],
                "doc_id": k,
                "problem": f"<image>\nWhat is written on sign {k}?",
                "solution": str(40 + k) if k % 2 else "STOP",
                "data_source": "VisualProbe_train",
            }
        )
    (root / "train.json").write_text(json.dumps(rows))
    return root


ABOUT_THE_BOX = "Only focus on the objects inside the red bounding box in the image to answer this question."


def zwz(root: Path, count: int = 8) -> Path:
    """A CSV whose lists are literals, with boxes in pixels."""
    (root / "original_images").mkdir(parents=True, exist_ok=True)
    rows = []
    for k in range(count):
        (root / "original_images" / f"{k}.jpg").write_bytes(jpeg(200 + k))
        problem = f"<image>How many lamps does pole {k} carry?\nA. 1\nB. 2\nC. 3\nD. 4\n\n{ABOUT_THE_BOX}"
        rows.append(
            {
                "problem": problem,
                "original_images": str([f"original_images/{k}.jpg"]),
                "crop_images": str([f"crop_images/{k}.jpg"]),
                "bbox": str([24, 16, 48, 32]),
                "answer": "ABCD"[k % 4],
                "ability": "counting",
                "data_source": "zwz",
            }
        )
    with (root / "train_crop_clean.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def released(root: Path) -> Path:
    """The authors' parquet: prompts as conversations, images embedded, and the form of each answer."""
    forms = [("mca", "Which color?\nA. red\nB. blue", "A"), ("na", "How many?", "7")]
    forms += [("free_form", "What does the sign say?", "7 UP")]
    rows = [
        {
            "prompt": [{"role": "user", "content": f"<image>\n{question}"}],
            "images": [{"bytes": jpeg(300 + k), "path": None}],
            "reward_model": {"ground_truth": answer, "style": "rule"},
            "data_source": "zwz",
            "extra_info": {"answer_form": form, "index": k},
        }
        for k, (form, question, answer) in enumerate(forms)
    ]
    (root / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "data/train-00000-of-00001.parquet")
    return root
