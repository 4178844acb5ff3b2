"""Processes that draw scenes at nano's own sizes and write them, with their rows, into shared memory.

Evidence is made by `p2r.evidence` from noisy gold boxes, so the model learns on what the pipeline shows.
Beside scenes there are sheets of writing: a scene's crop holds one or two short texts, a sheet eight, so that
the vision tower learns to read sooner.
"""

from __future__ import annotations

import functools
import mmap
import os
import random
import string
import time
import traceback
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from p2r.evidence import crop_region, draw_boxes
from p2r.images import EncodedImage, smart_resize
from p2r.scenes import Difficulty, make_sample
from p2r.scenes.fonts import FONTS, Font
from p2r.types import Box
from scripts.nano.rows import (
    CELL,
    CROP_CELLS,
    CROPS,
    LOOK_KINDS,
    LOOK_LENGTH,
    OVERVIEW_CELLS,
    READ_KINDS,
    READ_LENGTH,
    THING,
    THINGS,
    RowWriter,
    View,
    row_type,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenizers import Tokenizer

    from p2r.scenes import SceneSample
    from p2r.settings import Settings

# Standard deviation of each corner of a noisy gold box, 0–1000.
CORNER_NOISE = 9.0
# How often a scene's evidence lacks its last box: the reasoner must cope with an incomplete perceiver.
MISSING_EVIDENCE = 0.15
# The share of records that are sheets of writing.
SHEETS = 0.12
_SEED = 2  # of the scenes
_PATCH = CELL // 2
_VALUES = 3 * CELL * CELL

# A scene, or (world −1) sheets in the place of its crops. Grids are columns and rows of cells.
RECORD = np.dtype(
    [
        ("world", "i2"),
        ("index", "i4"),
        ("validation", "i2"),
        ("crops", "i2"),
        ("overview_grid", "i2", 2),
        ("crop_grids", "i2", (CROPS, 2)),
        ("overview", "u1", (OVERVIEW_CELLS, _VALUES)),
        ("annotated", "u1", (OVERVIEW_CELLS, _VALUES)),
        ("crop", "u1", (CROPS, CROP_CELLS, _VALUES)),
        ("overview_things", THING, THINGS),
        ("crop_things", THING, (CROPS, THINGS)),
        ("look", row_type(LOOK_LENGTH), len(LOOK_KINDS)),
        ("read", row_type(READ_LENGTH), len(READ_KINDS)),
    ]
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the processes draw.

    Attributes:
        worlds: those that are trained.
        held_out: drawn for validation only.
        validation: scenes of each world.
    """

    worlds: tuple[str, ...]
    held_out: tuple[str, ...]
    validation: int

    @property
    def all(self) -> tuple[str, ...]:
        """Every world, in the order of the numbers in records."""
        return self.worlds + self.held_out


class Drawers:
    """Processes with a ring of records each, in memory that they share with this one.

    They must start before this process uses a GPU, because they are forked.

    Args:
        plan: what to draw.
        workers: processes.
        ring: records that one of them may be ahead.
    """

    def __init__(
        self, plan: Plan, tokenizer: Tokenizer, settings: Settings, *, workers: int, ring: int = 192
    ) -> None:
        self.ring = ring
        # Not /dev/shm, which is often small: anonymous memory is inherited by a fork.
        self._memory = [mmap.mmap(-1, ring * RECORD.itemsize) for _ in range(workers)]
        self._counts = mmap.mmap(-1, 16 * workers)
        self.records = [np.ndarray(ring, RECORD, buffer=memory) for memory in self._memory]
        # Records written and records taken, by process.
        self.counts = np.ndarray((workers, 2), np.int64, buffer=self._counts)
        context = get_context("fork")
        self.processes = [
            context.Process(
                target=_draw_forever,
                args=(plan, RowWriter(tokenizer, settings), self.records[k], self.counts[k], k, workers),
                daemon=True,
            )
            for k in range(workers)
        ]
        for process in self.processes:
            process.start()

    def take(self, most: int = 1_000_000) -> Iterator[np.ndarray]:
        """Blocks of new records; each is free to be overwritten when the next one is asked for."""
        for records, count in zip(self.records, self.counts, strict=True):
            written, taken = int(count[0]), int(count[1])
            while taken < written and most > 0:
                begin = taken % self.ring
                number = min(written - taken, self.ring - begin, most)
                yield records[begin : begin + number]
                taken, most = taken + number, most - number
                count[1] = taken

    @property
    def drawn(self) -> int:
        """Records drawn so far."""
        return int(self.counts[:, 0].sum())

    def stop(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join(5)


def _draw_forever(
    plan: Plan, writer: RowWriter, records: np.ndarray, count: np.ndarray, worker: int, workers: int
) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.nice(10)  # the training must not wait for a core
    rng = random.Random(f"drawer-{worker}-{time.time_ns()}")
    jobs = _jobs(plan, rng, worker, workers)
    failures = 0
    for job in jobs:
        while count[0] - count[1] >= len(records):
            if os.getppid() == 1:
                return
            time.sleep(0.002)
        try:
            drawn = fill(records[count[0] % len(records)], plan, writer, *job, rng)
        except Exception:  # noqa: BLE001 (one bad scene must not end a run)
            failures += 1
            drawn = False
            if failures < 4:
                print(f"drawing {job} failed:\n{traceback.format_exc()}", flush=True)
        if drawn:
            count[0] += 1


def _jobs(plan: Plan, rng: random.Random, worker: int, workers: int) -> Iterator[tuple[int, int, bool]]:
    """World (−1 for sheets), index, whether for validation."""
    for number in range(worker, plan.validation * len(plan.all), workers):
        yield number % len(plan.all), number // len(plan.all), True
    # A continued run draws other scenes.
    index = worker + workers * rng.randrange(2**20)
    while True:
        index += workers
        yield (-1 if rng.random() < SHEETS else rng.randrange(len(plan.worlds))), index, False


def fill(
    record: Any, plan: Plan, writer: RowWriter, world: int, index: int, validation: bool, rng: random.Random
) -> bool:
    """Draw one scene, or sheets, into a record; whether it can be used."""
    record["world"], record["index"], record["validation"], record["crops"] = world, index, validation, 0
    record["look"]["kind"] = -1
    record["read"]["kind"] = -1
    if world < 0:
        for number in range(CROPS):
            pixels, things = draw_sheet(rng, writer)
            _put(record, number, pixels)
            record["crop_things"][number] = things
        record["crops"] = CROPS
        return True
    made = (
        validation_scene(plan, world, index)
        if validation
        else make_sample("train", index, seed=_SEED, world=plan.all[world], difficulty=difficulty(rng))
    )
    settings = writer.settings
    gold = [Box(*box.as_tuple(), box.label) for box in made.boxes]
    if validation:
        evidence = gold
    else:
        kept = gold[:-1] if len(gold) > 1 and rng.random() < MISSING_EVIDENCE else gold
        evidence = [noisy(rng, box) for box in kept]
    size = _fit(made.size, settings.budget.overview_max_pixels, settings)
    overview = made.scene.render(size)
    look = View((size[0] // CELL, size[1] // CELL))
    record["overview_grid"] = look.grid
    record["overview"][: look.cells] = cells_of(overview)
    annotated = draw_boxes(EncodedImage(overview), evidence, settings.geometry).pixels
    record["annotated"][: look.cells] = cells_of(annotated)
    views = []
    for number, box in enumerate(evidence[:CROPS]):
        view, pixels = _crop(made, box, settings)
        views.append(view)
        _put(record, number, pixels)
    record["crops"] = len(views)
    record["overview_things"] = writer.things([look], made, near=False)[0]
    record["crop_things"][: len(views)] = writer.things(views, made, near=True)
    # Boxes to list are as they are: noise would only blur what is learned.
    for rows, name in (
        (writer.look_rows(made, look, gold), "look"),
        (writer.read_rows(made, look, views, evidence[:CROPS]), "read"),
    ):
        if not views and name == "read":
            continue
        for slot, row in enumerate(rows):
            record[name][slot] = row
    return True


def validation_scene(plan: Plan, world: int, index: int) -> SceneSample:
    """Scene `index` of the validation split of a world."""
    return make_sample("validation", index, seed=_SEED, world=plan.all[world])


def difficulty(rng: random.Random) -> Difficulty:
    """The world's own in most scenes, else another size of the writing, contrast and clutter."""
    if rng.random() < 0.6:
        return Difficulty()
    size = rng.uniform(3.5, 6.5) if rng.random() < 0.5 else None
    return Difficulty(size, rng.uniform(0.6, 1.0), rng.random())


def noisy(rng: random.Random, box: Box, deviation: float = CORNER_NOISE) -> Box:
    """`box` with each corner moved by Gaussian noise, still a box within the image."""
    x0, y0, x1, y1 = (min(1000.0, max(0.0, value + rng.gauss(0, deviation))) for value in box.as_tuple())
    if x1 - x0 < 10 or y1 - y0 < 10:
        return box
    return Box(x0, y0, x1, y1, box.label)


def _crop(made: SceneSample, box: Box, settings: Settings) -> tuple[View, np.ndarray]:
    width, height = made.size
    x0, y0, x1, y1 = crop_region(box, made.size, settings.geometry)
    size = _fit((x1 - x0, y1 - y0), settings.budget.crop_max_pixels, settings)
    rect = (x0 / width, y0 / height, x1 / width, y1 / height)
    return View((size[0] // CELL, size[1] // CELL), rect), made.scene.render(size, rect)


def _fit(size: tuple[int, int], max_pixels: int, settings: Settings) -> tuple[int, int]:
    budget = settings.budget
    return smart_resize(*size, max_pixels=max_pixels, min_pixels=budget.min_pixels, factor=budget.factor)


def _put(record: Any, number: int, pixels: np.ndarray) -> None:
    cells = cells_of(pixels)
    record["crop"][number, : len(cells)] = cells
    record["crop_grids"][number] = pixels.shape[1] // CELL, pixels.shape[0] // CELL


def cells_of(pixels: np.ndarray) -> np.ndarray:
    """Pixels (height, width, 3) → cells, (cells, 3072), the patches of each as (channel, row, column)."""
    height, width, _ = pixels.shape
    blocks = pixels.reshape(height // CELL, 2, _PATCH, width // CELL, 2, _PATCH, 3)
    return blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(-1, _VALUES)


# Sheets of writing.

# Letters that stay apart when they are small, as in the worlds.
_LETTERS = "ACEFHKLMNPRTWXYZ"


def draw_sheet(rng: random.Random, writer: RowWriter) -> tuple[np.ndarray, np.ndarray]:
    """Eight short texts on a quiet ground: pixels, and what they are."""
    columns, rows = rng.choice(((7, 7), (7, 7), (8, 6), (6, 8), (9, 5), (5, 9)))
    width, height = columns * CELL, rows * CELL
    image = Image.fromarray(_ground(rng, width, height))
    across = 3 if width >= height else 2
    down = 3 if across == 2 or height > 200 else 2
    places = [(x, y) for x in range(across) for y in range(down)]
    rng.shuffle(places)
    labels = []
    for x, y in places[:THINGS]:
        room = (width / across, height / down)
        center = ((x + rng.uniform(0.4, 0.6)) * room[0], (y + rng.uniform(0.35, 0.65)) * room[1])
        text = _text(rng)
        box = _write(image, rng, text, center, room)
        if box:
            x0, y0, x1, y1 = (1000 * side / (width, height)[k % 2] for k, side in enumerate(box))
            labels.append((text, Box(x0, y0, x1, y1)))
    return np.asarray(image), writer.sheet_things(View((columns, rows)), labels)


def _ground(rng: random.Random, width: int, height: int) -> np.ndarray:
    seeded = np.random.default_rng(rng.getrandbits(32))
    base = seeded.integers(20, 236, 3)
    coarse = seeded.normal(0, rng.uniform(2, 30), (rng.randint(2, 9), rng.randint(2, 9), 3)) + base
    small = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _text(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.25:
        return str(rng.randrange(10))
    if kind < 0.45:
        return str(rng.randrange(10, 1000))
    if kind < 0.6:
        return f"{rng.randrange(100)}.{rng.choice((f'{rng.randrange(10)}', f'{rng.randrange(100):02}'))}"
    return "".join(rng.choice(_LETTERS + string.digits[1:]) for _ in range(rng.randint(1, 4)))


@functools.lru_cache(maxsize=64)
def _plain_font(size: int) -> Any:
    return ImageFont.load_default(size)


def _font(rng: random.Random, text: str) -> Any:
    """A font of the train split, or Pillow's own, which the tags have."""
    size = 2 * rng.randint(13, 42)
    digits = all(letter in "0123456789." for letter in text)
    known: list[Font | None] = [font for font in FONTS["train"] if digits or font.kind != "segment"]
    font = rng.choice([*known, None])
    return font.at(size) if font else _plain_font(size)


def _write(
    image: Image.Image, rng: random.Random, text: str, center: tuple[float, float], room: tuple[float, float]
) -> tuple[float, float, float, float] | None:
    """Write one text, perhaps on a plate, a little turned and stretched; its box in pixels."""
    font = _font(rng, text)
    left, top, right, bottom = font.getbbox(text)
    margin = max(4, round((bottom - top) * rng.uniform(0.15, 0.5)))
    patch_size = (round(right - left + 2 * margin), round(bottom - top + 2 * margin))
    if min(patch_size) < 8:
        return None
    plate, ink = _colors(rng)
    bare = rng.random() < 0.35
    patch = Image.new("RGBA", patch_size, (*ink, 0))
    draw = ImageDraw.Draw(patch)
    if not bare:
        radius = rng.uniform(0, 0.4) * min(patch_size)
        draw.rounded_rectangle((0, 0, patch_size[0] - 1, patch_size[1] - 1), radius, (*plate, 255))
    else:
        around = image.getpixel((min(image.width - 1, int(center[0])), min(image.height - 1, int(center[1]))))
        ink = (12, 12, 14) if sum(around) > 380 else (248, 248, 246)  # type: ignore[arg-type]
    draw.text((margin - left, margin - top), text, (*ink, 255), font)
    patch = patch.rotate(
        rng.uniform(-9, 9), Image.Resampling.BILINEAR, expand=True, fillcolor=(*(ink if bare else plate), 0)
    )
    scale = 0.5 * min(1.0, 1.9 * room[0] / patch.width, 1.9 * room[1] / patch.height)
    size = (max(6, round(patch.width * scale * rng.uniform(0.85, 1.0))), max(6, round(patch.height * scale)))
    patch = patch.resize(size, Image.Resampling.BOX)
    corner = (round(center[0] - size[0] / 2), round(center[1] - size[1] / 2))
    corner = (
        min(max(corner[0], 0), image.width - size[0]),
        min(max(corner[1], 0), image.height - size[1]),
    )
    image.paste(patch, corner, patch)
    return corner[0], corner[1], corner[0] + size[0], corner[1] + size[1]


def _colors(rng: random.Random) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """A plate's color and an ink that is well apart from it."""
    plate = tuple(rng.randrange(256) for _ in range(3))
    if rng.random() < 0.3:
        plate = (rng.randint(225, 255),) * 3
    level = 0.3 * plate[0] + 0.59 * plate[1] + 0.11 * plate[2]
    shade = rng.randint(0, 40) if level > 128 else rng.randint(215, 255)
    ink = tuple(min(255, max(0, shade + rng.randint(-12, 12))) for _ in range(3))
    return plate, ink  # type: ignore[return-value]
