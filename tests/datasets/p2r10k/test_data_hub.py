"""Sources on the hub, served from loopback: the table is fetched, and of the images only those drawn.

The hub's client reads its endpoint when it is imported, so the build runs in a separate process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.datasets.p2r10k.sets import visualprobe
from tests.fake_hub import COMMIT, FakeHub

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("huggingface_hub", reason="the eval extra is not installed")

SCRIPT = """
import json, sys
from typer.testing import CliRunner
from p2r.cli import app
done = [CliRunner().invoke(app, ["data", *arguments]) for arguments in json.loads(sys.argv[1])]
print(json.dumps([{"code": one.exit_code, "out": one.stdout, "errors": one.stderr} for one in done]))
"""


def build(hub: FakeHub, home: Path, *builds: list[str]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(builds)],
        env=hub.environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_source_on_the_hub(tmp_path: Path) -> None:
    folder = visualprobe(tmp_path / "set")
    (folder / "images" / "p0.png").unlink()
    out, other = tmp_path / "out", tmp_path / "other"
    with FakeHub({"me/probe": folder}) as hub:
        done, absent = build(
            hub,
            tmp_path / "home",
            ["visualprobe", str(out), "-n", "2", "--json", "--from", "visualprobe=me/probe"],
            ["visualprobe", str(other), "--from", "visualprobe=me/nothing"],
        )
    fetched = {path for verb, path, _ in hub.asked if verb == "GET" and path.endswith(".png")}
    assert done["code"] == 0, done["errors"]
    report = json.loads(done["out"])
    assert report["samples"] == 2
    assert report["sources"]["visualprobe"]["place"] == f"me/probe@{COMMIT}: train.json"
    assert len(fetched) == 2
    assert absent["code"] == 2
    assert "me/nothing" in absent["errors"]
    assert "--from SOURCE=PATH" in absent["errors"], "how to do without a network"
    assert absent["errors"].count("\n") == 1
    assert not other.exists(), "nothing is left behind"
