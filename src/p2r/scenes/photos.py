"""Questions on anybody's own photographs: things with writing on them are planted into them (see `planting`).

These questions are new, and their answers and evidence are known. A planted image gets
`QUESTIONS` questions. Train, validation and test share no photograph, no font and no random number.
"""

from __future__ import annotations

import hashlib
import json
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pyvips

from p2r.errors import InputError, file_problem
from p2r.images import ImageSource
from p2r.runs.files import check_same_run, claim, folder_lock, read_json, replacing, write_error, write_json
from p2r.scenes.files import QUALITY
from p2r.scenes.fonts import FONTS, SPLITS, Split, pick
from p2r.scenes.planting import KINDS, Photo, draw_thing
from p2r.scenes.readings import Reading, ask, count, exists, targets
from p2r.scenes.sampling import stream
from p2r.scenes.tags import CODE_LETTERS, COLORS, DIGITS
from p2r.scenes.world import Difficulty, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

    from p2r.scenes.planting import Planted, Spot

QUESTIONS = 4  # about one planted image
FAMILIES = {
    "read": 25,
    "compare": 15,
    "arithmetic": 15,
    "count": 15,
    "position": 10,
    "which": 10,
    "exists": 10,
}
_NOUNS = {"sticker": "digit", "label": "price", "plate": "code", "sign": "number"}
_NUMBERED = ("sticker", "label", "sign")
_MOST_THINGS, _FEWEST_THINGS = 7, 5  # fewer than there are colors
_LEAST_PIXELS, _MOST_PIXELS = 1_000_000, 200_000_000
_APART = 110.0  # a thing's color is so far from that of its place, RGB, where there is a choice


class Photographs:
    """The photographs in a folder and in the folders in it.

    About 70 % belong to train, 15 % to validation and 15 % to test, by a hash of their content. In a small
    folder some change places, so that no split has less than a tenth.

    Attributes:
        splits: the names (paths in the folder) of the photographs of each split.
        unusable: name → what is wrong with it. Planting adds to it.

    Args:
        folder: read only.
        out: where planted images will be written.

    Raises:
        InputError: fewer than three photographs can be used, or one folder lies inside the other.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"background {folder}: no such folder; give a folder of photographs")
        here, there = folder.resolve(), out.resolve()
        if here == there or here in there.parents or there in here.parents:
            raise InputError(f"background {folder} and {out}: neither may lie in the other; give another OUT")
        self.folder = folder
        self.unusable: dict[str, str] = {}
        names: dict[str, str] = {}
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if name.startswith(".") or "/." in name or not path.is_file():
                continue
            try:
                source = ImageSource.open(path)
                if not _LEAST_PIXELS <= source.width * source.height <= _MOST_PIXELS:
                    raise InputError(f"{source.width}×{source.height} is not between 1 and 200 megapixels")
                with path.open("rb") as file:
                    names.setdefault(hashlib.file_digest(file, "sha256").hexdigest(), name)
            except InputError as error:
                self.unusable[name] = str(error).removeprefix(f"{path}: ")
            except OSError as error:
                self.unusable[name] = file_problem(error)
        if len(names) < len(SPLITS):
            left_out = [f"; not {name}: {problem}" for name, problem in self.unusable.items()]
            raise InputError(
                f"background {folder}: the three splits need at least three photographs, and there are "
                f"{len(names)}{''.join(left_out[:3])}"
            )
        self.splits = {split: [names[one] for one in found] for split, found in _split(names).items()}


def _split(digests: Iterable[str]) -> dict[Split, list[str]]:
    found: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for digest in sorted(digests):
        share = int(digest[:8], 16) / 2**32
        found["train" if share < 0.7 else "validation" if share < 0.85 else "test"].append(digest)
    for split in SPLITS:
        while len(found[split]) < max(1, sum(map(len, found.values())) // 10):
            found[split].append(max(found.values(), key=len).pop())
    return found


def write_planted(
    out: Path,
    photographs: Photographs,
    *,
    split: Split,
    count: int,
    seed: int = 0,
    difficulty: Difficulty = Difficulty(),
    workers: int = 1,
) -> Iterator[dict[str, Any]]:
    """Write `images/*.jpg` and `samples.jsonl`, yielding each new row when it is on disk.

    An interrupted call continues, and so does one with a larger `count`. `photos.json` says what the folder
    was started with.

    Args:
        out: the folder.
        photographs: where things are planted.
        split, seed: together they pick the random numbers.
        count: how many questions.
        difficulty: of all of them.
        workers: threads.

    Raises:
        InputError: the folder holds other samples or cannot be written, or no photograph has room.
    """
    listed, marker = out / "samples.jsonl", out / "photos.json"
    names = photographs.splits[split]
    identity = {"split": split, "seed": seed, "difficulty": asdict(difficulty), "photographs": names}
    claim(out, marker.name, (listed.name, "images"))
    plant = partial(_planted_rows, out, photographs, split, seed, difficulty)
    try:
        with folder_lock(out):
            if marker.exists():
                check_same_run(out, read_json(marker), identity, what="options or photographs")
            write_json(marker, identity)
            (out / "images").mkdir(exist_ok=True)
            before = listed.read_text(encoding="utf-8") if listed.exists() else ""
            lines = [line for line in before.splitlines(keepends=True) if line.endswith("\n")]
            if len(lines) > count:
                raise InputError(f"{listed}: there are {len(lines)} samples already; give a larger -n")
            done = len(lines) // QUESTIONS * QUESTIONS
            images = range(done // QUESTIONS, -(-count // QUESTIONS))
            with (
                listed.open("a", encoding="utf-8") as file,
                closing(_in_order(plant, images, workers)) as made,
            ):
                file.truncate(len("".join(lines[:done]).encode()))
                for rows in made:
                    for row in rows[: count - done]:
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
                        file.flush()
                        done += 1
                        yield row
    except OSError as error:
        raise write_error(out, error) from error
    except pyvips.Error as error:
        raise InputError(f"cannot write scenes to {out}: {error}") from error


def _in_order(
    plant: Callable[[int], list[dict[str, Any]]], images: range, workers: int
) -> Generator[list[dict[str, Any]]]:
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(plant, images)


def _planted_rows(
    out: Path, photographs: Photographs, split: Split, seed: int, difficulty: Difficulty, index: int
) -> list[dict[str, Any]]:
    names = photographs.splits[split]
    for turn in range(len(names)):
        name = names[(index + turn) % len(names)]
        rng = random.Random(f"{stream(split, index, seed)} {turn}")
        try:
            source = ImageSource.open(photographs.folder / name)
            photo = Photo(source.overview(source.size).pixels.copy())
        except InputError as error:
            photographs.unusable[name] = str(error).removeprefix(f"{photographs.folder / name}: ")
            continue
        spots = photo.find(rng, _MOST_THINGS, difficulty)
        if len(spots) < _FEWEST_THINGS:
            photographs.unusable[name] = "too busy, too dark or too bright for five things"
            continue
        things = _plant_things(rng, photo, spots, split, difficulty)
        file = f"images/{split}-{seed}-{index}-{photo.width}x{photo.height}.jpg"
        with replacing(out / file) as path:
            pyvips.Image.new_from_array(photo.pixels).write_to_file(str(path), Q=QUALITY)
        tasks = _draw_tasks(rng, [thing for thing, *_ in things], photo.width / photo.height)
        return [
            {
                "id": f"photos-{split}-{seed}-{index * QUESTIONS + number}",
                "image": file,
                **task.row(),
                "world": "photos",
                "facts": list(task.facts),
                "difficulty": _measured(task, things, photo),
                "photograph": name,
            }
            for number, task in enumerate(tasks)
        ]
    raise InputError(f"background {photographs.folder}: no photograph of {split} has room for things")


def _plant_things(
    rng: random.Random, photo: Photo, spots: list[Spot], split: Split, difficulty: Difficulty
) -> list[tuple[Reading, Spot, Planted]]:
    main = rng.choice(_NUMBERED)
    second, third = rng.sample([kind for kind in KINDS if kind != main], 2)
    kinds = [main, second, main, second, third, main, third][: len(spots)]
    # Signs are placed on what looks most like ground.
    kinds.sort(key=lambda kind: (kind != "sign", rng.random()))
    spots = sorted(spots, key=lambda spot: spot.void - spot.y / photo.height)
    colors, texts = rng.sample(sorted(COLORS), len(COLORS)), {kind: _texts(rng, kind) for kind in KINDS}
    things = []
    for kind, spot in zip(kinds, spots, strict=True):
        away = {
            name: sum((a - b) ** 2 for a, b in zip(COLORS[name], spot.color, strict=True)) ** 0.5
            for name in colors
        }
        color = max(colors, key=lambda name: min(away[name], _APART))  # the first that is far enough
        colors.remove(color)
        text = texts[kind].pop()
        font = pick(rng, FONTS[split], "plate" if kind == "plate" else "sans")
        thing = draw_thing(rng, kind, color, text, font, 2 * spot.side, difficulty.contrast)
        planted = photo.plant(rng, spot, thing, kind)
        things.append((Reading(f"{color} {kind}", text, planted.rect), spot, planted))
    return things


def _texts(rng: random.Random, kind: str) -> list[str]:
    """More different texts than there are things of a kind."""
    if kind == "sticker":
        return rng.sample(DIGITS, 6)
    if kind == "sign":
        return [str(number) for number in rng.sample(range(10, 50), 6)]
    if kind == "label":
        return [f"{cents / 100:.2f}" for cents in rng.sample(range(109, 1000, 10), 6)]
    pairs = rng.sample([a + b for a in CODE_LETTERS for b in CODE_LETTERS if a != b], 6)
    return [pair + rng.choice(DIGITS) for pair in pairs]


def _draw_tasks(rng: random.Random, things: list[Reading], aspect: float) -> list[Task]:
    """Different questions about the things of an image."""
    groups = {kind: [thing for thing in things if thing.name.endswith(kind)] for kind in KINDS}
    names = {f"{color} {kind}" for color in COLORS for kind in KINDS}
    absent = sorted(names - {thing.name for thing in things})
    tasks: dict[tuple[str, frozenset[str]], Task] = {}
    while len(tasks) < QUESTIONS:
        family = rng.choices(list(FAMILIES), list(FAMILIES.values()))[0]
        asked = _NUMBERED if family in ("compare", "arithmetic") else KINDS
        kind = rng.choice([kind for kind in asked if len(groups[kind]) > 1])
        if family == "count":
            task = count(kind, [thing.rect for thing in groups[kind]])
        elif family == "exists":
            task = exists(rng, targets(*things), absent)
        else:
            group = things if family == "position" else groups[kind]
            task = ask(rng, family, group, _NOUNS[kind], aspect=aspect)
        tasks.setdefault((family, frozenset(target.name for target in task.targets)), task)
    return list(tasks.values())


def _measured(task: Task, things: list[tuple[Reading, Spot, Planted]], photo: Photo) -> dict[str, float]:
    """The difficulty of a question: of its hardest evidence, or of all things where it has none."""
    names = tuple(target.name for target in task.targets)  # colors and kinds, or kinds alone
    asked = [(spot, planted) for thing, spot, planted in things if not names or thing.name.endswith(names)]
    return {
        "size": round(100 * min(spot.side for spot, _ in asked) / photo.side, 2),
        "contrast": round(min(planted.contrast for _, planted in asked), 2),
        "clutter": round(max(spot.clutter for spot, _ in asked), 2),
    }
