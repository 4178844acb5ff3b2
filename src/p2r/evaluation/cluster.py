"""Rows of a batch answered on several machines, by Ray Data (`p2r batch --ray`).

Rows are handed in shards to workers: processes on the machines of a Ray cluster, which open the images, cut
the evidence and call the models. Their lines come back to the command, which alone writes them. So a shard
that a killed worker had begun is asked again by another one, and each row has one line, whatever was killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import posixpath
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from p2r.datasets.questions import IMAGES, InvalidRow
from p2r.errors import InputError, MissingExtraError, ModelError, P2RError
from p2r.evaluation.batch_results import asked, image_name
from p2r.models.base import one_line
from p2r.models.loading import SERVER_SCHEMES, open_model
from p2r.pipeline import P2R
from p2r.runs.files import encode_json, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
    from pathlib import Path

    from p2r.images import ImageInput
    from p2r.models.base import Completion, Message, Model, Sampling
    from p2r.settings import Settings
    from p2r.types import Question

    Row = tuple[int, Question | InvalidRow]
    Lines = AsyncGenerator[dict[str, Any]]

SHARD_ROWS = 64
_AT_ONCE = 2  # shards of a worker, so that its models are busy while one of them ends


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the rows of a batch are answered.

    Attributes:
        models: specs, opened by each worker; several are servers of one model, which are asked in turn.
        settings: of the models.
        reasoner: see `P2R`.
        concurrency: questions in flight of each worker.
        address: of the cluster, as `ray.init` takes it; `local` starts one on this machine.
        workers: processes; None for one a GPU where they load the model themselves, else one a CPU, less one.
        root: the folder that the paths of images are relative to.
        remote: its URI, where it is not on this machine.
    """

    models: Sequence[str]
    settings: Settings
    reasoner: str | None = None
    concurrency: int = 32
    address: str = "local"
    workers: int | None = None
    root: Path | None = None
    remote: str = ""


async def answered_on_ray(
    rows: Iterator[Row], answer: Callable[[Iterator[Row], P2R], Lines], cluster: Cluster
) -> Lines:
    """Answer rows and yield their lines as shards end; close it with `aclosing`.

    Args:
        rows: numbers and questions. All are drawn, and held in the memory of Ray.
        answer: yields the lines of some rows, in any order; the workers call it.
        cluster: where.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: a model cannot be used.
        ModelError: there is no such cluster, or a worker failed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    try:
        shards = await asyncio.to_thread(_start, ray, rows, answer, cluster)
        while shard := await asyncio.to_thread(next, shards, None):
            for line in shard["line"]:
                yield json.loads(line)
    except Exception as error:
        # Ray raises plain exceptions, and those of the workers wrapped.
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, P2RError):
            raise cause from error
        raise ModelError(f"Ray ({cluster.address}): {one_line(cause)}", kind="internal") from error
    finally:
        await asyncio.to_thread(ray.shutdown)


def _start(
    ray: Any, rows: Iterator[Row], answer: Callable[[Iterator[Row], P2R], Lines], cluster: Cluster
) -> Iterator[dict[str, Any]]:
    """Start the workers; yields the lines of a shard at a time."""
    import pyarrow as pa  # type: ignore[import-untyped]

    local = cluster.address == "local"
    # A local cluster may have more processes than cores: they wait for the models.
    cpus = max(os.cpu_count() or 1, (cluster.workers or 0) + 1) if local else None
    ray.init(
        cluster.address,
        num_cpus=cpus,
        include_dashboard=False if local else None,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    resources = ray.cluster_resources()
    loaded = any(not spec.startswith(SERVER_SCHEMES) for spec in (*cluster.models, cluster.reasoner) if spec)
    gpus = int(resources.get("GPU", 0)) if loaded else 0
    shards = []
    while shard := [pickle.dumps(row) for row in islice(rows, SHARD_ROWS)]:
        shards.append(ray.put(pa.table({"row": pa.array(shard, pa.large_binary())})))
    lines = ray.data.from_arrow_refs(shards).map_batches(
        _Worker,
        fn_constructor_args=(answer, cluster),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        num_gpus=min(gpus, 1),
        compute=ray.data.ActorPoolStrategy(
            size=cluster.workers or gpus or max(1, int(resources["CPU"]) - 1),
            max_concurrent_calls_per_actor=_AT_ONCE,
            max_tasks_in_flight_per_actor=_AT_ONCE,
        ),
    )
    return iter(lines.iter_batches(batch_size=None, batch_format="numpy"))


class _Worker:
    """Answers shards in a process of its own, several at a time on one event loop."""

    def __init__(self, answer: Callable[[Iterator[Row], P2R], Lines], cluster: Cluster) -> None:
        self._answer, self._cluster = answer, cluster
        models, most = cluster.models, cluster.concurrency
        model: str | Model = models[0]
        if len(models) > 1:
            options = cluster.settings.options
            model = _InTurn([open_model(spec, options=options, max_concurrency=most) for spec in models])
        self._pipeline = P2R(model, reasoner=cluster.reasoner, settings=cluster.settings, concurrency=most)

    async def __call__(self, shard: Any) -> dict[str, list[str]]:
        """The lines of a shard, in one piece: Ray goes on in the middle of a stream after a kill."""
        facts: dict[int, dict[str, Any]] = {}
        root, remote = self._cluster.root, self._cluster.remote

        def opened() -> Iterator[Row]:
            for row in shard["row"]:
                number, question = pickle.loads(row.as_py())  # noqa: S301 - pickled by `_start`
                facts[number] = asked(number, question, root)
                yield number, _with_bytes(question, root, remote)

        async with aclosing(self._answer(opened(), self._pipeline)) as answering:
            lines = [{**line, **facts[line["row"]]} async for line in answering]
        for line in lines:
            if line["failure"] == "row" and line["question"]:
                line["failure"] = "image"  # it could not be fetched, and may be next time
        return {"line": [encode_json(line).decode() for line in lines]}


def _with_bytes(question: Question | InvalidRow, root: Path | None, remote: str) -> Question | InvalidRow:
    """The question with the bytes of images that have a URI, or a path relative to the URI `remote`."""
    if isinstance(question, InvalidRow):
        return question

    def fetched_image(image: ImageInput) -> ImageInput:
        name = image_name(image, root)
        uri = name if "://" in name or not name else joined(remote, name)
        if not uri:
            return image
        filesystem, path = _place(uri)
        try:
            with filesystem.open_input_stream(path) as file:
                return bytes(file.read())
        except OSError as error:
            raise InputError(f"{uri}: {one_line(error)}") from error

    try:
        images = [fetched_image(image) for image in question.images]
    except InputError as error:
        return InvalidRow(question.id, str(error))
    return replace(question, image=images if len(images) > 1 else images[0])


def joined(folder: str, name: str) -> str:
    """The URI of a file in a folder with a URI; empty where that is empty."""
    parts = urlsplit(folder)
    path = posixpath.normpath(posixpath.join(parts.path, quote(name)))
    return urlunsplit(parts._replace(path=path)) if folder else ""


def fetched(uri: str, folder: Path) -> tuple[Path, str]:
    """Copy a table from any file system of pyarrow, or list the images of a folder there.

    Args:
        uri: of the table or folder: `s3://…`, `gs://…`, `hdfs://…`, `fsspec+NAME://…`.
        folder: where the table is written.

    Returns:
        The table, and the URI of the folder that its paths of images are relative to.

    Raises:
        InputError: it cannot be read.
    """
    from pyarrow import fs

    filesystem, path = _place(uri)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            table = folder / posixpath.basename(path)
            fs.copy_files(path, str(table), filesystem, fs.LocalFileSystem())
            return table, joined(uri, "..")
        found = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    except OSError as error:
        raise InputError(f"{uri}: {one_line(error)}") from error
    names = sorted(
        posixpath.relpath(image.path, path) for image in found if image.path.lower().endswith(IMAGES)
    )
    table = folder / "questions.jsonl"
    write_file(table, b"".join(encode_json({"id": name, "image": name}) + b"\n" for name in names))
    return table, uri


def _place(uri: str) -> tuple[Any, str]:
    """The file system of a URI, and the path in it."""
    try:
        from pyarrow import fs
    except ImportError as error:
        raise MissingExtraError("ray", "pyarrow") from error
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (OSError, ImportError, ValueError) as error:  # pyarrow's own are ValueErrors
        raise InputError(f"{uri}: {one_line(error)}") from error
    return filesystem, str(path)


class _InTurn:
    """Several servers of one model, asked in turn; one that cannot be reached is passed over."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._models, self._turn = models, cycle(range(len(models)))
        self.options = getattr(models[0], "options", None)
        self.name = models[0].name

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """See `Model.complete`."""
        first = next(self._turn)
        *others, last = [*self._models[first:], *self._models[:first]]
        for model in others:
            try:
                return await model.complete(messages, sampling)
            except ModelError as error:
                if error.kind != "unreachable":
                    raise
        return await last.complete(messages, sampling)

    async def aclose(self) -> None:
        """Close them all."""
        for model in self._models:
            await model.aclose()
