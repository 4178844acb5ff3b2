"""`p2r push` with the real client of the hub, against a hub on loopback: uploading, again, and refusals.

The client reads its endpoint when it is imported, so all of it runs in one separate process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from p2r.cli import app
from p2r.settings import Settings
from tests.fake_hub import BROKEN, REFUSED, TOKEN, FakeHub
from tests.report.test_model_card import write_model

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("jinja2", reason="the local extra is not installed")

SCRIPT = """
import json, os, sys
from pathlib import Path
from typer.testing import CliRunner
from p2r.cli import app
results = []
for arguments, change, files in json.loads(sys.argv[1]):
    for name, value in files.items():
        path = Path(name)
        path.unlink() if value is None else path.write_text(value)
    before = {name: os.environ.get(name) for name in change}
    os.environ.update(change)
    done = CliRunner().invoke(app, ["push", *arguments])
    os.environ.update({name: value or "" for name, value in before.items()})
    results.append([done.exit_code, done.stdout, done.stderr])
from p2r.models.checkpoint import find_folder
from p2r.pipeline import settings_of
if len(sys.argv) > 2:
    found = find_folder(sys.argv[2])
    results.append([settings_of(sys.argv[2]).digest, sorted(path.name for path in found.iterdir())])
print(json.dumps(results))
"""


def push(hub: FakeHub, home: Path, *calls: Any, then: str = "") -> list[Any]:
    """The exit code, stdout and stderr of each call: arguments, environment, and files that are written."""
    code = [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(calls), *([then] if then else [])]
    environment = hub.environment(home) | {"HF_TOKEN": TOKEN}
    done = subprocess.run(code, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return results


@pytest.mark.long
def test_a_model_goes_to_the_hub_and_comes_back(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    shard = str(folder / "model-00002-of-00002.safetensors")
    me = [str(folder), "me/tags", "--yes"]
    with FakeHub({}, tmp_path / "hub") as hub:
        first, again, fewer, other, last, public, back = push(
            hub,
            tmp_path / "home",
            [[*me, "--private", "--json"], {}, {shard: "more"}],
            [me, {}, {}],
            [me, {}, {shard: None}],
            [[str(folder), "me/open", "--yes"], {}, {}],
            [me, {}, {}],
            [[str(folder), "me/open", "--yes", "--private"], {}, {}],
            then="me/tags",
        )
    for call in (first, again, fewer, other, last):
        assert call[0] == 0, call
    report = json.loads(first[1])
    assert report["repository"] == "me/tags"
    assert report["left_out"] == ["token.json", "trainer.log"]
    assert report["commit"].startswith(f"{hub.endpoint}/me/tags/commit/")
    assert hub.private == {"me/tags"}
    # What the hub has is what was in the folder, without the shard that is no longer there.
    there = {path.name: path.read_text() for path in (tmp_path / "hub/me/tags").iterdir()}
    assert there == {
        path.name: path.read_text()
        for path in folder.iterdir()
        if path.name not in ("token.json", "trainer.log")
    }
    # Large files are sent once.
    sent = [path for method, path, _ in hub.asked if method == "PUT"]
    assert len(sent) == len(set(sent)) == 3
    assert public[0] == 2
    assert "me/open exists and is public" in public[2]
    assert back == [
        Settings.load(folder).digest,
        ["config.json", "model.safetensors", "p2r.json", "tokenizer.json"],
    ]


@pytest.mark.long
def test_refusals_are_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    me = [str(folder), "me/tags", "--yes"]
    card = f"---\nlicense: {REFUSED}\n---\n\n# Mine\n"
    with FakeHub({}, tmp_path / "hub") as hub:
        *results, license_ = push(
            hub,
            tmp_path / "home",
            [me, {"HF_TOKEN": ""}, {}],
            [me, {"HF_TOKEN": "hf_old"}, {}],
            [[str(folder), "you/tags", "--yes"], {}, {}],
            [me[:2], {}, {}],
            [[str(folder), BROKEN, "--yes"], {}, {}],
            [me, {}, {str(folder / "README.md"): card}],
        )
        assert hub.folders == {}
    wanted = (
        "no token for the hub",
        "refuses the token",
        "has no permission",
        "--yes uploads",
        "be reached: ",
    )
    for (code, _, error), text in zip(results, wanted, strict=True):
        assert code == 2
        assert text in error.splitlines()[-1]
    assert "README.md is kept; what p2r adds follows it" in license_[2]
    assert '"license" must be one of a list' in license_[2].splitlines()[-1]


def test_a_dry_run_needs_no_network(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    done = CliRunner().invoke(app, ["push", str(folder), "me/tags", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [
        *("config.json", "model.safetensors", "p2r.json", "tokenizer.json", "README.md")
    ]
    assert "not uploaded: token.json, trainer.log" in done.stderr
    assert (folder / "README.md").read_text().startswith("---\n")


@pytest.mark.parametrize("name", ["tags", "me/tags@main", "me/", "a/b/c"])
def test_a_name_that_is_none_is_refused_first(tmp_path: Path, name: str) -> None:
    done = CliRunner().invoke(app, ["push", str(tmp_path), name, "--dry-run"])
    assert done.exit_code == 2
    assert "is no hub id: write OWNER/NAME" in done.stderr
