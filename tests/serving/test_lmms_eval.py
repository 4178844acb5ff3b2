"""lmms-eval evaluates V* through the server, and finds what `p2r eval` finds on the same rows.

It pins what we do not, so it has an environment of its own: P2R_LMMS_EVAL_PYTHON names its Python
(docs/clients.md).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from live_server import BOXES, LiveServer, perceiving
from rich.console import Console

from fake_model import FakeModel, said
from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.evaluate import Plan, evaluate
from p2r.nano import bundled
from p2r.scenes import make_sample
from p2r.types import LETTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Message

PYTHON = os.environ.get("P2R_LMMS_EVAL_PYTHON")
ROWS = 12
INSTRUCTION = "Answer with the option's letter from the given choices directly."
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(not PYTHON, reason="P2R_LMMS_EVAL_PYTHON names no Python with lmms-eval"),
]


def scripted(messages: Sequence[Message]) -> str:
    """Boxes for the perceiver; a letter that depends on the question alone, and is right now and then."""
    if perceiving(messages):
        return BOXES
    question = said(messages).partition("Question: ")[2].partition("\nA.")[0]
    letter = "AB"[hashlib.sha256(question.encode()).digest()[0] % 2]
    return f"<think>It is {letter}.</think><answer>{letter}</answer>"


def write_rows(folder: Path) -> Path:
    """A table in the schema of V*, with scenes in it."""
    rows: list[dict[str, Any]] = []
    index = 0
    while len(rows) < ROWS:
        scene = make_sample("test", index, size="2k")
        index += 1
        task = scene.task
        if not 2 <= len(task.choices) <= 4:
            continue
        file = io.BytesIO()
        PIL.Image.fromarray(scene.render()).save(file, "PNG")
        options = "\n".join(f"({letter}) {text}" for letter, text in zip(LETTERS, task.choices, strict=False))
        rows.append(
            {
                "image": {"bytes": file.getvalue(), "path": None},
                "text": f"{task.text}\n{options}\n{INSTRUCTION}",
                "label": task.answer,
                "question_id": str(index),
                "category": "direct_attributes" if len(rows) % 2 else "relative_position",
            }
        )
    folder.mkdir()
    texts = ("text", "label", "question_id", "category")
    features = {"image": {"_type": "Image"}} | {name: {"_type": "Value", "dtype": "string"} for name in texts}
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            *((name, pa.string()) for name in texts),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "test-00000.parquet")
    return folder


def write_task(folder: Path, data: Path) -> Path:
    """lmms-eval's own task, with our rows in place of the hub's."""
    find = "import importlib.util as u; print(u.find_spec('lmms_eval').submodule_search_locations[0])"
    package = subprocess.run([PYTHON, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    theirs = Path(package) / "tasks" / "vstar_bench"
    folder.mkdir()
    (folder / "utils.py").write_text((theirs / "utils.py").read_text())
    for name in ("_default_template_yaml", "vstar_bench.yaml"):
        text = (theirs / name).read_text().replace("lmms-lab-encoder/vstar-bench", str(data))
        (folder / name).write_text(text.replace('task: "vstar_bench"', 'task: "vstar_rows"'))
    return folder


def test_lmms_eval_finds_what_p2r_eval_finds(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows")
    tasks = write_task(tmp_path / "tasks", data)
    model = next(iter(bundled()), None) or FakeModel(scripted)
    plan = Plan(open_benchmark("vstar", str(data)), tmp_path / "run", model, concurrency=4)
    summary = asyncio.run(evaluate(plan, Console(quiet=True)))
    ours = summary["modes"]["p2r"]
    assert ours["n"] == ROWS
    with LiveServer(model, settings=None, queue=ROWS) as server:
        command = [
            *(PYTHON, "-m", "lmms_eval", "--model", "openai", "--tasks", "vstar_rows"),
            *("--model_args", f"model=p2r-letter,base_url={server.url}/v1,api_key=none,timeout=300"),
            *("--include_path", str(tasks), "--output_path", str(tmp_path / "theirs"), "--batch_size", "1"),
        ]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
        run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    (results,) = (tmp_path / "theirs").rglob("*results.json")
    theirs = json.loads(results.read_text())["results"]["vstar_rows"]["vstar_overall_acc,none"]
    assert theirs == pytest.approx(100 * ours["correct"] / ROWS)
    assert "REQUEST_FAILED" not in run.stderr
