"""Options that several commands take, and how they become settings."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2r.errors import InputError
from p2r.models import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    "A checkpoint folder, a hub id, vllm:FOLDER_OR_ID, http://HOST/v1#NAME, or a bundled model; options may "
    f"follow: SPEC,thinking=off (docs/models.md). Default: $P2R_MODEL, else {DEFAULT_MODEL} (bundled)."
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
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, such as box_format=gemini or geometry.max_crops=1; repeat it for more.",
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


def settings_changes(
    settings: Path | None, prompts: Path | None, changes: Sequence[str]
) -> Callable[[Settings], Settings]:
    """What --settings, --prompts and --set change, in this order; all three are read and checked now.

    Raises:
        InputError: a file that cannot be read, or a key or a value that does not exist.
    """
    from p2r.models.options import merged, read_assignment
    from p2r.prompts import PromptPack
    from p2r.settings import Settings

    pack = PromptPack.load(prompts) if prompts else None
    values: dict[str, Any] = {}
    try:
        for change in changes:
            values = merged(values, read_assignment(change))
    except InputError as error:
        raise InputError(f"--set {error}") from error

    def changed(base: Settings) -> Settings:
        chosen = base.overlaid(settings) if settings else base
        chosen = replace(chosen, prompts=pack) if pack else chosen
        return chosen.updated(values, where="--set") if values else chosen

    changed(Settings())
    return changed


def read_settings(
    model: str, settings: Path | None, prompts: Path | None, changes: Sequence[str] = ()
) -> Settings:
    """The settings that come with a model, with what `settings_changes` changes.

    Raises:
        InputError: a file, a key or a value that cannot be used.
    """
    # Before the settings of the model, which may have to be fetched.
    changed = settings_changes(settings, prompts, changes)

    from p2r.pipeline import settings_of

    chosen = changed(settings_of(model))
    _LOG.info("model %s; settings %s", model, chosen.digest)
    return chosen


def check_model(spec: str | None) -> None:
    """Refuse a second model that does not exist, before the first one is opened.

    Raises:
        InputError: names the spec and what it may be.
    """
    if spec is not None:
        from p2r.models.loading import settings_for

        settings_for(spec)
