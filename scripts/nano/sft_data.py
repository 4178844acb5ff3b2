"""Scenes of a pack → examples: prompt, target, images, and where to look while writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from p2r.prompts import direct_messages, perceive_messages, reason_messages
from p2r.scenes.tag_questions import draw_scene, draw_task
from p2r.types import Crop, Evidence
from scripts.nano.attention_targets import TargetFinder
from scripts.nano.lessons import perceive_target, question_of, think_target
from scripts.nano.scenepack import drawn_boxes, noisy

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from p2r.settings import Settings
    from p2r.types import Box
    from scripts.nano.attention_loss import AttentionTarget
    from scripts.nano.scenepack import ScenePack

Task = Literal["perceive", "reason", "think", "direct", "drill"]

# How often a perceive example with two gold boxes shows only the first. nano-base is meant to look
# incompletely: reinforcement learning is to correct that.
INCOMPLETE = 0.6
# How often each family is answered: what takes most examples to learn comes most often.
_ANSWERED = {"read": 2, "compare": 7, "position": 5, "arithmetic": 2, "code": 3, "whole": 1}
# How often each family is drilled without images.
_DRILLED: dict[str, int] = {"compare": 5, "position": 3, "arithmetic": 1}
_OUTLINES = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation.

    Attributes:
        task: the role.
        prompt, target: token ids; the loss covers `target`.
        images: numbers of the pack's images in the order of their placeholders.
        attention: where to look while writing `target`.
    """

    task: Task
    prompt: list[int]
    target: list[int]
    images: tuple[int, ...]
    attention: tuple[AttentionTarget, ...]


class ExampleBuilder:
    """Makes examples from a pack of scenes.

    Args:
        pack: the scenes' images.
        tokenizer: nano's.
        settings: prompts and geometry, as at inference.
    """

    def __init__(self, pack: ScenePack, tokenizer: Any, settings: Settings) -> None:
        self.pack, self.tokenizer, self.settings = pack, tokenizer, settings
        self.scenes = len(pack.firsts) - 1
        self._finder = TargetFinder(pack, tokenizer, settings)
        self._families: dict[str, list[int]] = {}
        for index in range(self.scenes):
            self._families.setdefault(pack.sample(index).task.family, []).append(index)

    def answerable(self, rng: random.Random) -> int:
        """A scene whose question is to be answered."""
        families = sorted(self._families)
        family = rng.choices(families, [_ANSWERED[name] for name in families])[0]
        return rng.choice(self._families[family])

    def example(self, task: Task, index: int, rng: random.Random) -> Example:
        """Scene `index` as an example of `task`."""
        made = self.pack.sample(index)
        first, last = int(self.pack.firsts[index]), int(self.pack.firsts[index + 1])
        question = question_of(made.task, "unused.png")
        prompts = self.settings.prompts
        numbers: tuple[int, ...] = (first,)
        if task == "perceive":
            messages = perceive_messages(prompts, question, first)  # type: ignore[arg-type]
            target = perceive_target(self._shown(made.boxes, rng))
        elif task == "direct":
            messages = direct_messages(prompts, question, first)  # type: ignore[arg-type]
            target = made.task.answer
        else:
            if task == "reason" and last > first + 1:
                numbers = tuple(range(first + 1, last))
            box = made.boxes[0] if made.boxes else None
            crops = tuple(
                Crop(number, box, (0, 0, 1, 1), _OUTLINES[k])  # type: ignore[arg-type]
                for k, number in enumerate(numbers[1:])
            )
            messages = reason_messages(prompts, question, Evidence(numbers[0], crops))  # type: ignore[arg-type]
            target = think_target(made.task)
        prompt, ids = self._prompt(messages), self._encode(target + "<|im_end|>")
        attention: list[AttentionTarget] = []
        if task == "perceive":
            attention = self._finder.finding(made, prompt, ids, first)
        elif task in ("reason", "think"):
            boxes = drawn_boxes(made, self.pack.seed, index) if task == "reason" else ()
            attention = self._finder.reading(made, boxes, prompt, ids, numbers)
            attention += self._finder.concluding(made.task, prompt, ids)
        return Example(task, prompt, ids, numbers, tuple(attention))

    def drill(self, rng: random.Random) -> Example:
        """A conclusion to draw from given facts: a reason example of a new scene, without its images."""
        family = rng.choices(tuple(_DRILLED), list(_DRILLED.values()))[0]
        task = draw_task(rng, family, draw_scene(rng, family, rng.uniform(1.2, 1.8)))
        crops = tuple(Crop("", None, (0, 0, 1, 1), outline) for outline in _OUTLINES[:2])  # type: ignore[arg-type]
        question = question_of(task, "unused.png")
        prompt = self._prompt(reason_messages(self.settings.prompts, question, Evidence("", crops)))  # type: ignore[arg-type]
        target = self._encode(think_target(task) + "<|im_end|>")
        attention = self._finder.concluding(task, prompt, target)
        # What images would show is given: all up to the second tag's digit or coordinate.
        shown = self._finder.coordinates if family == "position" else self._finder.digits
        second = target.index(self._finder.token(task.targets[1].name.split()[0]))
        given = 1 + next(place for place in range(second, len(target)) if target[place] in shown)
        kept = tuple(aim for aim in attention if aim.position >= len(prompt) + given - 1)
        return Example("drill", prompt + target[:given], target[given:], (), kept)

    def _shown(self, gold: Sequence[Box], rng: random.Random) -> list[Box]:
        kept = gold[:1] if rng.random() < INCOMPLETE else gold
        return [noisy(rng, box) for box in kept]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _prompt(self, messages: Any) -> list[int]:
        """The chat template's text, with as many placeholders as each image has tokens."""
        parts = []
        for message in messages:
            parts.append(f"<|im_start|>{message.role}\n")
            for part in message.content:
                if isinstance(part, str):
                    # A drill leaves its images out: an empty text keeps their place.
                    parts.append(part or "<|vision_start|><|vision_end|>")
                else:
                    pads = "<|image_pad|>" * self._finder.count(part)
                    parts.append(f"<|vision_start|>{pads}<|vision_end|>")
            parts.append("<|im_end|>\n")
        return self._encode("".join(parts) + "<|im_start|>assistant\n")
