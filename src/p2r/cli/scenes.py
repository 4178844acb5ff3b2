"""`p2r scenes OUT`: write scenes, or plant into photographs, with questions, answers and gold boxes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from p2r.cli import _options as opt
from p2r.cli._console import progress_bar, readable_errors, say
from p2r.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EXAMPLES = opt.examples(
    "p2r scenes out/scenes -n 20 --size 2k",
    "p2r scenes out/train --split train --seed 7 -n 1000",
    "p2r scenes out/own --background ~/Pictures",
    "p2r eval -b scenes --data out/scenes --out runs/scenes",
)
_SPLIT = "train, validation or test; they never share a scene, a photograph or a font."
_NAMED = 5  # files that were left out
_WORLD = "What the scenes show, or several separated by commas; an unknown name lists them. Default: tags."
_BACKGROUND = (
    "Plant labels, plates, stickers and signs into the photographs of this folder (at least three, of 1 to "
    "200 megapixels), at full resolution. Of the photographs, 70 % belong to train, 15 % to validation and "
    "15 % to test, by a hash of their content."
)
_SIZE = "The side of what carries the writing, in % of the image's side, 1 to 7; default: as in the world."


def scenes(
    out: Annotated[Path, opt.path_argument("OUT", "The folder to write; continued if it exists.")],
    split: Annotated[Literal["train", "validation", "test"], opt.option("SPLIT", _SPLIT)] = "test",
    size: Annotated[
        str | None, opt.option("SIZE", "2k, 4k, 8k, 16k, or WIDTHxHEIGHT of drawn scenes. Default: 4k.")
    ] = None,
    n: Annotated[int, opt.option("N", "The number of questions.", "--n", "-n", min=1)] = 200,
    seed: Annotated[int, opt.option("N", "Selects another series of the same split.", min=0)] = 0,
    world: Annotated[str | None, opt.option("WORLD", _WORLD)] = None,
    background: Annotated[Path | None, opt.path_option("FOLDER", _BACKGROUND)] = None,
    object_size: Annotated[float | None, opt.option("PERCENT", _SIZE)] = None,
    contrast: Annotated[float, opt.option("SHARE", "Of the writing to its ground, 0.1 to 1.")] = 1.0,
    clutter: Annotated[float, opt.option("SHARE", "How much is around the evidence, 0 to 1.")] = 0.5,
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Draw scenes with questions, or plant questions into photographs.

    Writes OUT/images, and OUT/samples.jsonl with question, answer and gold boxes of each. Existing files are
    not replaced. Of a drawn scene one question is asked, of a planted photograph four.

    Exit codes: 0 written, 2 wrong usage or a folder that cannot be used.
    """
    with readable_errors(debug=debug, verbose=verbose, afterwards="the same command continues"):
        from p2r.scenes import Difficulty, write_scenes

        opt.check_folder(out)
        difficulty = Difficulty(object_size, contrast, clutter)
        workers = os.cpu_count() or 1
        if background is None:
            written: Iterator[object] = write_scenes(
                out,
                split=split,
                size=size or "4k",
                count=n,
                seed=seed,
                workers=workers,
                world=world or "tags",
                difficulty=difficulty,
            )
            _show(written, n, "drawing")
        else:
            from p2r.scenes.photos import Photographs, write_planted

            if world or size:
                raise InputError("--background: photographs keep their size; leave out --world and --size")
            photographs = Photographs(background, out)
            planted = write_planted(
                out, photographs, split=split, count=n, seed=seed, difficulty=difficulty, workers=workers
            )
            _show(planted, n, "planting")
            _say_left_out(photographs.unusable)
        say("written", "dim", f"{n} questions in {out / 'samples.jsonl'}")


def _show(written: Iterator[object], count: int, doing: str) -> None:
    with progress_bar() as bar:
        for _ in bar.track(written, total=count, description=doing):
            pass


def _say_left_out(unusable: Mapping[str, str]) -> None:
    if unusable:
        named = "; ".join(f"{name}: {problem}" for name, problem in list(unusable.items())[:_NAMED])
        more = f"; and {len(unusable) - _NAMED} more" if len(unusable) > _NAMED else ""
        say("left out", "yellow", f"{len(unusable)} files: {named}{more}")
