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


def check_displayed(cells: list[Any], count: int) -> None:
    shown = displayed(cells)
    assert len(shown) == count
    for html in shown:
        assert html.count('src="data:image/jpeg;base64,') == 1
        assert len(html) < 1_000_000


def test_the_tutorial_is_stored_without_outputs() -> None:
    cells = json.loads(FILE.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 10
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.long
def test_the_tutorial_runs_up_to_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = execute(tmp_path, monkeypatch, without="command")
    check_displayed(cells, 3)  # two predictions and evidence
    assert "Which digit is on the purple tag?" in displayed(cells)[0]
    assert len((tmp_path / "tutorial/questions.jsonl").read_text().splitlines()) == 6


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = execute(tmp_path, monkeypatch)
    check_displayed(cells, 4)  # and a prediction of a run
    (evaluation,) = (cell for cell in cells if "p2r eval" in cell.source)
    assert "think" in text_of(evaluation)
    (reply,) = (cell for cell in cells if "client.chat" in cell.source)
    text = reply.outputs[0]["data"]["text/plain"]
    assert re.match(r"\('.+', \[", text), "the answer and the boxes"
    for name in ("figure.png", "run/report.html", "training/model/p2r.json"):
        assert (tmp_path / "tutorial" / name).stat().st_size
