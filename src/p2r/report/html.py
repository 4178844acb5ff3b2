"""The parts of every page: its files put together, tables, cards, and data for its script.

A page is one file without any reference to the outside; its policy forbids the browser to load anything.
Texts of models and data sets reach it as data only and are never read as HTML.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from p2r.evidence import OUTLINE_COLORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from p2r.evaluation.tables import Grid

    Cut = Callable[[str | None], str | None]

TEXT_BYTES = 2_500_000  # of the data with the texts of models, as they are in the file
LONGEST_TEXTS = (8_000, 4_000, 2_000, 1_000, 500, 250, 100)  # characters, from the best to the least useful


def build(
    name: str,
    *,
    kind: str,
    items: str,
    title: str,
    facts: Iterable[str],
    cards: Iterable[str],
    plots: Iterable[str],
    tables: Iterable[Grid],
    provenance: Mapping[str, object],
    data: Mapping[str, Any],
) -> str:
    """A page: `web/common.html` around `web/NAME.html`, with the styles and scripts of both.

    Args:
        name: of the files.
        kind, items: what the page shows, such as `evaluation` and its `questions`.
        title, facts: its head; the facts are the line below the title.
        cards, plots: HTML.
        tables: see `p2r.evaluation.tables`.
        provenance: heading → a text, or data that is shown as JSON.
        data: for the script.
    """

    def read(kind: str) -> list[str]:
        files = [resources.files("p2r.report") / "web" / f"{whose}.{kind}" for whose in ("common", name)]
        return [file.read_text(encoding="utf-8") for file in files if file.is_file()]

    page, main = read("html")
    facts = [*facts, f"page made {datetime.now(UTC):%Y-%m-%d}"]
    colors = [f"rgb{rgb}" for _, rgb in OUTLINE_COLORS]
    inserted = {
        "main": main.rstrip(),
        "kind": kind,
        "items": items,
        "title": escape(title),
        "lead": " · ".join(map(escape, facts)),
        "cards": "".join(cards),
        "plots": "".join(plots),
        "tables": "".join(map(_table, tables)),
        "provenance": "".join(_folded(heading, shown) for heading, shown in provenance.items()),
        "data": _in_script({"colors": colors, **data}),
        "css": "\n".join(read("css")),
        "js": "\n".join(read("js")),
    }
    for key, part in inserted.items():
        page = page.replace(f"<!--{key}-->", part)
    return page


def fitted(make: Callable[[Cut], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Data whose texts are cut to the page's budget; the run folder has them whole.

    Args:
        make: returns the data; its argument cuts a text.
    """
    for most in LONGEST_TEXTS:
        data = make(partial(_cut, most))
        if len(_in_script(data).encode(errors="backslashreplace")) <= TEXT_BYTES:
            break
    return data


def _cut(most: int, text: str | None) -> str | None:
    return text if text is None or len(text) <= most else text[:most] + " …"


def _in_script(data: object) -> str:
    """The data as JSON that is safe in a script element, whatever it holds."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _table(grid: Grid) -> str:
    """A table that scrolls sideways where it is too wide."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in grid.columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in grid.rows
    )
    note = f'<p class="note">{escape(grid.note)}</p>' if grid.note else ""
    label = escape(grid.title)
    return (
        f'<section class="grid"><h3>{label}</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{label}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"{note}</section>"
    )


def card(series: int, title: str, percent: str, intervals: Iterable[str], details: str) -> str:
    """A card with one large figure, in the color of a series."""
    big = f"{percent}<span> %</span>" if percent else "–"
    lines = "".join(f'<p class="interval">{escape(line)}</p>' for line in intervals)
    return (
        f'<article class="card series-{series}"><h3>{escape(title)}</h3><p class="big">{big}</p>{lines}'
        f"<p>{escape(details)}</p></article>"
    )


def _folded(summary: str, shown: object) -> str:
    text = shown if isinstance(shown, str) else json.dumps(shown, indent=2, ensure_ascii=False)
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"
