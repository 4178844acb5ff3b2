"""Which box format does a model write? Scenes with a known object, and the reply read in every format.

The objects lie where an exchange of x and y, or another scale, leads somewhere else. A format fits a reply if
a crop cut from its boxes shows the object: that is what boxes are for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

from p2r.evidence import crop_region
from p2r.models.base import Sampling
from p2r.parsing.perception import parse_perception
from p2r.parsing.thinking import split_thinking
from p2r.prompts import perceive_messages
from p2r.scenes import make_sample
from p2r.scoring.localization import localize
from p2r.types import BOX_FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from p2r.pipeline import P2R
    from p2r.scenes import SceneSample
    from p2r.types import BoxFormat, PerceptionOutcome

PROBES = 6
_SIZE = "1280x720"
_SEED = 11  # of scenes that no benchmark of ours uses


@dataclass(frozen=True, slots=True)
class ProbeReply:
    """What a model said where one object is.

    Attributes:
        outcome: as read in the format that is set.
        cut: the reply ended at its token limit.
        thinks: it holds thinking, which the prompt does not ask for.
        found: for each format, whether a crop shows the object.
        iou: for each format, the best IoU of a box with the object.
    """

    outcome: PerceptionOutcome
    cut: bool
    thinks: bool
    found: dict[BoxFormat, bool]
    iou: dict[BoxFormat, float]


@dataclass(frozen=True, slots=True)
class BoxProbe:
    """What a model said to all probes; formats are compared with the one that is set."""

    box_format: BoxFormat
    replies: tuple[ProbeReply, ...]

    def found(self, box_format: BoxFormat) -> int:
        """In how many probes a crop shows the object."""
        return sum(reply.found[box_format] for reply in self.replies)

    def iou(self, box_format: BoxFormat) -> float:
        """The mean IoU with the object."""
        return sum(reply.iou[box_format] for reply in self.replies) / len(self.replies)

    @property
    def best(self) -> BoxFormat:
        """The format that finds most; the one that is set if it is as good as any."""
        return max(
            (self.box_format, *BOX_FORMATS), key=lambda name: (self.found(name), name == self.box_format)
        )

    @property
    def fits(self) -> bool:
        """Whether the best format finds the object in half of the probes: far more than by chance."""
        return 2 * self.found(self.best) >= len(self.replies)


def probe_samples() -> Iterator[SceneSample]:
    """Scenes with a question about one object each, at a place that tells the box formats apart."""
    asked = set()
    for index in count():
        sample = make_sample("validation", index, seed=_SEED, size=_SIZE, family="read")
        x, y = sample.boxes[0].center
        if abs(x - y) > 300 and min(x, y) > 300 and sample.task.text not in asked:
            asked.add(sample.task.text)
            yield sample


async def probe_boxes(p2r: P2R) -> BoxProbe:
    """Ask the perceiver of a pipeline where the objects of the probes are.

    Raises:
        ModelError: a call failed.
        InputError: its settings leave no room for an image.
    """
    samples = islice(probe_samples(), PROBES)
    replies = await asyncio.gather(*(_probe(p2r, sample) for sample in samples))
    return BoxProbe(p2r.settings.box_format, tuple(replies))


async def _probe(p2r: P2R, sample: SceneSample) -> ProbeReply:
    settings = p2r.settings
    question = (await asyncio.to_thread(sample.sample)).question
    image = await p2r.open_image(question)
    messages = perceive_messages(settings.prompts, question, image.overview, settings.box_format)
    completion = await p2r.perceiver.complete(messages, Sampling(settings.max_tokens.perceive))
    found, iou = {}, {}
    for name in BOX_FORMATS:
        boxes = parse_perception(completion.text, name, image.overview.size).boxes[
            : settings.geometry.max_crops
        ]
        crops = [crop_region(box, sample.size, settings.geometry) for box in boxes]
        located = localize(sample.boxes, boxes, crops, sample.size)
        found[name], iou[name] = located.complete, located.iou[0]
    return ProbeReply(
        outcome=parse_perception(completion.text, settings.box_format, image.overview.size).outcome,
        cut=completion.finish_reason == "length",
        thinks=bool(split_thinking(completion.text).thinking),
        found=found,
        iou=iou,
    )
