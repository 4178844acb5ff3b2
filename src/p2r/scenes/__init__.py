"""Synthetic high-resolution scenes with known answers and known evidence."""

from p2r.scenes.drawing import render
from p2r.scenes.files import (
    ASPECTS,
    SIZES,
    SPLITS,
    SceneSample,
    Split,
    make_sample,
    parse_size,
    write_scenes,
)
from p2r.scenes.layout import COLORS, GROUNDS, Scene, SceneObject
from p2r.scenes.questions import FAMILIES, Family, Task, draw_task

__all__ = [
    "ASPECTS",
    "COLORS",
    "FAMILIES",
    "GROUNDS",
    "SIZES",
    "SPLITS",
    "Family",
    "Scene",
    "SceneObject",
    "SceneSample",
    "Split",
    "Task",
    "draw_task",
    "make_sample",
    "parse_size",
    "render",
    "write_scenes",
]
