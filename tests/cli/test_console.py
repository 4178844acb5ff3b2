"""Tables and errors of the command line, at any width."""

from __future__ import annotations

import pytest
from rich.text import Text

from p2r.cli._console import show_table, stderr

COLUMNS = ("mode", "questions", "accuracy", "95 % interval", "tokens / question", "malformed")
ROWS = [
    ("p2r", "1,234", "61.2", "55.1–67.0", "3,402", "0"),
    ("think", "1,234", "48.0", "41.9–54.1", "1,001", ""),
]


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    show_table(COLUMNS, ROWS, title="Accuracy", note="In percent.")
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width for line in lines)
    return lines


@pytest.mark.parametrize("width", [24, 30, 40, 60, 80, 120, 200])
def test_no_word_and_no_number_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    words = {word.rstrip(":") for line in shown(capsys, monkeypatch, width) for word in line.split()}
    wanted = {
        word for row in [COLUMNS, *ROWS, ("Accuracy", "In percent.")] for cell in row for word in cell.split()
    }
    assert words == wanted


def test_a_wide_terminal_has_a_row_for_each_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(capsys, monkeypatch, 120)
    assert lines[0] == "Accuracy"
    assert lines[1].split("  ")[0] == "mode"
    assert lines[2].split() == ["p2r", "1,234", "61.2", "55.1–67.0", "3,402", "0"]
    assert lines[4] == "In percent."
    ends = {line.rstrip().index("1,234") for line in lines[2:4]}
    assert len(ends) == 1, "numbers are aligned"


def test_a_narrow_terminal_has_a_row_for_each_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line.split() for line in shown(capsys, monkeypatch, 50)]
    assert ["mode", "p2r", "think"] in lines
    assert ["accuracy", "61.2", "48.0"] in lines


def test_a_very_narrow_terminal_has_a_line_for_each_cell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(capsys, monkeypatch, 24)
    assert "mode: think" in lines
    assert "accuracy: 48.0" in lines


def test_cells_may_be_colored_and_are_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("question", "answer"), [("[bold]what[/bold]", Text("✓ red", style="green"))])
    assert "[bold]what[/bold]" in capsys.readouterr().out


def test_what_is_not_a_terminal_has_no_spinner_even_if_colors_are_forced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter does for the commands of a cell
    stderr.cache_clear()
    with stderr().status("loading …"):
        stderr().print("note: a line", style="yellow")
    stderr.cache_clear()
    assert capsys.readouterr().err == "note: a line\n"
