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
    """A path as typed, with `~` expanded also where the shell does not, as in `--out=~/run`."""
    return Path(text).expanduser()


def option(metavar: str, text: str, *names: str, **more: Any) -> Any:
    """A `typer.Option`; without names it is called as its parameter."""
    return typer.Option(*names, metavar=metavar, help=text, **more)


def path_option(metavar: str, text: str, *names: str, **more: Any) -> Any:
    """An `option` whose value is a path."""
    return option(metavar, text, *names, parser=as_path, **more)


def path_argument(metavar: str, text: str, **more: Any) -> Any:
    """A `typer.Argument` whose value is a path."""
    return typer.Argument(metavar=metavar, help=text, parser=as_path, **more)


def examples(*lines: str) -> str:
    """The end of a command's help, one example a line."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


_MODEL = (
    "A checkpoint folder, a hub id, vllm:FOLDER_OR_ID, http://HOST/v1#NAME, or a bundled model; options may "
    f"follow: SPEC,thinking=off (docs/models.md). Default: $P2R_MODEL, else {DEFAULT_MODEL} (bundled)."
)
_HIDDEN = {"show_envvar": False, "show_default": False}
Model = Annotated[str, option("SPEC", _MODEL, "--model", "-m", envvar="P2R_MODEL", **_HIDDEN)]
_DEVICE = "Where models are loaded: cuda, cuda:1, mps, cpu; auto spreads one over all. Default: the fastest."
_DTYPE = "Of loaded models: float32, bfloat16 or float16. Default: what suits the device."
_ATTENTION = "Of loaded models: sdpa, eager or flash_attention_2. Default: as transformers chooses."
_QUANTIZE = "Load with 8 or 4 bits a weight: 8bit or 4bit. Default: as stored."
Device = Annotated[str | None, option("DEVICE", _DEVICE)]
Dtype = Annotated[str | None, option("DTYPE", _DTYPE)]
Attention = Annotated[str | None, option("NAME", _ATTENTION)]
Quantize = Annotated[str | None, option("BITS", _QUANTIZE)]
Reasoner = Annotated[str | None, option("SPEC", "Another model for the second stage. Default: --model.")]
PromptsFile = Annotated[
    Path | None, path_option("FILE.toml", "Another wording of the prompts (docs/prompts.md).")
]
SettingsFile = Annotated[
    Path | None,
    path_option("FILE.json", "A p2r.json, or a part of one, with changes to the model's own."),
]
_SET = "Change a setting, such as box_format=gemini or geometry.max_crops=1; repeat it for more."
Set = Annotated[list[str], option("KEY=VALUE", _SET, "--set")]
_LOOKS = "Levels of looks: 1 is the paper; 2 and more look closer at what is too small. Default: 1."
Looks = Annotated[int | None, option("N", _LOOKS, min=1)]
_VERBOSE = "Log to stderr; -vv in more detail."
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, show_default=False, help=_VERBOSE)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def placed(models: Sequence[str | None], *values: str | None) -> list[Any]:
    """The specs of models with --device, --dtype, --attention, --quantize, unless a spec says otherwise.

    Raises:
        InputError: there are such options, and only servers.
    """
    from p2r.models.loading import SERVER_SCHEMES
    from p2r.models.options import PLACEMENT, split_spec

    given = {name: value for name, value in zip(PLACEMENT, values, strict=True) if value is not None}
    loaded = [model for model in models if model and not model.startswith(SERVER_SCHEMES)]
    for name, value in given.items():
        if not loaded:
            raise InputError(f"--{name} {value}: no model is loaded here; a server (http://…) loads its own")

    def with_options(model: str) -> str:
        name, _ = split_spec(model)
        return "".join((name, *(f",{key}={value}" for key, value in given.items()), model.removeprefix(name)))

    return [with_options(model) if model in loaded else model for model in models]


def settings_changes(
    settings: Path | None, prompts: Path | None, changes: Sequence[str], looks: int | None = None
) -> Callable[[Settings], Settings]:
    """The changes of --settings, --prompts, --set and --looks, in this order; all are read and checked now.

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
        chosen = chosen.updated(values, where="--set") if values else chosen
        return chosen.updated({"looks": looks}, where="--looks") if looks else chosen

    changed(Settings())
    return changed


def read_settings(
    model: str,
    settings: Path | None,
    prompts: Path | None,
    changes: Sequence[str] = (),
    looks: int | None = None,
) -> Settings:
    """The settings of a model, with `settings_changes`.

    Raises:
        InputError: a file, a key or a value that cannot be used.
    """
    # Before the settings of the model, which may have to be fetched.
    changed = settings_changes(settings, prompts, changes, looks)

    from p2r.pipeline import settings_of

    chosen = changed(settings_of(model))
    _LOG.info("model %s; settings %s", model, chosen.digest)
    return chosen


def check_folder(out: Path) -> None:
    """Refuse a folder that cannot be made or written; nothing is made.

    Raises:
        InputError: names what is in the way.
    """
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir():
        what = "it is" if there == out else f"{there} is"
        raise InputError(f"{out}: {what} a file; give the name of a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{out}: no permission to write in {there}; give another folder")
