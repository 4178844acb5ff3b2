"""Draws the scenes of a recipe into a folder, side by side on all cores; what is there already is kept."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.runs.files import NO_LIMIT, encode_json, folder_lock, write_file, write_json
from p2r.runs.identity import claim
from p2r.scenes import make_sample
from p2r.scenes.files import draw_files
from p2r.training.run_folder import read_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from p2r.scenes import SceneSample
    from p2r.training.recipe import Scenes

SERIES = "scenes.json"


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
        claim(folder, SERIES, ("images", "samples-*.jsonl"))
        # Runs that share a folder and begin together wait for each other here.
        with folder_lock(folder, wait_s=NO_LIMIT):
            _check_series(folder, series)
            (folder / "images").mkdir(exist_ok=True)
            made = [_scaled(index, scenes) for index in range(scenes.count)]
            jobs = [(one, folder / one.file) for one in made]
            for done, _ in enumerate(draw_files(jobs, workers=os.cpu_count() or 1), 1):
                if on_drawn:
                    on_drawn(done)
            path = folder / f"samples-{scenes.count}.jsonl"
            if not path.exists():
                write_file(path, b"".join(encode_json(one.row()) + b"\n" for one in made))
    except OSError as error:
        raise InputError(f"cannot write scenes to {folder}: {error.strerror or error}") from error
    return path


def _check_series(folder: Path, series: dict[str, Any]) -> None:
    path = folder / SERIES
    if path.exists():
        there = read_json(path)
        if there != series:
            raise InputError(
                f"{folder} holds other scenes ({there}): set data.scenes.folder to another folder"
            )
    write_json(path, series)


def _scaled(index: int, scenes: Scenes) -> SceneSample:
    made = make_sample("train", index, seed=scenes.seed, size=scenes.size)
    width, height = made.size
    return replace(made, size=(round(width * scenes.scale), round(height * scenes.scale)))
