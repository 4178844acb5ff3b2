"""Data sets on the hub, served from loopback: pinned to a commit, streamed or fetched, unreachable.

The hub's clients read their endpoint when they are imported, so it is used in a separate process.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.evaluation.releases import treebench, visualprobe, vstar, vstar_folder
from tests.fake_hub import COMMIT, FakeHub

pytest.importorskip("datasets", reason="the eval extra is not installed")

SCRIPT = """
import json, sys
from p2r.errors import InputError
from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.benchmarks.base import select
from p2r.images import ImageSource
told = []
for name, data in json.loads(sys.argv[1]):
    try:
        benchmark = open_benchmark(name, data)
        entries = [entry.sample for entry in select(benchmark).entries.values()]
        samples = [load() for load in benchmark.loaders()]
        told.append({
            "source": benchmark.source,
            "questions": [sample.question.text for sample in entries],
            "sizes": [ImageSource.open(sample.question.image).size for sample in samples],
        })
    except InputError as error:
        told.append({"error": str(error)})
print(json.dumps(told))
"""


def ask(hub, home, *wanted):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(wanted)],
        env=hub.environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
def test_the_hub(tmp_path):
    tables, boxes, probe = tmp_path / "tables", tmp_path / "boxes", tmp_path / "probe"
    vstar(tables)
    treebench(tables)
    vstar_folder(boxes)
    visualprobe(probe)
    with FakeHub({"me/tables": tables, "me/boxes": boxes, "me/probe": probe}) as hub:
        streamed, fetched, folder, listed, missing, absent = ask(
            hub,
            tmp_path / "home",
            ["vstar", "me/tables"],
            ["treebench", "me/tables"],
            ["vstar-boxes", "me/boxes"],
            ["visualprobe-hard", "me/probe"],
            ["hrbench-4k", "me/tables"],
            ["vstar", "me/other"],
        )
    # Parquet is streamed from the commit that the hub served first.
    assert streamed["source"] == f"me/tables@{COMMIT}: data/test-00000-of-00001.parquet"
    assert streamed["questions"][0] == "What is the material of the glove?"
    assert streamed["sizes"] == [[640, 360]] * 3
    # A text table is fetched, and so are data sets whose images are files.
    assert fetched["source"] == f"me/tables@{COMMIT}: TreeBench.tsv"
    assert fetched["sizes"] == folder["sizes"] == listed["sizes"] == [[640, 360]] * 2
    assert "me/tables: no file matches" in missing["error"]
    assert "TreeBench.tsv" in missing["error"]
    assert "me/other: cannot be read: " in absent["error"]
    assert "give a file or folder of this machine: --data PATH" in absent["error"]
