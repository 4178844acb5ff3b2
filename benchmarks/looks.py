"""What looking again brings, and what it costs: accuracy, evidence recall, calls and image tokens.

python benchmarks/looks.py run --out looks.jsonl --size 8k --percent 2 3 --looks 1 3 -n 100
python benchmarks/looks.py run --out looks.jsonl --size 8k --percent 2 3 --think 25600 262144 -n 100
python benchmarks/looks.py table looks.jsonl
python benchmarks/looks.py curve looks.jsonl --size 8k docs/images/looks.png
python benchmarks/looks.py gigapixel scene.tif

Scenes are those of `p2r scenes`, without the family `whole`, which has no objects. They are drawn part by
part as the pipeline asks for them, with the grain of a sensor; `--files` draws whole JPEG files first, which
takes seconds a scene. `run` continues where it stopped. Perceiver and reasoner are the bundled `nano`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyvips

from p2r.evaluation.statistics import wilson
from p2r.evidence import plan_sizes
from p2r.images import ImageSource, Limits
from p2r.models.local import LocalModel
from p2r.nano import WEIGHTS
from p2r.pipeline import P2R
from p2r.scenes import Difficulty, make_sample
from p2r.scenes.files import draw_files
from p2r.scoring import score
from p2r.scoring.localization import localize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.images import RectPx
    from p2r.scenes import Scene, SceneSample
    from p2r.settings import Settings
    from p2r.types import Prediction

GRAIN = 5.0  # standard deviation at full size, as in files of scenes
AT_ONCE = 24  # questions


class SceneReader:
    """A scene as an image that is drawn where it is looked at."""

    bits, orientation = 8, 1
    notes: tuple[str, ...] = ()

    def __init__(self, scene: Scene, size: tuple[int, int]) -> None:
        self.name = "scene"
        self._scene = scene
        self.width, self.height = size

    def read(self, wanted: Sequence[tuple[RectPx, tuple[int, int]]]) -> Iterator[list[Any]]:
        """See `Reader.read`."""
        for (x0, y0, x1, y1), (width, height) in wanted:
            size = min(width, x1 - x0), min(height, y1 - y0)
            part = (x0 / self.width, y0 / self.height, x1 / self.width, y1 / self.height)
            pixels = self._scene.render(size, part).astype(np.float32)
            grain = np.random.default_rng((x0, y0)).normal(0, GRAIN * size[0] / (x1 - x0), pixels.shape[:2])
            yield [pyvips.Image.new_from_array((pixels + grain[..., None]).clip(0, 255).astype(np.uint8))]

    def cost(self, _wanted: object) -> int:
        """See `Reader.cost`."""
        return 0


def image_of(made: SceneSample, folder: Path | None) -> ImageSource:
    if folder is None:
        return ImageSource(SceneReader(made.scene, made.size), Limits())
    path = folder / f"{made.id}.jpg"
    pyvips.Image.new_from_array(made.render()).write_to_file(str(path), Q=92)
    return ImageSource.open(path)


async def run(options: argparse.Namespace) -> None:
    model = LocalModel(WEIGHTS / "nano", name="nano", max_batch=48)
    p2r = P2R(model)
    budget = p2r.settings.budget
    ways = [(f"looks {looks}", "p2r", replace(p2r.settings, looks=looks)) for looks in options.looks]
    for pixels in options.think:
        # The context must hold the larger overview.
        larger = replace(budget, overview_max_pixels=pixels, context_tokens=4096)
        ways.append((f"think {pixels}", "think", replace(p2r.settings, budget=larger)))
    done = {key_of(row) for row in rows_of(options.out)} if options.out.exists() else set()
    limit = asyncio.Semaphore(AT_ONCE)
    with options.out.open("a") as file, tempfile.TemporaryDirectory() as folder:

        async def one(index: int, percent: float) -> None:
            made = make_sample(options.split, index, size=options.size, difficulty=Difficulty(size=percent))
            if made.task.family == "whole":
                return
            async with limit:
                source = None
                for way, mode, settings in ways:
                    row = {"size": options.size, "percent": percent, "way": way, "id": made.id}
                    row["files"] = options.files
                    if key_of(row) in done:
                        continue
                    source = source or image_of(made, Path(folder) if options.files else None)
                    sample = made.sample(source)
                    start_s = time.perf_counter()
                    prediction = await p2r.predict(sample.question, mode, settings=settings)
                    found = localize(
                        sample.boxes or (), prediction.boxes, prediction.crops_px, source.size
                    ).found
                    row |= {
                        "family": made.task.family,
                        "correct": bool((await score(prediction.reply, sample)).correct),
                        "found": [sum(found), len(found)] if mode == "p2r" else None,
                        "calls": max(1, len(prediction.looks)) if mode == "p2r" else 0,
                        "image_tokens": image_tokens(prediction, settings, source.size),
                        "seconds": round(time.perf_counter() - start_s, 2),
                        "stopped": prediction.stopped,
                    }
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                if options.files:
                    (Path(folder) / f"{made.id}.jpg").unlink(missing_ok=True)

        for percent in options.percent:
            await asyncio.gather(*(one(index, percent) for index in range(options.n)))
    await p2r.aclose()


def image_tokens(prediction: Prediction, settings: Settings, size: tuple[int, int]) -> int:
    """Of all calls; a look has the tokens of an overview."""
    overview = plan_sizes(size, (), settings.budget).tokens
    if prediction.mode != "p2r":
        return overview
    evidence = plan_sizes(size, prediction.crops_px, settings.budget).tokens
    return max(1, len(prediction.looks)) * overview + evidence


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("size", "percent", "way", "id", "files"))


def cells(rows: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    found = defaultdict(list)
    for row in rows:
        found[row["size"], row["percent"], row["way"], row["files"]].append(row)
    return dict(sorted(found.items(), key=lambda cell: (cell[0][0], cell[0][1], cell[0][3], cell[0][2])))


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    right = sum(row["correct"] for row in rows)
    low, high = wilson(right, len(rows))
    found = [row["found"] for row in rows if row["found"]]
    return {
        "n": len(rows),
        "accuracy": 100 * right / len(rows),
        "low": 100 * low,
        "high": 100 * high,
        "recall": 100 * sum(one for one, _ in found) / max(1, sum(of for _, of in found)),
        "calls": float(np.mean([row["calls"] for row in rows])),
        "tokens": float(np.mean([row["image_tokens"] for row in rows])),
    }


def table(options: argparse.Namespace) -> None:
    print("| scenes | objects | way | n | right, % | evidence recall, % | perceiver calls | image tokens |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (size, percent, way, files), rows in cells(rows_of(options.rows)).items():
        f = figures(rows)
        name = f"{size}{' (files)' if files else ''}"
        recall, calls = ("", "") if way.startswith("think") else (f"{f['recall']:.0f}", f"{f['calls']:.1f}")
        right = f"{f['accuracy']:.1f} ({f['low']:.1f}–{f['high']:.1f})"
        print(
            f"| {name} | {percent:g} % | {way} | {f['n']} | {right} "
            f"| {recall} | {calls} | {f['tokens']:.0f} |"
        )


def curve(options: argparse.Namespace) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    lines: dict[tuple[float, str], list[dict[str, Any]]] = defaultdict(list)
    for (size, percent, way, _), rows in cells(rows_of(options.rows)).items():
        if size == options.size:
            lines[percent, way.split()[0]].append(figures(rows))
    figure, axis = plt.subplots(figsize=(7, 4.2), constrained_layout=True)
    shades = {percent: f"C{at}" for at, percent in enumerate(sorted({percent for percent, _ in lines}))}
    for (percent, kind), points in lines.items():
        points.sort(key=lambda point: point["tokens"])
        accuracy = [point["accuracy"] for point in points]
        below = [point["accuracy"] - point["low"] for point in points]
        above = [point["high"] - point["accuracy"] for point in points]
        axis.errorbar(
            [point["tokens"] for point in points],
            accuracy,
            yerr=[below, above],
            color=shades[percent],
            marker="o" if kind == "looks" else "s",
            linestyle="-" if kind == "looks" else ":",
            capsize=3,
            label=f"{kind}, objects of {percent:g} %",
        )
    axis.set(xscale="log", xlabel="image tokens a question", ylabel="right answers, %", ylim=(0, 100))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(options.image, dpi=100)


def gigapixel(options: argparse.Namespace) -> None:
    """Draw a scene of 32768² pixels with one tag of 1 % of its side, and show the question about it."""
    wanted = Difficulty(size=1.0)
    made = make_sample("test", options.index, size="32768x32768", family="read", difficulty=wanted)
    (target,) = made.task.targets
    alone = tuple(thing for thing in made.scene.objects if thing.name == target.name)
    made = replace(made, scene=replace(made.scene, objects=alone))
    start_s = time.perf_counter()
    for _ in draw_files([(made, options.file)]):
        print(f"drawn in {time.perf_counter() - start_s:.0f} s: {options.file.stat().st_size / 1e6:.0f} MB")
    options_in_words = " ".join(
        f"{letter}. {choice}" for letter, choice in zip("ABCD", made.task.choices, strict=True)
    )
    print(f"p2r answer {options.file} '{made.task.text} {options_in_words}' --looks 4 --json")
    print("right:", made.task.answer, "box:", made.boxes[0].as_tuple())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run")
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--split", default="test")
    running.add_argument("--size", default="8k")
    running.add_argument("--percent", type=float, nargs="+", default=[2.0, 3.0])
    running.add_argument("--looks", type=int, nargs="*", default=[])
    running.add_argument("--think", type=int, nargs="*", default=[], metavar="OVERVIEW_PIXELS")
    running.add_argument("-n", type=int, default=100)
    running.add_argument("--files", action="store_true")
    running.set_defaults(act=lambda options: asyncio.run(run(options)))
    tabling = commands.add_parser("table")
    tabling.add_argument("rows", type=Path)
    tabling.set_defaults(act=table)
    drawing = commands.add_parser("curve")
    drawing.add_argument("rows", type=Path)
    drawing.add_argument("image", type=Path)
    drawing.add_argument("--size", default="8k")
    drawing.set_defaults(act=curve)
    planting = commands.add_parser("gigapixel")
    planting.add_argument("file", type=Path)
    planting.add_argument("--index", type=int, default=0)
    planting.set_defaults(act=gigapixel)
    options = parser.parse_args()
    options.act(options)


if __name__ == "__main__":
    main()
