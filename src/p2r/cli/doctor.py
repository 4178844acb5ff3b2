"""`p2r doctor`: what is installed and whether the models answer, one finding a line with its cure."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from p2r.cli.console import MODEL_FAILED, WRONG_INPUT, readable_errors, show_finding, stderr
from p2r.cli.options import DebugOption, JsonOption, PromptsOption, SettingsOption, read_settings

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.doctor import Finding


def doctor(
    model: Annotated[
        list[str], typer.Option("--model", "-m", metavar="SPEC", help="Ask this model too; repeat for more.")
    ] = [],  # noqa: B006  (typer copies it)
    json_output: JsonOption = False,
    prompts: PromptsOption = None,
    settings: SettingsOption = None,
    debug: DebugOption = False,
) -> None:
    """Look at the installation, the devices and the given models.

    Exit codes: 0 fine, 2 the installation is broken, 3 a given model failed.
    """
    with readable_errors(debug=debug):
        from p2r.doctor import look_at_installation

        findings = []
        for finding in look_at_installation():
            findings.append(finding)
            if not json_output:
                show_finding(finding)
        for spec in model:
            for finding in _ask(spec, settings, prompts, quiet=json_output):
                findings.append(finding)
                if not json_output:
                    show_finding(finding)
    failures = [finding for finding in findings if finding.state == "failure"]
    if json_output:
        rows = [asdict(finding) for finding in findings]
        typer.echo(json.dumps({"ok": not failures, "findings": rows}, ensure_ascii=False))
    if failures:
        raise typer.Exit(MODEL_FAILED if all(finding.of_model for finding in failures) else WRONG_INPUT)


def _ask(spec: str, settings: Path | None, prompts: Path | None, *, quiet: bool) -> list[Finding]:
    import asyncio

    from p2r.doctor import look_at_model

    console = stderr()
    console.quiet = quiet
    with console.status(f"asking {spec} …"):
        return asyncio.run(look_at_model(spec, read_settings(spec, settings, prompts)))
