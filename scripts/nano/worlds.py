"""Stands in for p2r.scenes until it has worlds."""

from __future__ import annotations

from p2r.scenes import make_sample as _make
from p2r.scenes import render as _render

WORLDS = ("tags",)


def make_sample(split, index, *, seed=0, world="tags", difficulty=None, family=None):
    return _make(split, index, seed=seed, family=family)


def render(made, size, rect=(0.0, 0.0, 1.0, 1.0)):
    return _render(made.scene, size, rect)


def fonts(split):
    return ("",)
