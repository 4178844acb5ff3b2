"""Changes of settings: written as `a.b=value`, laid over other settings, and checked."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from p2r.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")

_SWITCHES = {"on": True, "true": True, "off": False, "false": False}


def read_assignment(text: str) -> dict[str, Any]:
    """`geometry.max_crops=1` → `{"geometry": {"max_crops": 1}}`.

    The value is JSON if it parses as such, `on`, `off`, `true` and `false` in any case are booleans, and
    anything else is text.

    Raises:
        InputError: it is not written as KEY=VALUE.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"{text}: write KEY=VALUE, for example geometry.max_crops=1")
    changes: Any = _value(value.strip())
    for key in reversed(keys):
        changes = {key: changes}
    result: dict[str, Any] = changes
    return result


def _value(text: str) -> Any:
    if text.lower() in _SWITCHES:
        return _SWITCHES[text.lower()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it: dictionaries are merged at every depth, other values replaced."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def checked(kind: type[T], data: object, *, where: str) -> T:
    """Build a dataclass from plain data.

    Raises:
        InputError: `where`, the key, and what is wrong with it.
    """
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        errors = error.errors()
        place = errors[0]["loc"]
        if place and "[" in str(place[-1]):  # the name of a type: a union has an error for each of its types
            place = place[:-1]
        same = (entry["msg"] for entry in errors if entry["loc"][: len(place)] == place)
        what = "; or: ".join(dict.fromkeys(same)).removeprefix("Value error, ")
        if errors[0]["type"] == "unexpected_keyword_argument":
            what = f"there is no such key; known: {', '.join(_keys(kind, place[:-1]))}"
        key = ".".join(str(part) for part in place) or "top level"
        raise InputError(f"{where}: {key}: {what}") from error


def _keys(kind: type[Any], place: Sequence[int | str]) -> list[str]:
    """The keys of a dataclass whose fields have defaults, or of one that it holds."""
    data = kind()
    for name in place:
        data = getattr(data, str(name))
    return [entry.name for entry in fields(data)]
