"""The adapters of integrations/ in other programs, with nano: they answer as `p2r eval` does.

P2R_CLIENTS names Pythons with p2r, integrations/ and the libraries (docs/clients.md). The harnesses, which
have environments of their own, are in tests/serving/test_lmms_eval.py and test_vlmevalkit.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console

from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.run import EvaluationPlan, evaluate
from p2r.nano import bundled
from p2r.runs.journal import read_lines
from p2r.scenes import write_scenes

PYTHONS = [found for found in os.environ.get("P2R_CLIENTS", "").split(os.pathsep) if found]
ROWS = 8
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.skipif("nano" not in bundled(), reason="the weights of nano are not here"),
]


class Evaluated(NamedTuple):
    """The rows, and what `p2r eval` answers."""

    samples: Path
    answers: dict[str, str | None]
    correct: int


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("scenes")
    list(write_scenes(folder, split="test", size="1280x896", count=ROWS))
    samples, out = folder / "samples.jsonl", folder / "run"
    plan = EvaluationPlan(open_benchmark("jsonl", str(samples)), out, "nano", concurrency=4)
    total = asyncio.run(evaluate(plan, Console(quiet=True))).modes["p2r"].total
    assert (total.n, total.failed) == (ROWS, 0)
    answers = {line["id"]: line["answer"] for line in read_lines(out / "predictions-p2r.jsonl")}
    return Evaluated(samples, answers, total.correct)


@pytest.mark.parametrize(
    "python", PYTHONS or [pytest.param("", marks=pytest.mark.skip("P2R_CLIENTS is not set"))]
)
def test_the_answers_are_those_of_p2r_eval(evaluated: Evaluated, python: str) -> None:
    has_adapters = subprocess.run([python, "-c", "import p2r_llm"], capture_output=True, check=False)
    if has_adapters.returncode:
        pytest.skip("integrations/ is not installed there")
    script = str(Path(__file__).with_name("in_process.py"))
    command = [python, script, str(evaluated.samples)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3_000:]
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    print(f"p2r eval {evaluated.correct}/{ROWS}, inspect_ai {found['inspect_ai']['right']}/{ROWS}")
    for library, results in found.items():
        ours = {name: evaluated.answers[name] for name in results["answers"]}
        assert results["answers"] == ours, library
    assert found["inspect_ai"]["accuracy"] == evaluated.correct / ROWS
    for name, letter in found["inspect_ai"]["multiple_choice"].items():
        assert letter == evaluated.answers[name]
