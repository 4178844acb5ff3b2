"""The code blocks of README.md and docs/: their marks, the commands in them, and how they are run.

A mark is a comment on the line before a block: `<!-- long -->`, which takes more than a few seconds and is
run among the slow tests, or `<!-- not run: REASON -->`. The blocks of a page are run in their order, in one
folder with the files of a clone. Python blocks share one namespace.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shlex
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.main import get_command
from typer.testing import CliRunner

from p2r.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = ("sh", "python")  # the languages of blocks that are run
# The others; a block in `bash` or `py` would escape the tests.
SHOWN = ("", "text", "json", "yaml", "toml", "js", "nginx")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (long|not run: \S.*) -->")
_PLACEHOLDER = re.compile(r"[A-Z…]")
_INLINE = re.compile(r"`(p2r [^`\n]+)`")
# A comment of the shell begins a word; what is between quotes is none.
_COMMENT = re.compile(r"""^((?:'[^']*'|"[^"]*"|[^'"#]|(?<=\S)#)*?)(?:^|(?<=\s))#.*$""")
_SEPARATORS = re.compile(r"[();|&]+")
_OF_P2R = ("-h", "--help", "--version", "--install-completion", "--show-completion", "COMMAND", "…")
_COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and text, the comment on the line before it, and where it is."""

    page: Path
    line: int
    language: str
    text: str
    mark: str

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def long(self) -> bool:
        return self.mark == "<!-- long -->"

    @property
    def run(self) -> bool:
        return self.language in RUN and not self.mark.startswith("<!-- not run")

    def problem(self) -> str:
        """What is wrong with the block apart from its text; empty if nothing is."""
        if self.language not in RUN + SHOWN:
            return f"{self.where}: the language of a block is one of {', '.join(RUN + SHOWN)}"
        if self.mark and not _MARK.fullmatch(self.mark):
            return f"{self.where}: a mark is <!-- long --> or <!-- not run: REASON -->, not {self.mark}"
        return ""


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        before = text[: fence.start()].splitlines()
        mark = before[-1].strip() if before and before[-1].startswith("<!--") else ""
        found.append(Block(page, len(before) + 1, fence[1], fence[2], mark))
    return found


def words(text: str) -> Iterator[list[str]]:
    """Each line of a shell block as its words; comments are left out, and lines that go on are one."""
    line = ""
    for part in text.splitlines():
        line += _COMMENT.sub(r"\1", part).removesuffix("\\")
        if part.endswith("\\"):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        lexer.commenters = ""  # of shlex: a # within a word would begin one too
        try:
            found = list(lexer)
        except ValueError:  # a quotation that goes on
            line += "\n"
            continue
        line = ""
        if found:
            yield found


def p2r_arguments(line: Sequence[str]) -> Iterator[list[str]]:
    """The arguments of each `p2r` in the words of a line."""
    parts: list[list[str]] = [[]]
    for word in line:
        if _SEPARATORS.fullmatch(word):
            parts.append([])
        else:
            parts[-1].append(word)
    for part in parts:
        redirected = next((at for at, word in enumerate(part) if word in ("<", ">", ">>")), len(part))
        if redirected < len(part) and part[redirected - 1] == "2":  # of 2> FILE
            redirected -= 1
        for at, word in enumerate(part[:redirected]):
            if Path(word).name == "p2r" and at + 1 < redirected:
                first = all("=" in before for before in part[:at])  # only variables stand before it
                if first or part[at + 1] in _COMMANDS:
                    yield part[at + 1 : redirected]
                    break


def commands(page: Path) -> Iterator[tuple[str, list[str], bool]]:
    """Every `p2r` of a page: where it is, its arguments, and whether it is complete (in a block)."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        if block.language in ("sh", "text", ""):
            for line in words(block.text):
                yield from (
                    (block.where, arguments, block.language == "sh") for arguments in p2r_arguments(line)
                )
    for found in _INLINE.finditer(_FENCE.sub("", text)):
        for line in words(found[1]):
            yield from ((page.name, arguments, False) for arguments in p2r_arguments(line))


def mistake(arguments: Sequence[str], *, complete: bool) -> str:
    """Why the command line would refuse this, apart from files and models; empty if it would not."""
    name, *rest = arguments
    if name.startswith("-") or not re.fullmatch(r"[a-z]+", name):
        return "" if name in _OF_P2R else f"no option of p2r: {name}"
    if name not in _COMMANDS:
        return f"no command: {name}"
    command = _COMMANDS[name]
    # An ellipsis replaces any words, or the value of an option.
    rest = [word for at, word in enumerate(rest) if word != "…" or (at and rest[at - 1].startswith("-"))]
    context = command.context_class(command, info_name=name, **command.context_settings)
    try:
        values, left, _ = command.make_parser(context).parse_args(args=list(rest))
        for option in command.params:
            _check_values(option, values.get(option.name) or (), context)
        _check_names(name, values)
    except Exception as error:  # whatever the command line says
        text = str(getattr(error, "message", "") or error)
        return text if complete or "requires an argument" not in text else ""
    if complete:
        if missing := [one.name for one in command.params if one.required and values.get(one.name) is None]:
            return f"missing: {', '.join(missing)}"
        if left and not context.allow_extra_args:
            return f"unexpected: {' '.join(left)}"
    return ""


def _check_values(option: Any, given: Any, context: Any) -> None:
    """Numbers and choices; files need not exist. A capital or an ellipsis begins a placeholder."""
    for value in given if isinstance(given, list | tuple) else (given,):
        if (
            isinstance(value, str)
            and option.type_descriptor.annotation is not Path
            and not _PLACEHOLDER.match(value)
        ):
            option.process_value(context, [value] if option.multiple else value)


def _check_names(command: str, values: dict[str, Any]) -> None:
    """Keys of --set, bundled recipes and benchmarks."""
    from p2r.evaluation.benchmarks import BENCHMARKS
    from p2r.models.options import read_assignment
    from p2r.settings import Settings
    from p2r.training.recipe import find_recipe, load_recipe

    changes = values.get("changes") or ()
    if command == "train" and (name := values.get("recipe")):
        recipe = find_recipe(name)
        if recipe.exists() or re.fullmatch(r"[a-z][\w-]*", name):
            load_recipe(recipe, changes)
    elif command != "train":
        for change in changes:
            Settings().updated(read_assignment(change))
    if command == "eval" and (name := values.get("benchmark")):
        assert name in BENCHMARKS, f"no benchmark: {name}"


def make_clone(folder: Path) -> None:
    """Links to everything of the repository but what is made in it, and the folder that `make demo` makes."""
    for path in ROOT.iterdir():
        if path.name not in ("out", "runs", "data", "dist", ".git"):
            (folder / path.name).symlink_to(path)
    (folder / "out").mkdir()


def run(block: Block, names: dict[str, Any]) -> None:
    """Run a block in the current folder.

    Raises:
        AssertionError: a command failed; the text has its output.
    """
    if block.language == "python":
        code = compile(block.text, block.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        waiting = types.FunctionType(code, names)()
        if asyncio.iscoroutine(waiting):
            asyncio.run(waiting)
        return
    # The environment of the tests takes the place of the one that a page enters.
    lines = [line for line in words(block.text) if line != ["source", ".venv/bin/activate"]]
    if all(line[0] == "p2r" and not {"<", ">", "|", "&"} & set(line) for line in lines):
        for line in lines:  # here, where torch may be loaded already
            done = CliRunner().invoke(app, line[1:])
            assert done.exit_code == 0, (
                f"{block.where}: {shlex.join(line)}\n{done.output}\n{done.exception!r}"
            )
        return
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, f"{block.where}\n{ended.stdout}\n{ended.stderr}"
