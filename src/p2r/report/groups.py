"""Questions in groups, each with its accuracy: what the plots of the report show."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from p2r.evaluation.outcomes import located
from p2r.evaluation.statistics import wilson
from p2r.report.plots import Point

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from p2r.evaluation.records import Record
    from p2r.report.columns import Column

# Sides of the evidence as a share of the picture's, and IoU: where the bins begin and end.
SIZE_BINS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 1.01)
IOU_BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 1.01)


def by_category(columns: Sequence[Column], headings: Mapping[str, str]) -> list[tuple[str, list[Point]]]:
    """Accuracy of each category, then of everything."""
    found = sorted({line["category"] for column in columns for line in column.lines.values()})
    order = [name for name in headings if name in found] + [name for name in found if name not in headings]
    groups = [(headings.get(name, name) or "other", _points(columns, _has_category(name))) for name in order]
    whole = ("All", _points(columns, lambda _: True))
    return [*groups, whole] if len(groups) > 1 else [whole]


def _has_category(name: str) -> Callable[[Record], bool]:
    return lambda line: bool(line["category"] == name)


def by_evidence_size(columns: Sequence[Column]) -> list[tuple[str, list[Point]]]:
    """Accuracy by how small the evidence is: the side of the smallest gold box, against the picture's."""
    return _binned(
        columns, _evidence_side, SIZE_BINS, lambda low, high: _range(low, high, "% of the picture's side")
    )


def by_iou(columns: Sequence[Column]) -> list[tuple[str, list[Point]]]:
    """Accuracy by how well the boxes fit: are good boxes worth anything?"""
    perceived = [column for column in columns if column.mode == "p2r"]
    return _binned(perceived, _iou, IOU_BINS, lambda low, high: f"IoU {low:g}–{min(high, 1):g}", columns)


def _binned(
    columns: Sequence[Column],
    measure: Callable[[Record], float | None],
    edges: Sequence[float],
    label: Callable[[float, float], str],
    among: Sequence[Column] | None = None,
) -> list[tuple[str, list[Point]]]:
    groups = []
    for low, high in itertools.pairwise(edges):

        def inside(line: Record, low: float = low, high: float = high) -> bool:
            value = measure(line)
            return value is not None and low <= value < high

        if points := _points(columns, inside, among):
            groups.append((label(low, high), points))
    return groups


def _points(
    columns: Sequence[Column], wanted: Callable[[Record], bool], among: Sequence[Column] | None = None
) -> list[Point]:
    points = []
    for column in columns:
        lines = [line for line in column.lines.values() if wanted(line)]
        if lines:
            correct = sum(line.get("correct") is True for line in lines)
            series = list(among or columns).index(column)
            points.append(Point(series, correct / len(lines), *wilson(correct, len(lines)), len(lines)))
    return points


def _evidence_side(line: Record) -> float | None:
    boxes = line.get("gold_boxes")
    if not boxes:
        return None
    return float(min(((x1 - x0) * (y1 - y0)) ** 0.5 for x0, y0, x1, y1 in boxes) / 1000)


def _iou(line: Record) -> float | None:
    found = located(line) if "error" not in line else None
    return min(found.iou) if found and found.iou else None


def _range(low: float, high: float, unit: str) -> str:
    if low == 0:
        return f"under {100 * high:g} {unit}"
    if high > 1:
        return f"over {100 * low:g} {unit}"
    return f"{100 * low:g}–{100 * high:g} {unit}"
