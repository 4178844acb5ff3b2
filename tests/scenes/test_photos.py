"""Planting into photographs: splits by content, folders that continue, and things that fit in."""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.scenes import SPLITS, Difficulty
from p2r.scenes.fonts import FONTS
from p2r.scenes.photos import FAMILIES, QUESTIONS, Photographs, write_planted
from p2r.scenes.planting import KINDS, Photo, Spot, draw_thing
from p2r.types import LETTERS
from scripts.gallery import landscape

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (1200, 860)
TURNED = 6  # EXIF: the upright image is this one, turned by 90°


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs in three formats, one of which has to be turned."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "trip").mkdir()
    image = landscape(SIZE)
    for shift, name in enumerate(("a.jpg", "b.png", "c.tif", "trip/d.jpg", "trip/e.jpg", "f.jpg")):
        exif = Image.Exif()
        exif[0x0112] = TURNED if name == "f.jpg" else 1
        Image.fromarray(np.roll(np.asarray(image), 200 * shift, axis=1)).save(folder / name, exif=exif)
    return folder


def write(out: Path, folder: Path, count: int, split: Any = "train", **more: Any) -> list[dict[str, Any]]:
    return list(write_planted(out, Photographs(folder, out), split=split, count=count, **more))


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]


# --- splits ----------------------------------------------------------------------------------------------


def test_splits_share_no_photograph_and_none_is_empty(folder: Path, tmp_path: Path) -> None:
    found = Photographs(folder, tmp_path / "out")
    assert sorted(name for names in found.splits.values() for name in names) == sorted(
        ["a.jpg", "b.png", "c.tif", "trip/d.jpg", "trip/e.jpg", "f.jpg"]
    )
    assert all(found.splits[split] for split in SPLITS)
    assert not found.unusable


def test_most_photographs_are_for_training(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for level in range(40):
        Image.new("L", (1000, 1000), level).save(tmp_path / "many" / f"{level}.png")
    found = Photographs(tmp_path / "many", tmp_path / "out").splits
    assert len(found["train"]) > 20
    assert min(len(found["validation"]), len(found["test"])) >= 4


def test_a_photograph_keeps_its_split_under_any_name_and_counts_once(folder: Path, tmp_path: Path) -> None:
    before = Photographs(folder, tmp_path / "out").splits
    shutil.copytree(folder, tmp_path / "copy")
    for split, names in before.items():
        for number, name in enumerate(names):
            shutil.copy(tmp_path / "copy" / name, tmp_path / "copy" / f"again-{number}.{split}")
            (tmp_path / "copy" / name).rename(tmp_path / "copy" / f"{split}-{number}.{split}")
    after = Photographs(tmp_path / "copy", tmp_path / "out").splits
    assert {split: len(names) for split, names in after.items()} == {
        split: len(names) for split, names in before.items()
    }
    assert all(name.endswith(f".{split}") for split, names in after.items() for name in names)


def test_what_cannot_be_used_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "more")
    (tmp_path / "more" / "notes.txt").write_text("no image")
    (tmp_path / "more" / ".hidden.jpg").write_text("no image")
    landscape((640, 480)).save(tmp_path / "more" / "small.jpg")
    whole = (folder / "a.jpg").read_bytes()
    for number in range(8):  # some of them in each split
        (tmp_path / "more" / f"cut-{number}.jpg").write_bytes(whole[: len(whole) // 2 + number])
    found = Photographs(tmp_path / "more", tmp_path / "out")
    assert set(found.unusable) == {"notes.txt", "small.jpg"}
    assert "640×480" in found.unusable["small.jpg"]
    rows = list(write_planted(tmp_path / "out", found, split="train", count=24))
    assert len(rows) == 24
    assert any(name.startswith("cut-") for name in found.unusable)
    assert not any(row["photograph"].startswith("cut-") for row in rows)


def test_too_few_photographs_and_folders_in_each_other_are_refused(folder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    with pytest.raises(InputError, match=r"few: .* and there are 0$"):
        Photographs(few, tmp_path / "out")
    shutil.copy(folder / "a.jpg", few)
    (few / "x.jpg").write_text("")
    with pytest.raises(InputError, match=r"there are 1; not x\.jpg: "):
        Photographs(few, tmp_path / "out")
    with pytest.raises(InputError, match="no such folder"):
        Photographs(tmp_path / "none", tmp_path / "out")
    for out in (folder, folder / "out", folder.parent):
        with pytest.raises(InputError, match="neither may lie in the other"):
            Photographs(folder, out)


# --- folders ---------------------------------------------------------------------------------------------


def test_written_questions_read_back_with_facts_and_difficulty(folder: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "set", folder, 12, seed=3)
    assert rows == rows_of(tmp_path / "set")
    samples = read_samples(tmp_path / "set" / "samples.jsonl")
    assert [sample.question.id for sample in samples] == [f"photos-train-3-{k}" for k in range(12)]
    for row in rows:
        assert row["world"] == "photos"
        assert row["facts"]
        assert 2.5 < row["difficulty"]["size"] < 7
        assert 0 <= row["difficulty"]["clutter"] <= 0.5
        assert 0.1 < row["difficulty"]["contrast"] <= 1
        with Image.open(tmp_path / "set" / row["image"]) as image:
            upright = SIZE[::-1] if row["photograph"] == "f.jpg" else SIZE
            assert image.size == upright
    assert len({row["image"] for row in rows}) == 3, f"{QUESTIONS} questions an image"
    for _, asked in itertools.groupby(rows, key=lambda row: row["image"]):
        assert len({row["question"] for row in asked}) == QUESTIONS


@pytest.mark.parametrize("cut", [6, 4])
def test_an_interrupted_folder_continues_as_if_it_had_not_been(
    folder: Path, tmp_path: Path, cut: int
) -> None:
    write(tmp_path / "whole", folder, 10, workers=2)
    write(tmp_path / "part", folder, 6)
    listed = tmp_path / "part" / "samples.jsonl"
    listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:cut])[:-30])  # half a line
    more = write(tmp_path / "part", folder, 10)
    assert len(more) == 10 - (QUESTIONS if cut > QUESTIONS else 0), "the first image was finished"
    files = [
        sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*") if path.is_file())
        for name in ("whole", "part")
    ]
    assert files[0] == files[1]
    for file in files[0]:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "part" / file).read_bytes(), file


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": "test"}, {"difficulty": Difficulty(size=4)}])
def test_a_folder_holds_one_set(folder: Path, tmp_path: Path, other: dict[str, Any]) -> None:
    write(tmp_path / "set", folder, 4)
    with pytest.raises(InputError, match=f"other options or photographs: .*{next(iter(other))}"):
        write(tmp_path / "set", folder, 4, **other)
    with pytest.raises(InputError, match="there are 4 samples already"):
        write(tmp_path / "set", folder, 3)


def test_photographs_without_room_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    for level in range(3):
        Image.new("RGB", SIZE, (level, 0, 0)).save(tmp_path / "dark" / f"{level}.png")
    with pytest.raises(InputError, match="no photograph of test has room"):
        write(tmp_path / "out", tmp_path / "dark", 4, "test")


def test_object_size_is_that_of_the_face(folder: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "set", folder, 8, difficulty=Difficulty(size=4))
    assert {row["difficulty"]["size"] for row in rows} == {4.0}


# --- questions -------------------------------------------------------------------------------------------


def test_answers_follow_from_the_facts(folder: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "set", folder, 40, workers=2)
    assert {row["family"] for row in rows} == set(FAMILIES)
    for row in rows:
        shown = dict(re.findall(r"The (\w+ \w+) shows (\S+)\.(?= |$)", " ".join(row["facts"])))
        answer = row["choices"][LETTERS.index(row["answer"])] if row["choices"] else row["answer"]
        if row["family"] == "count":
            assert answer == str(len(row["boxes"]))
        elif row["family"] == "exists":
            assert answer == ("yes" if row["boxes"] else "no")
        elif row["family"] != "position":
            assert len(row["boxes"]) == len(shown)
            assert answer == _expected(row["question"], shown), row


def _expected(text: str, shown: dict[str, str]) -> str:
    if text.startswith("Which of these"):
        return next(name for name, value in shown.items() if value == text.split()[-1].rstrip("?"))
    if text.startswith("What is the"):
        high, low = sorted((Decimal(value) for value in shown.values()), reverse=True)
        return str(high - low if "difference" in text else high + low)
    if text.startswith("Which shows"):
        best = max if "larger" in text else min
        return best(shown, key=lambda name: Decimal(shown[name]))
    return next(iter(shown.values()))


# --- planting --------------------------------------------------------------------------------------------


def planted(photo: Image.Image, kind: str = "plate", color: str = "blue") -> tuple[Image.Image, Image.Image]:
    """A photograph with a thing in its middle, and the face of the thing."""
    canvas = Photo(np.array(photo))
    side, rng = 90.0, random.Random(1)
    spot = Spot(photo.width / 2, photo.height / 2, side, 0.0, 0.0, 0.0, (0.0, 0.0, 0.0))
    thing = draw_thing(rng, kind, color, "KT4", FONTS["test"][0], 2 * side, 1.0)
    x0, y0, x1, y1 = canvas.plant(rng, spot, thing, kind).rect
    image = Image.fromarray(canvas.pixels)
    across, down = photo.size
    return image, image.crop((round(x0 * across), round(y0 * down), round(x1 * across), round(y1 * down)))


def test_only_the_place_changes(folder: Path) -> None:
    before = Image.open(folder / "a.jpg").convert("RGB")
    after, _ = planted(before)
    changed = np.abs(np.asarray(before, int) - np.asarray(after)).max(2) > 3
    rows, columns = np.nonzero(changed)
    assert changed.mean() < 0.03
    assert np.ptp(columns) < 220
    assert np.ptp(rows) < 180
    middle = changed[SIZE[1] // 2 - 20 : SIZE[1] // 2 + 20, SIZE[0] // 2 - 40 : SIZE[0] // 2 + 40]
    assert middle.mean() > 0.95


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_gold_box_holds_the_face_and_little_else(kind: str) -> None:
    canvas = Photo(np.full((*SIZE[::-1], 3), 150, np.uint8))
    spot = Spot(600, 400, 100, 0.0, 0.0, 0.0, (150.0,) * 3)
    thing = draw_thing(random.Random(0), kind, "red", "7", FONTS["train"][0], 200, 1.0)
    rect = canvas.plant(random.Random(0), spot, thing, kind).rect
    red = (canvas.pixels[..., 0].astype(int) - canvas.pixels[..., 1]) > 60
    rows, columns = np.nonzero(red)
    found = columns.min() / SIZE[0], rows.min() / SIZE[1], columns.max() / SIZE[0], rows.max() / SIZE[1]
    assert np.allclose(found, rect, atol=0.012), "a rim is white"


def test_a_thing_takes_on_the_light_of_its_place() -> None:
    base = np.asarray(landscape(SIZE, 2), np.float32)
    lights = {"day": (1.0, 1.0, 1.0), "dusk": (0.35, 0.35, 0.35), "warm": (1.0, 0.7, 0.4)}
    faces = {
        name: np.asarray(planted(Image.fromarray((base * np.array(light)).astype(np.uint8)))[1], float)
        for name, light in lights.items()
    }
    assert faces["dusk"].mean() < 0.75 * faces["day"].mean()
    ratio = {name: face[..., 0].mean() / face[..., 2].mean() for name, face in faces.items()}
    assert ratio["warm"] > 1.2 * ratio["day"]


def test_a_thing_takes_on_the_shadow_that_falls_across_its_place() -> None:
    base = np.asarray(landscape(SIZE, 2), np.float32)
    shade = np.where(np.arange(SIZE[0]) < SIZE[0] // 2, 1.0, 0.4)[None, :, None]
    _, face = planted(Image.fromarray((base * shade).astype(np.uint8)))
    half = face.width // 2
    left, right = (
        np.asarray(part, float).mean()
        for part in (face.crop((0, 0, half, face.height)), face.crop((half, 0, face.width, face.height)))
    )
    assert right < 0.85 * left


def test_a_thing_is_as_sharp_and_as_grainy_as_what_is_around_it() -> None:
    photo = landscape(SIZE, 2)
    soft = photo.filter(ImageFilter.GaussianBlur(5))
    noisy = np.asarray(soft) + np.random.default_rng(0).normal(0, 6, (*SIZE[::-1], 1))
    faces = [
        np.asarray(planted(image)[1].convert("L"), float)
        for image in (photo, soft, Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)))
    ]
    edges = [np.percentile(np.abs(np.diff(face, axis=1)), 98) for face in faces]
    assert edges[1] < 0.85 * edges[0]
    # In the fill beside the writing.
    grain = [np.diff(face[-30:-14, 20:60], axis=0).std() for face in faces]
    assert grain[2] > 2 * grain[1]


def test_things_keep_apart_and_out_of_busy_places() -> None:
    pixels = np.array(landscape((1600, 1200), 3))
    pixels[:, :800] = np.random.default_rng(0).choice((0, 255), (60, 40, 1)).repeat(20, 0).repeat(20, 1)
    for seed in range(5):
        spots = Photo(pixels).find(random.Random(seed), 8, Difficulty())
        assert len(spots) >= 3
        assert all(spot.x + spot.side / 2 > 800 for spot in spots)
        for one, other in itertools.combinations(spots, 2):
            assert abs(one.x - other.x) > 0.9 * one.side or abs(one.y - other.y) > 0.9 * one.side
    pixels[:, 800:] = pixels[:, :800]
    assert not Photo(pixels).find(random.Random(0), 8, Difficulty())
