"""`p2r batch`: many questions without gold answers, from a table or a folder of images."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2r.cli import _options as opt
from p2r.cli._console import MODEL_FAILED, WRONG_INPUT, readable_errors, say, show_table, stderr
from p2r.cli._interrupt import run
from p2r.errors import InputError
from p2r.models import DEFAULT_MODEL
from p2r.types import AnswerType, Mode

if TYPE_CHECKING:
    from p2r.evaluation.batch_results import BatchSummary

EXAMPLES = opt.examples(
    "p2r batch questions.jsonl --model hongxingli/P2R-4B -o runs/shop",
    'p2r batch photos --question "Is a helmet worn?" -c yes -c no -o runs/helmets',
    "p2r batch questions.parquet -n 100 -m http://HOST:8000/v1#NAME -o runs/try",
    "p2r batch s3://BUCKET/q.jsonl --ray auto -m http://HOST/v1#NAME -o runs/q",
    "p2r report runs/shop",
)
_QUESTIONS = "A .jsonl, .csv, .tsv or .parquet of questions, or a folder of images."
_OUT = "The run folder; continued if it exists."
_QUESTION = "The question about the images of a folder, and in rows without one."
_MODE = "p2r: perceive, then reason; think or direct: one pass over the whole image."
_FIGURES = "Draw N of the answered rows: RUN/figures/ROW.webp."
_RAY = "Answer on the Ray cluster at this address (auto: this machine's); local starts one here."
_WORKERS = "The processes of --ray. Default: one a GPU where they load the model, else one a CPU, less one."
_REPLICA = "Another server of the same model, for --ray; repeat it for more."
_SHOWN = 10  # answers


def batch(
    questions: Annotated[str, typer.Argument(metavar="QUESTIONS", help=_QUESTIONS)],
    out: Annotated[Path, opt.path_option("RUN", _OUT, "--out", "-o")],
    question: Annotated[str, opt.option("TEXT", _QUESTION, show_default=False)] = "",
    choice: Annotated[
        list[str], opt.option("TEXT", "An option of --question; repeat for each one.", "--choice", "-c")
    ] = [],  # noqa: B006  (typer copies it)
    answer_type: Annotated[AnswerType | None, opt.option("TYPE", "Of --question.", "--type")] = None,
    model: opt.Model = DEFAULT_MODEL,
    reasoner: opt.Reasoner = None,
    device: opt.Device = None,
    dtype: opt.Dtype = None,
    attention: opt.Attention = None,
    quantize: opt.Quantize = None,
    mode: Annotated[Mode, opt.option("MODE", _MODE)] = "p2r",
    looks: opt.Looks = None,
    limit: Annotated[int | None, opt.option("N", "The first N rows only.", "--limit", "-n", min=1)] = None,
    concurrency: Annotated[int, opt.option("N", "The number of questions in flight.", min=1)] = 32,
    max_failures: Annotated[
        int, opt.option("N", "Stop when N of the last 50 calls failed.", min=1, max=50)
    ] = 10,
    figures: Annotated[int, opt.option("N", _FIGURES, min=0)] = 0,
    ray: Annotated[str | None, opt.option("ADDRESS|local", _RAY)] = None,
    workers: Annotated[int | None, opt.option("N", _WORKERS, min=1)] = None,
    replica: Annotated[list[str], opt.option("SPEC", _REPLICA)] = [],  # noqa: B006
    prompts: opt.PromptsFile = None,
    settings: opt.SettingsFile = None,
    changes: opt.Set = [],  # noqa: B006
    json_output: opt.Json = False,
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Answer many questions, without gold answers.

    RUN/results.jsonl and results.parquet have a row for each. The same command continues after any
    interruption.

    Exit codes: 0 every row was asked, 2 wrong usage or unreadable input, 3 calls failed.
    """
    with readable_errors(debug=debug, verbose=verbose, afterwards="the same command continues"):
        from p2r.datasets.questions import QuestionSource
        from p2r.evaluation.batch import BatchPlan, run_batch
        from p2r.evaluation.cluster import Cluster, fetched

        opt.check_folder(out)
        opt.settings_changes(settings, prompts, changes, looks)
        if ray is None and (workers or replica or "://" in questions):
            given = "--workers" if workers else "--replica" if replica else questions
            raise InputError(f"{given} goes with --ray")
        path, remote = fetched(questions, out) if "://" in questions else (opt.as_path(questions), "")
        source = QuestionSource(path, question, tuple(choice), answer_type)
        model, reasoner = opt.placed([model, reasoner], device, dtype, attention, quantize)
        chosen = opt.read_settings(model, settings, prompts, changes, looks)
        cluster = Cluster(
            [model, *replica], chosen, reasoner, concurrency, ray or "", workers, source.root, remote
        )
        plan = BatchPlan(
            source=source,
            out=out,
            model=model,
            reasoner=reasoner,
            mode=mode,
            limit=limit,
            settings=chosen,
            concurrency=concurrency,
            most_failures=max_failures,
            command=shlex.join(["p2r", *sys.argv[1:]]),
            cluster=cluster if ray else None,
        )
        summary = run(run_batch(plan, stderr()))
        if figures:
            from p2r.report.batch import write_figures

            with stderr().status("drawing figures …"):
                say("figures", "dim", str(write_figures(out, source, figures)))
        if json_output:
            typer.echo(json.dumps(summary.to_json(), ensure_ascii=False))
        else:
            _show(summary)
            say("run", "dim", f"{out}; p2r report {out} makes a page of it")
        if summary.failed:
            say("failed", "bold red", f"{summary.failed:,} row(s); the same command asks them again")
            raise typer.Exit(WRONG_INPUT if summary.failures.keys() <= {"image", "row"} else MODEL_FAILED)


def _show(summary: BatchSummary) -> None:
    columns = ("rows", "answered", "no answer", "failed", "prompt tokens", "completion tokens")
    counts = (summary.rows, summary.answered, summary.no_answer, summary.failed)
    tokens = (summary.prompt_tokens, summary.completion_tokens)
    show_table(columns, [tuple(f"{count:,}" for count in (*counts, *tokens))], title="Batch")
    if len(summary.answers) > 1 and (found := summary.answers.most_common(_SHOWN)):
        more = len(summary.answers) - len(found)
        note = f"and {more:,} other answers" if more else ""
        show_table(("answer", "rows"), [(text, f"{n:,}") for text, n in found], title="Answers", note=note)
