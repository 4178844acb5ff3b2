"""Drawn records on the training device: batches are gathered there, by index.

What decides about indices (worlds, sizes, things, lengths) stays in arrays of the CPU, so that choosing a
batch never waits for the device.
"""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scripts.nano.rows import (
    AIMS,
    CELL,
    CROP_CELLS,
    CROPS,
    KINDS,
    LOOK_KINDS,
    LOOK_LENGTH,
    OVERVIEW_CELLS,
    READ_KINDS,
    READ_LENGTH,
    TARGET,
    THING,
    THINGS,
)
from scripts.nano.tower import send

if TYPE_CHECKING:
    from scripts.nano.drawing import Drawers

_VALUES = 3 * CELL * CELL


@dataclass(frozen=True, slots=True)
class Images:
    """Images of one kind in a batch.

    Attributes:
        cells: uint8, (n, room, 3072), on the device.
        grids: int64, (n, 2), on the CPU.
        things: THING, (n, THINGS).
        worlds: int64, (n,), on the CPU; the last number is for sheets.
    """

    cells: torch.Tensor
    grids: torch.Tensor
    things: np.ndarray
    worlds: np.ndarray


class Rows:
    """Rows of one length: their arrays on the device, their kinds, scenes and worlds on the CPU."""

    def __init__(self, length: int, capacity: int, device: torch.device) -> None:
        self.count = self.pending = 0
        self.kind, self.scene, self.world, self.lengths = (np.zeros(capacity, np.int64) for _ in range(4))
        self._groups: dict[tuple[int, int], tuple[int, np.ndarray]] = {}
        shapes: dict[str, tuple[int, ...]] = {
            "start": (),
            "ids": (length,),
            "source": (length,),
            "places": (3, length),
            "target": (TARGET,),
            "aims": (AIMS, 6),
        }
        self.arrays = {
            name: torch.zeros((capacity, *shape), dtype=torch.int16, device=device)
            for name, shape in shapes.items()
        }

    def add(self, rows: np.ndarray, scenes: np.ndarray, worlds: np.ndarray) -> None:
        """Append the rows of records, (records, slots), that are there; `commit` shows them."""
        record, slot = np.nonzero(rows["kind"] >= 0)
        begin, end = self.count, self.count + len(record)
        kept = rows[record, slot]
        self.kind[begin:end], self.lengths[begin:end] = kept["kind"], kept["length"]
        self.scene[begin:end], self.world[begin:end] = scenes[record], worlds[record]
        for name, array in self.arrays.items():
            array[begin:end] = torch.from_numpy(np.ascontiguousarray(kept[name])).to(array.device)
        self.pending = end

    def commit(self) -> None:
        """Show what was added."""
        self.count = self.pending

    def choose(
        self, kind: str, count: int, rng: np.random.Generator, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Rows of a kind: all evenly, or worlds by `weights`."""
        if count <= 0:
            return np.zeros(0, np.int64)
        groups = [self.group(kind, world) for world in range(len(weights) if weights is not None else 64)]
        there = np.array([len(group) for group in groups], float)
        shares = there if weights is None else weights * (there > 0)
        if shares.sum() == 0:
            return np.zeros(0, np.int64)
        drawn = rng.multinomial(count, shares / shares.sum())
        return np.concatenate(
            [group[rng.integers(0, len(group), n)] for group, n in zip(groups, drawn, strict=True) if n]
        )

    def group(self, kind: str, world: int) -> np.ndarray:
        """The rows of a kind and a world, looked for again when there are two per cent more."""
        key = (KINDS.index(kind), world)
        known, found = self._groups.get(key, (0, np.zeros(0, np.int64)))
        count = self.count
        if count > 1.02 * known:
            new = slice(known, count)
            found = np.concatenate(
                [found, known + np.flatnonzero((self.kind[new] == key[0]) & (self.world[new] == world))]
            )
            self._groups[key] = (count, found)
        return found


class Pool:
    """Records on a device.

    Args:
        capacity: records; later ones are not taken.
        worlds: how many there are.
        device: where.
    """

    def __init__(self, capacity: int, worlds: int, device: torch.device) -> None:
        self.device, self.worlds, self.capacity = device, worlds, capacity
        scenes, crops = capacity, 2 * capacity
        self.scenes = self.crops = 0

        def pixels(count: int, room: int) -> torch.Tensor:
            return torch.zeros((count, room, _VALUES), dtype=torch.uint8, device=device)

        self.overview, self.annotated = pixels(scenes, OVERVIEW_CELLS), pixels(scenes, OVERVIEW_CELLS)
        self.crop = pixels(crops, CROP_CELLS)
        self.world, self.index = np.zeros(scenes, np.int64), np.zeros(scenes, np.int64)
        self.grids, self.crop_grids = np.zeros((scenes, 2), np.int64), np.zeros((crops, 2), np.int64)
        self.things = np.zeros((scenes, THINGS), THING)
        self.crop_things, self.crop_world = np.zeros((crops, THINGS), THING), np.zeros(crops, np.int64)
        self.first_crop, self.crop_count = np.zeros(scenes, np.int64), np.zeros(scenes, np.int64)
        self.look = Rows(LOOK_LENGTH, len(LOOK_KINDS) * capacity, device)
        self.read = Rows(READ_LENGTH, len(READ_KINDS) * capacity, device)

    @property
    def full(self) -> bool:
        """Whether it takes no more."""
        return self.scenes + 64 > self.capacity or self.crops + 3 * 64 > 2 * self.capacity

    def add(self, records: np.ndarray) -> None:
        """Append a block of at most 64 records."""
        if self.full or not len(records):
            return
        number, slot = np.nonzero(np.arange(CROPS) < records["crops"][:, None])
        begin, end = self.crops, self.crops + len(number)
        self.crop[begin:end] = torch.from_numpy(records["crop"][number, slot]).to(self.device)
        self.crop_grids[begin:end] = records["crop_grids"][number, slot]
        self.crop_things[begin:end] = records["crop_things"][number, slot]
        # Sheets come last in every count by world.
        self.crop_world[begin:end] = np.where(records["world"] < 0, self.worlds, records["world"])[number]
        first = begin + np.cumsum(records["crops"]) - records["crops"]
        crops = end
        drawn = records["world"] >= 0
        kept = records[drawn]
        begin, end = self.scenes, self.scenes + len(kept)
        for name, array in (("overview", self.overview), ("annotated", self.annotated)):
            array[begin:end] = torch.from_numpy(np.ascontiguousarray(kept[name])).to(self.device)
        self.world[begin:end], self.index[begin:end] = kept["world"], kept["index"]
        self.grids[begin:end], self.things[begin:end] = kept["overview_grid"], kept["overview_things"]
        self.first_crop[begin:end], self.crop_count[begin:end] = first[drawn], kept["crops"]
        self.look.add(kept["look"], np.arange(begin, end), kept["world"])
        self.read.add(kept["read"], np.arange(begin, end), kept["world"])
        if self.device.type == "cuda":
            # Only of this thread's stream: what is shown to the training thread has arrived.
            torch.cuda.current_stream().synchronize()
        self.crops, self.scenes = crops, end
        self.look.commit()
        self.read.commit()

    def overviews(self, scenes: np.ndarray, *, annotated: bool) -> Images:
        """The overviews of scenes."""
        source = self.annotated if annotated else self.overview
        return Images(
            source[self.send(scenes)],
            torch.from_numpy(self.grids[scenes]),
            self.things[scenes],
            self.world[scenes],
        )

    def close_ups(self, crops: np.ndarray) -> Images:
        """Crops (or sheets) by number."""
        return Images(
            self.crop[self.send(crops)],
            torch.from_numpy(self.crop_grids[crops]),
            self.crop_things[crops],
            self.crop_world[crops],
        )

    def send(self, array: np.ndarray) -> torch.Tensor:
        """An array on the device, without waiting."""
        return send(torch.from_numpy(np.ascontiguousarray(array)), self.device)


class Ingester(threading.Thread):
    """Moves what is drawn into the pools, on a stream of its own, beside the training."""

    def __init__(self, drawers: Drawers, pool: Pool, validation: Pool) -> None:
        super().__init__(daemon=True)
        self.drawers, self.pool, self.validation = drawers, pool, validation
        self.taken = 0
        self.error: BaseException | None = None
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Until `stop`, or until the pool is full."""
        try:
            cuda = self.pool.device.type == "cuda"
            if cuda:
                # The memory of the pools was cleared on the other stream.
                torch.cuda.synchronize()
            own = torch.cuda.Stream() if cuda else None  # type: ignore[no-untyped-call]
            with torch.cuda.stream(own) if own else nullcontext():
                while not (self._stop_asked.is_set() or self.pool.full):
                    if not self._ingest():
                        time.sleep(0.01)
        except BaseException as error:  # noqa: BLE001 (the training thread tells it)
            self.error = error

    def _ingest(self) -> int:
        before = self.taken
        for block in self.drawers.take(512):
            for begin in range(0, len(block), 32):
                part = block[begin : begin + 32]
                checks = part["validation"] == 1
                self.validation.add(part[checks])
                self.pool.add(part[~checks])
                self.taken += len(part)
        return self.taken - before

    def stop(self) -> None:
        """End the thread."""
        self._stop_asked.set()
        self.join(20)


def batch_of(pool: Pool, rows: Rows, chosen: np.ndarray) -> dict[str, Any]:
    """The arrays of rows, cut to the longest of them; int64 on the device, kinds and worlds on the CPU."""
    length = -(-int(rows.lengths[chosen].max()) // 8) * 8
    where = pool.send(chosen)
    batch: dict[str, Any] = {name: array[where].long() for name, array in rows.arrays.items()}
    for name in ("ids", "source", "places"):
        batch[name] = batch[name][..., :length]
    batch["kind"], batch["scene"] = rows.kind[chosen], rows.scene[chosen]
    batch["world"] = rows.world[chosen]
    return batch
