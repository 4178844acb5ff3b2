"""Data sets on the hub, served from loopback: pinned to a commit, streamed or fetched, and clear when away.

The hub's clients read their endpoint when they are imported, so each test asks in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from fake_hub import COMMIT, FakeHub
from releases import treebench, visualprobe, vstar, vstar_folder

pytest.importorskip("datasets", reason="the eval extra is not installed")

SCRIPT = """
import json, sys
from p2r.errors import InputError
from p2r.evaluation.benchmarks import open_benchmark, select
from p2r.images import ImageSource
told = []
for name, data in json.loads(sys.argv[1]):
    try:
        benchmark = open_benchmark(name, data)
        entries = [chosen.entry.sample for chosen in select(benchmark).chosen.values()]
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
    env = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(wanted)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_parquet_is_streamed_from_a_pinned_commit_and_text_tables_are_fetched(tmp_path):
    root = tmp_path / "data"
    vstar(root)
    treebench(root)
    with FakeHub("me/bench", root) as hub:
        streamed, fetched, missing, absent = ask(
            hub,
            tmp_path / "home",
            ["vstar", "me/bench"],
            ["treebench", "me/bench"],
            ["hrbench-4k", "me/bench"],
            ["vstar", "me/other"],
        )
    assert streamed["source"] == f"me/bench@{COMMIT}: data/test-00000-of-00001.parquet"
    assert streamed["questions"][0] == "What is the material of the glove?"
    assert streamed["sizes"] == [[640, 360]] * 3
    assert fetched["source"] == f"me/bench@{COMMIT}: TreeBench.tsv"
    assert fetched["sizes"] == [[640, 360]] * 2
    assert "me/bench: no file matches" in missing["error"]
    assert "TreeBench.tsv" in missing["error"]
    assert "me/other: cannot be read: " in absent["error"]
    assert "--data takes a file or folder" in absent["error"]


@pytest.mark.parametrize(
    ("name", "write"), [("vstar-boxes", vstar_folder), ("visualprobe-hard", visualprobe)]
)
def test_data_sets_of_files_are_fetched_whole(tmp_path, name, write):
    root = tmp_path / "data"
    write(root)
    with FakeHub("me/files", root) as hub:
        (told,) = ask(hub, tmp_path / "home", [name, "me/files"])
    assert "error" not in told
    assert told["sizes"] == [[640, 360]] * 2
