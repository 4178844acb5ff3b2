"""Where nano should look while it writes a word: at the question, an image, or its own thinking.

Places are found by tokens that every tokenizer of nano has: colors, digits, capitals, coordinates and the
words that answers turn on are always tokens of their own (`build_tokenizer`); other text may be split in any
way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from p2r.evidence import crop_region
from p2r.scenes.tags import DIGITS, Scene
from scripts.nano.attention_loss import AttentionTarget
from scripts.nano.build import number_tokens
from scripts.nano.tower import CELL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.scenes import SceneSample, Target, Task
    from p2r.settings import Settings
    from p2r.types import Box
    from scripts.nano.scenepack import ScenePack

_WHOLE = (0.0, 0.0, 1.0, 1.0)


class TargetFinder:
    """Finds the attention targets of examples.

    Every method takes an example's `prompt` and `target`, token ids. Positions count from the start of the
    prompt.

    Args:
        pack: the scenes' images.
        tokenizer: nano's.
        settings: for the geometry of crops.
    """

    def __init__(self, pack: ScenePack, tokenizer: Any, settings: Settings) -> None:
        self.pack, self.tokenizer, self.settings = pack, tokenizer, settings
        self.coordinates = set(number_tokens(tokenizer).values())
        self.digits = {self.token(digit) for digit in DIGITS}
        self.pad = self.token("<|image_pad|>")

    def finding(
        self, made: SceneSample, prompt: list[int], target: list[int], image: int
    ) -> list[AttentionTarget]:
        """While a box is written: the object's color in the question, its cell in the overview."""
        attention = []
        for count, place in enumerate(self._located(target)):
            thing = made.task.targets[count // 4]
            cell = prompt.index(self.pad) + self._cell(thing, _WHOLE, image)
            named = prompt.index(self.token(thing.name.split()[0]))
            attention.append(AttentionTarget(len(prompt) + place - 1, (named,), cell))
        return attention

    def reading(
        self,
        made: SceneSample,
        boxes: Sequence[Box],
        prompt: list[int],
        target: list[int],
        images: Sequence[int],
    ) -> list[AttentionTarget]:
        """While a digit or letter is written: the color just named, the object's cell in its crop."""
        if made.task.family == "position":
            return self._locating(made.task, prompt, target, images[0])
        (width, height), pads = made.size, [k for k, token in enumerate(prompt) if token == self.pad]
        attention = []
        start = self.count(images[0])
        written = {thing.name: thing.text for thing in cast("Scene", made.scene).objects}
        for thing, box, image in zip(made.task.targets, boxes, images[1:], strict=False):
            x0, y0, x1, y1 = crop_region(box, made.size, self.settings.geometry)
            cell = start + self._cell(thing, (x0 / width, y0 / height, x1 / width, y1 / height), image)
            start += self.count(image)
            named = place = target.index(self.token(thing.name.split()[0]))
            for letter in written[thing.name]:
                place = target.index(self.token(letter), place + 1)
                attention.append(AttentionTarget(len(prompt) + place - 1, (len(prompt) + named,), pads[cell]))
        return attention

    def _locating(
        self, task: Task, prompt: list[int], target: list[int], overview: int
    ) -> list[AttentionTarget]:
        """While "at x = 310" is written: the color just named, the tag's cell in the overview."""
        start, first = len(prompt), prompt.index(self.pad)
        return [
            AttentionTarget(
                start + place - 1,
                (start + target.index(self.token(thing.name.split()[0])),),
                first + self._cell(thing, _WHOLE, overview),
            )
            for thing, place in zip(task.targets, self._located(target), strict=True)
        ]

    def _located(self, target: list[int]) -> list[int]:
        """The positions of coordinates."""
        return [place for place, token in enumerate(target) if token in self.coordinates]

    def concluding(self, task: Task, prompt: list[int], target: list[int]) -> list[AttentionTarget]:
        """While a result, a relation or an option's letter is written: what it follows from."""
        start = len(prompt)
        if task.family == "arithmetic":
            return [self._computed(start, target)]
        if not task.choices:
            return []
        option = self.token(task.answer)
        # "\nB. red tag": the first word of the right option.
        shown = prompt.index(option) + 2
        attention = []
        if task.family == "position":
            # "The red tag is left": from both coordinates.
            first, second = (start + place for place in self._located(target))
            relation = start + target.index(prompt[shown])
            attention.append(AttentionTarget(relation - 1, (first, second), shown))
        if task.family == "compare":
            attention += self._compared(task, start, target, prompt[shown])
        letter = len(target) - 1 - target[::-1].index(option)
        written = [place for place, token in enumerate(target[:letter]) if token == prompt[shown]]
        if written:
            attention.append(AttentionTarget(start + letter - 1, (start + written[-1],), shown))
        return attention

    def _computed(self, start: int, target: list[int]) -> AttentionTarget:
        """The result of "7 + 2 = 9" follows from the tokens three and one before the equals sign."""
        equals = start + target.index(self.token(" = "))
        return AttentionTarget(equals, (equals - 1, equals - 3), equals - 3)

    def _compared(self, task: Task, start: int, target: list[int], word: int) -> Iterator[AttentionTarget]:
        if task.text.startswith("Do "):
            # "8 - 3 = 5. So no": from the difference.
            computed = self._computed(start, target)
            yield computed
            result = computed.position + 1
            yield AttentionTarget(start + target.index(word, result - start) - 1, (result,), result)
            return
        # "The larger digit is 8, on the red tag": from both digits, then from the one to its color.
        colors = (target.index(self.token(thing.name.split()[0])) for thing in task.targets)
        first, second = (self._digit(target, color) for color in colors)
        wanted = self.token("larger" if "larger" in task.text else "smaller")
        winner = self._digit(target, target.index(wanted))
        source = start + target.index(target[winner])
        yield AttentionTarget(start + winner - 1, (start + first, start + second), source)
        yield AttentionTarget(start + target.index(word, winner) - 1, (start + winner,), source)

    def _digit(self, target: list[int], after: int) -> int:
        """The position of the next digit."""
        return next(place for place in range(after, len(target)) if target[place] in self.digits)

    def count(self, image: int) -> int:
        """How many visual tokens an image has."""
        width, height = self.pack.sizes[image]
        return int(width * height) // CELL**2

    def token(self, text: str) -> int:
        """The id of a text that is one token."""
        (token,) = self.tokenizer.encode(text, add_special_tokens=False)
        return int(token)

    def _cell(self, thing: Target, rect: tuple[float, float, float, float], image: int) -> int:
        """Which visual token of `image`, a view of `rect`, holds the center of `thing`."""
        columns, rows = (int(side) // CELL for side in self.pack.sizes[image])
        x0, y0, x1, y1 = rect
        left, top, right, bottom = thing.rect
        across, down = ((left + right) / 2 - x0) / (x1 - x0), ((top + bottom) / 2 - y0) / (y1 - y0)
        column = min(columns - 1, max(0, int(across * columns)))
        return min(rows - 1, max(0, int(down * rows))) * columns + column
