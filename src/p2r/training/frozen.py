"""The role that is not trained: it completes many conversations, in this process or on a server.

In the process it has the weights of the KL reference, or of the base under the adapters: at the start of a
phase they are the same, so that no copy is needed.

As the perceiver of a reasoner phase it is asked once about each sample, and its boxes are written as JSON
lines. A line has a key: a digest of its weights, the settings and the question, so that boxes of other
weights are never used for these. Each process perceives its share of the samples and writes its own file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from p2r.errors import InputError, ModelError
from p2r.looks import look_again
from p2r.models.base import Sampling
from p2r.models.batching import Request
from p2r.models.loading import open_model
from p2r.models.options import ModelOptions
from p2r.parsing.perception import parse_perception
from p2r.prompts import perceive_messages
from p2r.runs.journal import Journal, read_lines
from p2r.types import Box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from p2r.images import EncodedImage
    from p2r.models.base import Completion, Message, Model
    from p2r.models.encoding import EncodedPrompt
    from p2r.runs.failures import FailureMonitor
    from p2r.settings import Settings
    from p2r.training.data import RolloutDataset
    from p2r.training.recipe import Recipe
    from p2r.types import Perception

_PART = 1 << 24  # bytes of weights that are summed at a time
_ATTEMPTS = 3  # at the boxes of a sample
_TURN_S = 0.02  # in which the images of further looks are read


class FrozenRole(Protocol):
    """Completes many conversations; a failed call gives its error in place of a completion."""

    async def complete_all(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling
    ) -> list[Completion | ModelError]:
        """Complete them, in order. Never raises a ModelError."""
        ...


class FrozenModel:
    """A frozen role behind the `Model` protocol, such as a server; the model bounds the calls in flight."""

    def __init__(self, model: Model) -> None:
        self.model = model

    async def complete_all(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling
    ) -> list[Completion | ModelError]:
        """Complete them, in order."""

        async def complete(messages: Sequence[Message]) -> Completion | ModelError:
            try:
                return await self.model.complete(messages, sampling)
            except ModelError as error:
                return error

        return await asyncio.gather(*map(complete, conversations))


class FrozenWeights:
    """A frozen role in this process: generates in large batches, in the thread that calls it.

    That should be the training thread: torch keeps a pool of threads for every thread that computes, and two
    pools on one processor make both about half as fast.

    Args:
        model: a transformers model on its device; with adapters, the base under them answers.
        processor: of its checkpoint.
        batch: the most conversations that are generated together.
        options: of its template and replies.
    """

    def __init__(
        self, model: Any, processor: Any, *, batch: int, options: ModelOptions | None = None
    ) -> None:
        from p2r.models.generation import Generator

        self._model = model
        self._batch = batch
        self._options = options or ModelOptions()
        self._generator = Generator(model, processor, "frozen role", self._options)

    async def complete_all(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling
    ) -> list[Completion | ModelError]:
        """Complete them, in order."""
        replies: dict[int, Completion | ModelError] = {}
        sampling = self._options.widened(sampling)
        # Similar lengths together: less padding.
        order = sorted(range(len(conversations)), key=lambda position: _extent(conversations[position]))
        with _base_weights(self._model):
            for start in range(0, len(order), self._batch):
                # Encoded a batch at a time: the pixels of all at once would fill the memory.
                requests: dict[int, Request[EncodedPrompt]] = {}
                for position in order[start : start + self._batch]:
                    try:
                        prompt = self._generator.encoder.encode(conversations[position], sampling)
                        requests[position] = Request(prompt, sampling)
                    except ModelError as error:
                        replies[position] = error
                done = self._generator.complete(list(requests.values())) if requests else []
                replies.update(zip(requests, done, strict=True))
        return [replies[position] for position in range(len(conversations))]


def open_endpoint(recipe: Recipe, settings: Settings) -> Model:
    """The server that plays the frozen role (`frozen.where: endpoint`)."""
    wanted = recipe.frozen
    return open_model(wanted.url or "", options=settings.options, max_concurrency=wanted.concurrency)


def check_shared_weights(*, sharded: bool, reference: bool) -> None:
    """InputError when the frozen role cannot share the weights of the training process.

    Args:
        sharded: no process holds whole weights.
        reference: there is a KL reference, or a base under adapters.
    """
    if sharded:
        raise InputError(
            "frozen.where: process needs whole weights in every process, and here they are sharded: "
            "set frozen.where to vllm or endpoint"
        )
    if not reference:
        raise InputError(
            "frozen.where: process shares the weights of the KL reference, and kl 0 has none: set "
            "training.kl, or frozen.where to vllm or endpoint"
        )


def weights_digest(model: Any) -> str:
    """Twelve hex digits over the weights that a frozen role answers with; adapters are left out."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if "lora_" in name:
            continue
        bits = tensor.detach().contiguous().flatten().view(torch.uint8)
        # Sums instead of the bytes themselves, so that a large model stays on its device.
        for part in bits.split(_PART):
            places = torch.arange(1, part.numel() + 1, device=bits.device)
            digest.update(f"{name}\0{int((part * (places % 65_521)).sum())}\n".encode())
    return digest.hexdigest()[:12]


def _extent(conversation: Sequence[Message]) -> tuple[int, int]:
    """Pixels and characters: prompts with about the same are about equally long."""
    parts = [part for message in conversation for part in message.content]
    pixels = sum(part.width * part.height for part in parts if not isinstance(part, str))
    return pixels, sum(len(part) for part in parts if isinstance(part, str))


@contextlib.contextmanager
def _base_weights(model: Any) -> Iterator[None]:
    """Within it a model with adapters is its base, in evaluation mode; others are that already."""
    if not hasattr(model, "disable_adapter"):
        yield
        return
    from trl.models.utils import disable_gradient_checkpointing

    training = model.training
    model.eval()
    try:
        with model.disable_adapter(), disable_gradient_checkpointing(model):
            yield
    finally:
        model.train(training)


# The boxes of a reasoner phase.


async def perceive_samples(
    frozen: FrozenRole,
    dataset: RolloutDataset,
    wanted: Sequence[int],
    *,
    weights: str,
    path: Path,
    batch: int,
    monitor: FailureMonitor,
    on_done: Callable[[int], None] | None = None,
) -> None:
    """Ask the frozen perceiver about the samples whose boxes are in no file beside `path` yet.

    Raises:
        ModelError: too many calls fail, or one fails again and again.
        InputError: an image cannot be read, or the disk is full.
    """
    known = _known(path.parent)
    missing = [index for index in wanted if _key(dataset, index, weights) not in known]

    def row(index: int, perception: Perception) -> dict[str, Any]:
        return {
            "key": _key(dataset, index, weights),
            "id": dataset.samples[index].question.id,
            "outcome": perception.outcome,
            "boxes": [box.to_json() for box in perception.boxes],
            "text": perception.text,
        }

    with Journal(path) as journal:
        for _ in range(_ATTEMPTS):
            failed: dict[int, ModelError] = {}
            for start in range(0, len(missing), batch):
                chunk = missing[start : start + batch]
                for index, found in zip(chunk, await _perceived(frozen, dataset, chunk), strict=True):
                    if isinstance(found, ModelError):
                        failed[index] = found
                        monitor.note_failure(str(found))
                    else:
                        monitor.note_success()
                        journal.append(row(index, found))
                journal.sync()
                if on_done:
                    on_done(min(start + batch, len(missing)))
            if not failed:
                return
            missing = list(failed)
    index, error = next(iter(failed.items()))
    raise ModelError(
        f"the frozen perceiver failed {_ATTEMPTS} times on {len(failed)} samples, for example "
        f"{dataset.samples[index].question.id}: {error}; the same command tries only those again",
        kind=error.kind,
    )


async def _perceived(
    frozen: FrozenRole, dataset: RolloutDataset, indices: Sequence[int]
) -> list[Perception | ModelError]:
    """What the perceiver says about samples, with as many looks as the settings allow."""
    settings, sampling = dataset.settings, Sampling(dataset.settings.max_tokens.perceive)
    waiting: list[tuple[Sequence[Message], asyncio.Future[Completion | ModelError]]] = []

    async def ask(index: int, images: Sequence[EncodedImage]) -> Perception:
        question = dataset.samples[index].question
        messages = perceive_messages(settings.prompts, question, images[0], settings.box_format)
        waiting.append((messages, asyncio.get_running_loop().create_future()))
        if isinstance(reply := await waiting[-1][1], ModelError):
            raise reply
        return parse_perception(reply.text, settings.box_format, images[0].size)

    async def perceive(index: int) -> Perception | ModelError:
        image = dataset.images(index)
        try:
            first = await ask(index, [image.overview])
            if settings.looks == 1:
                return first
            return (await look_again([image.source], first, settings, partial(ask, index))).perception
        except ModelError as error:
            return error

    tasks = [asyncio.create_task(perceive(index)) for index in indices]
    while not all(task.done() for task in tasks):
        # Those that wait by now are asked together, because a frozen role generates in batches.
        await asyncio.sleep(_TURN_S)
        asked = waiting[:]
        waiting.clear()
        replies = await frozen.complete_all([messages for messages, _ in asked], sampling)
        for (_, future), reply in zip(asked, replies, strict=True):
            future.set_result(reply)
    return [task.result() for task in tasks]


def read_boxes(
    folder: Path, dataset: RolloutDataset, wanted: Sequence[int], weights: str
) -> dict[int, tuple[Box, ...]]:
    """The boxes of the wanted samples, by index."""
    rows = _known(folder)
    found = {}
    for index in wanted:
        row = rows.get(_key(dataset, index, weights))
        if row is None:
            name = dataset.samples[index].question.id
            raise InputError(f"{folder}: the boxes of sample {name} are missing")
        found[index] = tuple(Box.from_json(entry) for entry in row["boxes"])
    return found


def _known(folder: Path) -> dict[str, dict[str, Any]]:
    """Key → line, of the files of all processes."""
    return {row["key"]: row for file in sorted(folder.glob("boxes-*.jsonl")) for row in read_lines(file)}


def _key(dataset: RolloutDataset, index: int, weights: str) -> str:
    question = dataset.samples[index].question
    parts = (weights, dataset.settings.digest, question.id, question.text, *question.choices)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
