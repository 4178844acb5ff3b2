"""Scenes of a pack → lessons: prompt, target, pictures, and where to look while writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from p2r.evidence import crop_region
from p2r.nano.build import number_tokens
from p2r.nano.gaze import Glance
from p2r.nano.lessons import perceive_target, question_of, think_target
from p2r.nano.scenepack import drawn_boxes, noisy
from p2r.nano.tower import CELL
from p2r.prompts import direct_messages, perceive_messages, reason_messages
from p2r.types import Crop, Evidence

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from p2r.nano.scenepack import ScenePack
    from p2r.scenes import SceneSample
    from p2r.scenes.layout import SceneObject
    from p2r.settings import Settings
    from p2r.types import Box

Task = Literal["perceive", "reason", "think", "direct"]

# How often a perceive lesson with two gold boxes shows only the first. nano-base is meant to look
# incompletely: that is what reinforcement learning has to mend.
INCOMPLETE = 0.6
# How often each family is answered: what takes most lessons to learn comes most often.
_ANSWERED = {"read": 2, "compare": 7, "position": 5, "arithmetic": 2, "code": 3, "whole": 1}
_OUTLINES = ("red", "green", "blue")
_WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Lesson:
    """One conversation.

    Attributes:
        task: the role.
        prompt, target: token ids; the loss covers `target`.
        pictures: numbers of the pack's pictures in the order of their placeholders.
        glances: where to look while writing `target`.
    """

    task: Task
    prompt: list[int]
    target: list[int]
    pictures: tuple[int, ...]
    glances: tuple[Glance, ...]


class Classroom:
    """Makes lessons from a pack of scenes.

    Args:
        pack: the scenes' pictures.
        tokenizer: nano's.
        settings: prompts and geometry, as at inference.
    """

    def __init__(self, pack: ScenePack, tokenizer: Any, settings: Settings) -> None:
        self.pack, self.tokenizer, self.settings = pack, tokenizer, settings
        self.scenes = len(pack.firsts) - 1
        self._numbers = set(number_tokens(tokenizer).values())
        self._pad = self._token("<|image_pad|>")
        self._families: dict[str, list[int]] = {}
        for index in range(self.scenes):
            self._families.setdefault(pack.sample(index).task.family, []).append(index)

    def answerable(self, rng: random.Random) -> int:
        """A scene whose question is to be answered."""
        families = sorted(self._families)
        family = rng.choices(families, [_ANSWERED[name] for name in families])[0]
        return rng.choice(self._families[family])

    def lesson(self, task: Task, index: int, rng: random.Random) -> Lesson:
        """Scene `index` as a lesson of `task`."""
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
        glances: tuple[Glance, ...] = ()
        if task == "perceive":
            glances = self._finding(made, prompt, ids, first)
        elif task in ("reason", "think"):
            boxes = drawn_boxes(made, self.pack.seed, index) if task == "reason" else ()
            read = self._reading(made, boxes, prompt, ids, numbers)
            glances = (*read, *self._concluding(made, prompt, ids, numbers[0]))
        return Lesson(task, prompt, ids, numbers, glances)

    def _finding(
        self, made: SceneSample, prompt: list[int], target: list[int], picture: int
    ) -> tuple[Glance, ...]:
        """While a coordinate is written: the object's colour in the question, its cell in the overview."""
        coordinates = [place for place, token in enumerate(target) if token in self._numbers]
        glances = []
        for count, place in enumerate(coordinates):
            thing = made.task.targets[count // 4]
            cell = prompt.index(self._pad) + self._cell(thing, _WHOLE, picture)
            named = prompt.index(self._token(thing.colour))
            glances.append(Glance(len(prompt) + place - 1, (named,), cell))
        return tuple(glances)

    def _reading(
        self,
        made: SceneSample,
        boxes: Sequence[Box],
        prompt: list[int],
        target: list[int],
        pictures: tuple[int, ...],
    ) -> tuple[Glance, ...]:
        """While a digit or letter is written: the colour just named, the object's cell in its crop."""
        (width, height), pads = made.size, [k for k, token in enumerate(prompt) if token == self._pad]
        glances = []
        start = self._count(pictures[0])
        for thing, box, picture in zip(made.task.targets, boxes, pictures[1:], strict=False):
            x0, y0, x1, y1 = crop_region(box, made.size, self.settings.geometry)
            rect = (x0 / width, y0 / height, x1 / width, y1 / height)
            cell = pads[start + self._cell(thing, rect, picture)]
            start += self._count(picture)
            if self._token(thing.colour) not in target:
                continue  # the thinking of a position question names the first object only
            named = target.index(self._token(thing.colour))
            # "The red tag shows 5": the writing stands two tokens after the colour.
            for place, letter in enumerate(thing.text, named + 2):
                if target[place] == self._token(letter):
                    glances.append(Glance(len(prompt) + place - 1, (len(prompt) + named,), cell))
        return tuple(glances)

    def _concluding(
        self, made: SceneSample, prompt: list[int], target: list[int], picture: int
    ) -> tuple[Glance, ...]:
        """While a result, a relation or an option's letter is written: what it follows from."""
        task, start = made.task, len(prompt)
        if task.family == "arithmetic":
            # "7 + 2 = 9": the result follows from what stands three and one tokens before the equals sign.
            end = start + target.index(self._token(" = "))
            return (Glance(end, (end - 1, end - 3), end - 3),)
        if not task.choices:
            return ()
        glances = []
        colours = [self._token(thing.colour) for thing in task.targets]
        option = self._token(task.answer)
        # "\nB. red tag": the first word of the right option.
        shown = prompt.index(option) + 2
        relation = self._token(" tag is ")
        if task.family == "position":
            # "The red tag is left": from where both are in the overview.
            overview = prompt.index(self._pad)
            first, second = (overview + self._cell(thing, _WHOLE, picture) for thing in task.targets)
            glances.append(Glance(start + target.index(relation), (first, second), shown))
        if task.family == "compare" and relation in target:
            # "The red tag is larger": from both digits, to the colour of the one that wins.
            digits = [start + target.index(colour) + 2 for colour in colours]
            winner = target.index(relation) - 1
            glances.append(
                Glance(start + winner - 1, (digits[0], digits[1]), start + target.index(target[winner]))
            )
        letter = len(target) - 1 - target[::-1].index(option)
        written = [k for k, token in enumerate(target[:letter]) if token == prompt[shown]]
        if written:
            glances.append(Glance(start + letter - 1, (start + written[-1],), shown))
        return tuple(glances)

    def _cell(self, thing: SceneObject, rect: tuple[float, float, float, float], picture: int) -> int:
        """Which visual token of `picture`, a view of `rect`, holds the centre of `thing`."""
        columns, rows = (int(side) // CELL for side in self.pack.sizes[picture])
        x0, y0, x1, y1 = rect
        across, down = (thing.x - x0) / (x1 - x0), (thing.y - y0) / (y1 - y0)
        column = min(columns - 1, max(0, int(across * columns)))
        return min(rows - 1, max(0, int(down * rows))) * columns + column

    def _count(self, picture: int) -> int:
        """How many visual tokens a picture has."""
        width, height = self.pack.sizes[picture]
        return int(width * height) // CELL**2

    def _token(self, text: str) -> int:
        """The id of a text that is one token."""
        (token,) = self._encode(text)
        return token

    def _shown(self, gold: Sequence[Box], rng: random.Random) -> list[Box]:
        kept = gold[:1] if rng.random() < INCOMPLETE else gold
        return [noisy(rng, box) for box in kept]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _prompt(self, messages: Any) -> list[int]:
        """The chat template's text, with as many placeholders as each picture has tokens."""
        parts = []
        for message in messages:
            parts.append(f"<|im_start|>{message.role}\n")
            for part in message.content:
                if isinstance(part, str):
                    parts.append(part)
                else:
                    pads = "<|image_pad|>" * self._count(part)
                    parts.append(f"<|vision_start|>{pads}<|vision_end|>")
            parts.append("<|im_end|>\n")
        return self._encode("".join(parts) + "<|im_start|>assistant\n")
