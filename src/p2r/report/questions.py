"""Every question as data for the page's script: what was asked, and what each column saw and answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2r.evaluation.outcomes import MEANING, outcome
from p2r.evidence import OUTLINE_COLORS
from p2r.report.columns import pairs
from p2r.report.html import fitted, in_script

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from p2r.evaluation.records import Record
    from p2r.report.columns import Column
    from p2r.report.thumbnails import Thumbnails

    Cut = Callable[[str | None], str | None]

LONGEST_TEXTS = (8_000, 4_000, 2_000, 1_000, 500, 250, 100)


def embedded(columns: Sequence[Column], names: Sequence[str], images: Mapping[str, Thumbnails]) -> str:
    """The data as JSON that can stand in a script element, whatever it holds.

    Args:
        columns: what is shown side by side.
        names: the questions in order.
        images: id → thumbnails, where there are any.
    """
    questions = fitted(lambda cut: [_question(name, columns, cut) for name in names], LONGEST_TEXTS)
    for question in questions:
        if made := images.get(question["id"]):
            question["image"] = made.overview
            for column, answer in zip(columns, question["answers"], strict=True):
                if answer:
                    answer["crops"] = list(made.crops.get(column.label, ()))
    data = {
        "columns": [column.label for column in columns],
        "pairs": [[columns.index(first), columns.index(second)] for first, second in pairs(columns)],
        "meaning": MEANING,
        "colors": [f"rgb{rgb}" for _, rgb in OUTLINE_COLORS],
        "questions": questions,
    }
    return in_script(data)


def _question(name: str, columns: Sequence[Column], cut: Cut) -> dict[str, Any]:
    lines = [column.lines.get(name) for column in columns]
    known = next(line for line in lines if line)
    answered = next((line for line in lines if line and "error" not in line), {})
    return {
        "id": name,
        "question": known["question"],
        "choices": known["choices"],
        "category": known["category"],
        "gold": answered.get("gold"),
        "goldBoxes": answered.get("gold_boxes"),
        "size": answered.get("size"),
        "image": "",
        "answers": [line and _answer(line, cut) for line in lines],
    }


def _answer(line: Record, cut: Cut) -> dict[str, Any]:
    if "error" in line:
        return {"outcome": "failed", "error": cut(line["error"]), "boxes": [], "crops": []}
    return {
        "outcome": outcome(line),
        "answer": cut(line["answer"]),
        "why": line["reason"],
        "boxes": [[*box["box"], cut(box["label"])] for box in line["boxes"]],
        "crops": [],
        "perception": cut(line["perception"]),
        "dropped": [cut(reason) for reason in line["dropped"]],
        "text": cut(line["text"]),
        "tokens": line["usage"]["prompt_tokens"] + line["usage"]["completion_tokens"],
        "seconds": round(line["seconds"].get("total", 0.0), 2),
        "notes": line["notes"],
    }
