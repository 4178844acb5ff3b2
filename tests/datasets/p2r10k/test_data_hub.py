"""Sources on the hub, served from loopback: the table is fetched, and of the images only those drawn.

The hub's client reads its endpoint when it is imported, so the building is done in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.datasets.p2r10k.sets import visualprobe
from tests.fake_hub import COMMIT, FakeHub

pytest.importorskip("huggingface_hub", reason="the eval extra is not installed")


def build(hub, tmp_path, *more):
    command = ["visualprobe", str(tmp_path / "out"), "-n", "2", "--json", *more]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "p2r", "data", *command],
        env=hub.environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_source_on_the_hub(tmp_path):
    folder = visualprobe(tmp_path / "set")
    (folder / "images" / "p0.png").unlink()
    with FakeHub({"me/probe": folder}) as hub:
        done = build(hub, tmp_path, "--from", "visualprobe=me/probe")
        assert done.returncode == 0, done.stderr
        fetched = {path for verb, path, _ in hub.asked if verb == "GET" and path.endswith(".png")}
        absent = build(hub, tmp_path / "other", "--from", "visualprobe=me/nothing")
    report = json.loads(done.stdout)
    assert report["samples"] == 2
    assert report["sources"]["visualprobe"]["place"] == f"me/probe@{COMMIT}: train.json"
    assert len(fetched) == 2
    assert absent.returncode == 2
    assert "me/nothing" in absent.stderr
    assert "--from SOURCE=PATH" in absent.stderr, "how to do without a network"
    assert absent.stderr.count("\n") == 1
    assert not (tmp_path / "other" / "out").exists(), "nothing is left behind"
