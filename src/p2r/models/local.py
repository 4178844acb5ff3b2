"""A checkpoint of the Qwen-VL family in this process, on transformers. Requests that wait are batched.

A request is prepared (chat template, tokens, patches) in a thread of its own, so that it overlaps the batch
that runs and so that a bad request fails alone. A batch is padded on the left and generated in one go. In
float32 a reply does not depend on the batch that it happens to run in, and a seeded draw neither, because
every row draws from a generator of its own.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from p2r.errors import InputError, ModelError
from p2r.models.batching import Batcher
from p2r.models.encoding import Preparer, forbidden_tokens, stop_tokens
from p2r.models.source import settings_beside
from p2r.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from p2r.models.base import Completion, Message, Sampling
    from p2r.models.batching import Request
    from p2r.models.encoding import Prompt
    from p2r.models.options import ModelOptions


class LocalModel:
    """A transformers vision-language checkpoint; it also streams.

    Args:
        source: a checkpoint folder, or a Hugging Face hub id.
        device, dtype, revision: as in `load_checkpoint`.
        max_batch: the most requests that run together.
        name: shown to people; by default the folder's name or the hub id.
        options: None for those in the checkpoint's `p2r.json`, or the defaults.

    Attributes:
        settings: those in the checkpoint's `p2r.json`; None when it has none.
        options: how it is asked.

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
        revision: str | None = None,
        max_batch: int = 8,
        name: str | None = None,
        options: ModelOptions | None = None,
    ) -> None:
        from p2r.models.checkpoint import load_checkpoint

        if max_batch < 1:
            raise InputError(f"max_batch is {max_batch}: it must be at least 1")
        checkpoint = load_checkpoint(source, device=device, dtype=dtype, revision=revision)
        self._name = name or str(source)
        self._model = checkpoint.model
        self._tokenizer = checkpoint.processor.tokenizer
        self._device = checkpoint.device
        self.settings = settings_beside(checkpoint.folder)
        self.options = options or (self.settings or Settings()).options
        config = checkpoint.model.config
        self._preparer = Preparer(checkpoint.processor, config, self._name, self.options)
        self._forbidden = forbidden_tokens(config)
        self._stops = stop_tokens(checkpoint.model)
        self._batcher: Batcher[Prompt] = Batcher(self._run, max_batch=max_batch, name=self._name)
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="p2r-prepare")
        if self._device.type == "cpu":
            _without_helpers(self._preparing)
        self._closed = False

    @property
    def name(self) -> str:
        """The folder or hub id."""
        return self._name

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Complete one conversation; see `Model.complete`."""
        return await self._complete(messages, sampling, None)

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncIterator[str | Completion]:
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

    async def context_tokens(self) -> int | None:
        """The context window of the checkpoint."""
        return self._preparer.context_tokens

    async def aclose(self) -> None:
        """Finish what runs, fail what waits, and end the threads. Safe to call twice."""
        # What waits to be prepared fails by this; cancelled, it would look like its caller's own wish.
        self._closed = True
        self._preparing.shutdown(wait=False)
        await asyncio.to_thread(self._batcher.close)

    async def _complete(
        self, messages: Sequence[Message], sampling: Sampling, on_text: Callable[[str], None] | None
    ) -> Completion:
        loop = asyncio.get_running_loop()
        sampling = self.options.widened(sampling)
        try:
            preparing = loop.run_in_executor(self._preparing, self._prepare, messages, sampling)
        except RuntimeError as error:  # the executor was shut down
            raise self._closed_error() from error
        prompt = await preparing
        prompt.on_text = on_text
        return await self._batcher.submit(prompt, sampling)

    def _prepare(self, messages: Sequence[Message], sampling: Sampling) -> Prompt:
        if self._closed:
            raise self._closed_error()
        return self._preparer.prepare(messages, sampling)

    def _closed_error(self) -> ModelError:
        return ModelError("the model was closed", kind="internal", model=self._name)

    def _run(self, requests: Sequence[Request[Prompt]]) -> list[Completion]:
        """Complete a batch; a MemoryError when the device has too little memory for it."""
        import torch

        from p2r.models.generation import generate

        try:
            return generate(
                self._model,
                self._tokenizer,
                requests,
                stops=self._stops,
                forbidden=self._forbidden,
            )
        except torch.OutOfMemoryError:
            pass
        except RuntimeError as error:
            if "allocate memory" not in str(error):
                raise
        # After the handlers, so that nothing holds the tensors of the failed try.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        raise MemoryError


def _without_helpers(executor: ThreadPoolExecutor) -> None:
    """Let the one thread of an executor calculate without OpenMP's helpers.

    Every thread that calculates has helpers of its own. As soon as there are more of them than cores, those
    of the batch that runs sleep between any two operations, and it takes about twice as long.
    """
    import torch

    threads = torch.get_num_threads()
    # Asked once, a thread has its number, and keeps the one that it is set to then.
    executor.submit(torch.get_num_threads).result()
    executor.submit(torch.set_num_threads, 1).result()
    # Threads that begin to calculate later take the number that was set last by anyone.
    torch.set_num_threads(threads)
