"""Readers of the cells of a row; each names the column when a cell is not as expected."""

from __future__ import annotations

import ast
import binascii
import math
import re
from typing import TYPE_CHECKING, Any

import pybase64

from p2r.errors import InputError
from p2r.parsing.options import legal_choices, split_options, without_marks
from p2r.types import LETTERS, Box

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from p2r.images import ImageInput

    Row = Mapping[str, Any]

_NO_UTF8 = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of other bytes


def text(row: Row, column: str) -> str:
    """A cell that holds a text or a number, stripped, never empty."""
    value = row.get(column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or isinstance(value, bool | list | dict) or not str(value).strip():
        raise _unexpected(column, "a text", value)
    return optional_text({column: value}, column)


def optional_text(row: Row, column: str) -> str:
    """A cell that may be missing or empty."""
    value = row.get(column)
    written = "" if value is None else str(value).strip()
    if _NO_UTF8.search(written):
        raise InputError(f"column {column!r}: it holds bytes that are not UTF-8")
    return written


def letter(row: Row, column: str, choices: Sequence[str]) -> str:
    """A cell that holds the letter of one of `choices`: `B`, `(b)` or `B.`."""
    value = text(row, column).strip("(). ").upper()
    letters = LETTERS[: len(choices)]
    if len(value) != 1 or value not in letters:
        raise _unexpected(column, f"one of the letters {letters[0]}–{letters[-1]}", row.get(column))
    return value


def options(row: Row, column: str) -> tuple[str, ...]:
    """A cell that holds lettered options: a list, the literal of a list, or one text with a line for each."""
    value = row.get(column)
    if isinstance(value, str) and value.strip().startswith("["):
        value = literal(value, column)
    if isinstance(value, list | tuple):
        found = legal_choices(without_marks([str(item) for item in value]))
    else:
        found = split_options(text(row, column))[1]
    if len(found) < 2:
        raise _unexpected(column, "two or more options", row.get(column))
    return found


def only_image(row: Row, column: str) -> str | bytes:
    """A cell that holds one image as a text or bytes, in a list of one or in `{"bytes", "path"}` too."""
    value = row.get(column)
    if isinstance(value, str) and value.strip().startswith("["):
        value = literal(value, column)
    if isinstance(value, list | tuple):
        if len(value) != 1:
            raise InputError(f"column {column!r}: {len(value)} images; one is needed")
        value = value[0]
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path") or value.get("image")
    if not value or not isinstance(value, str | bytes):
        raise _unexpected(column, "an image", value)
    return value


def image(row: Row, column: str, root: Path | None = None) -> ImageInput:
    """A cell that holds an image: `{"bytes", "path"}`, bytes, base64, a data URI or a relative path.

    `b""` when the row was read without its images.
    """
    if column not in row:
        return b""
    value = only_image(row, column)
    if isinstance(value, bytes) or value.startswith("data:"):
        return value
    if root is not None and len(value) < 4096:
        path = root / value
        if path.is_file():
            return path
    try:
        return pybase64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        where = f" in {root}" if root else ""
        raise InputError(f"column {column!r}: no image {_shown(value)}{where}, and not base64") from None


def pixel_boxes(row: Row, column: str, size: tuple[int, int], *, corners: str = "xyxy") -> tuple[Box, ...]:
    """A cell that holds one or more boxes in pixels, as gold boxes in 0–1000.

    Args:
        row, column: the cell: a list, a list of lists, or the literal of one.
        size: width and height of the image.
        corners: `xyxy` (two corners) or `xywh` (a corner and a size).
    """
    value = row.get(column)
    if isinstance(value, str):
        value = literal(value, column) if value.strip() else []
    found = list(value) if value is not None else []
    if found and not isinstance(found[0], list | tuple):
        found = [found]
    boxes = (_pixel_box(box, column, size, corners) for box in found)
    return tuple(box for box in boxes if box)


def literal(value: str, column: str) -> Any:
    """A cell that holds the literal of a list."""
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise _unexpected(column, "the literal of a list", value) from None


def _pixel_box(box: Sequence[Any], column: str, size: tuple[int, int], corners: str) -> Box | None:
    if len(box) != 4 or not all(isinstance(n, int | float) and math.isfinite(n) for n in box):
        raise _unexpected(column, "four numbers for a box", box)
    x0, y0, x1, y1 = (float(n) for n in box)
    if corners == "xywh":
        x1, y1 = x0 + x1, y0 + y1
    x0, x1 = sorted(min(max(1000 * x / size[0], 0.0), 1000.0) for x in (x0, x1))
    y0, y1 = sorted(min(max(1000 * y / size[1], 0.0), 1000.0) for y in (y0, y1))
    # A box outside the image, or without an area, points at nothing.
    return Box(x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _unexpected(column: str, expected: str, value: object) -> InputError:
    return InputError(f"column {column!r}: expected {expected}, found {_shown(value)}")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}…"
