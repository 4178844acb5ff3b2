"""Samples → the rows of TRL's dataset: the messages that every door builds, made when a row is read.

Rows hold different numbers of images: one in a perceiver phase, overview and crops in a reasoner phase.
Images are cut when a batch is read, once for all completions of a prompt.
"""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from p2r.evidence import build_evidence, plain_overview
from p2r.images import ImageSource
from p2r.parsing.perception import parse_perception
from p2r.pipeline import OpenedImage
from p2r.prompts import direct_messages, perceive_messages, reason_messages
from p2r.types import Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from p2r.models.base import Message
    from p2r.models.encoding import Preparer
    from p2r.settings import Settings
    from p2r.training.recipe import Role
    from p2r.types import Box, Perception, Sample


class Looks:
    """Opened images and their overviews; the last ones are kept, because a prompt is read many times.

    Args:
        samples: whose images.
        settings: budgets.
        keep: how many are kept.
    """

    def __init__(self, samples: Sequence[Sample], settings: Settings, keep: int) -> None:
        self._samples = samples
        self._settings = settings
        self._keep = keep
        self._kept: OrderedDict[int, OpenedImage] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, index: int) -> OpenedImage:
        """The image of sample `index`.

        Raises:
            InputError: it cannot be read.
        """
        with self._lock:
            if look := self._kept.get(index):
                self._kept.move_to_end(index)
                return look
        source = ImageSource.open(self._samples[index].question.image)
        look = OpenedImage(source, plain_overview(source, self._settings))
        with self._lock:
            self._kept[index] = look
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        return look


class Rows:
    """Builds what the acting role is shown.

    Args:
        role: who acts.
        samples, settings, looks: of the run.
        boxes: the frozen perceiver's boxes of each sample, by index (role `reasoner`).
    """

    def __init__(
        self,
        role: Role,
        samples: Sequence[Sample],
        settings: Settings,
        looks: Looks,
        boxes: Mapping[int, Sequence[Box]] | None = None,
    ) -> None:
        self.role = role
        self.samples = samples
        self.settings = settings
        self.looks = looks
        self.boxes = {} if boxes is None else boxes

    def messages(self, index: int) -> tuple[Message, ...]:
        """The conversation about sample `index`.

        Raises:
            InputError: its image cannot be read.
        """
        question = self.samples[index].question
        prompts = self.settings.prompts
        look = self.looks(index)
        if self.role == "perceiver":
            return perceive_messages(prompts, question, look.overview, self.settings.box_format)
        if self.role == "direct":
            return direct_messages(prompts, question, look.overview)
        if self.role == "think":
            return reason_messages(prompts, question, Evidence(look.overview))
        evidence = build_evidence(look.source, self.boxes[index], self.settings, look.overview)
        return reason_messages(prompts, question, evidence)

    def perception(self, index: int, text: str) -> Perception:
        """What a perceiver wrote about sample `index`."""
        box_format = self.settings.box_format
        size = self.looks(index).overview.size if box_format == "pixels" else None
        return parse_perception(text, box_format, size)

    def dataset(self, order: Sequence[int], preparer: Preparer) -> Any:
        """A `datasets.Dataset` of the samples in this order: columns `prompt`, `images`, `index`."""
        from datasets import Dataset

        def transform(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
            indices = batch["index"]
            unique = list(dict.fromkeys(indices))
            with ThreadPoolExecutor(4) as pool:
                rows = dict(zip(unique, pool.map(self._row, unique, [preparer] * len(unique)), strict=True))
            return {
                "prompt": [rows[index][0] for index in indices],
                "images": [rows[index][1] for index in indices],
                "index": indices,
            }

        return Dataset.from_dict({"index": list(order)}).with_transform(transform)

    def _row(self, index: int, preparer: Preparer) -> tuple[list[dict[str, Any]], list[Any]]:
        messages = self.messages(index)
        images = [
            part.to_pil() for message in messages for part in message.content if not isinstance(part, str)
        ]
        return preparer.conversation(messages), images


def draw_order(count: int, wanted: int, seed: str) -> list[int]:
    """Which samples a phase goes through: whole shuffled passes over `count` samples, `wanted` in all."""
    rng = random.Random(seed)
    order: list[int] = []
    while len(order) < wanted:
        order += rng.sample(range(count), count)
    return order[:wanted]
