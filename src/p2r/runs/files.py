"""Files that are replaced in one step, JSON objects, and folders: their lock, and whose run they hold.

A run file (`config.json` of an evaluation, `run.json` of a training) is an object with `identity`, the
settings that decide the results, and `sessions`, one entry for each command that worked on the run.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, file_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

NO_LIMIT = -1.0


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A partial path beside `path`, for a file or a folder, that takes its place when the block succeeds.

    A reader never sees half of the content. A file is replaced in one step; an old folder is removed first,
    so that for a moment there is none. What an interrupted block leaves behind is removed by the next one.
    """
    partial = path.with_name(f".{path.stem}.part{path.suffix}")
    if partial.is_dir():
        shutil.rmtree(partial)
    else:
        partial.unlink(missing_ok=True)
    yield partial
    if partial.is_dir():
        shutil.rmtree(path, ignore_errors=True)  # only an empty folder can be replaced
    partial.replace(path)


def write_file(path: Path, body: bytes | str) -> None:
    """Write a file in one step, and wait until it is on the disk.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            file.write(body.encode(errors="backslashreplace") if isinstance(body, str) else body)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path, error) from error


def write_json(path: Path, data: object) -> None:
    """Write a file of JSON in one step; see `write_file`."""
    write_file(path, encode_json(data, indent=2) + b"\n")


def encode_json(data: object, *, indent: int | None = None) -> bytes:
    """JSON in UTF-8; half of a surrogate pair, as in some file names, is escaped and can be read back."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode(errors="backslashreplace")


def read_json(path: Path, *, hint: str = "") -> dict[str, Any]:
    """The JSON object in a file; `hint` says what to do when there is none.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problem = file_problem(error)
    else:
        if isinstance(data, dict):
            return data
        problem = "it holds no JSON object"
    raise InputError(f"{path}: {problem}{hint and f'; {hint}'}")


@contextmanager
def folder_lock(folder: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing into a folder; the system releases the lock when a process ends.

    Args:
        folder: created if missing.
        wait_s: how long to wait while another process has it; `NO_LIMIT` for as long as it takes.

    Raises:
        InputError: another process has it, or it cannot be created or written.
    """
    from filelock import FileLock, Timeout  # here, because it imports asyncio

    lock = FileLock(folder / ".lock", timeout=wait_s, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(f"{folder}: another process is writing this run; wait for it or stop it") from None
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def check_output(path: Path, kind: str, example: str, is_ours: Callable[[Path], bool]) -> None:
    """Refuse a file that cannot be written, or that would replace one that is not ours.

    Args:
        path: the file.
        kind, example: what it will hold, and a file name, for the message.
        is_ours: whether an existing file may be replaced; an empty one may.

    Raises:
        InputError: names the file and what is wrong with it.
    """
    problem = ""
    if path.is_dir():
        problem = f"a folder; give a file name, such as {path / example}"
    elif not path.parent.is_dir():
        problem = f"there is no folder {path.parent}; make it first"
    elif not all(os.access(part, os.W_OK) for part in (path, path.parent) if part.exists()):
        problem = "no permission to write there"
    elif path.is_file() and path.stat().st_size and not is_ours(path):
        problem = f"it is there already and is not a {kind} of ours; give another name"
    if problem:
        raise InputError(f"{path}: {problem}")


def write_error(path: Path, error: OSError) -> InputError:
    """The error for a file or folder that cannot be written, with what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "free some space and run the same command again; nothing that was written is lost"
    else:
        hint = "give --out another folder, or make this one writable"
    return InputError(f"cannot write {path}: {error.strerror or error}; {hint}")


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
