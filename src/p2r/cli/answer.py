"""`p2r answer IMAGE QUESTION`: one question about one picture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2r.cli.console import printable, readable_errors, say, stderr, stdout
from p2r.cli.options import (
    DebugOption,
    JsonOption,
    ModelOption,
    PromptsOption,
    ReasonerOption,
    SettingsOption,
    read_settings,
)
from p2r.errors import InputError, P2RError
from p2r.models import DEFAULT_MODEL
from p2r.types import AnswerType, Mode, Prediction, Question

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.status import Status

    from p2r.settings import Settings
    from p2r.types import Evidence, Perception


def answer(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What is asked, without the options.")],
    choice: Annotated[
        list[str], typer.Option("--choice", "-c", metavar="TEXT", help="An option; repeat it for each one.")
    ] = [],  # noqa: B006  (typer copies it)
    answer_type: Annotated[AnswerType | None, typer.Option("--type", help="What the answer is.")] = None,
    model: ModelOption = DEFAULT_MODEL,
    reasoner: ReasonerOption = None,
    mode: Annotated[
        Mode, typer.Option(help="p2r; or one pass over the plain picture: think, or direct.")
    ] = "p2r",
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE.png", help="Write a figure: picture, boxes, crops, answer."),
    ] = None,
    json_output: JsonOption = False,
    prompts: PromptsOption = None,
    settings: SettingsOption = None,
    debug: DebugOption = False,
) -> None:
    """Answer one question about a picture.

    Exit codes: 0 answered, 2 wrong usage or unreadable input, 3 a model failed.
    """
    import asyncio

    with readable_errors(debug=debug):
        try:
            asked = Question(str(image), question, tuple(choice), answer_type or _type_of(choice))
            if save:
                check_writable(save)
            chosen = read_settings(model, settings, prompts)
            prediction = asyncio.run(_predict(asked, model, reasoner, chosen, mode, quiet=json_output))
        except P2RError as error:
            if json_output:
                _print_json(Prediction("", mode, "failed", model=model, error=str(error)))
            raise
        if json_output:
            _print_json(prediction)
        else:
            stdout().print(shown(asked, prediction))
            if note := nano_note(model, image):
                say("note", "yellow", note)
        if save:
            save_figure(asked, prediction, save)
            if not json_output:
                say("figure", "dim", str(save))


def _type_of(choices: list[str]) -> AnswerType:
    return "choice" if choices else "free"


def _print_json(prediction: Prediction) -> None:
    from p2r.record import prediction_record

    typer.echo(json.dumps(prediction_record(prediction), ensure_ascii=False))


async def _predict(
    question: Question, model: str, reasoner: str | None, settings: Settings, mode: Mode, *, quiet: bool
) -> Prediction:
    from p2r.pipeline import P2R

    with stderr(quiet=quiet).status(f"loading {model} …") as status:
        async with P2R(model, reasoner=reasoner, settings=settings) as p2r:
            status.update("looking at the picture …" if mode == "p2r" else "thinking …")
            return await p2r.predict(question, mode, observer=_Progress(status))


class _Progress:
    """Tells the spinner what happens."""

    on_text = None  # the answer is shown when it is whole

    def __init__(self, status: Status) -> None:
        self._status = status

    def on_perception(self, perception: Perception, evidence: Evidence) -> None:  # noqa: ARG002
        where = f"{len(evidence.crops)} region(s)" if evidence.crops else "the whole picture"
        self._status.update(f"reasoning about {where} …")


def nano_note(model: str, image: Path) -> str:
    """What to say when a bundled model is asked about a picture that it knows nothing of; else empty."""
    from p2r.nano import NAMES

    if model not in NAMES or is_scene(image):
        return ""
    return (
        f"{model} knows nothing but the synthetic scenes that `p2r scenes` draws, so its answer about this "
        "picture means nothing. Ask a model that has seen photographs: --model hongxingli/P2R-4B, "
        "--model Qwen/Qwen3-VL-4B-Instruct, or a vLLM server: --model http://HOST:8000/v1#NAME"
    )


def is_scene(image: Path) -> bool:
    """Whether a picture lies in a folder that `p2r scenes` wrote."""
    try:
        return f'"images/{image.name}"' in (image.parent.parent / "samples.jsonl").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def check_writable(path: Path) -> None:
    """Refuse a figure that could not be written, before a model works for it.

    Raises:
        InputError: names the path and what is wrong with it.
    """
    folder = path.parent
    if path.is_dir():
        raise InputError(f"--save {path}: it is a folder; give a file name, such as {path / 'figure.png'}")
    if not folder.is_dir():
        raise InputError(f"--save {path}: there is no folder {folder}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise InputError(f"--save {path}: no permission to write there")


def save_figure(question: Question, prediction: Prediction, path: Path, gold: str | None = None) -> None:
    """Write the figure of a prediction.

    Raises:
        InputError: the file cannot be written.
    """
    from p2r.figure import figure
    from p2r.images import ImageSource

    figure(ImageSource.open(question.image), prediction, question, path, gold)


def shown(question: Question, prediction: Prediction) -> Group:
    """A prediction for people: evidence, thinking, answer, and what it took."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    if prediction.mode == "p2r":
        rows.add_row("evidence", _boxes(prediction))
    if prediction.thinking:
        rows.add_row("thinking", Text(printable(prediction.thinking), style="italic"))
    rows.add_row("answer", Text(answer_text(question, prediction), style="bold"))
    for note in prediction.notes:
        rows.add_row("note", Text(printable(note), style="yellow"))
    return Group(rows, Text(_cost(prediction), style="dim"))


def answer_text(question: Question, prediction: Prediction) -> str:
    """The answer as people read it: `B. blue`, `42`, or why there is none."""
    if prediction.status == "failed":
        return "failed"
    if prediction.answer is None:
        return "none: it ran into its token limit" if prediction.truncated else "none"
    if question.choices:
        return question.option(prediction.answer)
    return printable(prediction.answer)


def _boxes(prediction: Prediction) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from p2r.evidence import OUTLINE_COLOURS

    if not prediction.boxes:
        malformed = prediction.perception is not None and prediction.perception.outcome == "malformed"
        return Text("the perceiver's reply held no box: whole picture" if malformed else "the whole picture")
    boxes = Table.grid(padding=(0, 1))
    for position, box in enumerate(prediction.boxes):
        name, rgb = OUTLINE_COLOURS[position % len(OUTLINE_COLOURS)]
        corners = ", ".join(f"{value:.0f}" for value in box.as_tuple())
        label = printable(box.label)
        if position >= len(prediction.crops_px):
            label += " (drawn, not cropped)"
        colour = "rgb({},{},{})".format(*rgb)
        boxes.add_row(Text("■", style=colour), name, Text(f"({corners})", style="dim"), Text(label))
    return boxes


def _cost(prediction: Prediction) -> str:
    seconds = dict(prediction.seconds)
    total = seconds.pop("total", 0.0)
    stages = ", ".join(f"{stage} {took:.2f}" for stage, took in seconds.items())
    names = prediction.model
    if prediction.mode == "p2r" and prediction.reasoner != prediction.model:
        names += f" + {prediction.reasoner}"
    usage = prediction.usage
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens in {usage.calls} call(s)"
    return f"{names} · {prediction.mode} · {total:.2f} s ({stages}) · {tokens}"
