"""`p2r answer IMAGE QUESTION`: one question about one image, or about several."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2r.cli import _options as opt
from p2r.cli._console import printable, readable_errors, say, stderr, stdout
from p2r.cli._image import MANY, local_file, open_images
from p2r.cli._interrupt import run
from p2r.errors import InputError, P2RError
from p2r.models import DEFAULT_MODEL
from p2r.nano import NAMES
from p2r.text import without_secrets
from p2r.types import AnswerType, Mode, Prediction, Question

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from p2r.settings import Settings

_LOG = logging.getLogger("p2r.cli")

EXAMPLES = opt.examples(
    'p2r answer street.jpg "What does the sign say?"',
    'p2r answer street.jpg "Which color is the bus? A. red B. blue" --save a.png',
    'p2r answer https://example.org/street.jpg "How many cranes?" --type number',
    'p2r answer before.jpg after.jpg "Which wheel is missing?"',
    'p2r answer "report.pdf#page=3" "What is the total?"',
    'p2r answer - "Which?" -c red -c blue -m http://HOST:8000/v1#NAME < a.jpg',
)
_IMAGE = (
    "A file, a URL, a data: URI, or - for standard input; repeat it for more. All pages of a PDF or TIFF."
)
_QUESTION = "The question; it may hold its options: A. red B. blue"
_TYPE = "choice, number or free. Default: choice with options, else free."
_MODE = "p2r: perceive, then reason; think or direct: one pass over the whole image."
_SAVE = "Write a figure of image, boxes, crops and answer: .png, .jpg or .webp."


def answer(
    context: typer.Context,
    image: Annotated[str, typer.Argument(metavar="IMAGE...", help=_IMAGE)],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help=_QUESTION)],
    choice: Annotated[
        list[str], opt.option("TEXT", "An option of the question; repeat for each one.", "--choice", "-c")
    ] = [],  # noqa: B006  (typer copies it)
    answer_type: Annotated[AnswerType | None, opt.option("TYPE", _TYPE, "--type")] = None,
    model: opt.Model = DEFAULT_MODEL,
    reasoner: opt.Reasoner = None,
    device: opt.Device = None,
    dtype: opt.Dtype = None,
    attention: opt.Attention = None,
    quantize: opt.Quantize = None,
    mode: Annotated[Mode, opt.option("MODE", _MODE)] = "p2r",
    save: Annotated[Path | None, opt.path_option("FILE", _SAVE)] = None,
    json_output: opt.Json = False,
    looks: opt.Looks = None,
    prompts: opt.PromptsFile = None,
    settings: opt.SettingsFile = None,
    changes: opt.Set = [],  # noqa: B006
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Answer one question about one or several images.

    The last argument is the question.

    Exit codes: 0 answered, 2 wrong usage or unreadable input, 3 a model failed.
    """
    with readable_errors(debug=debug, verbose=verbose, afterwards="nothing was answered"):
        try:
            images = [image, question, *context.args]
            text = images.pop()
            for one in images[1:]:
                if not (one == "-" or ":" in one or local_file(one).exists()):
                    raise InputError(f"{one!r} is no image: put the question in quotes; {MANY}")
            if save:
                check_save(save, *images)
            asked = _question(images, text, choice, answer_type)
            first, second = opt.placed([model, reasoner], device, dtype, attention, quantize)
            chosen = opt.read_settings(model, settings, prompts, changes, looks)
            prediction = run(_predict(asked, first, second, chosen, mode, quiet=json_output))
        except P2RError as error:
            if json_output:
                _print_json(Prediction("", mode, "failed", model=without_secrets(model), error=str(error)))
            raise
        if json_output:
            _print_json(prediction)
        else:
            stdout().print(_shown(asked, prediction))
            if note := nano_note(model):
                say("note", "yellow", note)
        if save:
            from p2r.visualization.figure import figure

            figure(prediction, asked, save)
            if not json_output:
                say("figure", "dim", str(save))


def nano_note(model: str) -> str:
    """What a bundled model cannot do; empty for other models."""
    from p2r.models.options import split_spec

    if split_spec(model)[0] not in NAMES:
        return ""
    return (
        f"{model} was trained only on the scenes of `p2r scenes`; about any other image its answer means "
        "nothing. For photographs: --model hongxingli/P2R-4B, --model Qwen/Qwen3-VL-4B-Instruct, or a "
        "server: --model http://HOST:8000/v1#NAME"
    )


def _question(images: list[str], text: str, choices: list[str], answer_type: AnswerType | None) -> Question:
    """The question, with its options read from its text where none are given apart."""
    if not choices and answer_type in (None, "choice"):
        from p2r.parsing.options import split_options

        text, found = split_options(text)
        choices = list(found)
        _LOG.info("options in the question: %s", ", ".join(choices) or "none")
    # Checked before the images are fetched.
    asked = Question(b"", text, tuple(choices), answer_type or ("choice" if choices else "free"))
    return replace(asked, image=[source for image in images for source in open_images(image)])


def _print_json(prediction: Prediction) -> None:
    typer.echo(json.dumps(prediction.to_json(), ensure_ascii=False))


async def _predict(
    question: Question, model: str, reasoner: str | None, settings: Settings, mode: Mode, *, quiet: bool
) -> Prediction:
    import asyncio

    from p2r.pipeline import P2R, Finished, Perceived

    with stderr(quiet=quiet).status(f"loading {without_secrets(model)} …") as status:
        # In a thread, so that an interrupt need not wait for the weights.
        start_s = time.perf_counter()
        opened = await asyncio.to_thread(P2R, model, reasoner=reasoner, settings=settings)
        _LOG.info("model opened in %.1f s", time.perf_counter() - start_s)
        async with opened as p2r:
            status.update("perceiving …" if mode == "p2r" else "reasoning …")
            async for event in p2r.stream(question, mode, deltas=False):
                if isinstance(event, Perceived):
                    crops = len(event.evidence.crops)
                    status.update(f"reasoning about {f'{crops} region(s)' if crops else 'the whole image'} …")
                elif isinstance(event, Finished):
                    prediction = event.prediction
    return prediction


def check_save(path: Path, *images: str) -> None:
    """Refuse a figure that could not be written, before a model is called.

    Raises:
        InputError: names the path and what is wrong with it.
    """
    from p2r.visualization.figure import check_path

    try:
        files = filter(Path.is_file, map(local_file, images))
        if path.is_file() and any(path.samefile(file) for file in files):
            raise InputError(f"{path}: it is the image of the question; give another name")
        check_path(path)
    except InputError as error:
        raise InputError(f"--save {error}") from error


def _shown(question: Question, prediction: Prediction) -> Group:
    """A prediction as text: evidence, thinking, answer, and what it took."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    if prediction.mode == "p2r":
        rows.add_row("evidence", _boxes(prediction, len(question.images)))
    if prediction.looks:
        rows.add_row("looks", f"{len(prediction.looks)}: {prediction.stopped}")
    if prediction.thinking:
        rows.add_row("thinking", Text(printable(prediction.thinking), style="italic"))
    rows.add_row("answer", Text(answer_text(question, prediction), style="bold"))
    for note in prediction.notes:
        rows.add_row("note", Text(printable(note), style="yellow"))

    seconds = dict(prediction.seconds)
    total = seconds.pop("total", 0.0)
    stages = ", ".join(f"{stage} {took:.2f}" for stage, took in seconds.items())
    names = prediction.model
    if prediction.mode == "p2r" and prediction.reasoner != prediction.model:
        names += f" + {prediction.reasoner}"
    usage = prediction.usage
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens in {usage.calls} call(s)"
    cost = f"{names} · {prediction.mode} · {total:.2f} s ({stages}) · {tokens}"
    return Group(rows, Text(cost, style="dim"))


def answer_text(question: Question, prediction: Prediction) -> str:
    """The answer as text: `B. blue`, `42`, or why there is none."""
    if prediction.status == "failed":
        return "failed"
    if prediction.answer is None:
        return "none: it ran into its token limit" if prediction.truncated else "none"
    if question.choices:
        return question.option(prediction.answer)
    return printable(prediction.answer)


def _boxes(prediction: Prediction, images: int) -> Text:
    from rich.text import Text

    from p2r.evidence import OUTLINE_COLORS

    if not prediction.boxes:
        malformed = prediction.perception is not None and prediction.perception.outcome == "malformed"
        whole = "the whole image" if images == 1 else f"all {images} images"
        return Text(f"the perceiver's reply held no box: {whole}" if malformed else whole)
    colors = [OUTLINE_COLORS[place % len(OUTLINE_COLORS)] for place in range(len(prediction.boxes))]
    widest = max(len(name) for name, _ in colors)
    lines = []
    for place, (box, (name, rgb)) in enumerate(zip(prediction.boxes, colors, strict=True)):
        corners = ", ".join(f"{value:.0f}" for value in box.as_tuple())
        label = printable(box.label)
        if images > 1:
            label += f" · image {box.image + 1}"
        if place >= len(prediction.crops_px):
            label += " (drawn, not cropped)"
        color = "rgb({},{},{})".format(*rgb)
        lines.append(
            Text.assemble(("■", color), f" {name:{widest}} ", (f"({corners})", "dim"), f" {label}".rstrip())
        )
    return Text("\n").join(lines)
