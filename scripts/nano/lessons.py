"""Scenes → texts: what nano is asked and what it should write, for each task.

The prompts are the project's own (`p2r.prompts`), so nano learns the messages that every entry point sends.
"""

from __future__ import annotations

import functools
import json
import random
from typing import TYPE_CHECKING, Any

from p2r.evidence import OUTLINE_COLORS
from p2r.prompts import PromptPack, direct_messages, perceive_messages, reason_messages
from p2r.scenes import make_sample
from p2r.types import Box, Crop, Evidence, Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.models.base import Message
    from p2r.scenes import SceneSample, Task

OUTLINES = tuple(name for name, _ in OUTLINE_COLORS)
_CROPS = 4
# Samples of each world that the tokenizer is trained on.
_SAMPLES = 200


def perceive_target(boxes: Sequence[Box]) -> str:
    """The perceiver's text for these boxes, coordinates rounded to tens (1 % of the side)."""
    rows = [
        {"bbox_2d": [round(value / 10) * 10 for value in box.as_tuple()], "label": box.label} for box in boxes
    ]
    return json.dumps(rows)


def think_target(facts: Sequence[str], answer: str) -> str:
    """The reasoner's text: the facts, then the answer."""
    return f"<think>{' '.join(facts)}</think><answer>{answer}</answer>"


def question_of(task: Task, image: Any = "unused.png") -> Question:
    """The task as a question; the image is only carried along."""
    return Question(image, task.text, task.choices, task.answer_type)


def evidence_of(overview: Any, crops: Sequence[Any]) -> Evidence:
    """Evidence for wording a prompt: placeholders of images are only carried along."""
    # The box and the region of a crop are not part of a prompt.
    kept = (Crop(crop, None, (0, 0, 1, 1), OUTLINES[k]) for k, crop in enumerate(crops))  # type: ignore[arg-type]
    return Evidence(overview, tuple(kept))


@functools.cache
def drawn(world: str) -> Sequence[SceneSample]:
    """Train samples of a world whose texts the tokenizer learns."""
    return [make_sample("train", index, seed=1, world=world) for index in range(_SAMPLES)]


def corpus(worlds: Sequence[str]) -> Iterator[str]:
    """Texts of train scenes, prompts included: what the tokenizer is trained on."""
    pack = PromptPack()
    rng = random.Random(0)
    for world in worlds:
        for made in drawn(world):
            question = question_of(made.task)
            evidence = evidence_of("", ["" for _ in made.boxes[:_CROPS]])
            for messages in (
                perceive_messages(pack, question, ""),  # type: ignore[arg-type]
                reason_messages(pack, question, evidence),
                direct_messages(pack, question, ""),  # type: ignore[arg-type]
            ):
                yield texts_of(messages)
            yield perceive_target(made.boxes)
            yield think_target(made.task.facts, made.task.answer)
            # Every coordinate should be one token, whatever the scenes happen to hold.
            yield str([10 * rng.randrange(101) for _ in range(40)])


def name_words(worlds: Sequence[str]) -> set[str]:
    """The words of all objects' names and of all options."""
    words: set[str] = set()
    for world in worlds:
        for made in drawn(world):
            for text in (*(box.label for box in made.boxes), *made.task.choices):
                words.update(word for word in text.split() if word.isalpha() and len(word) > 1)
    return {word for word in words - {"the", "of"} if not word.isupper()}


def texts_of(messages: Sequence[Message]) -> str:
    """The text parts of a conversation, in order."""
    return "".join(part for message in messages for part in message.content if isinstance(part, str))
