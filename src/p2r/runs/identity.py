"""Whether a folder holds the run that a command would continue.

A run file (`config.json` of an evaluation, `run.json` of a training) is an object with `identity`, the
settings that decide the results, and `sessions`, one entry for each command that worked on the run.
"""

from __future__ import annotations

import fnmatch
import json
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.runs.files import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def claim(folder: Path, marker: str, names: Iterable[str]) -> None:
    """Refuse a folder that holds something else under a name that will be written; nothing is created.

    Args:
        folder: where a run starts or continues.
        marker: the file that is written first. A folder that has it is checked by its reader.
        names: what else will be written, as globs.

    Raises:
        InputError: names the file that is in the way.
    """
    if folder.is_dir() and not (folder / marker).is_file():
        for path in sorted(folder.iterdir()):  # dangling links too
            if any(fnmatch.fnmatchcase(path.name, pattern) for pattern in (marker, *names)):
                raise InputError(f"{folder} holds {path.name} but no {marker}; give another folder")


def read_run_file(path: Path, command: str) -> dict[str, Any]:
    """A run file, with its `identity` and `sessions`.

    Raises:
        InputError: it cannot be read, or `command` did not write it.
    """
    data = read_json(path)
    if not isinstance(data.get("identity"), dict) or not isinstance(data.get("sessions"), list):
        raise InputError(f"{path} was not written by {command}; give --out another folder")
    return data


def check_same_run(folder: Path, before: Any, now: Any, *, what: str = "settings", hint: str = "") -> None:
    """Refuse to continue a run under another identity.

    Args:
        folder: of the run.
        before: the identity in the folder.
        now: that of the command, as data that `json.dumps` takes.
        what, hint: for the message: what an identity consists of, and a remark.

    Raises:
        InputError: names every value that differs.
    """
    now = json.loads(json.dumps(now))  # compared as it will be read back
    if found := differences(before, now):
        raise InputError(
            f"{folder} was started with other {what}: {'; '.join(found)}{hint}; give --out another folder"
        )


def differences(before: Any, now: Any, where: str = "") -> list[str]:
    """Each value of nested JSON data that differs, as `key.key was OLD, is NEW`."""
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [(f"{where}.{key}", before.get(key), now.get(key)) for key in sorted(before | now)]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = [(f"{where}.{at}", old, new) for at, (old, new) in enumerate(zip(before, now, strict=True))]
    else:
        return [] if before == now else [f"{where.lstrip('.')} was {_short(before)}, is {_short(now)}"]
    return [text for key, old, new in pairs for text in differences(old, new, key)]


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
