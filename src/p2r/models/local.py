"""A checkpoint of the Qwen-VL family in this process, on transformers. Waiting requests are batched.

A request is encoded (chat template, tokens, patches) in a thread of its own, so that this overlaps the
running batch and a bad request fails alone. In float32 a reply does not depend on the batch that it runs in,
and a seeded draw neither, because every row draws from its own generator.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from p2r.errors import InputError, ModelError
from p2r.models.batching import Batcher
from p2r.models.checkpoint import load_checkpoint, settings_beside
from p2r.models.placement import describe
from p2r.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from p2r.models.base import Completion, Message, Sampling
    from p2r.models.encoding import EncodedPrompt
    from p2r.models.options import ModelOptions


class LocalModel:
    """A transformers vision-language checkpoint; it also streams.

    Args:
        source: a checkpoint folder, or a Hugging Face hub id.
        device, dtype, attention, quantize: as in `load_checkpoint`.
        max_batch: the most requests that run together.
        name: shown to people; by default the folder's name or the hub id.
        options: None for those in the checkpoint's `p2r.json`, or the defaults.

    Attributes:
        name: the folder or hub id.
        checkpoint: what was loaded.
        settings: those in the checkpoint's `p2r.json`; None when it has none.
        options: thinking and variables of the chat template.

    Raises:
        MissingExtraError: the extra `local` is not installed.
        InputError: the checkpoint cannot be loaded, or max_batch is not positive.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        device: str | None = None,
        dtype: str | None = None,
        attention: str | None = None,
        quantize: str | None = None,
        max_batch: int = 8,
        name: str | None = None,
        options: ModelOptions | None = None,
    ) -> None:
        if max_batch < 1:
            raise InputError(f"max_batch is {max_batch}: it must be at least 1")
        self.checkpoint = load_checkpoint(
            source, device=device, dtype=dtype, attention=attention, quantize=quantize
        )
        from p2r.models.generation import Generator

        self.name = name or str(source)
        self.settings = settings_beside(self.checkpoint.folder)
        self.options = options or (self.settings or Settings()).options
        generator = Generator(self.checkpoint.model, self.checkpoint.processor, self.name, self.options)
        self._encoder = generator.encoder
        self._batcher: Batcher[EncodedPrompt] = Batcher(
            generator.complete, max_batch=max_batch, name=self.name
        )
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="p2r-encode")
        if self.checkpoint.device.type == "cpu":
            limit_to_one_core(self._encoding)
        self._closed = False

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Complete one conversation; see `Model.complete`."""
        return await self._complete(messages, sampling, None)

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[str | Completion]:
        """Complete one conversation piece by piece; see `StreamingModel.stream`."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def on_text(piece: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        task = asyncio.create_task(self._complete(messages, sampling, on_text))
        task.add_done_callback(lambda _task: pieces.put_nowait(None))
        sent = 0
        try:
            while (piece := await pieces.get()) is not None:
                sent += len(piece)
                yield piece
            completion = await task
            if rest := completion.text[sent:]:
                yield rest
            yield completion
        finally:
            task.cancel()

    @property
    def placement(self) -> str:
        """Where and how it is loaded, for people: device, precision, attention, quantization, memory."""
        return describe(self.checkpoint.model)

    async def context_tokens(self) -> int | None:
        """The context window of the checkpoint."""
        return self._encoder.context_tokens

    async def aclose(self) -> None:
        """Finish the running batch, fail the waiting requests, and end the threads. Safe to call twice."""
        # This flag fails requests that wait for encoding; a cancellation would look like the caller's own.
        self._closed = True
        self._encoding.shutdown(wait=False)
        await asyncio.to_thread(self._batcher.close)

    async def _complete(
        self, messages: Sequence[Message], sampling: Sampling, on_text: Callable[[str], None] | None
    ) -> Completion:
        sampling = self.options.widened(sampling)

        def encode() -> EncodedPrompt:
            if self._closed:
                raise self._closed_error()
            return self._encoder.encode(messages, sampling)

        try:
            encoding = asyncio.get_running_loop().run_in_executor(self._encoding, encode)
        except RuntimeError as error:  # the executor was shut down
            raise self._closed_error() from error
        return await self._batcher.submit(await encoding, sampling, on_text)

    def _closed_error(self) -> ModelError:
        return ModelError("the model was closed", kind="internal", model=self.name)


def limit_to_one_core(executor: ThreadPoolExecutor) -> None:
    """Let the one thread of an executor compute without OpenMP's helper threads.

    Every thread that computes has its own helpers. As soon as there are more of them than cores, those of the
    running batch sleep between any two operations, and it takes about twice as long.
    """
    import torch

    threads = torch.get_num_threads()
    # A thread gets its number at its first query, and then keeps the number that is set for it.
    executor.submit(torch.get_num_threads).result()
    executor.submit(torch.set_num_threads, 1).result()
    # Threads that start to compute later take the number that was set last by any thread.
    torch.set_num_threads(threads)
