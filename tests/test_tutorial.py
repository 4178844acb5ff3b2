"""The tutorial notebook runs in a real Jupyter kernel, and is stored without outputs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / "docs/tutorial.ipynb"


def execute(folder: Path, monkeypatch: pytest.MonkeyPatch, *, without: str = "") -> list[Any]:
    """The code cells with their outputs, run in a folder; cells with the tag `without` are left out."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    # A kernel of this Python, whatever is installed on the machine.
    kernel = folder / "jupyter/kernels/here"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "here"}))
    for name, value in (("JUPYTER_PATH", "jupyter"), ("IPYTHONDIR", "ipython")):
        monkeypatch.setenv(name, str(folder / value))

    book = nbformat.read(FILE, 4)
    nbformat.validate(book)
    book.cells = [cell for cell in book.cells if without not in cell.metadata.get("tags", [])]
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(book, timeout=900, kernel_name="here", resources=where).execute()
    return [cell for cell in book.cells if cell.cell_type == "code"]


def text_of(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def displayed(cells: list[Any]) -> list[str]:
    """The HTML of all outputs."""
    data = [output.get("data", {}) for cell in cells for output in cell.outputs]
    return [one["text/html"] for one in data if "text/html" in one]


def check(cells: list[Any], folder: Path) -> None:
    shown = displayed(cells)
    assert len(shown) == 4, "two predictions, evidence, and a prediction of a run"
    for html in shown:
        assert html.count('src="data:image/jpeg;base64,') == 1
        assert len(html) < 1_000_000
    assert sum("Which digit is on the pink tag?" in html for html in shown) == 2
    (evaluation,) = (cell for cell in cells if "p2r eval" in cell.source)
    assert "think" in text_of(evaluation)
    for name in ("figure.png", "questions.jsonl", "run/summary.json", "run/report.html"):
        assert (folder / "tutorial" / name).stat().st_size


def test_the_tutorial_is_stored_without_outputs() -> None:
    cells = json.loads(FILE.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 10
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.long
def test_the_tutorial_runs_up_to_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(execute(tmp_path, monkeypatch, without="training"), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = execute(tmp_path, monkeypatch)
    check(cells, tmp_path)
    (reply,) = (cell for cell in cells if "client.chat" in cell.source)
    text = reply.outputs[0]["data"]["text/plain"]
    assert re.match(r"\('.+', \[", text), "the answer and the boxes"
    assert (tmp_path / "tutorial/training/model/p2r.json").is_file()
