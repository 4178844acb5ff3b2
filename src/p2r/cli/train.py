"""`p2r train RECIPE`: the whole of PRA-GRPO in one command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli import _options as opt
from p2r.cli._console import readable_errors, say, show_checks, stderr
from p2r.errors import InputError

EXAMPLES = opt.examples(
    "p2r train nano-smoke --out runs/smoke",
    "p2r train qwen3-vl-4b-lora --check",
    "p2r train nano --set training.steps=20 --set seed=1 --out runs/nano-1",
)
_RECIPE = "A YAML file with models, data and phases, or the name of a bundled one, such as nano-smoke."
_SHOW = "Train nothing: print the recipe's file, to be copied and changed."
_CHECK = "Train nothing: check recipe, data, models and memory, with hints."

# Of the 30 s that batch systems give. The processes of a phase have 22, and a frozen vLLM has 5.
_GRACE_S = 28.0


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help=_RECIPE)],
    out: Annotated[
        Path | None, opt.path_option("RUN", "The run folder; continued if it exists.", "--out", "-o")
    ] = None,
    changes: Annotated[
        list[str], opt.option("KEY=VALUE", "Change the recipe, such as training.steps=20.", "--set")
    ] = [],  # noqa: B006  (typer copies it)
    check: Annotated[bool, typer.Option("--check", help=_CHECK)] = False,
    show: Annotated[bool, typer.Option("--show", help=_SHOW)] = False,
    json_output: Annotated[bool, typer.Option("--json", help="With --check: print one JSON object.")] = False,
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Train the perceiver and the reasoner in turn, from answers alone.

    The same command continues after any interruption.

    Exit codes: 0 trained, or nothing wrong; 2 wrong usage or unreadable input; 3 calls failed.
    """
    afterwards = "" if check else "the same command continues from the last checkpoint"
    with readable_errors(debug=debug, verbose=verbose, afterwards=afterwards, grace_s=_GRACE_S):
        from p2r.checks import require_extra
        from p2r.training.recipe import find_recipe, load_recipe

        require_extra("train")
        file = find_recipe(recipe)
        loaded = load_recipe(file, changes)
        if show:
            typer.echo(file.read_text(encoding="utf-8"), nl=False)
            return
        if check:
            from p2r.training.preflight.checks import run_checks

            show_checks(lambda tell: run_checks(loaded, out, tell=tell), as_json=json_output)
            return
        if out is None:
            raise InputError("--out RUN is missing: the folder of the run")
        from p2r.training.run import train as run

        model = run(loaded, out, stderr(), command=shlex.join(["p2r", *sys.argv[1:]]))
        say("model", "green", f"{model}; p2r answer IMAGE QUESTION --model {model}")
