"""VLMEvalKit against the server, and with p2r in its own process: each row gets the letter of `p2r eval`.

It is no package, so it runs from a checkout in an environment of its own: P2R_VLMEVALKIT_PYTHON names the
Python of that environment, and PYTHONPATH the checkout (docs/evaluation.md). It sends JPEG at Pillow's
default quality, whatever the rows hold, so `p2r eval` is given the images as they are sent.
"""

from __future__ import annotations

import csv
import io
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
    lettered,
    letters_of_p2r_eval,
    mme_realworld_rows,
    model,
    scenes,
    treebench_rows,
    vstar_rows,
    write_hub_parquet,
    write_tsv,
)
from tests.serving.live_server import LiveServer

# All rows have as many: VLMEvalKit reads a column of numbers with gaps as floats, and asks about "6.0".
OPTIONS = 4
PYTHON = os.environ.get("P2R_VLMEVALKIT_PYTHON", "")
LAUNCHER = Path(__file__).parents[2] / "integrations" / "p2r_vlmevalkit.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(not PYTHON, reason="P2R_VLMEVALKIT_PYTHON names no Python with VLMEvalKit"),
]


def vstar() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows as VLMEvalKit reads them, and as `p2r eval` does."""
    theirs = [
        {
            "index": index,
            "question": scene.text,
            **dict.fromkeys("ABCD", "") | dict(lettered(scene)),
            "answer": scene.answer,
            "category": "direct_attributes",
            "image": scene.base64,
        }
        for index, scene in enumerate(scenes(ROWS, OPTIONS))
    ]
    return theirs, vstar_rows(OPTIONS)


def hrbench() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return hrbench_rows(), hrbench_rows()


def mme_realworld() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows = mme_realworld_rows()
    theirs = [
        {**row, "multi-choice options": str(row["multi-choice options"]), "image": row["bytes"]}
        for row in rows
    ]
    return [{name: row[name] for name in row if name != "bytes"} for row in theirs], rows


def treebench() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """VLMEvalKit takes the options from columns of their own, p2r from `multi-choice options`."""
    rows = treebench_rows(OPTIONS)
    options = [dict.fromkeys("ABCDEF", "") | dict(lettered(scene)) for scene in scenes(ROWS, OPTIONS)]
    return [row | found for row, found in zip(rows, options, strict=True)], rows


def harness(*arguments: object) -> None:
    script = str(Path(__file__).with_name("vlmevalkit_rows.py"))
    run = subprocess.run([PYTHON, script, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]


def with_pixels(rows: list[dict[str, Any]], pixels: dict[str, str]) -> list[dict[str, Any]]:
    column = "bytes" if "bytes" in rows[0] else "image"
    return [{**row, column: pixels[str(index)]} for index, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("benchmark", "name", "rows", "file"),
    [
        ("vstar", "VStarBench", vstar, "vstar.parquet"),
        ("hrbench-4k", "HRBench4K", hrbench, "hr_bench_4k.parquet"),
        ("mme-realworld-lite", "MME-RealWorld-Lite", mme_realworld, "train-0.parquet"),
        ("treebench", "TreeBench", treebench, "TreeBench.parquet"),
    ],
)
def test_each_row_gets_the_letter_of_p2r_eval(
    tmp_path: Path, benchmark: str, name: str, rows: Any, file: str
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    theirs, ours = rows()
    write_tsv(folder / f"{name}.tsv", theirs)
    asked = model()
    with LiveServer(asked, settings=None, queue=ROWS) as server:
        harness(folder, name, server.url)
    pixels = json.loads((folder / "pixels.json").read_text())
    write_hub_parquet(tmp_path / "rows" / file, with_pixels(ours, pixels))
    letters, correct = letters_of_p2r_eval(benchmark, tmp_path / "rows", tmp_path / "run", asked)
    found = json.loads((folder / "letters.json").read_text())
    answers = [found[str(index)] for index in range(ROWS)]
    print(
        f"{benchmark}: p2r eval {correct}/{ROWS}, same letter {sum(map(str.__eq__, letters, answers))}/{ROWS}"
    )
    assert answers == letters
    right = sum(answer == row["answer"] for answer, row in zip(answers, theirs, strict=True))
    assert right == correct


@pytest.mark.skipif("nano" not in bundled(), reason="the weights of nano are not here")
def test_the_model_p2r_gives_each_row_the_letter_of_p2r_eval(tmp_path: Path) -> None:
    """Through VLMEvalKit's own run.py, with a dataset of the user: it reads the images without loss."""
    theirs, ours = vstar()
    write_tsv(tmp_path / "Scenes.tsv", theirs)
    write_hub_parquet(tmp_path / "rows" / "vstar.parquet", ours)
    letters, correct = letters_of_p2r_eval("vstar", tmp_path / "rows", tmp_path / "run", "nano")
    checkout = next(
        folder for folder in os.environ["PYTHONPATH"].split(os.pathsep) if (Path(folder) / "run.py").exists()
    )
    command = [
        *(PYTHON, str(LAUNCHER), "--p2r", "nano", "--model", "p2r", "--data", "Scenes"),
        *("--judge", "exact_matching", "--api-nproc", "4", "--work-dir", str(tmp_path / "out")),
    ]
    environment = os.environ | {"LMUData": str(tmp_path), "PRED_FORMAT": "tsv"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=checkout, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    (table,) = (tmp_path / "out/p2r").glob("*/p2r_Scenes.tsv")
    found = {
        row["index"]: row["prediction"]
        for row in csv.DictReader(io.StringIO(table.read_text()), delimiter="\t")
    }
    assert [found[str(index)] for index in range(ROWS)] == letters
    (figures,) = (tmp_path / "out/p2r").glob("*/p2r_Scenes_acc.csv")
    (row,) = csv.DictReader(io.StringIO(figures.read_text()))
    print(f"in process: p2r eval {correct}/{ROWS}, VLMEvalKit {row['Overall']}")
    assert float(row["Overall"]) == pytest.approx(correct / ROWS)
