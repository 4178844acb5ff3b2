"""The synthetic scenes: reproducible, disjoint splits, answers that follow from what is drawn."""

import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.scenes import FAMILIES, SPLITS, make_sample, parse_size, render, write_scenes
from p2r.scenes.files import stream
from p2r.types import LETTERS


def test_same_arguments_give_the_same_sample_and_image() -> None:
    first, second = (make_sample("train", 11, seed=5, size="640x480") for _ in range(2))
    assert first == second
    assert np.array_equal(first.render(), second.render())


def test_random_streams_of_the_splits_are_disjoint() -> None:
    # By construction: the split is the remainder modulo 4, whatever seed and index are.
    numbers = {
        split: {stream(split, index, seed) for index in (0, 1, 7, 2**32 - 1) for seed in (0, 1, 2**32 - 1)}
        for split in SPLITS
    }
    assert all(len(found) == 12 for found in numbers.values())
    for one, other in itertools.combinations(SPLITS, 2):
        assert not numbers[one] & numbers[other]
        assert {n % 4 for n in numbers[one]}.isdisjoint({n % 4 for n in numbers[other]})


def test_no_layout_of_one_split_appears_in_another() -> None:
    layouts = {split: {make_sample(split, index).scene for index in range(400)} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not layouts[one] & layouts[other]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_follow_from_the_objects(family: str) -> None:
    for index in range(60):
        made = make_sample("validation", index, family=family)
        task, things = made.task, {thing.name: thing for thing in made.scene.objects}
        assert task.family == family
        named = [things[name] for name in re.findall(r"\w+ (?:tag|plate)", task.text)]
        assert list(task.targets) == named
        assert len(made.boxes) == len(task.targets)
        shown = task.choices[LETTERS.index(task.answer)] if task.choices else task.answer
        assert shown == _expected(task.text, named, made.scene.ground, made.scene.aspect)


def _expected(text: str, named: list, ground: str, aspect: float) -> str:
    if "ground" in text:
        return ground
    if "code" in text or text.startswith("Which digit"):
        return named[0].text
    first, second = named
    a, b = first.text, second.text
    if "same digit" in text:
        return "yes" if a == b else "no"
    if "larger" in text or "smaller" in text:
        wins = (a > b) if "larger" in text else (a < b)
        return (first if wins else second).name
    if "left" in text:
        return "left" if first.x < second.x else "right"
    if "above" in text:
        return "above" if first.y < second.y else "below"
    return str(int(a) + int(b) if "sum" in text else abs(int(a) - int(b)))


def test_gold_boxes_hold_the_color_of_their_object() -> None:
    made = make_sample("train", 0, size="1600x1200", family="read")
    pixels = made.render().astype(int)
    box, thing = made.boxes[0], made.task.targets[0]
    x, y = (int(value) for value in (box.center[0] * 1.6, box.center[1] * 1.2))
    from p2r.scenes import COLORS

    half = int(thing.height * 1385 / 2)
    patch = pixels[y - half : y + half, x - half : x + half].reshape(-1, 3)
    near = (np.abs(patch - np.array(COLORS[thing.color])).max(axis=1) < 12).mean()
    assert near > 0.3


@pytest.mark.parametrize("index", range(2))
def test_a_small_rendering_is_the_large_one_shrunk(index: int) -> None:
    made = make_sample("train", index, size="1920x1280")
    large = Image.fromarray(made.render()).resize((192, 128), Image.Resampling.BOX)
    small = render(made.scene, (192, 128))
    difference = np.abs(np.asarray(large, float) - small)
    assert difference.mean() < 4
    # And it is this scene, not just any ground: another one differs far more.
    other = render(make_sample("train", index + 50, size="1920x1280").scene, (192, 128))
    assert np.abs(np.asarray(large, float) - other).mean() > 3 * difference.mean()


def test_a_part_is_the_same_place_of_the_whole() -> None:
    made = make_sample("train", 3, size="1600x1600", family="read")
    x, y = (value / 1000 for value in made.boxes[0].center)
    left, top = min(max(0.0, x - 0.125), 0.75), min(max(0.0, y - 0.125), 0.75)
    whole = Image.fromarray(made.render())
    x0, y0, x1, y1 = (round(1600 * value) for value in (left, top, left + 0.25, top + 0.25))
    cut = whole.crop((x0, y0, x1, y1)).resize((160, 160), Image.Resampling.BOX)
    part = render(made.scene, (160, 160), (left, top, left + 0.25, top + 0.25))
    assert np.abs(np.asarray(cut, float) - part).mean() < 6


def test_sizes_and_aspects() -> None:
    sizes = {make_sample("test", index, size="4k").size for index in range(60)}
    assert (3840, 2160) in sizes
    assert len(sizes) >= 5
    assert all(abs(width * height / 8_294_400 - 1) < 0.001 for width, height in sizes)
    assert make_sample("test", 0, size="1000x800").size == (1000, 800)
    # The same scene whatever the resolution.
    assert make_sample("test", 4, size="2k").scene == make_sample("test", 4, size="8k").scene


@pytest.mark.parametrize("size", ["5k", "100x100", "1000", "axb", "4000x300", "99999x99999"])
def test_wrong_sizes_are_named(size: str) -> None:
    with pytest.raises(InputError, match=re.escape(size)):
        make_sample("train", 0, size=size)


def test_parse_size_leaves_named_sizes_open() -> None:
    assert parse_size("4K") is None
    assert parse_size("1920x1080") == (1920, 1080)


def test_unknown_split_and_family_are_named() -> None:
    with pytest.raises(InputError, match="dev"):
        make_sample("dev", 0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="maths"):
        make_sample("train", 0, family="maths")


def test_written_scenes_read_back(tmp_path) -> None:
    made = list(write_scenes(tmp_path / "set", split="test", size="640x480", count=5, seed=3))
    rows = [json.loads(line) for line in (tmp_path / "set/samples.jsonl").read_text().splitlines()]
    keys = ["id", "image", "question", "choices", "answer_type", "answer", "boxes", "family"]
    assert [list(row) for row in rows] == [keys] * 5
    samples = read_samples(tmp_path / "set/samples.jsonl")
    assert [sample.question.id for sample in samples] == [one.id for one in made]
    assert [sample.answer for sample in samples] == [one.task.answer for one in made]
    assert samples[0].boxes is not None
    assert [box.as_tuple() for box in samples[0].boxes] == [box.as_tuple() for box in made[0].boxes]
    # A second call keeps the images that are there.
    image = next((tmp_path / "set/images").glob("*.jpg"))
    stamp = image.stat().st_mtime_ns
    list(write_scenes(tmp_path / "set", split="test", size="640x480", count=5, seed=3))
    assert image.stat().st_mtime_ns == stamp


def test_several_threads_draw_the_same_images(tmp_path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        made = write_scenes(tmp_path / name, split="test", size="320x260", count=9, seed=3, workers=workers)
        assert [one.id for one in made] == [f"test-3-{index}" for index in range(9)]
    files = [
        sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("one", "two")
    ]
    assert len(files[0]) == 11  # nine images, samples.jsonl, and the lock
    for one, two in zip(*files, strict=True):
        assert (one.name, one.read_bytes()) == (two.name, two.read_bytes())


def test_an_unwritable_folder_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        list(write_scenes(tmp_path / "file", split="test", size="640x480", count=1))
