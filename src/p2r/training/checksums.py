"""Whether the files of a folder are those that were written: sizes and CRC-32, a few seconds for 10 GB."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PART = 1 << 24  # bytes read at a time

Checksums = dict[str, str]


def checksums(folder: Path) -> Checksums:
    """Relative path → size and CRC-32 of every file below a folder.

    Raises:
        OSError: a file cannot be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(4) as pool:  # neither reading nor summing up holds the interpreter's lock
        return dict(
            zip((path.relative_to(folder).as_posix() for path in files), pool.map(_sum, files), strict=True)
        )


def damage(folder: Path, known: Mapping[str, str]) -> str:
    """What is wrong with a folder whose checksums were `known`; empty when its files are as they were."""
    try:
        now = checksums(folder)
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    for name, known_sum in known.items():
        if name not in now:
            return f"{name} is missing"
        if now[name] != known_sum:
            return f"{name} is not as it was written"
    return ""


def _sum(path: Path) -> str:
    size = total = 0
    with path.open("rb") as file:
        while part := file.read(_PART):
            size += len(part)
            total = zlib.crc32(part, total)
    return f"{size}-{total:08x}"
