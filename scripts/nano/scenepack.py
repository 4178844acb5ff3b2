"""Train scenes drawn at nano's own sizes, ahead of time: overviews, annotated overviews and crops.

Evidence is made by `p2r.evidence` from noisy gold boxes, so the language model learns on what the pipeline
will show it. Pixels lie in one flat array; since each visual token covers 32×32 pixels, the tokens of all
images lie in a second flat array at a 1,024th of the offset.
"""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np

from p2r.evidence import crop_region, draw_boxes
from p2r.images import EncodedImage, smart_resize
from p2r.scenes import SceneSample, make_sample
from p2r.scenes.tags import Scene
from p2r.types import Box
from scripts.nano.glyph_data import ground_window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.settings import Settings

# Standard deviation of each corner of a noisy gold box, 0–1000; a tag's side is 25 to 90.
CORNER_NOISE = 9.0
# How often a scene's evidence lacks its second box: the reasoner must cope with an incomplete perceiver.
MISSING_EVIDENCE = 0.15


@dataclass(frozen=True, slots=True)
class ScenePack:
    """Images of many scenes.

    Attributes:
        pixels: uint8, flat; image p is `pixels[starts[p]:starts[p + 1]]` as (height, width, 3).
        starts: int64, (images + 1,).
        sizes: int32, (images, 2): width, height.
        firsts: int64, (scenes + 1,): the first image of each scene: overview, annotated overview, crops.
        seed: the seed of the scenes.
    """

    pixels: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    firsts: np.ndarray
    seed: int

    def sample(self, index: int) -> SceneSample:
        """Scene `index` and its question."""
        return make_sample("train", index, seed=self.seed)

    def image(self, number: int) -> np.ndarray:
        """EncodedImage `number`: uint8, (height, width, 3)."""
        width, height = self.sizes[number]
        return self.pixels[self.starts[number] : self.starts[number + 1]].reshape(height, width, 3)


def noisy(rng: random.Random, box: Box, deviation: float = CORNER_NOISE) -> Box:
    """`box` with each corner moved by Gaussian noise, still a box within the image."""
    x0, y0, x1, y1 = (min(1000.0, max(0.0, value + rng.gauss(0, deviation))) for value in box.as_tuple())
    if x1 - x0 < 10 or y1 - y0 < 10:
        return box
    return Box(x0, y0, x1, y1, box.label)


def draw_pack(count: int, settings: Settings, *, seed: int = 0, processes: int = 2) -> ScenePack:
    """Draw the images of train scenes 0 to `count` − 1, with one process in this one."""
    jobs = [(index, seed, settings) for index in range(count)]
    pixels: list[np.ndarray] = []
    sizes: list[tuple[int, int]] = []
    firsts = [0]
    with get_context("fork").Pool(processes) if processes > 1 else nullcontext() as pool:
        for images in pool.imap(_draw, jobs, chunksize=32) if pool else map(_draw, jobs):
            pixels.extend(image.reshape(-1) for image in images)
            sizes.extend((image.shape[1], image.shape[0]) for image in images)
            firsts.append(len(sizes))
    starts = np.concatenate([[0], np.cumsum([part.size for part in pixels])])
    return ScenePack(np.concatenate(pixels), starts, np.array(sizes, np.int32), np.array(firsts), seed)


def _draw(job: tuple[int, int, Settings]) -> list[np.ndarray]:
    index, seed, settings = job
    made = make_sample("train", index, seed=seed)
    rng = random.Random(f"lookup-{seed}-{index}")
    return list(draw_images(made, drawn_boxes(made, seed, index), settings, rng))


def drawn_boxes(made: SceneSample, seed: int, index: int) -> list[Box]:
    """The boxes whose evidence a pack holds of scene `index`: noisy gold, the second sometimes missing."""
    return evidence_boxes(random.Random(f"pack-{seed}-{index}"), made.boxes)


def evidence_boxes(rng: random.Random, gold: Sequence[Box]) -> list[Box]:
    """The boxes that an example's evidence is made from: noisy gold, sometimes without the second."""
    kept = gold[:1] if rng.random() < MISSING_EVIDENCE else gold
    return [noisy(rng, box) for box in kept]


def draw_images(
    made: SceneSample, boxes: Sequence[Box], settings: Settings, rng: random.Random
) -> Iterator[np.ndarray]:
    """Overview, annotated overview (when there are boxes) and crops, each uint8 (height, width, 3)."""
    budget = settings.budget
    width, height = made.size
    size = _fit(made.size, budget.overview_max_pixels, settings)
    scene = made.scene
    if not isinstance(scene, Scene):
        raise TypeError(f"{made.world}: only tags are drawn on ready-made ground")
    overview = scene.render(size, ground=ground_window(scene.ground, near=False, rng=rng, size=size))
    yield overview
    if boxes:
        yield draw_boxes(EncodedImage(overview), boxes, settings.geometry).pixels
    for box in boxes:
        x0, y0, x1, y1 = crop_region(box, made.size, settings.geometry)
        size = _fit((x1 - x0, y1 - y0), budget.crop_max_pixels, settings)
        ground = ground_window(scene.ground, near=True, rng=rng, size=size)
        yield scene.render(size, (x0 / width, y0 / height, x1 / width, y1 / height), ground=ground)


def _fit(size: tuple[int, int], max_pixels: int, settings: Settings) -> tuple[int, int]:
    budget = settings.budget
    return smart_resize(*size, max_pixels=max_pixels, min_pixels=budget.min_pixels, factor=budget.factor)
