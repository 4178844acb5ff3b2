"""Synthetic high-resolution scenes with known answers and known evidence."""

from p2r.scenes.dataset import (
    ASPECTS,
    SIZES,
    SPLITS,
    SceneSample,
    Split,
    make_sample,
    parse_size,
    write_scenes,
)
from p2r.scenes.families import FAMILIES, Family, Task, draw_task
from p2r.scenes.layout import COLORS, GROUNDS, Scene, SceneObject
from p2r.scenes.render import render

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
