"""`p2r doctor`: what is installed and what the models can do, a finding a line, with what to do about it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from p2r.cli.console import readable_errors, show_findings
from p2r.cli.options import (
    DebugOption,
    JsonOption,
    PromptsOption,
    SetOption,
    SettingsOption,
    VerboseOption,
    examples,
    settings_changes,
)
from p2r.text import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from p2r.checks import CheckResult
    from p2r.settings import Settings


EXAMPLES = examples(
    "p2r doctor",
    "p2r doctor --model http://localhost:8000/v1#NAME --model hongxingli/P2R-4B",
)


def _usual_model() -> list[str]:
    return [model] if (model := os.environ.get("P2R_MODEL")) else []


def doctor(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            metavar="SPEC",
            default_factory=_usual_model,
            show_default=False,
            help="Ask this model too; repeat it for more. Default: $P2R_MODEL, else none.",
        ),
    ],
    json_output: JsonOption = False,
    prompts: PromptsOption = None,
    settings: SettingsOption = None,
    changes: SetOption = [],  # noqa: B006
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> None:
    """Look at the installation, the devices and the given models.

    A model is asked whether it answers, which box format it writes, and whether the largest request fits.

    Exit codes: 0 fine, 2 the installation is broken, 3 a given model failed.
    """
    with readable_errors(debug=debug, verbose=verbose):
        changed = settings_changes(settings, prompts, changes)
        show_findings(lambda tell: _look(model, changed, tell), as_json=json_output)


def _look(
    models: list[str], changed: Callable[[Settings], Settings], tell: Callable[[str], None]
) -> Iterator[CheckResult]:
    import asyncio

    from p2r.checks import check_installation
    from p2r.pipeline import settings_of

    yield from check_installation()
    from p2r.model_checks import check_model

    for spec in models:
        tell(f"asking {without_secrets(spec)}")
        yield from asyncio.run(check_model(spec, changed(settings_of(spec))))
