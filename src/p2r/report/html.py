"""What every page is made of: its files put together, tables, and data that can stand in a script element.

A page is one file without any reference to the outside; its policy forbids the browser to load anything.
Texts of models and data sets reach it as data only and are never read as HTML.
"""

from __future__ import annotations

import json
from functools import partial
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2r.evaluation.tables import Grid

TEXT_BYTES = 2_500_000  # of the data with the texts of models, as they stand in the file


def filled(name: str, **parts: str) -> str:
    """The page: `web/common.html` around `web/NAME.html`, the styles and scripts of both, and its parts."""

    def read(kind: str) -> list[str]:
        files = [resources.files("p2r.report") / "web" / f"{whose}.{kind}" for whose in ("common", name)]
        return [file.read_text(encoding="utf-8") for file in files if file.is_file()]

    page, main = read("html")
    inserted = {"main": main.rstrip(), **parts, "css": "\n".join(read("css")), "js": "\n".join(read("js"))}
    for key, part in inserted.items():
        page = page.replace(f"<!--{key}-->", part)
    return page


def in_script(data: object) -> str:
    """The data as JSON that can stand in a script element, whatever it holds."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def fitted(
    make: Callable[[Callable[[str | None], str | None]], list[dict[str, Any]]], longest: Sequence[int]
) -> list[dict[str, Any]]:
    """Data whose texts are cut as far as the page's budget asks for; they are whole in the run folder.

    Args:
        make: gives the data; is given the function that cuts a text.
        longest: how many characters a text may have, from the most to the fewest that are worth showing.
    """
    for most in longest:
        data = make(partial(_cut, most))
        if len(in_script(data).encode(errors="backslashreplace")) <= TEXT_BYTES:
            break
    return data


def _cut(most: int, text: str | None) -> str | None:
    return text if text is None or len(text) <= most else text[:most] + " …"


def table(grid: Grid) -> str:
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


def shown(summary: str, text: str) -> str:
    """A text that is there when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def legend(keys: Sequence[tuple[str, str]]) -> str:
    """What the colors of a plot stand for, each the class of its swatch and a text; empty without any."""
    items = "".join(f'<li><span class="swatch {kind}"></span>{escape(text)}</li>' for kind, text in keys)
    return f'<ul class="legend">{items}</ul>' if items else ""
