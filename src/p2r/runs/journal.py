"""Append-only JSON lines that survive a kill, a full disk and a power cut.

A line counts when it is whole, with its newline. Whatever else a crash left behind (a torn tail, a page of
zeros) is removed when the file is opened again, before anything is appended, so that a torn line can never
become part of a later one. What is removed was never counted: its question is simply asked again.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import io
import json
import os
from typing import TYPE_CHECKING, Any, Self

from p2r.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class Journal:
    """A file of JSON lines that is only ever appended to.

    Args:
        path: the file; made when it is not there, mended when its tail is torn.

    Attributes:
        records: what it held when it was opened.
        mended: how many damaged lines were dropped then.

    Raises:
        InputError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._synced = True
        try:
            self.records, self.mended = _mend(path)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            raise _refused(path, error) from error
        self._open = True

    def append(self, record: dict[str, Any]) -> None:
        """Hand one line to the system at once: it outlives this process, and with `sync` a power cut.

        Raises:
            InputError: the disk is full or failed; the file still ends with its last whole line.
        """
        line = memoryview(encode_json(record) + b"\n")
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            self._cut_back()
            raise _refused(self.path, error) from error
        self._size += len(line)
        self._synced = False

    def sync(self) -> None:
        """Wait until everything is on the disk. May run in a thread beside `append`.

        Raises:
            InputError: the disk is full or failed.
        """
        if not self._synced:
            self._synced = True
            try:
                os.fsync(self._file)
            except OSError as error:
                raise _refused(self.path, error) from error

    def close(self) -> None:
        """Sync and close. Safe to call twice."""
        if self._open:
            self._open = False
            try:
                self.sync()
            finally:
                os.close(self._file)

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            # The tail stays torn; it is removed when the file is opened again.
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FolderLock:
    """Keeps two processes from writing into one run folder; the system lets go of it when a process dies.

    Args:
        folder: made when it is not there.
        wait: until another process lets go of it, instead of refusing.

    Raises:
        InputError: another process has it, or it cannot be made or written.
    """

    def __init__(self, folder: Path, *, wait: bool = False) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _refused(folder, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise InputError(
                f"{folder}: another process is writing this run; wait for it or stop it"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def claim(folder: Path, marker: str, names: Iterable[str]) -> None:
    """Refuse a folder that holds something else under a name that will be written; nothing is made.

    Args:
        folder: where something is begun, or continued.
        marker: the file that is written first; where it is, its writer looks at what it holds.
        names: what else will be written, as globs.

    Raises:
        InputError: names what is in the way.
    """
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []  # dangling links too
    if not (folder / marker).is_file():
        for name in there:
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in (marker, *names)):
                raise InputError(f"{folder} holds {name} but no {marker}; give another folder")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole records of a file of JSON lines, without mending it; empty when there is no file.

    Raises:
        InputError: it cannot be read.
    """
    return list(each_line(path))


def each_line(path: Path) -> Iterator[dict[str, Any]]:
    """What `read_lines` reads, one record after the other: for files that are large beside the memory."""
    try:
        with path.open("rb") as file:
            for _, record in _whole_lines(file):
                yield record
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def write_json(path: Path, data: object) -> None:
    """Write a file of JSON in one step: a reader sees the old one or the new one, never half of it.

    Raises:
        InputError: it cannot be written.
    """
    write_file(path, encode_json(data, indent=2) + b"\n")


def encode_json(data: object, *, indent: int | None = None) -> bytes:
    """JSON in UTF-8; half of a character, as in some file names, is escaped and can be read back."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode(errors="backslashreplace")


def write_file(path: Path, body: bytes | str) -> None:
    """Write a file in one step: a reader sees the old one or the new one, never half of it.

    Raises:
        InputError: it cannot be written.
    """
    try:
        _replace(path, body.encode(errors="backslashreplace") if isinstance(body, str) else body)
    except OSError as error:
        raise _refused(path, error) from error


def _mend(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Read a journal, dropping from the file whatever is not a whole line."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    kept = list(_whole_lines(io.BytesIO(data)))
    whole = b"".join(line for line, _ in kept)
    if whole == data:
        return [record for _, record in kept], 0
    if data.startswith(whole):
        with path.open("r+b") as file:
            file.truncate(len(whole))
            os.fsync(file.fileno())
    else:
        _replace(path, whole)
    damaged = data.count(b"\n") + (not data.endswith(b"\n")) - len(kept)
    return [record for _, record in kept], damaged


def _whole_lines(lines: Iterable[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for line in lines:
        if not line.endswith(b"\n"):
            return  # being written, or torn by a crash
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield line, record


def _replace(path: Path, body: bytes) -> None:
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _refused(path: Path, error: OSError) -> InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "free some space and run the same command again; nothing that was written is lost"
    else:
        hint = "give --out another folder, or make this one writable"
    return InputError(f"cannot write {path}: {error.strerror or error}; {hint}")
