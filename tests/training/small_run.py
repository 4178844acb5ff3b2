"""A run that takes seconds: a few small images of different shapes, questions with two options."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image

if TYPE_CHECKING:
    from pathlib import Path

SIZES = ((320, 240), (240, 320), (300, 300), (400, 200))


def write_samples(folder: Path, count: int = 8) -> Path:
    """`count` questions about images of four shapes; answers take turns, two gold boxes are given."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        width, height = SIZES[number % len(SIZES)]
        pixels = rng.integers(0, 255, (height // 20, width // 20, 3), np.uint8)
        PIL.Image.fromarray(pixels).resize((width, height), 0).save(folder / f"{number}.png")
        rows.append(
            {
                "id": f"q{number}",
                "image": f"{number}.png",
                "question": f"What is number {number}?",
                "choices": ["red", "blue"],
                "answer": "AB"[number % 2],
                "answer_type": "choice",
                "boxes": [[100, 100, 250, 250]],
            }
        )
    path = folder / "samples.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def recipe(model: Path, samples: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of one round, two steps a phase, as plain data."""
    training = {
        "steps": 2,
        "prompts": 2,
        "group": 4,
        "micro_batch": 8,
        "learning_rate": 1e-2,
        "kl": 0.05,
        "gradient_checkpointing": False,
        "save_every": 1,
    }
    return {
        "name": "small",
        "model": str(model),
        "data": {"samples": str(samples)},
        "precision": "float32",
        "attention": "eager",
        **changes,
        "training": training | changes.get("training", {}),
    }


def write_recipe(path: Path, data: dict[str, Any]) -> Path:
    """As a file; JSON is YAML."""
    path.write_text(json.dumps(data))
    return path
