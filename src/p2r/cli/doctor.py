"""`p2r doctor`: what is installed and whether the models answer, one finding a line with its cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from p2r.cli.console import readable_errors, show_findings
from p2r.cli.options import (
    DebugOption,
    JsonOption,
    PromptsOption,
    SettingsOption,
    VerboseOption,
    examples,
    read_settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from p2r.doctor import Finding


EXAMPLES = examples(
    "p2r doctor",
    "p2r doctor --model http://localhost:8000/v1#NAME --model hongxingli/P2R-4B",
)


def doctor(
    model: Annotated[
        list[str], typer.Option("--model", "-m", metavar="SPEC", help="Ask this model too; repeat for more.")
    ] = [],  # noqa: B006  (typer copies it)
    json_output: JsonOption = False,
    prompts: PromptsOption = None,
    settings: SettingsOption = None,
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> None:
    """Look at the installation, the devices and the given models.

    Exit codes: 0 fine, 2 the installation is broken, 3 a given model failed.
    """
    with readable_errors(debug=debug, verbose=verbose):
        show_findings(lambda tell: _look(model, settings, prompts, tell), as_json=json_output)


def _look(
    models: list[str], settings: Path | None, prompts: Path | None, tell: Callable[[str], None]
) -> Iterator[Finding]:
    import asyncio

    from p2r.doctor import look_at_installation, look_at_model

    yield from look_at_installation()
    for spec in models:
        tell(f"asking {spec}")
        yield from asyncio.run(look_at_model(spec, read_settings(spec, settings, prompts)))
