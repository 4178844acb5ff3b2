"""The images of a question made with Pillow and its defaults: the baseline for ours.

The full raster is decoded, resized and cropped. Steps, sizes and filter are those of `p2r`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import PIL.ImageDraw

from p2r.evidence import OUTLINE_COLORS, crop_region, outline_width, plan_sizes
from p2r.images import PNG_MAX_PIXELS, EncodedImage
from p2r.types import Crop, Evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.settings import Geometry, Settings
    from p2r.types import Box, Sample


def pillow_encode(image: PIL.Image.Image) -> tuple[str, bytes]:
    """The media type and the bytes for transport."""
    file = io.BytesIO()
    if image.width * image.height <= PNG_MAX_PIXELS:
        image.save(file, "PNG")
        return "image/png", file.getvalue()
    image.save(file, "JPEG", quality=95)
    return "image/jpeg", file.getvalue()


def pillow_outlines(image: PIL.Image.Image, boxes: Sequence[Box], geometry: Geometry) -> None:
    """Draw boxes into an image."""
    draw = PIL.ImageDraw.Draw(image)
    line = outline_width(image.width, geometry)
    for position, box in enumerate(boxes):
        x0, x1 = box.x0 * image.width / 1000 - line, box.x1 * image.width / 1000 + line
        y0, y1 = box.y0 * image.height / 1000 - line, box.y1 * image.height / 1000 + line
        color = OUTLINE_COLORS[position % len(OUTLINE_COLORS)][1]
        draw.rectangle((x0, y0, x1, y1), outline=color, width=line)


class PillowImage(EncodedImage):
    """An image that is encoded by Pillow with its defaults."""

    def _encode(self) -> tuple[str, bytes]:
        return pillow_encode(self.to_pil())


def pillow_open(sample: Sample) -> PIL.Image.Image:
    PIL.Image.MAX_IMAGE_PIXELS = None
    assert isinstance(sample.question.image, str)
    with PIL.Image.open(sample.question.image) as image:
        return image.convert("RGB")


def pillow_overview(sample: Sample, settings: Settings) -> EncodedImage:
    image = pillow_open(sample)
    plan = plan_sizes(image.size, [], settings.budget)
    return PillowImage(np.asarray(image.resize(plan.overview)))


def pillow_evidence(sample: Sample, boxes: Sequence[Box], settings: Settings) -> Evidence:
    image = pillow_open(sample)
    cropped = boxes[: settings.geometry.max_crops]
    regions = [crop_region(box, image.size, settings.geometry) for box in cropped]
    plan = plan_sizes(image.size, regions, settings.budget)
    overview = image.resize(plan.overview)
    pillow_outlines(overview, boxes, settings.geometry)
    crops = tuple(
        Crop(
            PillowImage(np.asarray(image.crop(region).resize(size))),
            box,
            region,
            OUTLINE_COLORS[position % len(OUTLINE_COLORS)][0],
        )
        for position, (box, region, size) in enumerate(zip(cropped, regions, plan.crops, strict=True))
    )
    return Evidence(PillowImage(np.asarray(overview)), crops)
