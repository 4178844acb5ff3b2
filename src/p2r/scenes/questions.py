"""Questions about a scene, in families, each with its gold boxes and answer.

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
    from collections.abc import Callable

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
    """A scene with three to six objects that allow a question of `family`."""
    some: dict[Family, list[Kind]] = {"code": ["plate"], "read": ["tag"], "whole": []}
    needed = some.get(family, ["tag", "tag"])
    extra: list[Kind] = [rng.choice(("tag", "tag", "plate")) for _ in range(rng.randint(3, 6) - len(needed))]
    return lay_out(rng, needed + extra, aspect)


def draw_task(rng: random.Random, family: Family, scene: Scene) -> Task:
    """A question of `family` about a scene of `draw_scene`."""
    return _DRAWN[family](rng, scene)


def _tags(scene: Scene) -> list[SceneObject]:
    return [thing for thing in scene.objects if thing.kind == "tag"]


def _shows(tag: SceneObject) -> str:
    return f"The {tag.name} shows {tag.text}."


def _difference(a: int, b: int) -> str:
    return f"{max(a, b)} - {min(a, b)} = {abs(a - b)}."


def _choice(
    rng: random.Random,
    family: Family,
    text: str,
    options: list[str],
    targets: tuple[SceneObject, ...],
    facts: tuple[str, ...],
) -> Task:
    # The first option is the right one.
    right = options[0]
    rng.shuffle(options)
    return Task(family, text, tuple(options), "choice", LETTERS[options.index(right)], targets, facts)


def _read(rng: random.Random, scene: Scene) -> Task:
    tag = rng.choice(_tags(scene))
    wrong = rng.sample([digit for digit in DIGITS if digit != tag.text], 3)
    text = f"Which digit is on the {tag.name}?"
    return _choice(rng, "read", text, [tag.text, *wrong], (tag,), (_shows(tag),))


def _compare(rng: random.Random, scene: Scene) -> Task:
    first, second = pair = tuple(rng.sample(_tags(scene), 2))
    wanted = rng.choice(("larger", "smaller"))
    facts: tuple[str, ...] = (_shows(first), _shows(second))
    same = first.text == second.text
    if same or rng.random() < 0.1:
        text = f"Do the {first.name} and the {second.name} show the same digit?"
        options = ["yes", "no"] if same else ["no", "yes"]
        facts = (*facts, _difference(int(first.text), int(second.text)), f"So {options[0]}.")
        return _choice(rng, "compare", text, options, pair, facts)
    first_wins = (first.text > second.text) == (wanted == "larger")
    right, wrong = (first, second) if first_wins else (second, first)
    text = f"Which shows the {wanted} digit, the {first.name} or the {second.name}?"
    facts = (*facts, f"The {wanted} digit is {right.text}, on the {right.name}.")
    return _choice(rng, "compare", text, [right.name, wrong.name], pair, facts)


def _position(rng: random.Random, scene: Scene) -> Task:
    first, second = pair = tuple(rng.sample(_tags(scene), 2))
    across, down = (first.x - second.x) * scene.aspect, first.y - second.y
    beside = abs(across) > abs(down)
    if beside:
        options = ["left", "right"] if across < 0 else ["right", "left"]
        text = f"Is the {first.name} to the left or to the right of the {second.name}?"
    else:
        options = ["above", "below"] if down < 0 else ["below", "above"]
        text = f"Is the {first.name} above or below the {second.name}?"
    places = [
        f"The {tag.name} is at {'x' if beside else 'y'} = {thousandth(tag.x if beside else tag.y)}."
        for tag in pair
    ]
    facts = (*places, f"The {first.name} is {options[0]}.")
    return _choice(rng, "position", text, options, pair, facts)


def thousandth(share: float) -> int:
    """A share of 0–1 in the coordinates that the perceiver writes: thousandths, rounded to tens."""
    return round(share * 100) * 10


def _arithmetic(rng: random.Random, scene: Scene) -> Task:
    first, second = pair = tuple(rng.sample(_tags(scene), 2))
    a, b = int(first.text), int(second.text)
    name, result, working = "difference", abs(a - b), _difference(a, b)
    if rng.random() < 0.5:
        name, result, working = "sum", a + b, f"{a} + {b} = {a + b}."
    text = f"What is the {name} of the digits on the {first.name} and the {second.name}?"
    return Task("arithmetic", text, (), "number", str(result), pair, (_shows(first), _shows(second), working))


def _code(rng: random.Random, scene: Scene) -> Task:
    plate = rng.choice([thing for thing in scene.objects if thing.kind == "plate"])
    text, fact = f"What is the code on the {plate.name}?", f"The {plate.name} reads {plate.text}."
    return Task("code", text, (), "free", plate.text, (plate,), (fact,))


def _whole(rng: random.Random, scene: Scene) -> Task:
    wrong = rng.sample([ground for ground in GROUNDS if ground != scene.ground], 3)
    fact = f"The ground is {scene.ground}."
    return _choice(rng, "whole", "What covers the ground?", [scene.ground, *wrong], (), (fact,))


_DRAWN: dict[Family, Callable[[random.Random, Scene], Task]] = {
    "read": _read,
    "compare": _compare,
    "position": _position,
    "arithmetic": _arithmetic,
    "code": _code,
    "whole": _whole,
}
