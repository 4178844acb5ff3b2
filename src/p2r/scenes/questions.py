"""The families of questions about a scene, each with its gold boxes and answer.

| family | what it takes | answer type | gold boxes |
| --- | --- | --- | --- |
| `read` | read one digit | choice of 4 | 1 |
| `compare` | read two digits, compare them | choice of 2 | 2 |
| `position` | find two tags | choice of 2 | 2 |
| `arithmetic` | read two digits, add or subtract them | number | 2 |
| `code` | read two letters | free | 1 |
| `whole` | look at the ground | choice of 4 | none: the whole image |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from p2r.scenes.layout import DIGITS, GROUNDS, lay_out
from p2r.types import LETTERS, AnswerType

if TYPE_CHECKING:
    import random

    from p2r.scenes.layout import Kind, Scene, SceneObject

Family = Literal["read", "compare", "position", "arithmetic", "code", "whole"]
FAMILIES: tuple[Family, ...] = ("read", "compare", "position", "arithmetic", "code", "whole")
# How often each family is drawn, in percent.
WEIGHTS: tuple[int, ...] = (25, 20, 10, 20, 20, 5)


@dataclass(frozen=True, slots=True)
class Task:
    """A question about a scene.

    Attributes:
        family: one of `FAMILIES`.
        text, choices, answer_type: as in `p2r.types.Question`.
        answer: the option letter, number or code.
        targets: the objects that hold the evidence, in the order in which the question names them.
        facts: one sentence for each step of the solution; the thinking that nano is taught.
    """

    family: Family
    text: str
    choices: tuple[str, ...]
    answer_type: AnswerType
    answer: str
    targets: tuple[SceneObject, ...]
    facts: tuple[str, ...]


def draw_scene(rng: random.Random, family: Family, aspect: float) -> Scene:
    """A scene in which `family` can be asked: three to six objects."""
    some: dict[Family, list[Kind]] = {"code": ["plate"], "read": ["tag"], "whole": []}
    needed = some.get(family, ["tag", "tag"])
    extra: list[Kind] = [rng.choice(("tag", "tag", "plate")) for _ in range(rng.randint(3, 6) - len(needed))]
    return lay_out(rng, needed + extra, aspect)


def draw_task(rng: random.Random, family: Family, scene: Scene) -> Task:
    """A question of `family` about `scene`, whose objects must allow it (`draw_scene` sees to that)."""
    tags = [thing for thing in scene.objects if thing.kind == "tag"]
    if family == "whole":
        return _whole(rng, scene)
    if family == "code":
        plate = rng.choice([thing for thing in scene.objects if thing.kind == "plate"])
        text = f"What is the code on the {plate.name}?"
        return Task(
            family, text, (), "free", plate.text, (plate,), (f"The {plate.name} reads {plate.text}.",)
        )
    if family == "read":
        return _read(rng, rng.choice(tags))
    first, second = rng.sample(tags, 2)
    if family == "compare":
        return _compare(rng, first, second)
    if family == "position":
        return _position(rng, first, second, scene.aspect)
    return _arithmetic(rng, first, second)


def _shows(tag: SceneObject) -> str:
    return f"The {tag.name} shows {tag.text}."


def _choice(
    rng: random.Random,
    family: Family,
    text: str,
    right: str,
    wrong: list[str],
    targets: tuple[SceneObject, ...],
    facts: tuple[str, ...],
) -> Task:
    choices = [right, *wrong]
    rng.shuffle(choices)
    answer = LETTERS[choices.index(right)]
    return Task(family, text, tuple(choices), "choice", answer, targets, facts)


def _whole(rng: random.Random, scene: Scene) -> Task:
    wrong = rng.sample([ground for ground in GROUNDS if ground != scene.ground], 3)
    facts = (f"The ground is {scene.ground}.",)
    return _choice(rng, "whole", "What covers the ground?", scene.ground, wrong, (), facts)


def _read(rng: random.Random, tag: SceneObject) -> Task:
    wrong = rng.sample([digit for digit in DIGITS if digit != tag.text], 3)
    text = f"Which digit is on the {tag.name}?"
    return _choice(rng, "read", text, tag.text, wrong, (tag,), (_shows(tag),))


def _compare(rng: random.Random, first: SceneObject, second: SceneObject) -> Task:
    wanted = rng.choice(("larger", "smaller"))
    pair, shown = (first, second), (_shows(first), _shows(second))
    working = _difference(int(first.text), int(second.text))
    if first.text == second.text:
        text = f"Do the {first.name} and the {second.name} show the same digit?"
        return _choice(rng, "compare", text, "yes", ["no"], pair, (*shown, working, "So yes."))
    if rng.random() < 0.1:
        text = f"Do the {first.name} and the {second.name} show the same digit?"
        return _choice(rng, "compare", text, "no", ["yes"], pair, (*shown, working, "So no."))
    first_wins = (first.text > second.text) == (wanted == "larger")
    right, wrong = (first, second) if first_wins else (second, first)
    text = f"Which shows the {wanted} digit, the {first.name} or the {second.name}?"
    facts = (*shown, f"The {wanted} digit is {right.text}, on the {right.name}.")
    return _choice(rng, "compare", text, right.name, [wrong.name], pair, facts)


def _position(rng: random.Random, first: SceneObject, second: SceneObject, aspect: float) -> Task:
    across, down = (first.x - second.x) * aspect, first.y - second.y
    beside = abs(across) > abs(down)
    if beside:
        right, wrong = ("left", "right") if across < 0 else ("right", "left")
        text = f"Is the {first.name} to the left or to the right of the {second.name}?"
    else:
        right, wrong = ("above", "below") if down < 0 else ("below", "above")
        text = f"Is the {first.name} above or below the {second.name}?"
    lies = [
        f"The {tag.name} is at {'x' if beside else 'y'} = {thousandth(tag.x if beside else tag.y)}."
        for tag in (first, second)
    ]
    facts = (*lies, f"The {first.name} is {right}.")
    return _choice(rng, "position", text, right, [wrong], (first, second), facts)


def thousandth(share: float) -> int:
    """Where 0–1 lies in the coordinates that the perceiver writes: thousandths, rounded to tens."""
    return round(share * 100) * 10


def _difference(a: int, b: int) -> str:
    return f"{max(a, b)} - {min(a, b)} = {abs(a - b)}."


def _arithmetic(rng: random.Random, first: SceneObject, second: SceneObject) -> Task:
    a, b = int(first.text), int(second.text)
    if rng.random() < 0.5:
        text = f"What is the sum of the digits on the {first.name} and the {second.name}?"
        result, working = a + b, f"{a} + {b} = {a + b}."
    else:
        text = f"What is the difference of the digits on the {first.name} and the {second.name}?"
        result, working = abs(a - b), _difference(a, b)
    facts = (_shows(first), _shows(second), working)
    return Task("arithmetic", text, (), "number", str(result), (first, second), facts)
