"""`p2r doctor`: checks of the installation and of models, each with a hint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from p2r.cli import _options as opt
from p2r.cli._console import readable_errors, show_checks
from p2r.text import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from p2r.checks import CheckResult
    from p2r.settings import Settings

EXAMPLES = opt.examples(
    "p2r doctor",
    "p2r doctor --model http://localhost:8000/v1#NAME --model hongxingli/P2R-4B",
)
_MODEL = "Check this model too; repeat it for more. Default: $P2R_MODEL, else none."


def _default_models() -> list[str]:
    return [model] if (model := os.environ.get("P2R_MODEL")) else []


def doctor(
    model: Annotated[
        list[str],
        opt.option("SPEC", _MODEL, "--model", "-m", default_factory=_default_models, show_default=False),
    ],
    device: opt.Device = None,
    dtype: opt.Dtype = None,
    attention: opt.Attention = None,
    quantize: opt.Quantize = None,
    json_output: opt.Json = False,
    prompts: opt.PromptsFile = None,
    settings: opt.SettingsFile = None,
    changes: opt.Set = [],  # noqa: B006
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Check the installation, the devices and the given models.

    A model is checked for an answer, for its box format, and for room for the largest request.

    Exit codes: 0 fine, 2 the installation is broken, 3 a given model failed.
    """
    with readable_errors(debug=debug, verbose=verbose):
        changed = opt.settings_changes(settings, prompts, changes)
        models = opt.placed(model, device, dtype, attention, quantize)
        show_checks(lambda tell: _checks(models, changed, tell), as_json=json_output)


def _checks(
    models: list[str], changed: Callable[[Settings], Settings], tell: Callable[[str], None]
) -> Iterator[CheckResult]:
    import asyncio

    from p2r.checks import check_installation
    from p2r.model_checks import check_model
    from p2r.pipeline import settings_of

    yield from check_installation()
    for spec in models:
        tell(f"checking {without_secrets(spec)}")
        yield from asyncio.run(check_model(spec, changed(settings_of(spec))))
