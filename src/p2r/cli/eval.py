"""`p2r eval`: a benchmark, one or more modes, and figures with their uncertainty."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2r.cli.console import MODEL_FAILED, WRONG_INPUT, readable_errors, say, show_table, stderr
from p2r.cli.interrupt import run
from p2r.cli.options import (
    DebugOption,
    JsonOption,
    ModelOption,
    PromptsOption,
    ReasonerOption,
    SetOption,
    SettingsOption,
    VerboseOption,
    as_path,
    check_folder,
    examples,
    read_settings,
    settings_changes,
)
from p2r.models import DEFAULT_MODEL
from p2r.types import MODES

if TYPE_CHECKING:
    from p2r.evaluation.run import EvaluationPlan
    from p2r.evaluation.summary import Summary


class ModeName(StrEnum):
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


EXAMPLES = examples(
    "p2r eval --benchmark scenes --limit 50 --size 2k --out runs/scenes",
    "p2r eval -b vstar --model hongxingli/P2R-4B --mode p2r --mode think -o runs/vstar",
    "p2r eval -b jsonl --data my.jsonl --model http://localhost:8000/v1#NAME -o runs/my",
    "p2r report runs/vstar",
)


def evaluate(
    benchmark: Annotated[
        str,
        typer.Option("--benchmark", "-b", metavar="NAME", help="What to ask; a wrong name lists them all."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="RUN", parser=as_path, help="The run folder; continued if it exists."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="PATH_OR_HUB_ID",
            help="A file, a folder, or owner/name[@revision]. Default: where the benchmark is published.",
        ),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    reasoner: ReasonerOption = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", metavar="SPEC", help="A model that judges free-form answers. Default: exact match."
        ),
    ] = None,
    mode: Annotated[
        list[ModeName],
        typer.Option(
            "--mode",
            metavar="MODE",
            show_default=False,
            help="p2r, think or direct; repeat it to compare them. Default: p2r.",
        ),
    ] = [ModeName.P2R],  # noqa: B006  (typer copies it)
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-n", metavar="N", min=1, help="Ask N questions, chosen by the seed. Default: all."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Chooses, shuffles and generates.")
    ] = 0,
    size: Annotated[
        str,
        typer.Option("--size", metavar="SIZE", help="Of generated scenes: 2k, 4k, 8k or WIDTHxHEIGHT."),
    ] = "4k",
    boxes: Annotated[
        Boxes | None,
        typer.Option(
            "--boxes", metavar="gold", help="gold: use the gold boxes instead of asking the perceiver."
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, help="Questions in flight at a time.")
    ] = 32,
    max_failures: Annotated[
        int,
        typer.Option(
            "--max-failures", metavar="N", min=1, max=50, help="Stop when N of the last 50 attempts failed."
        ),
    ] = 10,
    compare: Annotated[
        Comparison | None,
        typer.Option("--compare", metavar="paper", help="paper: show the paper's results beside the run's."),
    ] = None,
    prompts: PromptsOption = None,
    settings: SettingsOption = None,
    changes: SetOption = [],  # noqa: B006
    json_output: JsonOption = False,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> None:
    """Evaluate a model on a benchmark.

    The same command continues after any interruption.

    Exit codes: 0 every question was answered, 2 wrong usage or unreadable input, 3 calls failed.
    """
    with readable_errors(debug=debug, verbose=verbose, afterwards="the same command continues"):
        from p2r.evaluation.benchmarks import SCENE_COUNT, open_benchmark
        from p2r.evaluation.run import EvaluationPlan
        from p2r.evaluation.run import evaluate as evaluate_plan

        check_folder(out)
        settings_changes(settings, prompts, changes)  # a wrong one is refused before anything is fetched
        generated = benchmark == "scenes" and data is None
        place = str(as_path(data).resolve()) if data and as_path(data).exists() else data
        opening: dict[str, Any] = {
            "name": benchmark,
            "data": place,
            "seed": seed,
            "size": size,
            "count": limit or SCENE_COUNT,
        }
        plan = EvaluationPlan(
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
            settings=read_settings(model, settings, prompts, changes),
            concurrency=concurrency,
            most_failures=max_failures,
            command=shlex.join(["p2r", *sys.argv[1:]]),
        )
        summary = run(evaluate_plan(plan, stderr()))
        if json_output:
            typer.echo(json.dumps(summary.to_json(), ensure_ascii=False))
        else:
            _show(plan, summary, beside_paper=compare is Comparison.PAPER)
        if failed := sum(figures.total.failed for figures in summary.modes.values()):
            say("failed", "bold red", f"{failed} question(s); the same command asks them again")
            kinds = {kind for figures in summary.modes.values() for kind in figures.failures}
            raise typer.Exit(WRONG_INPUT if kinds == {"image"} else MODEL_FAILED)


def _show(plan: EvaluationPlan, summary: Summary, *, beside_paper: bool) -> None:
    from p2r.evaluation.tables import grids, paper_grid

    shown = list(grids(summary, plan.benchmark.layout))
    for grid in [*shown, paper_grid(summary)] if beside_paper else shown:
        show_table(grid.columns, grid.rows, title=grid.title, note=grid.note)
    say("run", "dim", f"{plan.out}; p2r report {plan.out} makes a page of it")
