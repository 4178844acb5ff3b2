"""Stage 2: the language model learns both roles from the frozen tower's tokens.

Each step holds one batch of perceive lessons and one of answers (reason with crops, think, direct), so that
lengths within a batch are alike. The losses cover the target only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn import functional

from p2r.nano.lessons import perceive_target, question_of, think_target
from p2r.nano.scenepack import ScenePack, noisy
from p2r.nano.tower import CELL, encode
from p2r.prompts import direct_messages, perceive_messages, reason_messages
from p2r.types import Crop, Evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.nano.loop import Metrics
    from p2r.settings import Settings
    from p2r.types import Box

Task = Literal["perceive", "reason", "think", "direct"]

# How often a perceive lesson with two gold boxes shows only the first. nano-base is meant to look
# incompletely: that is what reinforcement learning has to mend.
INCOMPLETE = 0.6
_COLOURS = ("red", "green", "blue")
# Lessons of each side in a step: finding takes far more of them than reading does.
_LOOKS, _ANSWERS = 24, 6


@dataclass(frozen=True, slots=True)
class Lesson:
    """One conversation.

    Attributes:
        task: the role.
        prompt, target: token ids; the loss covers `target`.
        pictures: numbers of the pack's pictures in the order of their placeholders.
    """

    task: Task
    prompt: list[int]
    target: list[int]
    pictures: tuple[int, ...]


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
                Crop(number, box, (0, 0, 1, 1), _COLOURS[k])  # type: ignore[arg-type]
                for k, number in enumerate(numbers[1:])
            )
            messages = reason_messages(prompts, question, Evidence(numbers[0], crops))  # type: ignore[arg-type]
            target = think_target(made.task)
        return Lesson(task, self._prompt(messages), self._encode(target + "<|im_end|>"), numbers)

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
                    width, height = self.pack.sizes[part]
                    pads = "<|image_pad|>" * (width * height // CELL**2)
                    parts.append(f"<|vision_start|>{pads}<|vision_end|>")
            parts.append("<|im_end|>\n")
        return self._encode("".join(parts) + "<|im_start|>assistant\n")


def encode_pack(visual: Any, pack: ScenePack, hidden: int) -> torch.Tensor:
    """The visual tokens of every picture of a pack: float16, (all tokens, hidden)."""
    tokens = torch.empty(int(pack.starts[-1]) // (3 * CELL**2), hidden, dtype=torch.float16)
    by_size: dict[tuple[int, int], list[int]] = {}
    for number, (width, height) in enumerate(pack.sizes.tolist()):
        by_size.setdefault((width, height), []).append(number)
    with torch.no_grad():
        for numbers in by_size.values():
            for begin in range(0, len(numbers), 16):
                chunk = numbers[begin : begin + 16]
                stack = torch.from_numpy(np.stack([pack.picture(number) for number in chunk]))
                for number, row in zip(chunk, encode(visual, [stack])[0], strict=True):
                    start = int(pack.starts[number]) // (3 * CELL**2)
                    tokens[start : start + len(row)] = row.half()
    return tokens


def place_ids(lesson: Lesson, sizes: np.ndarray, image_token: int) -> np.ndarray:
    """Interleaved-MRoPE positions of a lesson: int64, (3, length); the same as transformers computes."""
    ids = np.array(lesson.prompt + lesson.target)
    places = np.empty((3, len(ids)), np.int64)
    pads = np.flatnonzero(ids == image_token)
    cursor, position, used = 0, 0, 0
    for number in lesson.pictures:
        columns, rows = (int(side) // CELL for side in sizes[number])
        begin = int(pads[used])
        places[:, cursor:begin] = position + np.arange(begin - cursor)
        position += begin - cursor
        grid = np.arange(rows * columns)
        places[0, begin : begin + len(grid)] = position
        places[1, begin : begin + len(grid)] = position + grid // columns
        places[2, begin : begin + len(grid)] = position + grid % columns
        cursor, used = begin + len(grid), used + len(grid)
        position += max(rows, columns)
    places[:, cursor:] = position + np.arange(len(ids) - cursor)
    return places


def study(
    model: Any, room: Classroom, tokens: torch.Tensor, lessons: Sequence[Lesson], share: float
) -> Metrics:
    """Accumulate the gradients of one batch, weighted by `share`; returns its loss and hit rates."""
    config = model.config
    length = max(len(lesson.prompt) + len(lesson.target) for lesson in lessons)
    ids = torch.zeros(len(lessons), length, dtype=torch.long)
    wanted = torch.full((len(lessons), length), -100)
    places = torch.zeros(3, len(lessons), length, dtype=torch.long)
    spans: list[torch.Tensor] = []
    for row, lesson in enumerate(lessons):
        both = lesson.prompt + lesson.target
        ids[row, : len(both)] = torch.tensor(both)
        # Position t predicts token t + 1.
        wanted[row, len(lesson.prompt) - 1 : len(both) - 1] = torch.tensor(lesson.target)
        places[:, row, : len(both)] = torch.from_numpy(
            place_ids(lesson, room.pack.sizes, config.image_token_id)
        )
        for number in lesson.pictures:
            start, stop = (int(room.pack.starts[number + k]) // (3 * CELL**2) for k in (0, 1))
            spans.append(tokens[start:stop])
    words = model.model.language_model.embed_tokens
    embedded = words(ids)
    visual = torch.cat(spans).float()
    embedded = embedded.masked_scatter((ids == config.image_token_id)[..., None], visual)
    # Padding stands on the right, where a causal model never looks back at it: no mask is needed.
    hidden = model.model.language_model(inputs_embeds=embedded, position_ids=places, use_cache=False)[0]
    asked = wanted >= 0
    logits = hidden[asked] @ words.weight.T
    gold = wanted[asked]
    loss = functional.cross_entropy(logits, gold)
    (share * loss).backward()  # type: ignore[no-untyped-call]
    right = logits.argmax(-1) == gold
    owner = asked.nonzero()[:, 0]
    wrong = torch.zeros(len(lessons)).index_add_(0, owner, (~right).float())
    metrics: Metrics = {}
    for task in {lesson.task for lesson in lessons}:
        rows = torch.tensor([lesson.task == task for lesson in lessons])
        each = functional.cross_entropy(logits[rows[owner]], gold[rows[owner]]) if rows.any() else loss
        metrics[f"loss_{task}"] = float(each.detach())
        metrics[f"exact_{task}"] = float((wrong[rows] == 0).float().mean())
    return metrics


def lone_share(number: int) -> float:
    """How many of a step's perceive lessons show a single object: finding comes before telling apart."""
    return 1.0 if number < 2_400 else 0.5 if number < 2_900 else 0.1


def speak_step(
    model: Any, usual: tuple[Classroom, torch.Tensor], lone: tuple[Classroom, torch.Tensor], number: int
) -> Metrics:
    """One step: perceive lessons and as many answers (reason with crops, think, direct).

    Args:
        model: nano.
        usual, lone: the classroom of usual scenes and that of scenes with one object, each with the visual
            tokens of its pack.
        number: the step, which seeds its lessons.
    """
    rng = random.Random(f"speak-{number}")
    metrics: Metrics = {}
    easy = round(_LOOKS * lone_share(number))
    for (room, tokens), count, name in ((lone, easy, "lone"), (usual, _LOOKS - easy, "perceive")):
        if count:
            looks = [room.lesson("perceive", rng.randrange(room.scenes), rng) for _ in range(count)]
            loss = study(model, room, tokens, looks, 0.7 * count / _LOOKS)["loss_perceive"]
            metrics[f"loss_{name}"] = loss
    kinds: tuple[Task, ...] = (*("reason",) * 6, "think", "direct")
    room, tokens = usual
    answers = [room.lesson(rng.choice(kinds), rng.randrange(room.scenes), rng) for _ in range(_ANSWERS)]
    return {**metrics, **study(model, room, tokens, answers, 0.3)}
