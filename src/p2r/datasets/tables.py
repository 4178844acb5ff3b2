"""Rows of a table: parquet, TSV, CSV or JSON files, a folder of them, or a data set on the hub.

Rows come one by one and none is kept; images stay undecoded, and columns that nobody asks for unread. Data
on the hub is streamed by `datasets`. Files on disk are read more directly, because benchmarks have rows of
tens of megabytes: parquet by pyarrow in batches of four rows (a 400 MB file with a single row group peaks at
0.9 GB instead of the 2.6 GB of `datasets`), text tables by the standard library, where "NA" and "007" stay
texts. JSON lists hold paths, not images, and are read whole.
"""

from __future__ import annotations

import csv
import fnmatch
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, MissingExtraError, file_problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

SUFFIXES = (".parquet", ".tsv", ".csv", ".json", ".jsonl")
_HUB_SCHEME = "hf://"
_ROWS_AT_ONCE = 4
_BROKEN = "surrogateescape"  # a cell with bytes that are not UTF-8 is refused when it is read (`rows.text`)


class Table:
    """Rows in a fixed order, as dictionaries.

    Args:
        data: a file, a folder, or `owner/name[@revision]` on the hub.
        patterns: which files of a folder or a repository to take, as globs; the first that matches decides.

    Attributes:
        source: the files, or the hub id with its commit, for people.
        root: the folder that relative paths of images start from; None on the hub.

    Raises:
        InputError: there is nothing to read there.
    """

    def __init__(self, data: str | Path, *, patterns: tuple[str, ...]) -> None:
        path = Path(data).expanduser()
        self.root: Path | None = None
        self._files: tuple[str, ...]
        if path.exists():
            self.root = path.parent if path.is_file() else path
            files = (path,) if path.is_file() else tuple(self.root / name for name in _listed(path, patterns))
            if unknown := [file for file in files if file.suffix.lower() not in SUFFIXES]:
                raise InputError(f"{unknown[0]}: expected a file of {', '.join(SUFFIXES)}")
            self._files = tuple(str(file) for file in files)
            self.source = ", ".join(self._files)
        elif is_hub_id(str(data)):
            self.source, self._files = _on_the_hub(str(data), patterns)
        else:
            raise InputError(f"{data}: no such file or folder, and not a hub id (owner/name)")

    def rows(self, without: Collection[str] = ()) -> Iterator[dict[str, Any]]:
        """All rows in order, without the columns named in `without`.

        Raises:
            InputError: a file that cannot be read.
        """
        for file in self._files:
            kind = file.rpartition(".")[2].lower()
            if kind == "parquet":
                yield from (_streamed if file.startswith(_HUB_SCHEME) else _parquet_rows)(file, without)
                continue
            rows = text_rows(Path(file)) if kind in ("tsv", "csv") else iter(read_json(Path(file)))
            for row in rows:
                yield {key: value for key, value in row.items() if key not in without}


def require(row: dict[str, Any], columns: Collection[str], where: str) -> None:
    """Check that a row has the columns that are needed.

    Raises:
        InputError: names the missing column and those that were found.
    """
    for column in columns:
        if column not in row:
            found = ", ".join(repr(name) for name in row) or "none"
            raise InputError(f"{where}: column {column!r} is missing; found: {found}")


def read_json(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON list, of JSON lines, or the one object of a file.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        body = file.read_text(encoding="utf-8-sig", errors=_BROKEN)
        try:
            rows = json.loads(body)
        except json.JSONDecodeError:
            # Not `splitlines`: texts may hold other separators than the end of a line.
            rows = [json.loads(line) for line in body.split("\n") if line.strip()]
    except RecursionError as error:
        raise InputError(f"{file}: nested too deeply") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: {file_problem(error)}") from error
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{file}: expected a list of objects")
    return rows


def text_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a TSV or CSV file with a header; every cell is a text.

    Raises:
        InputError: the file cannot be read, or a row has more cells than the header.
    """
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    # The standard library's limit of 128 KB a field is for the whole process; images are far larger.
    csv.field_size_limit(sys.maxsize)
    try:
        with file.open(encoding="utf-8-sig", errors=_BROKEN, newline="") as lines:
            reader = csv.DictReader(lines, delimiter=delimiter, restkey="")
            for row in reader:
                if row.get(""):
                    raise InputError(f"{file}: line {reader.line_num} has more cells than the header")
                yield {key: value for key, value in row.items() if key and value is not None}
    except csv.Error as error:
        raise InputError(f"{file}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {file_problem(error)}") from error


def local_or_fetched(data: str) -> Path:
    """Where a data set is whose images are files: `data` itself, or the cached folder of that hub id.

    Raises:
        InputError: it cannot be fetched.
    """
    path = Path(data).expanduser()
    if path.exists():
        return path
    name, _, revision = data.partition("@")
    try:
        return Path(_hub().snapshot_download(name, repo_type="dataset", revision=revision or None))
    except Exception as error:
        # The client of the hub raises errors of its own, of its HTTP library and of the file system.
        raise InputError(_unreadable(data, error)) from error


def is_hub_id(text: str) -> bool:
    """Whether a text could be `owner/name` or `owner/name@revision`."""
    owner, slash, name = text.partition("@")[0].partition("/")
    legal = all(part and all(c.isalnum() or c in "-_." for c in part) for part in (owner, name))
    return bool(slash) and legal and not owner.startswith(".")


def _parquet_rows(file: str, without: Collection[str]) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("eval", "pyarrow") from error
    try:
        with ParquetFile(file, pre_buffer=False) as table:
            kept = [column for column in table.schema_arrow.names if column not in without]
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=kept):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(_unreadable(file, error)) from error


def _streamed(url: str, without: Collection[str]) -> Iterator[dict[str, Any]]:
    datasets = _datasets()

    def opened(**options: Any) -> Any:
        return datasets.load_dataset(
            "parquet", data_files={"all": [url]}, split="all", streaming=True, **options
        )

    try:
        stream = opened()
        kept = [column for column in stream.column_names if column not in without]
        if len(kept) < len(stream.column_names):
            stream = opened(columns=kept)
        for column, feature in (stream.features or {}).items():
            if isinstance(feature, datasets.Image):
                stream = stream.cast_column(column, datasets.Image(decode=False))
        yield from stream
    except Exception as error:
        # `datasets` passes on whatever pyarrow, fsspec or the client of the hub raises.
        raise InputError(_unreadable(url, error)) from error


def _listed(folder: Path, patterns: tuple[str, ...]) -> list[str]:
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    return _matching(str(folder), names, patterns)


def _on_the_hub(hub_id: str, patterns: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Pin a data set to the commit that the hub serves now; text tables are fetched, parquet is streamed."""
    name, _, revision = hub_id.partition("@")
    hub = _hub()
    try:
        info = hub.HfApi().dataset_info(name, revision=revision or None)
        listed = [file.rfilename for file in info.siblings or ()]
        found = _matching(hub_id, listed, patterns)
        files = [
            f"{_HUB_SCHEME}datasets/{name}@{info.sha}/{file}"
            if file.endswith(".parquet")
            else hub.hf_hub_download(name, file, repo_type="dataset", revision=info.sha)
            for file in found
        ]
    except InputError:
        raise
    except Exception as error:
        raise InputError(_unreadable(hub_id, error)) from error
    return f"{name}@{info.sha}: {', '.join(found)}", tuple(files)


def _matching(where: str, names: list[str], patterns: tuple[str, ...]) -> list[str]:
    for pattern in patterns:
        # `**/` in front of a pattern stands for any folders, also for none.
        globs = {pattern, pattern.removeprefix("**/")}
        if found := sorted(n for n in names if any(fnmatch.fnmatchcase(n, glob) for glob in globs)):
            return found
    shown = ", ".join(sorted(names)[:8]) + (" …" if len(names) > 8 else "")
    raise InputError(f"{where}: no file matches {' or '.join(patterns)}; found: {shown or 'nothing'}")


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("eval", "datasets") from error
    datasets.disable_progress_bars()
    return datasets


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError("eval", "huggingface_hub") from error
    return huggingface_hub


def _unreadable(source: str, error: Exception) -> str:
    cause = re.sub(r"^\[Errno -?\d+\] ", "", next(iter(str(error).strip().splitlines()), ""))
    reason = f"{type(error).__name__}: {cause}" if cause else type(error).__name__
    return (
        f"{source}: cannot be read: {reason}; give a file or folder of this machine: --data PATH "
        "(p2r eval), --from SOURCE=PATH or --against BENCHMARK=PATH (p2r data)"
    )
