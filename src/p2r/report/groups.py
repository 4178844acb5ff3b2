"""Questions in groups, each with its accuracy: what the plots of the report show."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING

from p2r.evaluation.outcomes import located
from p2r.evaluation.statistics import wilson
from p2r.evaluation.summary import grouped
from p2r.report.plots import Point

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from p2r.evaluation.records import Record
    from p2r.evaluation.summary import Key
    from p2r.report.columns import Column

# Sides of the evidence as a share of the image's, and IoU: where the bins begin and end.
SIZE_BINS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 1.01)
IOU_BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 1.01)


def by_category(columns: Sequence[Column], headings: Mapping[str, str]) -> list[tuple[str, list[Point]]]:
    """Accuracy of each category, then of everything."""
    found = _points(columns, lambda line: str(line["category"]))
    order = [name for name in headings if name in found] + [name for name in found if name not in headings]
    groups = [(headings.get(name, name) or "other", found[name]) for name in order]
    whole = ("All", _points(columns, lambda _: 0)[0])
    return [*groups, whole] if len(groups) > 1 else [whole]


def by_evidence_size(columns: Sequence[Column]) -> list[tuple[str, list[Point]]]:
    """Accuracy by how small the evidence is: the side of the smallest gold box, against the image's."""
    return _binned(
        columns, _evidence_side, SIZE_BINS, lambda low, high: _range(low, high, "% of the image's side")
    )


def by_iou(columns: Sequence[Column]) -> list[tuple[str, list[Point]]]:
    """Accuracy by how well the boxes fit: are good boxes worth anything?"""
    return _binned(columns, _iou, IOU_BINS, lambda low, high: f"IoU {low:g}–{min(high, 1):g}")


def _binned(
    columns: Sequence[Column],
    measure: Callable[[Record], float | None],
    edges: Sequence[float],
    label: Callable[[float, float], str],
) -> list[tuple[str, list[Point]]]:
    def bin_of(line: Record) -> int | None:
        value = measure(line)
        return None if value is None else bisect_right(edges, value) - 1

    return [(label(*edges[at : at + 2]), points) for at, points in _points(columns, bin_of).items()]


def _points(columns: Sequence[Column], key: Callable[[Record], Key | None]) -> dict[Key, list[Point]]:
    """For each value of `key`, in order: the accuracy of each column that has lines with it."""
    found: dict[Key, list[Point]] = defaultdict(list)
    for series, column in enumerate(columns):
        for value, lines in grouped(column.lines.values(), key).items():
            correct = sum(line.get("correct") is True for line in lines)
            point = Point(series, correct / len(lines), *wilson(correct, len(lines)), len(lines))
            found[value].append(point)
    return dict(sorted(found.items()))


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
