"""Questions about things that each show one value: pins, rows, displays, bars.

| family | question about the red and the blue pin | gold boxes |
| --- | --- | --- |
| `read` | What number is on the red pin? | 1 |
| `compare` | Which shows the larger number, the red pin or the blue pin? | 2 |
| `arithmetic` | What is the sum of the numbers on the red pin and the blue pin? | 2 |
| `which` | Which of these shows the number 27? | one for each option |
| `position` | Is the red pin to the left or to the right of the blue pin? | 2 |
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from p2r.scenes.world import Target, Task, choice_task

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from p2r.scenes.world import Rect
    from p2r.types import AnswerType


class Reading(NamedTuple):
    """A thing called `name` that shows `value`; `rect`: the carrier of the writing."""

    name: str
    value: str
    rect: Rect
    verb: str = "shows"

    @property
    def fact(self) -> str:
        """What one sees there, as a sentence."""
        return f"The {self.name} {self.verb} {self.value}."


def ask(
    rng: random.Random,
    family: str,
    things: Sequence[Reading],
    noun: str,
    where: str = "on",
    aspect: float = 1.0,
) -> Task:
    """A question of one of the families above; all things of `things` are distractors or asked for."""
    if family == "read":
        return _read(rng, things, f"What {noun} is {where} the")
    if family == "which":
        return _which(rng, things, noun)
    first, second = rng.sample(list(things), 2)
    if family == "position":
        return _position(rng, first, second, aspect)
    a, b = float(first.value), float(second.value)
    if family == "compare":
        while a == b:
            first, second = rng.sample(list(things), 2)
            a, b = float(first.value), float(second.value)
        wanted = rng.choice(("larger", "smaller"))
        right, wrong = (first, second) if (a > b) == (wanted == "larger") else (second, first)
        text = f"Which shows the {wanted} {noun}, the {first.name} or the {second.name}?"
        fact = f"The {wanted} {noun} is {right.value}, on the {right.name}."
        return choose(rng, "compare", text, [right.name, wrong.name], (first, second), fact)
    low, high = sorted((Decimal(first.value), Decimal(second.value)))
    name, result, working = "difference", high - low, f"{high} - {low} = {high - low}."
    if rng.random() < 0.6:
        name, result, working = "sum", high + low, f"{first.value} + {second.value} = {high + low}."
    text = f"What is the {name} of the {noun}s {where} the {first.name} and the {second.name}?"
    facts = (first.fact, second.fact, working)
    return Task("arithmetic", text, (), "number", str(result), targets(first, second), facts)


def targets(*things: Reading) -> tuple[Target, ...]:
    """The gold boxes of things."""
    return tuple(Target(thing.name, thing.rect) for thing in things)


def choose(
    rng: random.Random,
    family: str,
    text: str,
    options: Sequence[str],
    shown: Sequence[Reading],
    fact: str = "",
) -> Task:
    """A task with options, the first of which is right; the facts are those of `shown`, then `fact`."""
    facts = (*(thing.fact for thing in shown), *([fact] if fact else []))
    return choice_task(rng, family, text, options, targets(*shown), facts)


def _read(rng: random.Random, things: Sequence[Reading], text: str) -> Task:
    thing = rng.choice(list(things))
    text = f"{text} {thing.name}?"
    others = sorted({other.value for other in things} - {thing.value})
    if len(others) < 3 or rng.random() < 0.5:
        kind: AnswerType = "number" if thing.value.replace(".", "").isdecimal() else "free"
        return Task("read", text, (), kind, thing.value, targets(thing), (thing.fact,))
    return choose(rng, "read", text, [thing.value, *rng.sample(others, 3)], [thing])


def _which(rng: random.Random, things: Sequence[Reading], noun: str) -> Task:
    thing = rng.choice(list(things))
    others = [other for other in things if other.value != thing.value]
    # The number of crops, usually.
    asked = [thing, *rng.sample(others, min(len(others), 2))]
    rng.shuffle(asked)
    text = f"Which of these shows the {noun} {thing.value}?"
    options = [thing.name, *(other.name for other in asked if other is not thing)]
    return choose(rng, "which", text, options, asked, f"So it is the {thing.name}.")


def _position(rng: random.Random, first: Reading, second: Reading, aspect: float) -> Task:
    (x, y), (u, v) = (
        ((one.rect[0] + one.rect[2]) / 2, (one.rect[1] + one.rect[3]) / 2) for one in (first, second)
    )
    beside = abs(x - u) * aspect > abs(y - v)
    if beside:
        options = ["left", "right"] if x < u else ["right", "left"]
        text = f"Is the {first.name} to the left or to the right of the {second.name}?"
    else:
        options = ["above", "below"] if y < v else ["below", "above"]
        text = f"Is the {first.name} above or below the {second.name}?"
    task = choose(rng, "position", text, options, [first, second])
    places = [(first.name, x if beside else y), (second.name, u if beside else v)]
    facts = [f"The {name} is at {'x' if beside else 'y'} = {round(at * 100) * 10}." for name, at in places]
    facts.append(f"The {first.name} is {options[0]}.")
    return Task(task.family, task.text, task.choices, "choice", task.answer, task.targets, tuple(facts))


def count(name: str, rects: Sequence[Rect]) -> Task:
    """How many things of this name are there? `rects`: where they are."""
    text, fact = f"How many {name}s are there?", f"There are {len(rects)} {name}s."
    if len(rects) == 1:
        fact = f"There is 1 {name}."
    shown = tuple(Target(name, rect) for rect in rects)
    return Task("count", text, (), "number", str(len(rects)), shown, (fact,))


def exists(rng: random.Random, there: Sequence[Target], absent: Sequence[str]) -> Task:
    """Is there a thing of this name? In half of the cases it is one of `there`, else a name of `absent`."""
    found = [rng.choice(list(there))] if rng.random() < 0.5 else []
    name = found[0].name if found else rng.choice(list(absent))
    text = f"Is there {'an' if name[0] in 'aeio' else 'a'} {name}?"
    options, facts = ["yes", "no"], [f"There is a {name}."]
    if not found:
        options, facts = ["no", "yes"], [f"There is no {name}."]
    return choice_task(rng, "exists", text, options, found, facts)


def whole(rng: random.Random, text: str, fact: str, options: Sequence[str], right: str) -> Task:
    """A question about the image as a whole, with up to four options; `fact` ends before the answer."""
    wrong = rng.sample([option for option in options if option != right], min(3, len(options) - 1))
    return choice_task(rng, "whole", text, [right, *wrong], [], [f"{fact} {right}."])
