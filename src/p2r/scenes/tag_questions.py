"""Questions about the tags and plates of a scene, in families, each with its gold boxes and answer.

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

from typing import TYPE_CHECKING

from p2r.scenes.tags import DIGITS, GROUNDS, Scene, lay_out
from p2r.scenes.world import Difficulty, Target, Task, World, choice_task

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from p2r.scenes.fonts import Font
    from p2r.scenes.tags import Kind, SceneObject

# How often each family is drawn, in percent.
_FAMILIES = {"read": 25, "compare": 20, "position": 10, "arithmetic": 20, "code": 20, "whole": 5}


def draw(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty, fonts: Sequence[Font]
) -> tuple[Scene, Task]:
    """A scene with a question; the writing is in Pillow's own font, whatever the split."""
    del fonts
    scene = draw_scene(rng, family, aspect, difficulty)
    return scene, draw_task(rng, family, scene)


def draw_scene(
    rng: random.Random, family: str, aspect: float, difficulty: Difficulty = Difficulty()
) -> Scene:
    """A scene with three to six objects that allow a question of `family`."""
    some: dict[str, list[Kind]] = {"code": ["plate"], "read": ["tag"], "whole": []}
    needed = some.get(family, ["tag", "tag"])
    extra: list[Kind] = [rng.choice(("tag", "tag", "plate")) for _ in range(rng.randint(3, 6) - len(needed))]
    return lay_out(rng, needed + extra, aspect, difficulty)


def draw_task(rng: random.Random, family: str, scene: Scene) -> Task:
    """A question of `family` about a scene of `draw_scene`."""
    return _DRAWN[family](rng, scene)


def _tags(scene: Scene) -> list[SceneObject]:
    return [thing for thing in scene.objects if thing.kind == "tag"]


def _targets(scene: Scene, *things: SceneObject) -> tuple[Target, ...]:
    return tuple(thing.target(scene.aspect) for thing in things)


def _shows(tag: SceneObject) -> str:
    return f"The {tag.name} shows {tag.text}."


def _difference(a: int, b: int) -> str:
    return f"{max(a, b)} - {min(a, b)} = {abs(a - b)}."


def _read(rng: random.Random, scene: Scene) -> Task:
    tag = rng.choice(_tags(scene))
    wrong = rng.sample([digit for digit in DIGITS if digit != tag.text], 3)
    text = f"Which digit is on the {tag.name}?"
    return choice_task(rng, "read", text, [tag.text, *wrong], _targets(scene, tag), [_shows(tag)])


def _compare(rng: random.Random, scene: Scene) -> Task:
    first, second = pair = tuple(rng.sample(_tags(scene), 2))
    wanted = rng.choice(("larger", "smaller"))
    facts: tuple[str, ...] = (_shows(first), _shows(second))
    same = first.text == second.text
    if same or rng.random() < 0.1:
        text = f"Do the {first.name} and the {second.name} show the same digit?"
        options = ["yes", "no"] if same else ["no", "yes"]
        facts = (*facts, _difference(int(first.text), int(second.text)), f"So {options[0]}.")
        return choice_task(rng, "compare", text, options, _targets(scene, *pair), facts)
    first_wins = (first.text > second.text) == (wanted == "larger")
    right, wrong = (first, second) if first_wins else (second, first)
    text = f"Which shows the {wanted} digit, the {first.name} or the {second.name}?"
    facts = (*facts, f"The {wanted} digit is {right.text}, on the {right.name}.")
    return choice_task(rng, "compare", text, [right.name, wrong.name], _targets(scene, *pair), facts)


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
    return choice_task(rng, "position", text, options, _targets(scene, *pair), facts)


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
    facts = (_shows(first), _shows(second), working)
    return Task("arithmetic", text, (), "number", str(result), _targets(scene, *pair), facts)


def _code(rng: random.Random, scene: Scene) -> Task:
    plate = rng.choice([thing for thing in scene.objects if thing.kind == "plate"])
    text, fact = f"What is the code on the {plate.name}?", f"The {plate.name} reads {plate.text}."
    return Task("code", text, (), "free", plate.text, _targets(scene, plate), (fact,))


def _whole(rng: random.Random, scene: Scene) -> Task:
    wrong = rng.sample([ground for ground in GROUNDS if ground != scene.ground], 3)
    fact = f"The ground is {scene.ground}."
    return choice_task(rng, "whole", "What covers the ground?", [scene.ground, *wrong], (), [fact])


_DRAWN: dict[str, Callable[[random.Random, Scene], Task]] = {
    "read": _read,
    "compare": _compare,
    "position": _position,
    "arithmetic": _arithmetic,
    "code": _code,
    "whole": _whole,
}
TAGS = World("tags", "tags and plates on noise", _FAMILIES, draw)
