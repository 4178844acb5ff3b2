"""Append-only JSON lines that survive a kill, a full disk and a power cut.

A line counts when it is whole, with its newline. Whatever else a crash left behind (a torn tail, a page of
zeros) is removed when the file is opened again, before anything is appended, so that a torn line can never
become part of a later one. What is removed was never counted: its question is simply asked again.
"""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any, Self

from p2r.errors import InputError, file_problem
from p2r.runs.files import encode_json, write_error, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class Journal:
    """A file of JSON lines that is only ever appended to.

    Args:
        path: the file; made when it is not there, repaired when its tail is torn.

    Attributes:
        records: what it held when it was opened.
        repaired: how many damaged lines were dropped then.

    Raises:
        InputError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._synced = True
        try:
            self.records, self.repaired = _repair(path)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            raise write_error(path, error) from error
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
            raise write_error(self.path, error) from error
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
                raise write_error(self.path, error) from error

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


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole records of a file of JSON lines, without repairing it; empty when there is no file.

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
        raise InputError(f"{path}: {file_problem(error)}") from error


def _repair(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of a journal, and how many damaged lines were removed from the file."""
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
        write_file(path, whole)
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
