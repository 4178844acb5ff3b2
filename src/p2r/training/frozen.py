"""The role that is not trained: many conversations at once, in this process or on a server.

In the process it is the KL reference, or the base under a disabled adapter: at the start of a phase they are
the same weights, so it costs no copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from typing import TYPE_CHECKING, Any, Protocol

from p2r.errors import ModelError
from p2r.models.batching import Request
from p2r.models.loading import open_model
from p2r.models.options import ModelOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.models.base import Completion, Message, Model, Sampling
    from p2r.models.encoding import EncodedPrompt
    from p2r.settings import Settings
    from p2r.training.recipe import Recipe

_PART = 1 << 24  # bytes of weights that are summed at a time


class FrozenRole(Protocol):
    """Completes many conversations; a call that failed gives its error in place of a completion.

    Attributes:
        seconds: how long it worked so far.
    """

    seconds: float

    async def complete_all(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling
    ) -> list[Completion | ModelError]:
        """Complete them, in order. Never raises a ModelError."""
        ...


class FrozenModel:
    """A frozen role behind the `Model` protocol: an endpoint, a vLLM, a scripted model.

    Args:
        model: is asked.
        concurrency: the most requests in flight.
    """

    def __init__(self, model: Model, concurrency: int = 64) -> None:
        self.model = model
        self.seconds = 0.0
        self._concurrency = concurrency

    async def complete_all(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling
    ) -> list[Completion | ModelError]:
        """Complete them, in order."""
        began = time.perf_counter()
        gate = asyncio.Semaphore(self._concurrency)

        async def ask(messages: Sequence[Message]) -> Completion | ModelError:
            async with gate:
                try:
                    return await self.model.complete(messages, sampling)
                except ModelError as error:
                    return error

        try:
            return await asyncio.gather(*(ask(messages) for messages in conversations))
        finally:
            self.seconds += time.perf_counter() - began


class FrozenWeights:
    """A frozen role in this process, generated in large batches, in the thread that asks.

    That should be the thread that trains: for every thread that calculates torch holds a pool of threads,
    and two pools on one processor make both about half as fast.

    Args:
        model: a transformers model on its device; with an adapter, the base under it is meant.
        processor: of its checkpoint.
        batch: the most conversations that are generated together.
        options: how it is asked.
    """

    def __init__(
        self, model: Any, processor: Any, *, batch: int, options: ModelOptions | None = None
    ) -> None:
        self.seconds = 0.0
        from p2r.models.generation import Generator

        self._model = model
        self._batch = batch
        self._options = options or ModelOptions()
        self._generator = Generator(model, processor, "frozen role", self._options)

    async def complete_all(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling
    ) -> list[Completion | ModelError]:
        """Complete them, in order."""
        began = time.perf_counter()
        try:
            return self._complete_all(conversations, sampling)
        finally:
            self.seconds += time.perf_counter() - began

    def _complete_all(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling
    ) -> list[Completion | ModelError]:
        replies: dict[int, Completion | ModelError] = {}
        sampling = self._options.widened(sampling)
        # Of similar lengths together: less padding.
        order = sorted(range(len(conversations)), key=lambda position: _extent(conversations[position]))
        with base_weights(self._model):
            for start in range(0, len(order), self._batch):
                # Prepared a batch at a time: the pixels of all at once would fill the memory.
                requests: dict[int, Request[EncodedPrompt]] = {}
                for position in order[start : start + self._batch]:
                    try:
                        prompt = self._generator.encoder.encode(conversations[position], sampling)
                        requests[position] = Request(prompt, sampling)
                    except ModelError as error:
                        replies[position] = error
                if requests:
                    replies.update(
                        zip(requests, self._generator.complete(list(requests.values())), strict=True)
                    )
        return [replies[position] for position in range(len(conversations))]


def open_endpoint(recipe: Recipe, settings: Settings) -> Model:
    """The server that plays the frozen role (`frozen.where: endpoint`).

    Raises:
        InputError: its address or its options cannot be used.
    """
    wanted = recipe.frozen
    return open_model(wanted.url or "", options=settings.options, max_concurrency=wanted.concurrency)


def _extent(conversation: Sequence[Message]) -> tuple[int, int]:
    # Pixels and characters: tells which prompts are about equally long.
    parts = [part for message in conversation for part in message.content]
    pixels = sum(part.width * part.height for part in parts if not isinstance(part, str))
    return pixels, sum(len(part) for part in parts if isinstance(part, str))


@contextlib.contextmanager
def base_weights(model: Any) -> Iterator[None]:
    """Within it a model is in evaluation mode, and one with an adapter is its base."""
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
