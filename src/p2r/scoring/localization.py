"""Localization of the evidence: gold boxes compared with predicted boxes and with the crops."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.types import Box, RectPx


@dataclass(frozen=True, slots=True)
class Localization:
    """How well one question's evidence was found.

    Attributes:
        found: for each gold box, whether its center lies inside some crop.
        covered: for each gold box, the largest share of its area that lies inside one crop, 0–1.
        iou: for each gold box, the best IoU of any predicted box, 0–1.
    """

    found: tuple[bool, ...]
    covered: tuple[float, ...]
    iou: tuple[float, ...]

    @property
    def complete(self) -> bool:
        """Whether all of the evidence was inside the crops. True when there is none to find."""
        return all(self.found)


def localize(
    gold: Sequence[Box],
    boxes: Sequence[Box],
    crops_px: Sequence[RectPx],
    size: tuple[int, int],
    others: Sequence[tuple[int, int]] = (),
) -> Localization:
    """Compare predicted boxes and crops with gold boxes.

    A question that needs the whole image has no gold boxes; nothing can be missed then.

    Args:
        gold: the gold boxes, 0–1000.
        boxes: the boxes that the evidence was cut from, 0–1000.
        crops_px: the regions that were cut, with their context, in pixels.
        size: width and height of the image, in pixels.
        others: of the further images. Crops are of the images of the first boxes; a box of another image
            holds no evidence of a gold box.
    """
    sizes, regions = (size, *others), defaultdict(list)
    for index, (x0, y0, x1, y1) in enumerate(crops_px):
        image = boxes[index].image if index < len(boxes) else 0
        width, height = sizes[image]
        rect = (1000 * x0 / width, 1000 * y0 / height, 1000 * x1 / width, 1000 * y1 / height)
        regions[image].append(rect)
    return Localization(
        found=tuple(any(_holds(region, box.center) for region in regions[box.image]) for box in gold),
        covered=tuple(
            max((_share(box, region) for region in regions[box.image]), default=0.0) for box in gold
        ),
        iou=tuple(max((box.iou(other) for other in boxes), default=0.0) for box in gold),
    )


def _holds(region: tuple[float, float, float, float], point: tuple[float, float]) -> bool:
    return region[0] <= point[0] < region[2] and region[1] <= point[1] < region[3]


def _share(box: Box, region: tuple[float, float, float, float]) -> float:
    width = min(box.x1, region[2]) - max(box.x0, region[0])
    height = min(box.y1, region[3]) - max(box.y0, region[1])
    return max(0.0, width) * max(0.0, height) / 1e6 / box.area
