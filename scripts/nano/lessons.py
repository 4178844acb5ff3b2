"""Scenes → examples: what nano is shown and what it should write, for each task.

The prompts are the project's own (`p2r.prompts`), so nano learns the messages that every entry point sends.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from p2r.prompts import PromptPack, direct_messages, perceive_messages, reason_messages
from p2r.scenes import make_sample
from p2r.types import Box, Crop, Evidence, Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.images import EncodedImage
    from p2r.models.base import Message
    from p2r.scenes import Task


def perceive_target(boxes: Sequence[Box]) -> str:
    """The perceiver's text for these boxes, coordinates rounded to tens (1 % of the side)."""
    rows = [
        {"bbox_2d": [round(value / 10) * 10 for value in box.as_tuple()], "label": box.label} for box in boxes
    ]
    return json.dumps(rows)


def think_target(task: Task) -> str:
    """The reasoner's text: the facts, then the answer."""
    return f"<think>{' '.join(task.facts)}</think><answer>{task.answer}</answer>"


def question_of(task: Task, image: EncodedImage | str) -> Question:
    """The task as a question; the image is only carried along."""
    return Question(image, task.text, task.choices, task.answer_type)  # type: ignore[arg-type]


def corpus(count: int = 1_500) -> Iterator[str]:
    """Texts of train scenes, prompts included: what the tokenizer is trained on."""
    pack = PromptPack()
    rng = random.Random(0)
    for index in range(count):
        made = make_sample("train", index, seed=1)
        question = Question("unused.png", made.task.text, made.task.choices, made.task.answer_type)
        blank = _NoImage()
        crops = tuple(Crop(blank, box, (0, 0, 1, 1), ("red", "green")[k]) for k, box in enumerate(made.boxes))  # type: ignore[arg-type]
        for messages in (
            perceive_messages(pack, question, blank),  # type: ignore[arg-type]
            reason_messages(pack, question, Evidence(blank, crops)),  # type: ignore[arg-type]
            direct_messages(pack, question, blank),  # type: ignore[arg-type]
        ):
            yield texts_of(messages)
        yield perceive_target(made.boxes)
        yield think_target(made.task)
        # Every coordinate should be one token, whatever the scenes happen to hold.
        yield " ".join(str(10 * rng.randrange(101)) for _ in range(60))


def texts_of(messages: Sequence[Message]) -> str:
    """The text parts of a conversation, in order."""
    return "".join(part for message in messages for part in message.content if isinstance(part, str))


class _NoImage:
    """Takes the place of an image when only the wording matters."""
