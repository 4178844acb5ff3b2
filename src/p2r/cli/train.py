"""`p2r train RECIPE`: PRA-GRPO, whole, in one command."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2r.cli.console import MODEL_FAILED, WRONG_INPUT, readable_errors, say, show_finding, stderr
from p2r.cli.options import DebugOption
from p2r.errors import InputError

if TYPE_CHECKING:
    from p2r.training.recipe import Recipe


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
    check: Annotated[
        bool, typer.Option("--check", help="Train nothing: find what would go wrong, and say what to do.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="With --check: print one JSON object.")] = False,
    debug: DebugOption = False,
) -> None:
    """Train the perceiver and the reasoner in turn, from answers alone.

    The same command continues after any interruption.

    Exit codes: 0 trained, or nothing wrong; 2 wrong usage or unreadable input; 3 calls failed.
    """
    with readable_errors(debug=debug):
        from p2r.training.recipefile import load_recipe

        loaded = load_recipe(recipe, changes or ())
        if check:
            _check(loaded, out, json_output=json_output)
            return
        if out is None:
            raise InputError("--out RUN is missing: where the run shall be kept")
        from p2r.training.rounds import train as run

        model = run(loaded, out, stderr(), command=shlex.join(["p2r", *sys.argv[1:]]))
        say("model", "green", f"{model}; p2r answer PICTURE QUESTION --model {model}")


def _check(recipe: Recipe, out: Path | None, *, json_output: bool) -> None:
    from dataclasses import asdict

    from p2r.training.preflight import Preflight

    findings = []
    with stderr().status("looking …") as status:

        def tell(text: str) -> None:
            status.update(f"{text} …")

        for finding in Preflight(recipe, out, tell=tell).run():
            findings.append(finding)
            if not json_output:
                show_finding(finding)
    failures = [finding for finding in findings if finding.state == "failure"]
    if json_output:
        rows = [asdict(finding) for finding in findings]
        typer.echo(json.dumps({"ok": not failures, "findings": rows}, ensure_ascii=False))
    if failures:
        raise typer.Exit(MODEL_FAILED if all(finding.of_model for finding in failures) else WRONG_INPUT)
