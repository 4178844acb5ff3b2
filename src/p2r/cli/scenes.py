"""`p2r scenes OUT`: write synthetic scenes with questions, answers and gold boxes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from p2r.cli.console import readable_errors, say, stderr
from p2r.cli.options import DebugOption


def scenes(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Splits never share a scene.")
    ] = "test",
    size: Annotated[str, typer.Option(help="2k, 4k, 8k, or WIDTHxHEIGHT.")] = "4k",
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many scenes.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Picks another series of the same split.")] = 0,
    debug: DebugOption = False,
) -> None:
    """Draw synthetic scenes with questions about them.

    Writes OUT/images/*.jpg, and OUT/samples.jsonl with question, answer and gold boxes of each.
    """
    with readable_errors(debug=debug):
        from rich.progress import track

        from p2r.scenes import write_scenes

        written = write_scenes(out, split=split, size=size, count=n, seed=seed, workers=os.cpu_count() or 1)
        for _ in track(written, total=n, description="drawing", console=stderr(), transient=True):
            pass
        say("written", "dim", f"{n} scenes in {out / 'samples.jsonl'}")
