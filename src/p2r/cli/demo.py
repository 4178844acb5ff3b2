"""`p2r demo`: the bundled questions, answered by perceive-then-reason and in one pass."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2r.cli import _options as opt
from p2r.cli._console import printable, readable_errors, show_table, stderr
from p2r.cli._interrupt import run
from p2r.cli.answer import answer_text
from p2r.errors import InputError
from p2r.models import DEFAULT_MODEL
from p2r.text import without_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from p2r.types import Prediction, Question, Sample

FOLDER = Path(__file__).parents[1] / "demo"
EXAMPLES = opt.examples("p2r demo", "p2r demo --model http://localhost:8000/v1#NAME --out figures")


def demo(
    out: Annotated[Path, opt.path_option("FOLDER", "The folder of the figures.", "--out", "-o")] = Path(
        "out/demo"
    ),
    model: opt.Model = DEFAULT_MODEL,
    reasoner: opt.Reasoner = None,
    device: opt.Device = None,
    dtype: opt.Dtype = None,
    attention: opt.Attention = None,
    quantize: opt.Quantize = None,
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Answer the bundled questions and draw a figure of each.

    Exit codes: 0 answered, 2 wrong usage, 3 a model failed.
    """
    with readable_errors(debug=debug, verbose=verbose, afterwards="the same command starts again"):
        opt.check_folder(out)
        chosen = [] if model == DEFAULT_MODEL else ["--model", without_secrets(model)]
        model, reasoner = opt.placed([model, reasoner], device, dtype, attention, quantize)
        results = run(_ask(model, reasoner, out))
        rows = []
        for each in results:
            labels = ", ".join(printable(box.label) for box in each.p2r.boxes) or "the whole image"
            seconds = f"{each.p2r.seconds.get('total', 0.0):.2f}"
            cells = (
                _marked(each.sample, each.p2r, each.right),
                _marked(each.sample, each.think, each.think_right),
            )
            rows.append((each.sample.question.text, labels, *cells, seconds))
        show_table(("question", "evidence", "answer", "one pass", "seconds"), rows)
        right, think_right = (sum(each.right for each in results), sum(each.think_right for each in results))
        typer.echo(f"{right} of {len(results)} right; in one pass over the whole image {think_right}.")
        typer.echo(f"Figures: {out}/*.png")
        typer.echo(f"One of them: {_command(results[0].sample.question, chosen)}")


@dataclass(frozen=True, slots=True)
class _Result:
    """One question, answered in two modes."""

    sample: Sample
    p2r: Prediction
    think: Prediction
    right: bool
    think_right: bool


async def _ask(model: str, reasoner: str | None, out: Path) -> list[_Result]:
    """Answer one question after the other, so that the seconds are those of a single question."""
    import asyncio

    from p2r.datasets.samples import read_samples
    from p2r.pipeline import P2R
    from p2r.visualization.figure import check_path, figure

    samples = read_samples(FOLDER / "samples.jsonl")
    for file in (out / f"{sample.question.id}.png" for sample in samples):
        if file.exists() or file.is_symlink():
            check_path(file)
    results, figures = [], []
    with stderr().status(f"loading {without_secrets(model)} …") as status:
        opened = await asyncio.to_thread(P2R, model, reasoner=reasoner)
        async with opened as p2r:
            for number, sample in enumerate(samples, 1):
                status.update(f"question {number} of {len(samples)} …")
                question = sample.question
                both = await p2r.predict(question), await p2r.predict(question, "think")
                results.append(_Result(sample, *both, *[await _is_right(each, sample) for each in both]))
                _make_folder(out)  # only now, so that a model that fails leaves nothing behind
                file = out / f"{question.id}.png"
                drawing = asyncio.to_thread(figure, both[0], question, file, gold=sample.answer)
                figures.append(asyncio.create_task(drawing))
            status.update("drawing the figures …")
            await asyncio.gather(*figures)
    return results


async def _is_right(prediction: Prediction, sample: Sample) -> bool:
    from p2r.scoring import score

    return prediction.status == "answered" and bool((await score(prediction.reply, sample)).correct)


def _command(question: Question, more: Sequence[str]) -> str:
    """The command that asks one of the questions alone."""
    image = Path(str(question.image))
    with suppress(ValueError):
        image = image.relative_to(Path.cwd())
    options = " ".join(map(question.option, question.letters))
    return shlex.join(["p2r", "answer", str(image), f"{question.text} {options}".rstrip(), *more])


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror}") from error


def _marked(sample: Sample, prediction: Prediction, right: bool) -> Text:
    from rich.text import Text

    mark, style = ("✓", "green") if right else ("✗", "red")
    return Text(f"{mark} {answer_text(sample.question, prediction)}", style=style)
