"""`p2r scenes OUT`: write synthetic scenes with questions, answers and gold boxes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from p2r.cli import _options as opt
from p2r.cli._console import progress_bar, readable_errors, say

EXAMPLES = opt.examples(
    "p2r scenes out/scenes -n 20 --size 2k",
    "p2r scenes out/train --split train --seed 7 -n 1000",
    "p2r eval -b scenes --data out/scenes --out runs/scenes",
)
_SPLIT = "train, validation or test; they never share a scene."
_WORLD = "What the scenes show; an unknown name lists the choices."
_SIZE = "The side of what carries the writing, in % of the image's side, 1 to 7; default: as in the world."


def scenes(
    out: Annotated[Path, opt.path_argument("OUT", "The folder to write; continued if it exists.")],
    split: Annotated[Literal["train", "validation", "test"], opt.option("SPLIT", _SPLIT)] = "test",
    size: Annotated[str, opt.option("SIZE", "2k, 4k, 8k, 16k, or WIDTHxHEIGHT.")] = "4k",
    n: Annotated[int, opt.option("N", "The number of scenes.", "--n", "-n", min=1)] = 200,
    seed: Annotated[int, opt.option("N", "Selects another series of the same split.", min=0)] = 0,
    world: Annotated[str, opt.option("WORLD", _WORLD)] = "tags",
    object_size: Annotated[float | None, opt.option("PERCENT", _SIZE)] = None,
    contrast: Annotated[float, opt.option("SHARE", "Of the writing to its ground, 0.1 to 1.")] = 1.0,
    clutter: Annotated[float, opt.option("SHARE", "How much stands around the evidence, 0 to 1.")] = 0.5,
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Draw synthetic scenes with questions about them.

    Writes OUT/images, and OUT/samples.jsonl with question, answer and gold boxes of each. Existing files are
    not replaced.

    Exit codes: 0 written, 2 wrong usage or a folder that cannot be used.
    """
    with readable_errors(debug=debug, verbose=verbose, afterwards="the same command continues"):
        from p2r.scenes import Difficulty, write_scenes

        opt.check_folder(out)
        written = write_scenes(
            out,
            split=split,
            size=size,
            count=n,
            seed=seed,
            workers=os.cpu_count() or 1,
            world=world,
            difficulty=Difficulty(object_size, contrast, clutter),
        )
        with progress_bar() as bar:
            for _ in bar.track(written, total=n, description="drawing"):
                pass
        say("written", "dim", f"{n} scenes in {out / 'samples.jsonl'}")
