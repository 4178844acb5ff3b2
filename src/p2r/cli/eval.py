"""`p2r eval`: a benchmark, one or more modes, and figures with their uncertainty."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2r.cli.console import MODEL_FAILED, WRONG_INPUT, readable_errors, say, stderr, stdout
from p2r.cli.options import (
    DebugOption,
    JsonOption,
    ModelOption,
    PromptsOption,
    ReasonerOption,
    SettingsOption,
    read_settings,
)
from p2r.models import DEFAULT_MODEL
from p2r.types import MODES

if TYPE_CHECKING:
    from p2r.evaluation.evaluate import Plan


class Asked(StrEnum):
    """The modes (typer takes no list of literals)."""

    P2R = "p2r"
    THINK = "think"
    DIRECT = "direct"


class Boxes(StrEnum):
    """Where the evidence of mode p2r comes from, when not from the perceiver."""

    GOLD = "gold"


class Comparison(StrEnum):
    """What figures a run can be shown beside."""

    PAPER = "paper"


def evaluate(
    benchmark: Annotated[
        str,
        typer.Option("--benchmark", "-b", metavar="NAME", help="What to ask; a wrong name lists them all."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="RUN", help="The run folder; continued if it exists.")
    ],
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="PATH_OR_HUB_ID", help="A file, a folder, or owner/name[@revision]."),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    reasoner: ReasonerOption = None,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="SPEC", help="A model that judges free-form answers.")
    ] = None,
    mode: Annotated[
        list[Asked], typer.Option("--mode", help="p2r, think or direct; repeat it to compare them.")
    ] = [Asked.P2R],  # noqa: B006  (typer copies it)
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Ask so many questions, chosen by the seed.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Chooses, shuffles and generates.")] = 0,
    size: Annotated[
        str, typer.Option("--size", help="Of generated scenes: 2k, 4k, 8k or WIDTHxHEIGHT.")
    ] = "4k",
    boxes: Annotated[
        Boxes | None, typer.Option("--boxes", help="gold: skip the perceiver; how good is the reasoner?")
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, help="Questions on their way at once.")
    ] = 32,
    max_failures: Annotated[
        int,
        typer.Option("--max-failures", min=1, max=50, help="Stop when so many of the last 50 attempts fail."),
    ] = 10,
    compare: Annotated[
        Comparison | None, typer.Option("--compare", help="paper: beside the paper's figures.")
    ] = None,
    prompts: PromptsOption = None,
    settings: SettingsOption = None,
    json_output: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Evaluate a model on a benchmark.

    The same command continues after any interruption.

    Exit codes: 0 every question was answered, 2 wrong usage or unreadable input, 3 calls failed.
    """
    import asyncio

    with readable_errors(debug=debug):
        from p2r.evaluation.benchmarks import SCENE_COUNT, open_benchmark
        from p2r.evaluation.evaluate import Plan
        from p2r.evaluation.evaluate import evaluate as run
        from p2r.evaluation.records import PICTURE

        generated = benchmark == "scenes" and data is None
        place = str(Path(data).resolve()) if data and Path(data).exists() else data
        opening: dict[str, Any] = {
            "name": benchmark,
            "data": place,
            "seed": seed,
            "size": size,
            "count": limit or SCENE_COUNT,
        }
        plan = Plan(
            benchmark=open_benchmark(**opening),
            opening=opening,
            out=out,
            model=model,
            reasoner=reasoner,
            judge=judge,
            modes=tuple(known for known in MODES if known in mode),
            limit=None if generated else limit,
            seed=seed,
            gold_boxes=boxes is Boxes.GOLD,
            settings=read_settings(model, settings, prompts),
            concurrency=concurrency,
            most_failures=max_failures,
            command=shlex.join(["p2r", *sys.argv[1:]]),
        )
        summary = asyncio.run(run(plan, stderr()))
        if json_output:
            typer.echo(json.dumps(summary, ensure_ascii=False))
        else:
            _show(plan, summary, beside_paper=compare is Comparison.PAPER)
        if failed := sum(figures["failed"] for figures in summary["modes"].values()):
            say("failed", "bold red", f"{failed} question(s); the same command asks them again")
            kinds = {kind for figures in summary["modes"].values() for kind in figures["failures"]}
            raise typer.Exit(WRONG_INPUT if kinds == {PICTURE} else MODEL_FAILED)


def _show(plan: Plan, summary: dict[str, Any], *, beside_paper: bool) -> None:
    from dataclasses import asdict

    from p2r.evaluation.tables import grids, published_grid, rendered

    console = stdout()
    for grid in grids(summary, asdict(plan.benchmark.layout)):
        console.print(rendered(grid))
    if beside_paper:
        console.print(rendered(published_grid(summary)))
    say("run", "dim", f"{plan.out}; p2r report {plan.out} makes a page of it")
