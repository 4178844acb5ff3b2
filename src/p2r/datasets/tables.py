"""Rows of a table: parquet, TSV, CSV or JSON files, a folder of them, or a data set on the hub.

Rows are read one by one, images stay undecoded, and columns that are not wanted are not read. Data on the hub
is streamed by `datasets`. Files on disk are read more directly, because benchmarks have rows of tens of
megabytes: parquet by pyarrow in batches of four rows (a 400 MB file with a single row group peaks at 0.9 GB
instead of the 2.6 GB of `datasets`), text tables by the standard library, where "NA" and "007" stay texts.
JSON lists hold paths, not images, and are read whole.
"""

from __future__ import annotations

import csv
import fnmatch
import json
import sys
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from p2r.datasets.hub import HubDataset, UnreachableError, fetch_folder, is_hub_id
from p2r.errors import InputError, MissingExtraError, file_problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

SUFFIXES = (".parquet", ".tsv", ".csv", ".json", ".jsonl")
_HUB_SCHEME = "hf://"
_BATCH_ROWS = 4
_BROKEN = "surrogateescape"  # a cell with bytes that are not UTF-8 is refused when it is read (`cells.text`)


class Table:
    """Rows in a fixed order, as dictionaries.

    Args:
        data: a file, a folder, or `owner/name[@revision]` on the hub.
        patterns: which files of a folder or a repository to take, as globs; the first that matches decides.

    Attributes:
        source: the files, or the hub id with its commit, for people.
        root: the folder that relative paths of images start from; None on the hub.
        hub: the data set on the hub; None on this machine.

    Raises:
        InputError: there is nothing to read there.
    """

    def __init__(self, data: str | Path, *, patterns: tuple[str, ...]) -> None:
        path = Path(data).expanduser()
        self.root: Path | None = None
        self.hub: HubDataset | None = None
        if path.is_file():
            self.root, files = path.parent, [path.name]
        elif path.is_dir():
            self.root = path
            listed = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
            files = _matching(str(path), listed, patterns)
        elif is_hub_id(str(data)):
            self.hub = hub = HubDataset.find(str(data))
            files = _matching(str(data), hub.files, patterns)
            self.source = f"{hub.name}@{hub.commit}: {', '.join(files)}"
            # Text tables are fetched, parquet is streamed.
            streamed = f"{_HUB_SCHEME}datasets/{hub.name}@{hub.commit}/"
            self._files = [
                streamed + file if file.endswith(".parquet") else str(hub.fetch(file)) for file in files
            ]
            return
        else:
            raise InputError(f"{data}: no such file or folder, and not a hub id (owner/name)")
        self._files = [str(self.root / file) for file in files]
        self.source = ", ".join(self._files)
        if unknown := [file for file in self._files if not file.lower().endswith(SUFFIXES)]:
            raise InputError(f"{unknown[0]}: expected a file of {', '.join(SUFFIXES)}")

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
            for row in text_rows(Path(file)) if kind in ("tsv", "csv") else read_json(Path(file)):
                if isinstance(row, InputError):
                    raise row
                yield {key: value for key, value in row.items() if key not in without}

    def image(self, name: str) -> Path:
        """The image that a row names by a path, on this machine.

        Raises:
            InputError: there is none.
            UnreachableError: there is one on the hub, and it could not be fetched.
        """
        if self.hub is None:
            root = self.root or Path()
            for path in (*(root / candidate for candidate in _candidates(name)), root.parent / name):
                if path.is_file():
                    return path
            raise InputError(f"no image {name} in {root}")
        files = set(self.hub.files)
        for candidate in _candidates(name):
            if candidate in files:
                return self.hub.fetch(candidate)
        packed = any(file.endswith((".zip", ".tar", ".gz", ".7z", ".rar")) for file in files)
        hint = "; they are packed there: unpack them, and give the folder" if packed else ""
        raise InputError(f"no image {name} in {self.hub.name}{hint}")


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


def json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    """Each line of a file of JSON lines that is not empty, with its number.

    A line that holds no object is yielded as the error that says so.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with file.open(encoding="utf-8-sig", errors=_BROKEN, newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield number, InputError(f"not JSON: {error}")
                else:
                    yield number, row if isinstance(row, dict) else InputError("an object is needed")
    except OSError as error:
        raise InputError(f"{file}: {file_problem(error)}") from error


def text_rows(file: Path) -> Iterator[dict[str, Any] | InputError]:
    """The rows of a TSV or CSV file with a header; every cell is a text.

    A row with more cells than the header is yielded as the error that says so.

    Raises:
        InputError: the file cannot be read.
    """
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    # The standard library's limit of 128 KB a field is for the whole process; images are far larger.
    csv.field_size_limit(sys.maxsize)
    try:
        with file.open(encoding="utf-8-sig", errors=_BROKEN, newline="") as lines:
            reader = csv.DictReader(lines, delimiter=delimiter)
            for row in reader:
                if None in row:  # the key of cells beyond the header
                    yield InputError(f"{file}: line {reader.line_num} has more cells than the header")
                    continue
                yield {key: value for key, value in row.items() if value is not None}
    except csv.Error as error:
        raise InputError(f"{file}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {file_problem(error)}") from error


def local_or_fetched(data: str) -> Path:
    """A data set whose images are files: `data` itself, or the cached folder of that hub id.

    Raises:
        InputError: it cannot be fetched.
    """
    path = Path(data).expanduser()
    return path if path.exists() else fetch_folder(data)


def parquet_types(file: Path) -> dict[str, str]:
    """The columns of a parquet file with the names of their types.

    Raises:
        InputError: it cannot be read.
    """
    with _parquet(str(file)) as table:
        return {field.name: str(field.type) for field in table.schema_arrow}


def _parquet_rows(file: str, without: Collection[str]) -> Iterator[dict[str, Any]]:
    with _parquet(file) as table:
        kept = [column for column in table.schema_arrow.names if column not in without]
        for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=kept):
            yield from batch.to_pylist()


@contextmanager
def _parquet(file: str) -> Iterator[Any]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("eval", "pyarrow") from error
    try:
        with ParquetFile(file, pre_buffer=False) as table:
            yield table
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {file_problem(error)}") from error


def _streamed(url: str, without: Collection[str]) -> Iterator[dict[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("eval", "datasets") from error
    datasets.disable_progress_bars()

    def opened(**options: Any) -> Any:
        files = {"all": [url]}
        return datasets.load_dataset("parquet", data_files=files, split="all", streaming=True, **options)

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
        raise UnreachableError(url, error) from error


def _matching(where: str, names: Sequence[str], patterns: tuple[str, ...]) -> list[str]:
    for pattern in patterns:
        # `**/` in front of a pattern matches any folders, also none.
        globs = {pattern, pattern.removeprefix("**/")}
        if found := sorted(n for n in names if any(fnmatch.fnmatchcase(n, glob) for glob in globs)):
            return found
    shown = ", ".join(sorted(names)[:8]) + (" …" if len(names) > 8 else "")
    raise InputError(f"{where}: no file matches {' or '.join(patterns)}; found: {shown or 'nothing'}")


def _candidates(name: str) -> Iterator[str]:
    # Releases name an image from their own folder, from the folder above it, or from where it once was.
    path = PurePosixPath(name)
    yield name
    if not path.is_absolute() and len(path.parts) > 1:
        yield str(PurePosixPath(*path.parts[1:]))
    for folder in ("images", "data"):
        yield f"{folder}/{name}"
        yield f"{folder}/{path.name}"
