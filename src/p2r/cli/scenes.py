"""`p2r scenes OUT`: write synthetic scenes with questions, answers and gold boxes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from p2r.cli.console import readable_errors, say, stderr
from p2r.cli.options import DebugOption, VerboseOption, as_path, check_folder, examples

EXAMPLES = examples(
    "p2r scenes out/scenes -n 20 --size 2k",
    "p2r scenes out/train --split train --seed 7 -n 1000",
    "p2r eval -b scenes --data out/scenes --out runs/scenes",
)


def scenes(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", parser=as_path, help="The folder to write; continued if it exists."),
    ],
    split: Annotated[
        Literal["train", "validation", "test"],
        typer.Option(metavar="SPLIT", help="train, validation or test; they never share a scene."),
    ] = "test",
    size: Annotated[str, typer.Option(metavar="SIZE", help="2k, 4k, 8k, or WIDTHxHEIGHT.")] = "4k",
    n: Annotated[int, typer.Option("--n", "-n", metavar="N", min=1, help="How many scenes.")] = 200,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Picks another series of the same split.")
    ] = 0,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> None:
    """Draw synthetic scenes with questions about them.

    Writes OUT/images/*.jpg, and OUT/samples.jsonl with question, answer and gold boxes of each. Nothing that
    is there already is replaced.

    Exit codes: 0 written, 2 wrong usage or a folder that cannot be used.
    """
    with readable_errors(debug=debug, verbose=verbose, afterwards="the same command continues"):
        from rich.progress import Progress

        from p2r.scenes import write_scenes

        check_folder(out)
        written = write_scenes(out, split=split, size=size, count=n, seed=seed, workers=os.cpu_count() or 1)
        console = stderr()
        bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        with bar:
            for _ in bar.track(written, total=n, description="drawing"):
                pass
        say("written", "dim", f"{n} scenes in {out / 'samples.jsonl'}")
