"""Controls: do the answers depend on the evidence?

Each question that mode `p2r` has boxes for is asked again about the same boxes, without the evidence: the
crops are black, or are cut from another image, and in the overview everything that the crops showed is black.
A model that answers from the evidence loses its right answers; one that does not look at it keeps them.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from p2r.errors import InputError
from p2r.evidence import box_px, draw_boxes
from p2r.images import EncodedImage, open_pages
from p2r.images.threads import in_image_thread
from p2r.pipeline import P2R

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.evaluation.benchmarks.base import Selection
    from p2r.images import ImageSource, Limits
    from p2r.pipeline import OpenedImage
    from p2r.settings import Settings
    from p2r.types import Box, Crop, Evidence, RectPx

Control = Literal["black-crops", "shuffled-crops"]
CONTROLS: tuple[Control, ...] = ("black-crops", "shuffled-crops")
DONORS = 8  # images that foreign crops are cut from
_NEAR = 64  # donors are among the first questions, because a benchmark on the hub is read from its beginning
_LOOK = (32, 32)  # the size at which two images are compared


@dataclass(frozen=True, slots=True)
class Donor:
    """An image that foreign crops are cut from, and what it looks like when it is small."""

    source: ImageSource
    look: bytes


def open_donors(selection: Selection, seed: int, limits: Limits) -> list[Donor]:
    """Different images of the benchmark, picked by the seed.

    Raises:
        InputError: there are fewer than two.
    """
    names = [entry.id for entry in selection.entries.values()][:_NEAR]
    wanted = set(random.Random(f"{seed}:donors").sample(names, min(DONORS, len(names))))
    donors: dict[bytes, Donor] = {}
    for _, load in selection.tasks(skip=lambda name: name not in wanted):
        try:
            source = open_pages(load().question.images[0], limits)[0]
            look = source.overview(_LOOK).pixels.tobytes()
        except InputError:
            continue  # said when its question is asked
        donors.setdefault(look, Donor(source, look))
    if len(donors) < 2:
        raise InputError("control shuffled-crops needs questions about two different images or more")
    return list(donors.values())


class WithoutEvidence(P2R):
    """A pipeline that replaces the evidence after it was cut.

    Args:
        pipeline: its models and settings are used.
        control: how the evidence is replaced.
        donors: see `open_donors`; used by `shuffled-crops`.
        seed: decides what is cut from which donor, together with the question.
    """

    def __init__(self, pipeline: P2R, control: Control, donors: Sequence[Donor], seed: str) -> None:
        super().__init__(
            pipeline.perceiver, reasoner=pipeline.reasoner, settings=pipeline.settings, limits=pipeline.limits
        )
        self._control = control
        self._donors = donors
        self._seed = seed

    async def cut_evidence(
        self, images: Sequence[OpenedImage], boxes: Sequence[Box], settings: Settings | None = None
    ) -> Evidence:
        """The evidence with other crops, of the same sizes, and overviews without it."""
        settings = settings or self.settings
        evidence = await super().cut_evidence(images, boxes, settings)
        return await in_image_thread(self._replaced, images, evidence, boxes, settings)

    def _replaced(
        self, images: Sequence[OpenedImage], evidence: Evidence, boxes: Sequence[Box], settings: Settings
    ) -> Evidence:
        first, *others = (
            self._blacked(images[index], index, overview.size, evidence.crops, boxes, settings)
            for index, overview in zip(evidence.shown, evidence.overviews, strict=True)
        )
        crops = evidence.crops
        if self._control == "black-crops":
            replaced = [EncodedImage(np.zeros_like(crop.image.pixels)) for crop in crops]
        else:
            draw = random.Random(self._seed)
            shown = {crop.box.image for crop in crops}
            looks = {index: images[index].source.overview(_LOOK).pixels.tobytes() for index in shown}
            replaced = [self._foreign(crop, looks[crop.box.image], draw) for crop in crops]
        crops = tuple(replace(crop, image=image) for crop, image in zip(crops, replaced, strict=True))
        return replace(evidence, overview=first, others=tuple(others), crops=crops)

    def _foreign(self, crop: Crop, look: bytes, draw: random.Random) -> EncodedImage:
        """A crop of the same size from an image that does not look like `look`."""
        donor = draw.choice([donor.source for donor in self._donors if donor.look != look])
        x0, y0, x1, y1 = crop.region_px
        width, height = min(x1 - x0, donor.width), min(y1 - y0, donor.height)
        left, top = draw.randint(0, donor.width - width), draw.randint(0, donor.height - height)
        return donor.region((left, top, left + width, top + height), crop.image.size)

    @staticmethod
    def _blacked(
        image: OpenedImage,
        index: int,
        size: tuple[int, int],
        crops: Sequence[Crop],
        boxes: Sequence[Box],
        settings: Settings,
    ) -> EncodedImage:
        """The overview of one image, black where its crops and boxes are, with the outlines."""
        overview, source = image.overview, image.source
        if overview.size != size:
            overview = source.overview(size, stretch=settings.stretch_depth)
        pixels = overview.pixels.copy()
        shown = [_scaled(crop.region_px, source.size, size) for crop in crops if crop.box.image == index]
        for x0, y0, x1, y1 in [*shown, *(box_px(box, size) for box in boxes if box.image == index)]:
            pixels[y0:y1, x0:x1] = 0
        return draw_boxes(EncodedImage(pixels), boxes, settings.geometry, index)


def _scaled(rect: RectPx, size: tuple[int, int], other: tuple[int, int]) -> RectPx:
    """A rectangle of an image of `size` in the pixels of the same image of another size, rounded outwards."""
    across, down = other[0] / size[0], other[1] / size[1]
    x0, y0, x1, y1 = rect
    return math.floor(x0 * across), math.floor(y0 * down), math.ceil(x1 * across), math.ceil(y1 * down)
