"""Pages of the documentation that are made from something else: a hook of mkdocs (`make docs`).

The start page is the README. The reference is made from the commands, the classes and their docstrings, so it
cannot differ from them.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import p2r
from p2r.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
# A file of the repository → its page.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
# The classes of the page on settings.
SETTINGS = (
    *(f"p2r.settings.{name}" for name in ("Settings", "Geometry", "PixelBudget", "TokenLimits")),
    "p2r.models.options.ModelOptions",
    "p2r.prompts.PromptPack",
)
_LINK = re.compile(r"(\]\(|src=\")(?!https?:|#)([^)\"#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages before the site is built."""
    from mkdocs.structure.files import File

    pages = {page: _moved((ROOT / name).read_text(encoding="utf-8")) for name, page in PAGES.items()}
    pages |= {
        "reference/commands.md": _commands(),
        "reference/python.md": _python(),
        "reference/settings.md": _settings(),
        "reference/recipes.md": _recipes(),
    }
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to code lead nowhere on the site: only their text stays."""
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)


def _moved(text: str) -> str:
    """A document of the repository's top folder, with links as seen from docs/."""

    def link(found: re.Match[str]) -> str:
        target = found[2].removeprefix("docs/")
        if target == found[2]:
            target = PAGES.get(target, f"../{target}")
        return found[1] + target

    return _LINK.sub(link, text)


def _commands() -> str:
    from typer.testing import CliRunner

    from p2r.cli import app

    def shown(*arguments: str) -> str:
        result = CliRunner().invoke(
            app, [*arguments, "--help"], env={"COLUMNS": "100"}, catch_exceptions=False
        )
        return f"```text\n{result.stdout.rstrip()}\n```\n"

    names = re.findall(r"^  (\w+)  ", shown().split("Commands:")[1], re.MULTILINE)
    parts = [f"## p2r {name}\n\n{shown(name)}" for name in names]
    return "\n".join(["# Commands\n", shown(), *parts])


def _python() -> str:
    """Every public name but the settings, by the module that defines it."""
    modules: dict[str, list[str]] = {}
    for name in p2r.__all__:
        if name not in ("__version__", *(one.rsplit(".")[-1] for one in SETTINGS)):
            modules.setdefault(getattr(p2r, name).__module__, []).append(name)
    lines = ["# Python", "", "Every name is imported from `p2r`: `from p2r import P2R, Question`.", ""]
    for module in sorted(modules):
        lines += [f"## {module}", ""]
        for name in modules[module]:
            lines += [f"::: {module}.{name}", ""]
    return "\n".join(lines)


def _settings() -> str:
    defaults = json.dumps(Settings().to_dict(), ensure_ascii=False, indent=2)
    lines = [
        "# Settings",
        "",
        "The file `p2r.json` beside a checkpoint, `--settings FILE` and `--set KEY=VALUE`.",
        "",
    ]
    lines += [line for name in SETTINGS for line in (f"::: {name}", "")]
    return "\n".join([*lines, "## The defaults as p2r.json", "", "```json", defaults, "```", ""])


def _recipes() -> str:
    lines = [
        "# Recipes",
        "",
        "The keys of a recipe, with types, defaults and bounds, as the classes state them.",
        "",
    ]
    for title, source in _recipe_classes():
        lines += [f"## {title}", "", "```python", source, "```", ""]
    return "\n".join(lines)


def _recipe_classes() -> Iterator[tuple[str, str]]:
    from pydantic import BaseModel

    from p2r.training import recipe

    found = [
        one for one in vars(recipe).values() if inspect.isclass(one) and one.__module__ == recipe.__name__
    ]
    parts = sorted((one for one in found if issubclass(one, BaseModel) and one.model_fields), key=_line)
    for part in (parts[-1], *parts[:-1]):  # the whole recipe comes first
        # The fields come before the methods and validators.
        yield part.__name__, re.split(r"\n\n    (?:@|def )", inspect.getsource(part))[0].rstrip()


def _line(part: type) -> int:
    return inspect.getsourcelines(part)[1]
