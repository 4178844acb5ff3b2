"""The documents agree with the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2r.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


def test_the_source_tree_is_shown_as_it_is() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\nsrc/p2r/\n")[1].split("\nscripts/")[0]
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
