"""`p2r train RECIPE`: PRA-GRPO, whole, in one command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.console import readable_errors, say, stderr
from p2r.cli.options import DebugOption
from p2r.errors import InputError


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train, and how.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="RUN", help="The run folder; continued if it exists."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, such as training.steps=20."),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Train the perceiver and the reasoner in turn, from answers alone.

    The same command continues after any interruption.

    Exit codes: 0 trained, 2 wrong usage or unreadable input, 3 calls failed.
    """
    with readable_errors(debug=debug):
        from p2r.training.recipe import load_recipe

        loaded = load_recipe(recipe, changes or ())
        if out is None:
            raise InputError("--out RUN is missing: where the run shall be kept")
        from p2r.training.rounds import train as run

        model = run(loaded, out, stderr(), command=shlex.join(["p2r", *sys.argv[1:]]))
        say("model", "green", f"{model}; p2r answer PICTURE QUESTION --model {model}")
