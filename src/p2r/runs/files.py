"""Files that are replaced in one step, JSON objects, and the lock of a folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, file_problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_LIMIT = -1.0


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A partial path beside `path`, for a file or a folder, that takes its place when the block succeeds.

    A reader sees the old content or the new one, never half of it. What an interrupted block leaves behind
    is removed by the next one.
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


def write_error(path: Path, error: OSError) -> InputError:
    """The error for a file or folder that cannot be written, with what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "free some space and run the same command again; nothing that was written is lost"
    else:
        hint = "give --out another folder, or make this one writable"
    return InputError(f"cannot write {path}: {error.strerror or error}; {hint}")
