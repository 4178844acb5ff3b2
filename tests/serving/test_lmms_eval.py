"""lmms-eval against the server, and with p2r in its own process: each row gets the letter of `p2r eval`.

Its own tasks for our benchmarks, with rows of ours in place of the hub's. It pins what we do not, so it has
an environment of its own: P2R_LMMS_EVAL_PYTHON names its Python (docs/evaluation.md).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from p2r.nano import bundled
from tests.serving.harness_rows import (
    ROWS,
    hrbench_rows,
    letters_of_p2r_eval,
    mme_realworld_rows,
    model,
    vstar_rows,
    write_hub_parquet,
)
from tests.serving.live_server import LiveServer

PYTHON = os.environ.get("P2R_LMMS_EVAL_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(not PYTHON, reason="P2R_LMMS_EVAL_PYTHON names no Python with lmms-eval"),
]
CONFIG = """---
configs:
- config_name: hrbench_version_split
  data_files:
  - split: hrbench_4k
    path: hr_bench_4k.parquet
---
"""


def write_vstar(root: Path) -> None:
    write_hub_parquet(root / "data/test-00000-of-00001.parquet", vstar_rows(), image="image")


def write_hrbench(root: Path) -> None:
    write_hub_parquet(root / "hr_bench_4k.parquet", hrbench_rows())
    (root / "README.md").write_text(CONFIG)


def write_mme_realworld(root: Path) -> None:
    write_hub_parquet(root / "data/train-00000-of-00001.parquet", mme_realworld_rows())


def write_task(folder: Path, name: str, yaml: str, task: str, hub: str, data: Path) -> None:
    """lmms-eval's own task, with our rows in place of the hub's."""
    find = "import importlib.util as u; print(u.find_spec('lmms_eval').submodule_search_locations[0])"
    package = subprocess.run([PYTHON, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    theirs = Path(package) / "tasks" / name
    folder.mkdir()
    group = f"{name}.yaml"  # its code reads it, where there is one
    for file in (*theirs.glob("*.py"), *theirs.glob("_default*"), *theirs.glob(group), theirs / yaml):
        text = file.read_text().replace(hub, str(data))
        for quoted in (f'task: "{task}"', f"task: {task}\n"):
            text = text.replace(quoted, f'task: "{task}_rows"\n')
        (folder / file.name).write_text(text)


VSTAR = ("vstar_bench", "vstar_bench.yaml", "vstar_bench", "lmms-lab-encoder/vstar-bench")


def lmms_eval(folder: Path, task: str, *arguments: str) -> tuple[list[str], dict[str, Any]]:
    """Run a task; the replies by row, and the figures."""
    command = [
        *(PYTHON, "-m", "lmms_eval", "--tasks", task, "--log_samples", "--batch_size", "1", *arguments),
        *("--include_path", str(folder / "tasks"), "--output_path", str(folder / "theirs")),
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "REQUEST_FAILED" not in run.stderr
    (log,) = (folder / "theirs").rglob("*_samples_*.jsonl")
    samples = sorted(map(json.loads, log.read_text().splitlines()), key=lambda sample: int(sample["doc_id"]))
    (results,) = (folder / "theirs").rglob("*_results.json")
    # A text, or a list of one.
    replies = ["".join(sample["filtered_resps"]).strip() for sample in samples]
    return replies, json.loads(results.read_text())["results"][task]


@pytest.mark.parametrize(
    ("benchmark", "write", "task"),
    [
        ("vstar", write_vstar, VSTAR),
        ("hrbench-4k", write_hrbench, ("hrbench", "hrbench4k.yaml", "hrbench4k", "DreamMr/HR-Bench")),
        (
            "mme-realworld-lite",
            write_mme_realworld,
            (
                "mme_realworld",
                "mme_realworld_lite.yaml",
                "mmerealworld_lite",
                "yifanzhang114/MME-RealWorld-lite-lmms-eval",
            ),
        ),
    ],
)
def test_each_row_gets_the_letter_of_p2r_eval(
    tmp_path: Path, benchmark: str, write: Any, task: tuple[str, str, str, str]
) -> None:
    write(tmp_path / "rows")
    write_task(tmp_path / "tasks", *task, tmp_path / "rows")
    asked = model()
    ours, correct = letters_of_p2r_eval(benchmark, tmp_path / "rows", tmp_path / "run", asked)
    with LiveServer(asked, settings=None, queue=ROWS) as server:
        address = f"model=p2r-letter,base_url={server.url}/v1,api_key=none,timeout=300"
        theirs, figures = lmms_eval(tmp_path, f"{task[2]}_rows", "--model", "openai", "--model_args", address)
    print(f"{benchmark}: p2r eval {correct}/{ROWS}, same letter {sum(map(str.__eq__, ours, theirs))}/{ROWS}")
    assert theirs == ours
    accuracy = next(
        figures[key]
        for key in ("vstar_overall_acc,none", "average,none", "mme_realworld_score,none")
        if key in figures
    )
    share = 100 if benchmark == "vstar" else 1
    assert accuracy == pytest.approx(share * correct / ROWS)


@pytest.mark.skipif("nano" not in bundled(), reason="the weights of nano are not here")
def test_the_model_p2r_gives_each_row_the_letter_of_p2r_eval(tmp_path: Path) -> None:
    write_vstar(tmp_path / "rows")
    write_task(tmp_path / "tasks", *VSTAR, tmp_path / "rows")
    ours, correct = letters_of_p2r_eval("vstar", tmp_path / "rows", tmp_path / "run", "nano")
    chosen = ("--model", "p2r", "--model_args", "model=nano,concurrency=4")
    theirs, figures = lmms_eval(tmp_path, "vstar_bench_rows", *chosen)
    print(f"in process: p2r eval {correct}/{ROWS}, same letter {sum(map(str.__eq__, ours, theirs))}/{ROWS}")
    assert theirs == ours
    assert figures["vstar_overall_acc,none"] == pytest.approx(100 * correct / ROWS)
