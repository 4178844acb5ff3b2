"""`p2r demo`: the bundled images and questions, answered twice: perceive-then-reason, and in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2r.cli.answer import answer_text, save_figure
from p2r.cli.console import printable, readable_errors, show_table, stderr
from p2r.cli.interrupt import run
from p2r.cli.options import (
    DebugOption,
    ModelOption,
    ReasonerOption,
    VerboseOption,
    as_path,
    check_folder,
    check_model,
    examples,
)
from p2r.errors import InputError
from p2r.models import DEFAULT_MODEL
from p2r.text import without_secrets

if TYPE_CHECKING:
    from rich.text import Text

    from p2r.pipeline import P2R
    from p2r.types import Prediction, Sample

FOLDER = Path(__file__).parents[1] / "demo"


EXAMPLES = examples("p2r demo", "p2r demo --model http://localhost:8000/v1#NAME --out figures")


def demo(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", parser=as_path, help="Where the figures are written."),
    ] = Path("out/demo"),
    model: ModelOption = DEFAULT_MODEL,
    reasoner: ReasonerOption = None,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> None:
    """Answer the bundled questions and draw a figure of each.

    Exit codes: 0 answered, 2 wrong usage, 3 a model failed.
    """
    with readable_errors(debug=debug, verbose=verbose, afterwards="the same command begins again"):
        check_folder(out)
        check_model(reasoner)
        shows = run(_ask(model, reasoner, out))
        _show_all(shows)
        right = sum(show.right for show in shows)
        alone = sum(show.right_in_one_pass for show in shows)
        typer.echo(f"{right} of {len(shows)} right; in one pass over the whole image {alone}.")
        typer.echo(f"Figures: {out}/*.png")


@dataclass(frozen=True, slots=True)
class _Show:
    sample: Sample
    p2r: Prediction
    one_pass: Prediction
    right: bool
    right_in_one_pass: bool


async def _ask(model: str, reasoner: str | None, out: Path) -> list[_Show]:
    """Ask one question after the other, so that the seconds are those of one question."""
    import asyncio

    from p2r.datasets.samples import read_samples
    from p2r.pipeline import P2R
    from p2r.visualization.figure import check_path

    samples = read_samples(FOLDER / "samples.jsonl")
    for file in (out / f"{sample.question.id}.png" for sample in samples):
        if file.exists() or file.is_symlink():
            check_path(file)
    shows, figures = [], []
    with stderr().status(f"loading {without_secrets(model)} …") as status:
        opened = await asyncio.to_thread(P2R, model, reasoner=reasoner)
        async with opened as p2r:
            for number, sample in enumerate(samples, 1):
                status.update(f"question {number} of {len(samples)} …")
                shows.append(await _show(p2r, sample))
                _make_folder(out)  # only now: a model that fails leaves nothing behind
                figures.append(asyncio.create_task(asyncio.to_thread(_draw, shows[-1], out)))
            status.update("drawing the figures …")
            await asyncio.gather(*figures)
    return shows


async def _show(p2r: P2R, sample: Sample) -> _Show:
    looked = await p2r.predict(sample.question)
    one_pass = await p2r.predict(sample.question, mode="think")
    return _Show(sample, looked, one_pass, await _is_right(looked, sample), await _is_right(one_pass, sample))


def _draw(show: _Show, out: Path) -> None:
    question = show.sample.question
    save_figure(question, show.p2r, out / f"{question.id}.png", gold=show.sample.answer)


async def _is_right(prediction: Prediction, sample: Sample) -> bool:
    from p2r.scoring import score

    if prediction.status != "answered":
        return False
    return bool((await score(prediction.reply, sample)).correct)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror}") from error


def _show_all(shows: list[_Show]) -> None:
    rows = []
    for show in shows:
        labels = ", ".join(printable(box.label) for box in show.p2r.boxes) or "the whole image"
        marks = (
            _marked(show.sample, show.p2r, right=show.right),
            _marked(show.sample, show.one_pass, right=show.right_in_one_pass),
        )
        rows.append((show.sample.question.text, labels, *marks, f"{show.p2r.seconds.get('total', 0.0):.2f}"))
    show_table(("question", "looked at", "answer", "one pass", "seconds"), rows)


def _marked(sample: Sample, prediction: Prediction, *, right: bool) -> Text:
    from rich.text import Text

    mark, style = ("✓", "green") if right else ("✗", "red")
    return Text(f"{mark} {answer_text(sample.question, prediction)}", style=style)
