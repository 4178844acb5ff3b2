"""`p2r train RECIPE`: PRA-GRPO, whole, in one command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.console import readable_errors, say, show_findings, stderr
from p2r.cli.options import DebugOption, VerboseOption, as_path, examples
from p2r.errors import InputError

EXAMPLES = examples(
    "p2r train recipes/nano-smoke.yaml --out runs/smoke",
    "p2r train recipes/qwen3-vl-4b-lora.yaml --check",
    "p2r train recipes/nano.yaml --set training.steps=20 --set seed=1 --out runs/nano-1",
)

# Of the 30 s that batch systems give. The processes of a phase have 22, and a frozen vLLM has 5.
_GRACE_S = 28.0


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE.yaml", parser=as_path, help="What to train, and how.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="RUN", parser=as_path, help="The run folder; continued if it exists."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, such as training.steps=20."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Train nothing: find what would go wrong, and say what to do.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="With --check: print one JSON object.")] = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> None:
    """Train the perceiver and the reasoner in turn, from answers alone.

    The same command continues after any interruption.

    Exit codes: 0 trained, or nothing wrong; 2 wrong usage or unreadable input; 3 calls failed.
    """
    afterwards = "" if check else "the same command goes on at the last checkpoint"
    with readable_errors(debug=debug, verbose=verbose, afterwards=afterwards, grace_s=_GRACE_S):
        from p2r.checks import require_extra
        from p2r.training.recipe import load_recipe

        require_extra("train")
        loaded = load_recipe(recipe, changes or ())
        if check:
            from p2r.training.preflight.checks import run_checks

            show_findings(lambda tell: run_checks(loaded, out, tell=tell), as_json=json_output)
            return
        if out is None:
            raise InputError("--out RUN is missing: where the run shall be kept")
        from p2r.training.run import train as run

        model = run(loaded, out, stderr(), command=shlex.join(["p2r", *sys.argv[1:]]))
        say("model", "green", f"{model}; p2r answer IMAGE QUESTION --model {model}")
