"""`p2r eval`: a benchmark in one or more modes, with results and their uncertainty."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from p2r.cli import _options as opt
from p2r.cli._console import MODEL_FAILED, WRONG_INPUT, readable_errors, say, show_table, stderr
from p2r.cli._interrupt import run
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


class ControlName(StrEnum):
    """The controls."""

    BLACK = "black-crops"
    SHUFFLED = "shuffled-crops"


EXAMPLES = opt.examples(
    "p2r eval --benchmark scenes --limit 50 --size 2k --out runs/scenes",
    "p2r eval -b vstar -m hongxingli/P2R-4B --mode p2r --mode think -o runs/vstar",
    "p2r eval -b jsonl --data my.jsonl -m http://HOST:8000/v1#NAME -o runs/my",
    "p2r report runs/vstar",
)
_BENCHMARK = "The source of the questions; a wrong name lists them all."
_DATA = "A file, a folder, or owner/name[@revision]. Default: where the benchmark is published."
_JUDGE = "A model that judges free-form answers. Default: exact match."
_MODE = "p2r, think or direct; repeat it to compare them. Default: p2r."
_LIMIT = "The number of questions, selected by the seed. Default: all."
_BOXES = "gold: use the gold boxes instead of a perceiver."
_CONTROL = "black-crops or shuffled-crops: ask again without the evidence; repeat it for both."
_FAILURES = "Stop when N of the last 50 attempts failed."
_COMPARE = "paper: show the paper's results beside the run's."


def evaluate(
    benchmark: Annotated[str, opt.option("NAME", _BENCHMARK, "--benchmark", "-b")],
    out: Annotated[Path, opt.path_option("RUN", "The run folder; continued if it exists.", "--out", "-o")],
    data: Annotated[str | None, opt.option("PATH_OR_HUB_ID", _DATA)] = None,
    model: opt.Model = DEFAULT_MODEL,
    reasoner: opt.Reasoner = None,
    judge: Annotated[str | None, opt.option("SPEC", _JUDGE)] = None,
    device: opt.Device = None,
    dtype: opt.Dtype = None,
    attention: opt.Attention = None,
    quantize: opt.Quantize = None,
    mode: Annotated[list[ModeName], opt.option("MODE", _MODE, show_default=False)] = [ModeName.P2R],  # noqa: B006
    limit: Annotated[int | None, opt.option("N", _LIMIT, "--limit", "-n", min=1)] = None,
    seed: Annotated[int, opt.option("N", "Of the selection, the order and the generation.", min=0)] = 0,
    size: Annotated[str, opt.option("SIZE", "Of generated scenes: 2k, 4k, 8k or WIDTHxHEIGHT.")] = "4k",
    boxes: Annotated[Literal["gold"] | None, opt.option("gold", _BOXES)] = None,
    control: Annotated[list[ControlName], opt.option("CONTROL", _CONTROL, show_default=False)] = [],  # noqa: B006
    concurrency: Annotated[int, opt.option("N", "The number of questions in flight.", min=1)] = 32,
    max_failures: Annotated[int, opt.option("N", _FAILURES, min=1, max=50)] = 10,
    compare: Annotated[Literal["paper"] | None, opt.option("paper", _COMPARE)] = None,
    looks: opt.Looks = None,
    prompts: opt.PromptsFile = None,
    settings: opt.SettingsFile = None,
    changes: opt.Set = [],  # noqa: B006
    json_output: opt.Json = False,
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Evaluate a model on a benchmark.

    The same command continues after any interruption.

    Exit codes: 0 every question was answered, 2 wrong usage or unreadable input, 3 calls failed.
    """
    with readable_errors(debug=debug, verbose=verbose, afterwards="the same command continues"):
        from p2r.evaluation.benchmarks import SCENE_COUNT, open_benchmark
        from p2r.evaluation.controls import CONTROLS
        from p2r.evaluation.run import EvaluationPlan
        from p2r.evaluation.run import evaluate as evaluate_plan

        opt.check_folder(out)
        opt.settings_changes(
            settings, prompts, changes, looks
        )  # a wrong one is refused before anything is fetched
        models = [model, reasoner, judge]
        model, reasoner, judge = opt.placed(models, device, dtype, attention, quantize)
        generated = benchmark == "scenes" and data is None
        place = str(opt.as_path(data).resolve()) if data and opt.as_path(data).exists() else data
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
            gold_boxes=boxes == "gold",
            controls=tuple(known for known in CONTROLS if known in control),
            settings=opt.read_settings(model, settings, prompts, changes, looks),
            concurrency=concurrency,
            most_failures=max_failures,
            command=shlex.join(["p2r", *sys.argv[1:]]),
        )
        summary = run(evaluate_plan(plan, stderr()))
        if json_output:
            typer.echo(json.dumps(summary.to_json(), ensure_ascii=False))
        else:
            _show(plan, summary, beside_paper=compare == "paper")
        failed = sum(figures.total.failed for figures in summary.modes.values())
        if failed := failed + sum(figures.failed for figures in summary.controls.values()):
            say("failed", "bold red", f"{failed} question(s); the same command asks them again")
            kinds = {kind for figures in summary.modes.values() for kind in figures.failures}
            raise typer.Exit(WRONG_INPUT if kinds == {"image"} else MODEL_FAILED)


def _show(plan: EvaluationPlan, summary: Summary, *, beside_paper: bool) -> None:
    from p2r.evaluation.tables import grids, paper_grid

    shown = list(grids(summary, plan.benchmark.layout))
    for grid in [*shown, paper_grid(summary)] if beside_paper else shown:
        show_table(grid.columns, grid.rows, title=grid.title, note=grid.note)
    say("run", "dim", f"{plan.out}; p2r report {plan.out} makes a page of it")
