"""Thumbnails: the overview of each question and the crops of each answer, small enough for one file.

The page has a budget of bytes; each question gets its share, and an image is made smaller and coarser until
it fits. Of very many questions some are shown: first those that were not answered right.
"""

from __future__ import annotations

import base64
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pyvips

from p2r.errors import InputError, P2RError
from p2r.evaluation.benchmarks import open_benchmark, select
from p2r.images import ImageSource

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from p2r.report.columns import Column
    from p2r.types import RectPx, Sample

T = TypeVar("T")

PAGE_BYTES = 5_000_000  # of images, before base64 makes four bytes of three
MOST_BYTES = 40_000  # for one question, also where there are few
MOST_QUESTIONS = 400  # with images: with more of them each would be too small to see anything
OVERVIEW_SHARE = 0.6
# Longest side in pixels and WebP quality, from the best to the least that is worth showing.
OVERVIEW_STEPS = ((720, 68), (560, 60), (420, 52), (300, 45), (200, 40))
CROP_STEPS = ((240, 62), (180, 55), (128, 48), (96, 40))


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """The images of one question, as `data:` URIs.

    Attributes:
        overview: the whole image; empty when it did not fit.
        crops: label of a column → its crops, in box order.
    """

    overview: str
    crops: Mapping[str, tuple[str, ...]]


def illustrated(columns: Sequence[Column], names: Sequence[str]) -> list[str]:
    """The questions that get thumbnails: all, or of very many some, evenly, not the right ones first."""
    right: dict[bool, list[str]] = {False: [], True: []}
    for name in names:
        lines = [column.lines[name] for column in columns if name in column.lines]
        right[all(line.get("correct") is True for line in lines)].append(name)
    first = evenly(right[False], MOST_QUESTIONS)
    return [*first, *(evenly(right[True], MOST_QUESTIONS - len(first)))]


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, evenly from the first to the last."""
    if len(items) <= most:
        return list(items)
    if most < 2:
        return [items[-1]][:most]
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def thumbnails(
    columns: Sequence[Column], wanted: Collection[str], data: str | None = None
) -> Iterator[tuple[str, Thumbnails]]:
    """Read the benchmark again and make the thumbnails of some questions, on all cores.

    Args:
        columns: of the report; they are of one benchmark.
        wanted: which questions.
        data: where it is now; None for where it was.

    Raises:
        InputError: the benchmark is not where it was, or is another one now.
    """
    budget = min(MOST_BYTES, PAGE_BYTES // max(1, len(wanted)))

    def make(name: str, load: Callable[[], Sample]) -> tuple[str, Thumbnails] | None:
        try:
            source = ImageSource.open(load().question.image)
            return name, _of_question(name, source, columns, budget)
        except InputError:
            return None  # it could not be read in the run either; its failure is on the page

    jobs = (partial(make, name, load) for name, load in _loaders(columns[0], data, frozenset(wanted)))
    yield from filter(None, on_all_cores(jobs))


def on_all_cores(jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What the jobs return, in order; few of them wait at a time, because each may hold an encoded image."""
    waiting: deque[Future[T]] = deque()
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) > 2 * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _loaders(
    column: Column, data: str | None, wanted: frozenset[str]
) -> Iterator[tuple[str, Callable[[], Sample]]]:
    config = column.run.config
    opening = config.get("opening")
    if not opening:
        raise InputError("the run does not say how its benchmark was opened")
    benchmark = open_benchmark(**{**opening, "data": data or opening["data"]})
    selection = select(benchmark)
    if selection.fingerprint != config["identity"]["data"]:
        raise InputError(f"{benchmark.source} holds other questions than the run asked")
    for chosen, load in selection.tasks(skip=lambda name: name not in wanted):
        yield chosen.id, load


def _of_question(name: str, source: ImageSource, columns: Sequence[Column], budget: int) -> Thumbnails:
    cut = {
        column.label: [(x0, y0, x1, y1) for x0, y0, x1, y1 in column.lines[name].get("crops_px", ())]
        for column in columns
        if name in column.lines
    }
    rects = {rect for found in cut.values() for rect in found}
    share = OVERVIEW_SHARE if rects else 1.0
    whole = (0, 0, source.width, source.height)
    overview = thumbnail(source, whole, OVERVIEW_STEPS, int(share * budget))
    left = budget - len(overview) * 3 // 4
    # Two modes, or two runs, often cut the same region: it is encoded once.
    encoded = {rect: thumbnail(source, rect, CROP_STEPS, left // len(rects)) for rect in sorted(rects)}
    return Thumbnails(
        overview, {label: tuple(encoded[rect] for rect in found) for label, found in cut.items()}
    )


def thumbnail(source: ImageSource, rect: RectPx, steps: Sequence[tuple[int, int]], most_bytes: int) -> str:
    """A region as a `data:` URI of at most `most_bytes` (before base64); empty when that is too little."""
    width, height = rect[2] - rect[0], rect[3] - rect[1]
    scale = min(1.0, steps[0][0] / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    try:
        pixels = source.region(rect, size).pixels
    except P2RError:
        return ""
    image = pyvips.Image.new_from_memory(pixels.tobytes(), size[0], size[1], 3, "uchar")
    expected = 0.0  # bytes for each pixel and point of quality, as seen at the last attempt
    for side, quality in steps:
        smaller = image.resize(min(1.0, side / max(size)))
        work = smaller.width * smaller.height * quality
        if expected * work > most_bytes:
            continue  # the attempt would be in vain
        encoded = smaller.webpsave_buffer(Q=quality, effort=1, strip=True)
        if len(encoded) <= most_bytes:
            return f"data:image/webp;base64,{base64.b64encode(encoded).decode()}"
        expected = 0.9 * len(encoded) / work
    return ""
