"""The synthetic scenes: reproducible, disjoint splits, answers that follow from what is drawn."""

import itertools
import json
import re

import numpy as np
import pytest
import pyvips
from PIL import Image

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.images import ImageSource
from p2r.scenes import SPLITS, Difficulty, make_sample, make_samples, parse_size, write_scenes
from p2r.scenes.files import draw_files
from p2r.scenes.sampling import stream


def test_same_arguments_give_the_same_sample_and_image() -> None:
    first, second = (make_sample("train", 11, seed=5, size="640x480") for _ in range(2))
    assert first == second
    assert np.array_equal(first.render(), second.render())


def test_several_worlds_take_turns() -> None:
    made = make_samples("test", 4, size="480x320", world="tags,street")
    assert [one.world for one in made] == ["tags", "street", "tags", "street"]
    assert made[3] == make_sample("test", 3, size="480x320", world="street")
    with pytest.raises(InputError, match="world 'sea': one of tags, "):
        make_samples("test", 2, world="tags,sea")


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


def test_unknown_split_family_and_world_are_named() -> None:
    with pytest.raises(InputError, match="dev"):
        make_sample("dev", 0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="maths"):
        make_sample("train", 0, family="maths")
    with pytest.raises(InputError, match=r"'moon'.*tags"):
        make_sample("train", 0, world="moon")


@pytest.mark.parametrize(
    ("values", "named"),
    [({"size": 0.5}, "object size 0.5"), ({"contrast": 0.0}, "contrast"), ({"clutter": 1.5}, "clutter")],
)
def test_a_difficulty_out_of_range_is_named(values: dict[str, float], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Difficulty(**values)


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


def test_a_tiff_file_is_drawn_in_strips(tmp_path) -> None:
    made = make_sample("test", 1, size="900x700", world="street")
    list(draw_files([(made, tmp_path / "whole.tif")]))
    assert [path.name for path in tmp_path.iterdir()] == ["whole.tif"]
    assert ImageSource.open(tmp_path / "whole.tif").size == (900, 700)
    expected = made.scene.render((900, 700)).astype(int)
    for image in (
        pyvips.Image.new_from_file(str(tmp_path / "whole.tif")),
        Image.open(tmp_path / "whole.tif"),
    ):
        shown = np.asarray(image, int)
        assert shown.shape == expected.shape
        # The grain differs, and JPEG loses a little.
        assert np.abs(shown - expected).mean() < 5
    assert not list(tmp_path.glob(".*"))


def test_huge_images_become_tiff_files() -> None:
    assert make_sample("test", 0, size="16k").file.endswith(".jpg")
    assert make_sample("test", 0, size="32768x32768").file == "images/test-0-0-32768x32768.tif"


def test_rows_name_the_world_and_what_is_unusual(tmp_path) -> None:
    assert not {"world", "difficulty"} & make_sample("test", 0).row().keys()
    difficulty = Difficulty(2.0, clutter=1.0)
    made = list(
        write_scenes(tmp_path, split="test", size="400x300", count=2, world="shelf", difficulty=difficulty)
    )
    row = json.loads((tmp_path / "samples.jsonl").read_text().splitlines()[1])
    assert (row["id"], row["world"]) == ("shelf-test-0-1", "shelf")
    assert row["difficulty"] == {"size": 2.0, "contrast": 1.0, "clutter": 1.0}
    samples = read_samples(tmp_path / "samples.jsonl")
    assert [sample.question.text for sample in samples] == [one.task.text for one in made]
    # Another difficulty would be other images under the same names.
    with pytest.raises(InputError, match="other samples"):
        list(write_scenes(tmp_path, split="test", size="400x300", count=2, world="shelf"))
