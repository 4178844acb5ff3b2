"""Every world: the same at any size, evidence where its box says, answers that follow, splits apart."""

import itertools
import json
import re
from decimal import Decimal

import numpy as np
import pytest
from PIL import Image

from p2r.scenes import SPLITS, WORLDS, Difficulty, SceneSample, make_sample
from p2r.scenes.fonts import FONTS
from p2r.types import LETTERS

ALL = sorted(WORLDS)
FAMILIES = [(world, family) for world in ALL for family in WORLDS[world].families]
SHAPES = ["1280x720", "1000x1000", "640x960", "2000x500", "500x2000"]


def shown(made: SceneSample) -> str:
    """The answer as it is said: an option's text, a number or what is written."""
    task = made.task
    return task.choices[LETTERS.index(task.answer)] if task.choices else task.answer


@pytest.mark.parametrize("world", ALL)
def test_the_weights_of_families_are_percent(world: str) -> None:
    assert sum(WORLDS[world].families.values()) == 100
    assert WORLDS[world].name == world


@pytest.mark.parametrize(("world", "family"), FAMILIES)
def test_every_family_is_drawn_in_every_shape_and_its_answer_follows(world: str, family: str) -> None:
    letters, sizes = set(), itertools.cycle(SHAPES)
    for index, split in enumerate(SPLITS * 12):
        difficulty = Difficulty((None, 1.0, 7.0)[index // 3 % 3], clutter=(0.0, 0.5, 1.0)[index % 3])
        made = make_sample(split, index, size=next(sizes), family=family, world=world, difficulty=difficulty)
        task = made.task
        assert task.family == family
        assert task.text.endswith("?")
        assert task.facts
        assert all(fact.endswith(".") for fact in task.facts)
        assert len(set(task.choices)) == len(task.choices)
        if task.choices:
            letters.add(task.answer)
        said = " ".join(task.facts).lower()
        # "yes" and "no" are not said again by every fact.
        assert shown(made).lower() in said or shown(made) in ("yes", "no")
        assert task.targets or family in ("whole", "exists", "count")
        for target in task.targets:
            x0, y0, x1, y1 = target.rect
            assert -0.001 <= x0 < x1 <= 1.001
            assert -0.001 <= y0 < y1 <= 1.001
            assert target.name in " ".join((task.text, *task.choices))
    assert not letters or letters > {"A"} or letters > {"B"}


@pytest.mark.parametrize(("world", "family"), FAMILIES)
def test_answers_are_computed_from_what_is_shown(world: str, family: str) -> None:
    for index in range(40):
        made = make_sample("validation", index, family=family, world=world)
        task, answer = made.task, shown(made)
        values = dict(re.findall(r"The ([\w ]+?) (?:shows|costs|reads) ([\w.]+)\.", " ".join(task.facts)))
        middles = {
            target.name: tuple((target.rect[k] + target.rect[k + 2]) / 2 for k in (0, 1))
            for target in task.targets
        }
        if family == "compare" and "same" not in task.text:
            best = max if "larger" in task.text else min
            assert len(values) == 2
            assert answer == best(values, key=lambda name: float(values[name]))
        elif family == "arithmetic":
            a, b = (Decimal(value) for value in values.values())
            assert Decimal(answer) == (a + b if "sum" in task.text else abs(a - b))
        elif family == "which":
            asked = task.text.removesuffix("?").split()[-1]
            assert [name for name in values if values[name] == asked] == [answer]
            assert set(values) == set(task.choices)
        elif family == "position":
            (x0, y0), (x1, y1) = (middles[target.name] for target in task.targets)
            first, second = (target.name for target in task.targets)
            assert task.text.startswith(f"Is the {first} ")
            assert task.text.endswith(f" the {second}?")
            # So far apart that the rounded places tell.
            assert len(set(re.findall(r"= (\d+)\.", " ".join(task.facts)))) == 2
            wanted = {"left": x0 < x1, "right": x0 > x1, "above": y0 < y1, "below": y0 > y1}
            assert wanted[answer]
        elif family == "read" and values:
            assert list(values.values()) == [answer]
        elif family == "count" and len(task.targets) > 1:
            assert len(task.targets) == int(answer)
        elif family == "exists" and task.text.startswith("Is there a") and world != "form":
            assert (answer == "yes") == bool(task.targets)


@pytest.mark.parametrize("world", ALL)
def test_evidence_does_not_overlap(world: str) -> None:
    for index in range(60):
        size = SHAPES[index % len(SHAPES)]
        difficulty = Difficulty((None, 7.0)[index % 2], clutter=1.0)
        made = make_sample("train", index, world=world, size=size, difficulty=difficulty)
        for one, other in itertools.combinations(made.task.targets, 2):
            apart = min(one.rect[2], other.rect[2]) <= max(one.rect[0], other.rect[0]) or min(
                one.rect[3], other.rect[3]
            ) <= max(one.rect[1], other.rect[1])
            assert apart, (made.id, one, other)


@pytest.mark.parametrize("world", ALL)
@pytest.mark.parametrize("size", [None, 2.0, 6.0])
def test_the_gold_box_encloses_the_writing(world: str, size: float | None) -> None:
    """What changes with the contrast of the writing lies inside the box, and not right beside it."""
    checked = 0
    for index in range(6):
        clear, pale = (
            make_sample(
                "test",
                index,
                world=world,
                size="1200x900",
                family="read",
                difficulty=Difficulty(size, contrast),
            )
            for contrast in (1.0, 0.2)
        )
        assert clear.boxes == pale.boxes
        x0, y0, x1, y1 = clear.task.targets[0].rect
        dx, dy = (x1 - x0) * 0.1, (y1 - y0) * 0.1
        rect = (max(0.0, x0 - dx), max(0.0, y0 - dy), min(1.0, x1 + dx), min(1.0, y1 + dy))
        views = [one.scene.render((240, 240), rect).astype(int) for one in (clear, pale)]
        changed = np.abs(views[0] - views[1]).max(axis=2) > 40
        inside = np.zeros_like(changed)
        left, right = (round(240 * (x - rect[0]) / (rect[2] - rect[0])) for x in (x0, x1))
        top, bottom = (round(240 * (y - rect[1]) / (rect[3] - rect[1])) for y in (y0, y1))
        inside[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = True
        assert (changed & inside).sum() > 0.01 * inside.sum(), clear.id
        assert not (changed & ~inside).any(), clear.id
        checked += 1
    assert checked == 6


@pytest.mark.parametrize("world", ALL)
def test_the_carrier_has_the_size_that_was_asked_for(world: str) -> None:
    for index, size in enumerate((1.0, 3.0, 7.0)):
        made = make_sample("test", index, world=world, family="read", difficulty=Difficulty(size))
        x0, y0, x1, y1 = made.task.targets[0].rect
        # Turned carriers have a larger box.
        assert 0.95 * size <= 100 * ((x1 - x0) * (y1 - y0)) ** 0.5 <= 1.3 * size


@pytest.mark.parametrize("world", ALL)
def test_a_small_rendering_is_the_large_one_shrunk(world: str) -> None:
    made = make_sample("train", 1, world=world, size="1152x768")
    large = Image.fromarray(made.render()).resize((192, 128), Image.Resampling.BOX)
    small = made.scene.render((192, 128))
    difference = np.abs(np.asarray(large, float) - small)
    assert difference.mean() < 4
    # And it is this scene: another one differs far more.
    other = make_sample("train", 51, world=world, size="1152x768").scene.render((192, 128))
    assert np.abs(np.asarray(large, float) - other).mean() > 3 * difference.mean()


@pytest.mark.parametrize("world", ALL)
def test_a_part_is_the_same_place_of_the_whole(world: str) -> None:
    made = make_sample("train", 3, size="960x960", family="read", world=world)
    x, y = (value / 1000 for value in made.boxes[0].center)
    left, top = min(max(0.0, x - 0.125), 0.75), min(max(0.0, y - 0.125), 0.75)
    x0, y0, x1, y1 = (round(960 * value) for value in (left, top, left + 0.25, top + 0.25))
    cut = Image.fromarray(made.render()).crop((x0, y0, x1, y1)).resize((160, 160), Image.Resampling.BOX)
    part = made.scene.render((160, 160), (left, top, left + 0.25, top + 0.25))
    assert np.abs(np.asarray(cut, float) - part).mean() < 6


@pytest.mark.parametrize("world", ALL)
def test_strips_join_without_a_seam(world: str) -> None:
    made = make_sample("train", 2, size="640x480", world=world)
    whole = made.scene.render((640, 480))
    edges = (0.0, 0.25, 0.6, 1.0)
    strips = [
        made.scene.render((640, round(480 * (bottom - top))), (0.0, top, 1.0, bottom))
        for top, bottom in itertools.pairwise(edges)
    ]
    difference = np.abs(np.concatenate(strips).astype(int) - whole)
    assert difference.mean() < 0.5
    assert np.percentile(difference, 99.5) <= 8


@pytest.mark.parametrize("world", ALL)
def test_samples_are_reproducible_and_splits_are_apart(world: str) -> None:
    rows = {
        split: {json.dumps(make_sample(split, index, world=world).row()["question"]) for index in range(3)}
        for split in SPLITS
    }
    assert all(rows.values())
    scenes = {split: {repr(make_sample(split, k, world=world).scene) for k in range(25)} for split in SPLITS}
    assert all(len(found) == 25 for found in scenes.values())
    for one, other in itertools.combinations(SPLITS, 2):
        assert not scenes[one] & scenes[other]
    first, second = (make_sample("test", 9, seed=4, world=world, size="320x300") for _ in range(2))
    assert first.row() == second.row()
    assert np.array_equal(first.render(), second.render())


def test_no_split_shares_a_font() -> None:
    names = {split: {font.file for font in FONTS[split]} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not names[one] & names[other]
        drawn = [{bytes(font.at(64).getmask("38.2")) for font in FONTS[split]} for split in (one, other)]
        assert not drawn[0] & drawn[1]
    kinds = [{font.kind for font in FONTS[split]} for split in SPLITS]
    assert kinds[0] == kinds[1] == kinds[2] == {"sans", "plate", "mono", "segment"}


@pytest.mark.parametrize("world", [world for world in ALL if world != "tags"])
def test_a_scene_is_written_in_the_fonts_of_its_split(world: str) -> None:
    for split in SPLITS:
        used = repr(make_sample(split, 4, world=world).scene)
        others = [font.file for other in SPLITS if other != split for font in FONTS[other]]
        assert not [file for file in others if file in used]
        assert any(font.file in used for font in FONTS[split])
