"""`p2r push FOLDER OWNER/NAME`: a model with its card on the Hugging Face hub."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli import _options as opt
from p2r.cli._console import readable_errors, say, stderr
from p2r.errors import InputError

EXAMPLES = opt.examples(
    "p2r push runs/nano me/nano-tags --dry-run      # writes the card, uploads nothing",
    "p2r push runs/p2r-4b me/P2R-4B --results runs/vstar --results runs/hrbench --private",
    "p2r push ./checkpoint me/model --base Qwen/Qwen3-VL-4B-Instruct --yes",
)
_FOLDER = "A run folder of p2r train, or a model folder."
_RESULTS = "A run folder of p2r eval whose results the card shows; repeat it for more."
_BASE = "The model that it was made from, as a hub id. Default: as in the recipe or in README.md."


def push(
    folder: Annotated[Path, opt.path_argument("FOLDER", _FOLDER)],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository; made if missing.")],
    results: Annotated[list[Path], opt.path_option("RUN", _RESULTS)] = [],  # noqa: B006  (typer copies it)
    base: Annotated[str | None, opt.option("HUB_ID", _BASE)] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the card and list the files; nothing is uploaded.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Upload without asking.")] = False,
    json_output: opt.Json = False,
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Upload a model to the Hugging Face hub, with a model card.

    The card, README.md in the model's folder, says what the model is made from and how, its settings and
    results, and what is not known. Only files of a model are uploaded. The token is that of `hf auth login`,
    or HF_TOKEN.

    Exit codes: 0 uploaded, or nothing to do; 2 wrong usage, no permission, or no network.
    """
    again = "the same command continues; what was uploaded is not sent again"
    with readable_errors(debug=debug, verbose=verbose, afterwards=again):
        from rich.filesize import decimal

        from p2r.datasets.hub import is_hub_id, is_private, upload_model
        from p2r.report.model_card import CARD, MARK, Publication
        from p2r.runs.files import write_file

        for hub_id in (name, *([base] if base else [])):
            if not is_hub_id(hub_id) or "@" in hub_id:
                raise InputError(f"{hub_id!r} is no hub id: write OWNER/NAME")
        if not stderr().is_terminal:
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when the client is imported
        model = Publication.find(folder)
        card = str(model.card(name, [model.results(name, run) for run in results], base))
        was_private = None if dry_run else is_private(name)
        if private and was_private is False:
            raise InputError(f"{name} exists and is public: leave out --private, or give another name")
        file = model.folder / CARD
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        if before and MARK not in before:
            say("note", "yellow", f"the text of {file} is kept; what p2r adds follows it")
        write_file(file, card)
        files = {one: (model.folder / one).stat().st_size for one in (*model.files, CARD)}
        size = f"{len(files)} files, {decimal(sum(files.values()))}"
        left_out = sorted({one.name for one in model.folder.iterdir()} - set(files))
        if not json_output:
            for one, length in files.items():
                typer.echo(f"{decimal(length):>12}  {one}")
        say("not uploaded", "dim", ", ".join(left_out) or "nothing")
        say("card", "dim", str(file))
        commit = None
        if not dry_run:
            kind = "new" if was_private is None else "existing"
            shown = "private" if (private if was_private is None else was_private) else "public"
            question = f"Upload {size} to the {kind} {shown} repository {name}?"
            if not yes and not sys.stdin.isatty():
                raise InputError(f"{question} There is no terminal to ask on: --yes uploads")
            if not yes:
                typer.confirm(question, abort=True, err=True)
            commit = upload_model(model.folder, list(files), name, private=private)
            say("uploaded", "green", f"{size}: {commit}")
        if json_output:
            done = {"repository": name, "files": files, "left_out": left_out, "commit": commit}
            typer.echo(json.dumps(done, ensure_ascii=False))
