"""Append-only JSON lines that survive a kill, a full disk and a power cut.

A line counts when it is complete, with its newline. Anything else that a crash left (a torn tail, a page of
zeros) is removed when the file is opened again, before anything is appended. It was never counted: its
question is asked again.
"""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from p2r.errors import InputError, file_problem
from p2r.runs.files import encode_json, write_error, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class Journal:
    """A file of JSON lines that is only appended to.

    Args:
        path: the file; created if missing, repaired if its tail is torn.

    Attributes:
        records: what it held when it was opened.
        repaired: the number of damaged lines that were removed then.

    Raises:
        InputError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._synced = True
        try:
            self.records, self.repaired = _repair(path)
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
            for _, record in _complete_lines(file):
                yield record
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: {file_problem(error)}") from error


def _repair(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of a journal, and how many damaged lines were removed from the file."""
    if not path.exists():
        return [], 0
    data = path.read_bytes()
    kept = list(_complete_lines(io.BytesIO(data)))
    whole = b"".join(line for line, _ in kept)
    if whole != data and data.startswith(whole):
        os.truncate(path, len(whole))  # needs no space, as on a full disk
    elif whole != data:
        write_file(path, whole)
    return [record for _, record in kept], data.count(b"\n") + (data[-1:] not in (b"", b"\n")) - len(kept)


def _complete_lines(lines: Iterable[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and line.endswith(b"\n"):  # else it is being written, or torn by a crash
            yield line, record
