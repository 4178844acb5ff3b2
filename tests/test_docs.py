"""The documents agree with the repository, and their code runs (tests/doc_blocks.py)."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from p2r.cli import app
from p2r.settings import Settings
from p2r.training import recipe
from scripts import docs_pages
from tests.doc_blocks import (
    PAGES,
    Block,
    blocks,
    commands,
    make_clone,
    mistake,
    p2r_arguments,
    run,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_and_headings_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]*)(?:#([^)]+))?\)", document.read_text(encoding="utf-8"))
    targets = [(document.parent / link if link else document, heading) for link, heading in links]
    assert [str(target) for target, _ in targets if not target.exists()] == []
    inner = [(target, heading) for target, heading in targets if heading and target.suffix == ".md"]
    assert [f"{target}#{heading}" for target, heading in inner if heading not in anchors(target)] == []


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub and the site make them."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_source_tree_is_shown_as_it_is() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text.split("\nsrc/p2r/\n")[1].split("\nscripts/")[0]
    shown = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    found = {path.name for path in (ROOT / "src/p2r").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert shown == {name for name in found if not name.startswith("__")}


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(
        r"^  (\w+)  ", CliRunner().invoke(app, ["--help"]).stdout.split("Commands:")[1], re.MULTILINE
    )
    assert len(commands) >= 7
    assert [name for name in commands if f"p2r {name}" not in readme and f"make {name}" not in readme] == []


def test_the_reference_has_each_key_of_settings_and_recipes_with_its_meaning() -> None:
    settings, recipes = docs_pages.settings_page(), docs_pages.recipes_page()
    assert "| `max_crops` | integer ≥ 1 | `3` | K, the most boxes that are cropped" in settings
    assert "| `looks` | integer 1 to 6 | `1` |" in settings
    assert "| `temperature` | number > 0, ≤ 2 | `1.0` | Of the rollouts. |" in recipes
    parts = [kind for kind in vars(recipe).values() if isinstance(kind, type) and issubclass(kind, BaseModel)]
    inherited = len(recipe.Training.model_fields)  # a phase may have them all
    for page, keys in (
        (settings, sum(len(fields(kind)) for kind in (Settings, *docs_pages.SETTINGS.values()))),
        (recipes, sum(len(kind.model_fields) for kind in parts) - inherited),
    ):
        rows = re.findall(r"^\| `\w+` \|.*\| (.*) \|$", page, re.MULTILINE)
        assert len(rows) == keys
        assert [meaning for meaning in rows if len(meaning) < 6] == []


def test_the_error_lines_of_the_page_on_troubleshooting_are_those_of_the_code() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    lines = [
        line for bold in re.findall(r"\*\*.*?\*\*", page) for line in re.findall(r"`([^`]+ [^`]+)`", bold)
    ]
    assert len(lines) > 20
    code = "\n".join(texts_of_the_code())
    for line in lines:
        # Names and numbers of the example are in no text, so that some sequences of words are not there.
        words = line.replace("…", "").split()
        triples = [" ".join(words[at : at + 3]) for at in range(len(words) - 2)]
        assert sum(triple in code for triple in triples) > 0.4 * len(triples), line


def texts_of_the_code() -> Iterator[str]:
    """Each text in the source, without what is filled in."""
    for path in (ROOT / "src/p2r").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
                yield " ".join("".join(map(str, parts)).split())
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: like a clone, and without a variable that would change what the blocks do."""
    make_clone(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("P2R_MODEL", "P2R_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def follow(chosen: list[Block]) -> None:
    """Run blocks as somebody who pastes them one after the other."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in chosen:
        run(block, names)


def pages_with(*, long: bool) -> list[Path]:
    return [page for page in PAGES if any(block.run and block.long == long for block in blocks(page))]


@pytest.mark.long
@pytest.mark.parametrize("page", pages_with(long=False), ids=lambda path: path.stem)
def test_the_blocks_of_a_page_run(page: Path, clone: Path) -> None:
    follow([block for block in blocks(page) if block.run and not block.long])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", pages_with(long=True), ids=lambda path: path.stem)
def test_the_long_blocks_of_a_page_run_too(page: Path, clone: Path) -> None:
    follow([block for block in blocks(page) if block.run])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_block_has_a_language_and_a_mark_that_says_why_it_is_not_run(page: Path) -> None:
    assert [problem for block in blocks(page) if (problem := block.problem())] == []
    text = page.read_text(encoding="utf-8")
    marks = re.findall(r"^<!-- (?:long|not run).*$", text, re.MULTILINE)
    assert marks == [block.mark for block in blocks(page) if block.mark], (
        "a mark is on the line before a block"
    )
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"\n\n {4}\S.*", prose) == [], "indented code"
    after_text = re.findall(r"^(?!- |\d+\. | |\n).*[^\n]\n(?:- |1\. ).*", prose, re.MULTILINE)
    assert after_text == [], "on the site a list needs an empty line before it"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_commands_have_the_options_that_pages_show(page: Path) -> None:
    wrong = [
        f"{where}: p2r {' '.join(arguments)}: {problem}"
        for where, arguments, complete in commands(page)
        if (problem := mistake(arguments, complete=complete))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("p2r eval -b vstar --limt 3 -o runs/a", "No such option: --limt"),
        ("p2r eval -b vstar --mode nope -o runs/a", "'nope' is not one of"),
        ("p2r eval -b vsstar -o runs/a", "no benchmark: vsstar"),
        ("p2r eval -b vstar", "missing: out"),
        ("P2R_MODEL=nano p2r report a b c", "unexpected: c"),
        ("echo | p2r scenes out --split tset", "'tset' is not one of"),
        ("p2r answer a.jpg What? --set geometry.max_crop=1  # it's wrong", "there is no such key"),
        ("p2r train nano --set training.steps=0 --check", "greater than or equal to 1"),
        ("p2r train nanoo --check", "nano-smoke"),
        ("p2r trian nano", "no command: trian"),
        ("p2r answer a.jpg b.jpg 'What does it say?' --model http://host/v1#NAME --json > answer.json", ""),
    ],
)
def test_a_mistake_in_a_command_is_found(line: str, problem: str) -> None:
    ((arguments,),) = ([*p2r_arguments(found)] for found in words(line))
    found = mistake(arguments, complete=True)
    assert problem in found
    assert bool(problem) == bool(found)


@pytest.mark.parametrize(
    ("language", "text"),
    [("sh", "p2r report nowhere"), ("sh", "true\nfalse | cat"), ("python", "await 1"), ("python", "1 / 0")],
)
def test_a_block_that_does_not_run_fails(language: str, text: str, clone: Path) -> None:
    with pytest.raises((AssertionError, ZeroDivisionError, TypeError)):
        follow([Block(ROOT / "README.md", 1, language, text, "")])


@pytest.mark.parametrize(
    "mark", ["<!-- not run -->", "<!-- not run: -->", "<!-- long: GPU -->", "<!-- skip -->"]
)
def test_a_mark_without_a_reason_is_refused(mark: str) -> None:
    assert "a mark is" in Block(ROOT / "README.md", 1, "sh", "false", mark).problem()
