"""Options that several commands take, and how they become settings."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2r.errors import InputError
from p2r.models import DEFAULT_MODEL

if TYPE_CHECKING:
    from p2r.settings import Settings

_LOG = logging.getLogger("p2r.cli")


def as_path(text: str) -> Path:
    """A path as it is typed: `~` is the home folder also where the shell leaves it, as in `--out=~/run`."""
    return Path(text).expanduser()


def check_folder(out: Path) -> None:
    """Refuse a folder that cannot be made or written, before anything is done for it; nothing is made.

    Raises:
        InputError: names what is in the way.
    """
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir():
        what = "it is" if there == out else f"{there} is"
        raise InputError(f"{out}: {what} a file; give the name of a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{out}: no permission to write in {there}; give another folder")


MODEL_HELP = (
    "A checkpoint folder, a hub id, vllm:FOLDER_OR_ID, http://HOST/v1#NAME, or a bundled model. "
    f"Default: $P2R_MODEL, else {DEFAULT_MODEL} (bundled)."
)

ModelOption = Annotated[
    str,
    typer.Option(
        *("--model", "-m"),
        metavar="SPEC",
        envvar="P2R_MODEL",
        show_envvar=False,
        show_default=False,
        help=MODEL_HELP,
    ),
]
ReasonerOption = Annotated[
    str | None,
    typer.Option("--reasoner", metavar="SPEC", help="Another model for the second stage. Default: --model."),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE.toml",
        parser=as_path,
        help="Another wording of the prompts (docs/prompts.md).",
    ),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(
        *("--settings",),
        metavar="FILE.json",
        parser=as_path,
        help="A p2r.json, or a part of one: it changes what it names. Default: the model's own.",
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")]
VerboseOption = Annotated[
    int,
    typer.Option(
        *("--verbose", "-v"),
        count=True,
        show_default=False,
        help="Log what happens to stderr; -vv in more detail.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def examples(*lines: str) -> str:
    """The end of a command's help; each line stays a line."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def read_settings(model: str, settings: Path | None, prompts: Path | None) -> Settings:
    """The settings that come with a model, changed where the file `settings` says; `prompts` words them anew.

    Raises:
        InputError: a file that cannot be read or used.
    """
    from p2r.pipeline import settings_of
    from p2r.prompts import PromptPack
    from p2r.settings import Settings

    # The files first: those of a model may have to be fetched.
    pack = PromptPack.load(prompts) if prompts else None
    if settings:
        Settings.load(settings)
    chosen = settings_of(model)
    chosen = chosen.overlaid(settings) if settings else chosen
    chosen = replace(chosen, prompts=pack) if pack else chosen
    _LOG.info("model %s; settings %s", model, chosen.digest)
    return chosen
