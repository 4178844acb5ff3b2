"""Options that several commands take, and how they become settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from p2r.settings import Settings

SPECS = "a folder or hub id, vllm:FOLDER_OR_ID, or http://HOST/v1#NAME"

ModelOption = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="SPEC", show_default=False, help=f"The bundled model, or another: {SPECS}."
    ),
]
ReasonerOption = Annotated[
    str | None,
    typer.Option("--reasoner", metavar="SPEC", help="Another model for the second stage."),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option("--prompts", metavar="FILE", help="A TOML file with another wording of the prompts."),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings", metavar="FILE", help="A p2r.json, or a part of one: it changes what it names."
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def read_settings(model: str, settings: Path | None, prompts: Path | None) -> Settings:
    """The settings that come with a model, changed where the file `settings` says; `prompts` words them anew.

    Raises:
        InputError: a file that cannot be read or used.
    """
    from p2r.pipeline import settings_of
    from p2r.prompts import PromptPack

    chosen = settings_of(model)
    if settings:
        chosen = chosen.overlaid(settings)
    return replace(chosen, prompts=PromptPack.load(prompts)) if prompts else chosen
