"""Synthetic high-resolution scenes with known answers and known evidence."""

from p2r.scenes.files import write_samples, write_scenes
from p2r.scenes.fonts import SPLITS, Split
from p2r.scenes.sampling import (
    ASPECTS,
    FAMILIES,
    SIZES,
    WORLDS,
    SceneSample,
    make_sample,
    make_samples,
    parse_size,
)
from p2r.scenes.world import WHOLE, Difficulty, Rect, Scene, Target, Task, World

__all__ = [
    "ASPECTS",
    "FAMILIES",
    "SIZES",
    "SPLITS",
    "WHOLE",
    "WORLDS",
    "Difficulty",
    "Rect",
    "Scene",
    "SceneSample",
    "Split",
    "Target",
    "Task",
    "World",
    "make_sample",
    "make_samples",
    "parse_size",
    "write_samples",
    "write_scenes",
]
