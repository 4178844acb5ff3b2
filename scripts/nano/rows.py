"""A scene → rows: sequences of tokens of fixed shape, with where to look while writing each target.

Rows are made ahead of time by the processes that draw, so that training only gathers arrays. A row holds
the whole conversation, the visual token at each placeholder, the positions of Qwen3-VL, and the
*aims*: for a written token, the words and the visual token that it follows from (`scripts.nano.speaking`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2r.prompts import direct_messages, perceive_messages, reason_messages
from scripts.nano.lessons import evidence_of, perceive_target, question_of, think_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Encoding, Tokenizer

    from p2r.scenes import SceneSample
    from p2r.settings import Settings
    from p2r.types import Box

CELL = 32  # pixels of a visual token's side
# Room for the cells of an overview and of a crop. Multiples that suit the kernels of attention.
OVERVIEW_CELLS, CROP_CELLS, CROPS = 32, 50, 4
LOOK_LENGTH, READ_LENGTH, TARGET, AIMS = 288, 448, 112, 28
# Rows that show an overview (or nothing), and rows that show evidence.
LOOK_KINDS = ("perceive", "glance", "think", "direct", "drill")
READ_KINDS = ("reason", "hasty")
KINDS = LOOK_KINDS + READ_KINDS
# The families that nano-base is meant to answer without a conclusion (`scripts.nano.training.HASTE`).
HASTY = ("compare",)
# Things of one image, words of a name, tokens of what is written on it.
THINGS, NAME, VALUE = 8, 4, 6
# A cell of things that belong to the whole image.
EVERYWHERE = -2


def row_type(length: int) -> np.dtype[Any]:
    """The arrays of a row of at most `length` tokens.

    ids; source: the place in the row's visual tokens, −1 for text; places: positions of Qwen3-VL; start:
    where the first token of `target` is predicted; aims: position, two spans of words, cell; −1 for none.
    """
    return np.dtype(
        [
            ("kind", "i2"),
            ("length", "i2"),
            ("start", "i2"),
            ("ids", "i2", length),
            ("source", "i2", length),
            ("places", "i2", (3, length)),
            ("target", "i2", TARGET),
            ("aims", "i2", (AIMS, 6)),
        ]
    )


# What is at a cell of an image: −1 for none.
THING = np.dtype([("cell", "i2"), ("name", "i2", NAME), ("value", "i2", VALUE), ("box", "i2", 4)])


class View(NamedTuple):
    """An image as it is shown: (columns, rows) of its cells, and the part of the scene, as shares."""

    grid: tuple[int, int]
    rect: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    @property
    def cells(self) -> int:
        """How many visual tokens it has."""
        return self.grid[0] * self.grid[1]

    def cell(self, x: float, y: float) -> int:
        """The visual token that holds a point, 0–1000 of the scene."""
        x0, y0, x1, y1 = self.rect
        across, down = (x / 1000 - x0) / (x1 - x0), (y / 1000 - y0) / (y1 - y0)
        column = min(self.grid[0] - 1, max(0, int(across * self.grid[0])))
        return min(self.grid[1] - 1, max(0, int(down * self.grid[1]))) * self.grid[0] + column

    def within(self, box: Box) -> tuple[int, int, int, int]:
        """A box of the scene in thousandths of the view."""
        x0, y0, x1, y1 = self.rect
        sides = (
            (box.x0 / 1000 - x0) / (x1 - x0),
            (box.y0 / 1000 - y0) / (y1 - y0),
            (box.x1 / 1000 - x0) / (x1 - x0),
            (box.y1 / 1000 - y0) / (y1 - y0),
        )
        return tuple(round(1000 * min(1.0, max(0.0, side))) for side in sides)  # type: ignore[return-value]


@dataclass(slots=True)
class _Text:
    """An encoded text, with where each character is."""

    text: str
    encoding: Encoding

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The tokens that hold these characters, half-open."""
        held = [k for k, (a, b) in enumerate(self.encoding.offsets) if a < end and b > start]
        return (held[0], held[-1] + 1) if held else (-1, -1)


def value_of(fact: str, name: str) -> tuple[int, int]:
    """Where a fact tells the value of a thing: its last word; (−1, −1) if it is of the name or a list."""
    found = re.search(r"(\S+?)[.]?$", fact)
    if not found or ", " in fact or name not in fact or found.start(1) < fact.index(name) + len(name):
        return -1, -1
    return found.span(1)


class RowWriter:
    """Writes the rows of scenes.

    Args:
        tokenizer: nano's.
        settings: prompts and geometry, as at inference.
    """

    def __init__(self, tokenizer: Tokenizer, settings: Settings) -> None:
        self.tokenizer, self.settings = tokenizer, settings
        ids = tokenizer.get_vocab()
        self.pad, self.end = ids["<|image_pad|>"], ids["<|im_end|>"]

    def look_rows(self, made: SceneSample, overview: View, boxes: Sequence[Box]) -> list[np.ndarray]:
        """Rows that show the overview, and a drill.

        Args:
            made: the scene.
            overview: how it is shown.
            boxes: the boxes to list.
        """
        prompts, question, task = self.settings.prompts, question_of(made.task), made.task
        image: Any = overview
        rows = []
        asked = perceive_messages(prompts, question, image)
        for kind, listed in (("perceive", boxes), ("glance", boxes[:1])):
            if kind == "perceive" or len(boxes) > 1:
                rows.append(self._row(kind, asked, perceive_target(listed), made, (overview,), listed))
        thought = think_target(task.facts, task.answer)
        plain = reason_messages(prompts, question, evidence_of(image, ()))
        rows.append(self._row("think", plain, thought, made, (overview,)))
        direct = direct_messages(prompts, question, image)
        rows.append(self._row("direct", direct, task.answer, made, (overview,)))
        if 1 < len(boxes) <= CROPS and len(task.facts) > len(boxes):
            # What images would show is given: the facts about the objects.
            given = len("<think>" + " ".join(task.facts[: len(boxes)]))
            messages = reason_messages(prompts, question, evidence_of("", ["" for _ in boxes]))
            rows.append(self._row("drill", messages, thought, made, (), given=given))
        return [row for row in rows if row is not None]

    def read_rows(
        self, made: SceneSample, overview: View, crops: Sequence[View], boxes: Sequence[Box]
    ) -> list[np.ndarray]:
        """Rows that show evidence: the annotated overview and the crops of `boxes`."""
        task = made.task
        views: Any = (overview, *crops)
        messages = reason_messages(self.settings.prompts, question_of(task), evidence_of(overview, views[1:]))
        rows = [self._row("reason", messages, think_target(task.facts, task.answer), made, views, boxes)]
        if task.family in HASTY and len(task.facts) > len(made.boxes):
            hasty = think_target(task.facts[: len(made.boxes)], task.answer)
            rows.append(self._row("hasty", messages, hasty, made, views, boxes))
        return [row for row in rows if row is not None]

    def things(self, views: Sequence[View], made: SceneSample, *, near: bool) -> np.ndarray:
        """What is at the cells of each view: THING, (views, THINGS)."""
        things = np.full((len(views), THINGS), -1, THING)
        reads = near and made.task.family not in ("position", "count", "whole")
        for number, view in enumerate(views):
            slot = 0
            for target in made.boxes[: THINGS - 1]:
                x, y = (side / 1000 for side in target.center)
                x0, y0, x1, y1 = view.rect
                if not (x0 <= x < x1 and y0 <= y < y1):
                    continue
                fact = next((fact for fact in made.task.facts if target.label in fact), "")
                start, end = value_of(fact, target.label) if reads else (-1, -1)
                self._describe(things[number, slot], view, target, fact[start:end] if start >= 0 else "")
                slot += 1
            if made.task.family == "whole" and not near and made.task.facts:
                things[number, slot]["cell"] = EVERYWHERE
                word = made.task.facts[-1].rstrip(".").split()[-1]
                self._write_value(things[number, slot], word)
        return things

    def _describe(self, thing: Any, view: View, target: Box, value: str) -> None:
        thing["cell"] = view.cell(*target.center)
        thing["box"] = view.within(target)
        for place, word in enumerate(target.label.split()[:NAME]):
            thing["name"][place] = self.tokenizer.encode(word, add_special_tokens=False).ids[0]
        if value:
            self._write_value(thing, value)

    def _write_value(self, thing: Any, value: str) -> None:
        ids = [*self.tokenizer.encode(value, add_special_tokens=False).ids, self.end][:VALUE]
        thing["value"][: len(ids)] = ids

    def sheet_things(self, view: View, labels: Sequence[tuple[str, Box]]) -> np.ndarray:
        """What is on a sheet of writing: THING, (THINGS,)."""
        things = np.full(THINGS, -1, THING)
        for thing, (text, box) in zip(things, labels, strict=False):
            thing["cell"] = view.cell(*box.center)
            thing["box"] = view.within(box)
            self._write_value(thing, text)
        return things

    # One row.

    def _row(
        self,
        kind: str,
        messages: Any,
        target: str,
        made: SceneSample,
        views: Sequence[View],
        boxes: Sequence[Box] = (),
        *,
        given: int = 0,
    ) -> np.ndarray | None:
        prompt = _Text(text := self._prompt(messages), self.tokenizer.encode(text, add_special_tokens=False))
        target += "<|im_end|>"
        written = _Text(target, self.tokenizer.encode(target, add_special_tokens=False))
        ids = [*prompt.encoding.ids, *written.encoding.ids]
        first = len(prompt.encoding.ids)
        skipped = written.span(0, given)[1] if given else 0
        length = LOOK_LENGTH if kind in LOOK_KINDS else READ_LENGTH
        wanted = written.encoding.ids[skipped:]
        if len(ids) > length or len(wanted) > TARGET:
            return None
        row = np.full((), -1, row_type(length))
        row["kind"], row["length"], row["start"] = KINDS.index(kind), len(ids), first + skipped - 1
        row["ids"] = 0
        row["ids"][: len(ids)] = ids
        row["target"][: len(wanted)] = wanted
        if kind == "hasty":
            # The option's letter is a guess here. Learning it would undo how letters follow from conclusions.
            letter = target.index("<answer>") + len("<answer>")
            row["target"][slice(*written.span(letter, letter + 1))] = -1
        pads = np.flatnonzero(np.array(ids[:first]) == self.pad)
        row["places"] = 0
        row["places"][:, : len(ids)] = place_ids(len(ids), pads, [view.grid for view in views])
        begins: list[int] = []
        sources: list[int] = []
        for number, view in enumerate(views):
            begins.append(sum(one.cells for one in views[:number]))
            base = 0 if number == 0 else OVERVIEW_CELLS + (number - 1) * CROP_CELLS
            sources.extend(range(base, base + view.cells))
        row["source"][pads] = sources

        def at(number: int, point: tuple[float, float]) -> int:
            return int(pads[begins[number] + views[number].cell(*point)])

        aims = _Aims(prompt, written, made)
        if kind in ("perceive", "glance"):
            aims.finding(boxes, at)
        elif kind != "direct":
            aims.thinking(boxes, at, hasty=kind == "hasty")
        kept = [aim for aim in aims.found if aim[0] >= first + skipped - 1][:AIMS]
        if kept:
            row["aims"][: len(kept)] = kept
        return row

    def _prompt(self, messages: Any) -> str:
        """The chat template's text, with as many placeholders as each image has visual tokens."""
        parts = []
        for message in messages:
            parts.append(f"<|im_start|>{message.role}\n")
            for part in message.content:
                if isinstance(part, View):
                    parts.append(f"<|vision_start|>{'<|image_pad|>' * part.cells}<|vision_end|>")
                else:
                    # A drill leaves its images out: an empty text keeps their place.
                    parts.append(part or "<|vision_start|><|vision_end|>")
            parts.append("<|im_end|>\n")
        return "".join(parts) + "<|im_start|>assistant\n"


def place_ids(length: int, pads: np.ndarray, grids: Sequence[tuple[int, int]]) -> np.ndarray:
    """Interleaved-MRoPE positions of a sequence: int64, (3, length); the same as transformers computes."""
    places = np.empty((3, length), np.int64)
    cursor, position, used = 0, 0, 0
    for columns, rows in grids:
        begin = int(pads[used])
        places[:, cursor:begin] = position + np.arange(begin - cursor)
        position += begin - cursor
        cells = np.arange(rows * columns)
        end = begin + len(cells)
        places[0, begin:end] = position
        places[1, begin:end] = position + cells // columns
        places[2, begin:end] = position + cells % columns
        cursor, used = end, used + len(cells)
        position += max(rows, columns)
    places[:, cursor:] = position + np.arange(length - cursor)
    return places


class _Aims:
    """Collects where to look while a target is written: (position, two spans of words, cell)."""

    def __init__(self, prompt: _Text, written: _Text, made: SceneSample) -> None:
        self.prompt, self.written, self.made = prompt, written, made
        self.first = len(prompt.encoding.ids)
        self.found: list[tuple[int, int, int, int, int, int]] = []

    def finding(self, boxes: Sequence[Box], at: Any) -> None:
        """While a box is written: its name in the question, its cell in the overview."""
        question = self.prompt.text.find("Question: ")
        lists = re.finditer(r"\[(\d+), (\d+), (\d+), (\d+)\]", self.written.text)
        for box, numbers in zip(boxes, lists, strict=True):
            name = self.prompt.text.find(box.label, question)
            words = self.prompt.span(name, name + len(box.label)) if name >= 0 else (-1, -1)
            for side in range(1, 5):
                self._aim(self.written.span(*numbers.span(side)), words, at(0, box.center))

    def thinking(self, boxes: Sequence[Box], at: Any, *, hasty: bool) -> None:
        """While a fact is written: the name just written and the object's cell; then what follows from it."""
        task = self.made.task
        starts, place = [], len("<think>")
        for fact in task.facts[: len(self.made.boxes) if hasty else None]:
            starts.append(place)
            place += len(fact) + 1
        facts = list(zip(starts, task.facts, strict=False))
        values: list[tuple[int, int]] = []
        names: list[tuple[int, int]] = []
        told = -1
        for number, target in enumerate(self.made.boxes):
            where = next((k for k, (_, fact) in enumerate(facts) if target.label in fact), None)
            if where is None:
                continue
            start, fact = facts[where]
            begin, end = value_of(fact, target.label)
            if begin < 0:
                continue
            told = max(told, where)
            named = start + fact.index(target.label)
            names.append(self._own(named, named + len(target.label)))
            values.append(self._own(start + begin, start + end))
            cell = -1
            if boxes and task.family == "position":
                cell = at(0, target.center)
            elif number < len(boxes):
                cell = at(number + 1, target.center)
            for token in range(*values[-1]):
                self._aim((token - self.first, token - self.first + 1), names[-1], cell)
        for start, fact in facts[told + 1 :]:
            self._concluding(start, fact, names, values)
        if not hasty:
            self._choosing()

    def _concluding(
        self, start: int, fact: str, names: list[tuple[int, int]], values: list[tuple[int, int]]
    ) -> None:
        operands = (*values, (-1, -1), (-1, -1))
        ids = [*self.prompt.encoding.ids, *self.written.encoding.ids]
        for found in re.finditer(r"[0-9A-Z](?![a-z])", fact):
            span = self.written.span(start + found.start(), start + found.end())
            sources = [
                k for value in values for k in range(*value) if ids[k] == self.written.encoding.ids[span[0]]
            ]
            self._aim(span, operands[0], sources[0] if sources else -1, operands[1])
        for name in names:
            ids_of = ids[slice(*name)]
            label = self.written.text[
                self.written.encoding.offsets[name[0] - self.first][0] : self.written.encoding.offsets[
                    name[1] - 1 - self.first
                ][1]
            ]
            where = fact.find(label)
            if ids_of and where > 0:
                span = self.written.span(start + where, start + where + len(label))
                said = list(re.finditer(r"[0-9A-Z.]+", fact[:where].rstrip(" ,")))
                words = self._own(start + said[-1].start(), start + said[-1].end()) if said else (-1, -1)
                self._aim((span[0], span[0] + 1), words, name[0])

    def _choosing(self) -> None:
        """While an option's letter is written: where it was just named, and the option in the question."""
        task = self.made.task
        if not task.choices:
            return
        option = task.choices["ABCDEFGH".index(task.answer)]
        shown = self.prompt.text.rfind(f"\n{task.answer}. {option}")
        letter = self.written.text.rfind(f"<answer>{task.answer}") + len("<answer>")
        listed = self.prompt.span(shown + 4, shown + 4 + len(option))
        said = self.written.text.rfind(option, 0, letter - len("</think><answer>"))
        words = self._own(said, said + len(option)) if said >= 0 else (-1, -1)
        self._aim(self.written.span(letter, letter + 1), words, listed[1] - 1)

    def _own(self, start: int, end: int) -> tuple[int, int]:
        """A span of the written text in the whole sequence."""
        a, b = self.written.span(start, end)
        return (a + self.first, b + self.first) if a >= 0 else (-1, -1)

    def _aim(
        self, token: tuple[int, int], words: tuple[int, int], cell: int, more: tuple[int, int] = (-1, -1)
    ) -> None:
        if token[0] >= 0 and (words[0] >= 0 or cell >= 0):
            self.found.append((self.first + token[0] - 1, *words, *more, cell))
