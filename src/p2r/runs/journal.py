"""Append-only JSON lines that survive a kill, a full disk and a power cut.

A line counts when it is complete, with its newline. Anything else that a crash left (a torn tail, a page of
zeros) is removed when the file is opened again, before anything is appended. It was never counted: its
question is asked again.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from p2r.errors import InputError, file_problem
from p2r.runs.files import encode_json, replacing, write_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path


class Journal:
    """A file of JSON lines that is only appended to.

    Args:
        path: the file; created if missing, repaired if its tail is torn.
        on_record: gets each record that the file holds, one at a time, for files that are large compared
            with the memory. The line of a record for which it returns False is removed.

    Attributes:
        records: what it held when it was opened; empty with `on_record`.
        repaired: the number of damaged lines that were removed then.

    Raises:
        InputError: it cannot be read or written.
    """

    def __init__(self, path: Path, on_record: Callable[[dict[str, Any]], object] | None = None) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._synced = True
        try:
            self.repaired = _repair(path, on_record or self.records.append)
            self._file = path.open("ab", buffering=0)
            self._size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise write_error(path, error) from error

    def append(self, record: dict[str, Any]) -> None:
        """Write one line to the system at once: it survives this process, and with `sync` a power cut.

        Raises:
            InputError: the disk is full or failed; the file still ends with its last complete line.
        """
        line = memoryview(encode_json(record) + b"\n")
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError as error:
            with suppress(OSError):  # a tail that stays torn is removed when the file is opened again
                self._file.truncate(self._size)
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
                os.fsync(self._file.fileno())
            except OSError as error:
                raise write_error(self.path, error) from error

    def close(self) -> None:
        """Sync and close. Safe to call twice."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete records of a file of JSON lines, without repairing it; empty when there is no file.

    Raises:
        InputError: it cannot be read.
    """
    return list(each_line(path))


def each_line(path: Path) -> Iterator[dict[str, Any]]:
    """What `read_lines` reads, one by one: for files that are large compared with the memory."""
    try:
        with path.open("rb") as file:
            for _, record in _lines(file):
                if record is not None:
                    yield record
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: {file_problem(error)}") from error


def _repair(path: Path, on_record: Callable[[dict[str, Any]], object]) -> int:
    """Remove damaged lines, and those that `on_record` refuses; returns the number of the damaged ones."""
    if not path.exists():
        return 0
    damaged, at, kept = 0, 0, 0  # lines, and bytes
    removed = set[int]()  # where the lines that go begin
    with path.open("rb") as file:
        for line, record in _lines(file):
            damaged += record is None
            if record is None or on_record(record) is False:
                removed.add(at)
            else:
                kept += len(line)
            at += len(line)
    if removed and min(removed) == kept:
        os.truncate(path, kept)  # needs no space, as on a full disk
    elif removed:
        _rewrite(path, removed)
    return damaged


def _rewrite(path: Path, removed: Collection[int]) -> None:
    """Write the file anew without the lines that begin at `removed`."""
    at = 0
    with path.open("rb") as old, replacing(path) as partial, partial.open("wb") as new:
        for line in old:
            if at not in removed:
                new.write(line)
            at += len(line)
        new.flush()
        os.fsync(new.fileno())


def _lines(file: Iterable[bytes]) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Each line with its record; None for a line that is being written, or was torn by a crash."""
    for line in file:
        try:
            record = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            record = None
        yield line, record if isinstance(record, dict) else None
