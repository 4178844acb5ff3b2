"""Draws the scenes of a recipe into a folder, side by side on all cores; what is there already is kept."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.journal import FolderLock, write_json
from p2r.scenes import make_sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from p2r.scenes import SceneSample
    from p2r.training.recipe import Scenes

SERIES = "scenes.json"
_QUALITY = 92


def draw_scenes(folder: Path, scenes: Scenes, on_drawn: Callable[[int], None] | None = None) -> Path:
    """Draw scenes of the train split and write their samples; returns the file of samples.

    Args:
        folder: where; may hold more scenes of the same series from another run.
        scenes: which.
        on_drawn: is told how many are there.

    Raises:
        InputError: the folder cannot be written, or holds another series.
    """
    series = {"split": "train", **scenes.model_dump(exclude={"count", "folder"})}
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        with FolderLock(folder):
            _check_series(folder, series)
            made = [
                make_sample("train", index, seed=scenes.seed, size=scenes.size)
                for index in range(scenes.count)
            ]
            _draw_all(folder, made, scenes, on_drawn)
            path = folder / f"samples-{scenes.count}.jsonl"
            if not path.exists():
                partial = path.with_suffix(".part")
                rows = [json.dumps(_row(one, _name(one, scenes)), ensure_ascii=False) for one in made]
                partial.write_text("\n".join(rows) + "\n", encoding="utf-8")
                partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot write scenes to {folder}: {error.strerror or error}") from error
    return path


def _check_series(folder: Path, series: dict[str, Any]) -> None:
    path = folder / SERIES
    if path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        if there != series:
            raise InputError(
                f"{folder} holds other scenes ({there}): set data.scenes.folder to another folder"
            )
    write_json(path, series)


def _draw_all(
    folder: Path, made: list[SceneSample], scenes: Scenes, on_drawn: Callable[[int], None] | None
) -> None:
    missing = [index for index, one in enumerate(made) if not (folder / _name(one, scenes)).exists()]
    done = len(made) - len(missing)
    if on_drawn:
        on_drawn(done)
    if not missing:
        return
    jobs = [(folder, scenes, index) for index in missing]
    # Not forked: libvips has threads of its own.
    pool = ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"))
    try:
        for _ in pool.map(_draw, jobs, chunksize=4):
            done += 1
            if on_drawn:
                on_drawn(done)
    finally:
        # After an interrupt nothing more is begun.
        pool.shutdown(cancel_futures=True)


def _draw(job: tuple[Path, Scenes, int]) -> None:
    import pyvips

    pyvips.concurrency_set(1)
    folder, scenes, index = job
    made = make_sample("train", index, seed=scenes.seed, size=scenes.size)
    path = folder / _name(made, scenes)
    partial = path.with_suffix(".part.jpg")
    pixels = replace(made, size=_scaled(made, scenes)).render()
    pyvips.Image.new_from_array(pixels).write_to_file(str(partial), Q=_QUALITY)
    partial.replace(path)


def _scaled(made: SceneSample, scenes: Scenes) -> tuple[int, int]:
    width, height = made.size
    return round(width * scenes.scale), round(height * scenes.scale)


def _name(made: SceneSample, scenes: Scenes) -> str:
    width, height = _scaled(made, scenes)
    return f"images/{made.id}-{width}x{height}.jpg"


def _row(made: SceneSample, image: str) -> dict[str, Any]:
    sample = made.sample(image)
    question = sample.question
    return {
        "id": made.id,
        "image": image,
        "question": question.text,
        "choices": list(question.choices),
        "answer_type": question.answer_type,
        "answer": sample.answer,
        "boxes": [list(box.as_tuple()) for box in made.boxes],
        "family": sample.category,
    }
