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
from p2r.models.options import ModelOptions
from p2r.prompts import PromptPack
from p2r.settings import Geometry, PixelBudget, Settings, TokenLimits

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
# The classes of the keys that have keys below them.
SETTINGS: dict[str, type] = {
    "geometry": Geometry,
    "budget": PixelBudget,
    "max_tokens": TokenLimits,
    "options": ModelOptions,
    "prompts": PromptPack,
}
# Code that a page links to, and the page that is made from it.
_MADE_FROM = {
    "../src/p2r/settings.py": "reference/settings.md",
    "../src/p2r/training/recipe.py": "reference/recipes.md",
}
_SETTINGS = """# Settings

The keys of `p2r.json`, the file beside a checkpoint, as the classes state them. `--settings FILE`,
`--set KEY=VALUE` (`--set geometry.max_crops=1`) and `settings` in a [recipe](recipes.md) take the same keys.
Keys that are left out keep their defaults, and unknown ones are errors. Guides: [prompts](../prompts.md),
[images](../images.md), [models](../models.md).
"""
_RECIPES = """# Recipes

The keys of a recipe, as the classes state them; unknown ones are errors. `p2r train NAME --show` prints a
bundled recipe. Guide: [training](../training.md).
"""
_LINK = re.compile(r"(\]\(|src=\")(?!https?:|#)([^)\"#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages before the site is built."""
    from mkdocs.structure.files import File

    pages = {page: _moved((ROOT / name).read_text(encoding="utf-8")) for name, page in PAGES.items()}
    pages |= {
        "reference/commands.md": _commands(),
        "reference/python.md": _python(),
        "reference/settings.md": settings_page(),
        "reference/recipes.md": recipes_page(),
    }
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to code lead to the page that is made from it, or nowhere: then only their text stays."""
    for code, page in _MADE_FROM.items():
        markdown = markdown.replace(f"]({code})", f"]({page})")
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
    """Every public name, by the module that defines it."""
    modules: dict[str, list[str]] = {}
    for name in p2r.__all__:
        if name != "__version__":
            modules.setdefault(getattr(p2r, name).__module__, []).append(name)
    lines = [
        "# Python",
        "",
        "Every name is imported from `p2r`: `from p2r import P2R, Question`. The keys of the settings are on",
        "a [page of their own](settings.md). Guide: [Python](../python.md).",
        "",
    ]
    for module in sorted(modules):
        lines += [f"## {module}", ""]
        for name in modules[module]:
            lines.append(f"::: {module}.{name}")
            if getattr(p2r, name) in SETTINGS.values():  # on the page of the settings
                lines += ["    options:", "      show_docstring_attributes: false"]
            lines.append("")
    return "\n".join(lines)


def settings_page() -> str:
    """The keys of p2r.json."""
    from pydantic import TypeAdapter

    defaults = json.dumps(Settings().to_dict(), ensure_ascii=False, indent=2)
    tables = _tables(Settings, TypeAdapter(Settings).json_schema(), SETTINGS)
    return "\n".join([_SETTINGS, *tables, "## The defaults as p2r.json\n", f"```json\n{defaults}\n```\n"])


def recipes_page() -> str:
    """The keys of a recipe."""
    from p2r.training import recipe

    sections: dict[str, type] = {
        "data": recipe.Data,
        "data.scenes": recipe.SceneSeries,
        "training": recipe.Training,
        "phases": recipe.Phase,
        "gates": recipe.Gates,
        "failures": recipe.Failures,
        "frozen": recipe.Frozen,
        "rollouts": recipe.Rollouts,
        "lora": recipe.Lora,
        "launch": recipe.Launch,
    }
    return "\n".join([_RECIPES, *_tables(recipe.Recipe, recipe.Recipe.model_json_schema(), sections)])


def _tables(whole: type, schema: dict[str, Any], sections: dict[str, type]) -> Iterator[str]:
    """The keys of a class and of the classes below it as tables: type with bounds, default, meaning.

    Raises:
        KeyError: a key has no meaning, or a class no section.
    """
    names = {kind.__name__: key for key, kind in sections.items()}
    summaries = {key: _first_line(kind) for key, kind in sections.items()}
    for heading, kind in {"": whole, **sections}.items():
        part = schema["$defs"][kind.__name__] if heading else schema
        meanings = _attributes(kind) | summaries | _comments(kind)
        inherited = {key for base in kind.__bases__ for key in getattr(base, "model_fields", ())}
        lines = [f"## {heading}\n\n{summaries[heading]}\n"] if heading else []
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        for key, one in part["properties"].items():
            if key not in inherited:
                default = "needed" if key in part.get("required", ()) else _default(one)
                lines.append(_row(f"`{key}`", _type(one, names), default, _sentence(meanings[key])))
        yield "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _sentence(text: str) -> str:
    first = text[0].upper() if text[0].isascii() else text[0]  # ε stays as it is
    return f"{first}{text[1:].rstrip('.')}.".replace("None", "`null`")


def _default(part: dict[str, Any]) -> str:
    value = part.get("default", {})
    if isinstance(value, dict):  # a part with defaults of its own, or an empty mapping
        return "" if "$ref" in part else "empty"
    text = value if isinstance(value, str) and value else json.dumps(value)
    return "below" if len(text) > 60 else f"`{text}`"


def _type(part: dict[str, Any], names: dict[str, str]) -> str:
    """A JSON schema in words; a class is a link to its section."""
    if "anyOf" in part:
        return " or ".join(_type(one, names) for one in part["anyOf"])
    if "$ref" in part:
        key = names[part["$ref"].rpartition("/")[2]]
        return f"[{key}](#{key.replace('.', '')})"
    if "enum" in part:
        return ", ".join(f"`{one}`" for one in part["enum"])
    if part["type"] == "array":
        pair = part.get("prefixItems")
        return f"{len(pair)} × {_type(pair[0], names)}" if pair else f"list of {_type(part['items'], names)}"
    name: str = {"object": "mapping", "string": "text"}.get(part["type"], part["type"])
    if "minimum" in part and "maximum" in part:
        return f"{name} {part['minimum']} to {part['maximum']}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return name + ",".join(f" {sign} {part[key]}" for key, sign in signs.items() if key in part)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _attributes(kind: type) -> dict[str, str]:
    """The meanings in the docstring of a class."""
    meanings: dict[str, str] = {}
    text = inspect.getdoc(kind) or ""
    listed = text.partition("Attributes:")[2]
    for found in re.finditer(r"^    (\w[\w, ]*): (.*(?:\n     .*)*)", listed, re.MULTILINE):
        meaning = " ".join(found[2].split())
        meanings |= dict.fromkeys(found[1].split(", "), meaning)
    return meanings


def _comments(kind: type) -> dict[str, str]:
    """The meanings in the comments of a class: above a field, and behind it."""
    meanings: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(kind).splitlines():
        code, _, comment = line.partition("  # ")
        if line.strip().startswith("# "):
            above.append(line.strip()[2:])
        elif field := re.match(r"    (\w+): ", code):
            if meaning := " ".join([*above, comment]).strip():
                meanings[field[1]] = meaning
            above = []
        elif re.match(r"    (@|def )", line):
            break  # the fields come before the methods and validators
    return meanings
