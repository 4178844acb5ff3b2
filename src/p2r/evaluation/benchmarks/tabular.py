"""A benchmark whose questions are the rows of a table: what vstar, hrbench and the others have in common."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from p2r.datasets.tables import require
from p2r.errors import InputError
from p2r.evaluation.benchmarks.base import Entry, Layout, Unreadable
from p2r.images import ImageSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from p2r.datasets.tables import Table
    from p2r.types import Box, Sample

    Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tabular:
    """Questions from the rows of a table.

    Attributes:
        name: the name on the command line.
        table: where the rows come from.
        columns: the columns that a row must have.
        images: the columns that hold images.
        read: a row and the folder of relative paths → the question; called with and without images.
        locate: a row and the size of its image → gold boxes, where they are given in pixels.
        layout: how the table of results is laid out.
    """

    name: str
    table: Table
    columns: tuple[str, ...]
    images: tuple[str, ...]
    read: Callable[[Row, Path | None], Entry]
    locate: Callable[[Row, tuple[int, int]], tuple[Box, ...]] | None = None
    layout: Layout = field(default_factory=Layout)

    @property
    def source(self) -> str:
        """The files or the hub id."""
        return self.table.source

    @property
    def has_boxes(self) -> bool:
        """Whether gold boxes are known."""
        return self.locate is not None

    def entries(self) -> Iterator[Entry | Unreadable]:
        """All rows without their images; see `Benchmark`."""
        needed = [column for column in self.columns if column not in self.images]
        for number, row in enumerate(self.table.rows(without=self.images), start=1):
            require(row, needed, f"{self.name}: row {number}")
            try:
                yield self.read(row, self.table.root)
            except InputError as error:
                yield Unreadable(f"row {number}", str(error))

    def loaders(self) -> Iterator[Callable[[], Sample]]:
        """All rows with their images, still undecoded; see `Benchmark`."""
        for number, row in enumerate(self.table.rows(), start=1):
            require(row, self.images[:1], self.name)
            yield partial(self.load, number, row)

    def load(self, number: int, row: Row) -> Sample:
        """One row as a sample with its image and gold boxes.

        Raises:
            InputError: names the row and what is wrong with it.
        """
        try:
            sample = self.read(row, self.table.root).sample
            if self.locate is None:
                return sample
            source = ImageSource.open(sample.question.image)
            boxes = self.locate(row, (source.width, source.height))
        except InputError as error:
            raise InputError(f"{self.name}: row {number}: {error}") from error
        return replace(sample, question=replace(sample.question, image=source), boxes=boxes)
