"""A checkpoint of the Qwen-VL family in this process, on transformers. Requests that wait are batched.

A request is prepared (chat template, tokens, patches) in a thread of its own, so that it overlaps the batch
that runs and so that a bad request fails alone. A batch is padded on the left and generated in one go. In
float32 a reply does not depend on the batch that it happens to run in, and a seeded draw neither, because
every row draws from a generator of its own.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, ModelError
from p2r.models.batching import Batcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    import torch

    from p2r.images import Picture
    from p2r.models.base import Completion, Message, Sampling
    from p2r.models.batching import Request

# Sampled, such a token would stand for a picture that is not there.
_VISION_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


@dataclass(slots=True)
class Prompt:
    """One prepared request.

    Attributes:
        ids: token ids, shape (length,).
        kinds: 0 for text and 1 for a picture's tokens, shape (length,).
        patches: normalised pixels of all pictures, shape (patches, values); None without pictures.
        grids: patches of each picture as (1, rows, columns), shape (pictures, 3).
        seed: of this request's draws.
        on_text: takes the text as it is written; None when nobody listens.
        sent: how many characters it was given.
    """

    ids: torch.Tensor
    kinds: torch.Tensor
    patches: torch.Tensor | None
    grids: torch.Tensor | None
    seed: int | None
    on_text: Callable[[str], None] | None = None
    sent: int = field(default=0)


class LocalModel:
    """A transformers vision-language checkpoint; it also streams.

    Args:
        source: a checkpoint folder, or a Hugging Face hub id.
        device, dtype, revision: as in `load_checkpoint`.
        max_batch: the most requests that run together.
        name: shown to people; by default the folder's name or the hub id.

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
    ) -> None:
        from p2r.models.checkpoint import load_checkpoint

        if max_batch < 1:
            raise InputError(f"max_batch is {max_batch}: it must be at least 1")
        checkpoint = load_checkpoint(source, device=device, dtype=dtype, revision=revision)
        self._name = name or str(source)
        self._model = checkpoint.model
        self._processor = checkpoint.processor
        self._tokenizer = checkpoint.processor.tokenizer
        self._device = checkpoint.device
        config = checkpoint.model.config
        self._context = int(config.get_text_config().max_position_embeddings)
        self._image_token = int(config.image_token_id)
        self._forbidden = [
            token for key in _VISION_TOKENS if (token := getattr(config, key, None)) is not None
        ]
        self._stops = _stop_tokens(checkpoint.model)
        # Controls that a user's text must not contain: it could forge a turn or a picture.
        self._controls = [
            token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special
        ]
        self._batcher: Batcher[Prompt] = Batcher(self._run, max_batch=max_batch, name=self._name)
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="p2r-prepare")

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

    async def aclose(self) -> None:
        """Finish what runs, fail what waits, and end the threads. Safe to call twice."""
        self._preparing.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._batcher.close)

    async def _complete(
        self, messages: Sequence[Message], sampling: Sampling, on_text: Callable[[str], None] | None
    ) -> Completion:
        loop = asyncio.get_running_loop()
        try:
            preparing = loop.run_in_executor(self._preparing, self._prepare, messages, sampling)
        except RuntimeError as error:  # the executor was shut down
            raise ModelError("the model was closed", kind="internal", model=self._name) from error
        prompt = await preparing
        prompt.on_text = on_text
        return await self._batcher.submit(prompt, sampling)

    def _prepare(self, messages: Sequence[Message], sampling: Sampling) -> Prompt:
        pictures = [part for message in messages for part in message.content if not isinstance(part, str)]
        self._check_sizes(pictures)
        conversation = [
            {"role": message.role, "content": [self._part(part) for part in message.content]}
            for message in messages
        ]
        try:
            text = self._processor.apply_chat_template(
                conversation, add_generation_prompt=True, tokenize=False
            )
            inputs = self._processor(
                text=[text],
                images=[picture.to_pil() for picture in pictures] or None,
                do_resize=False,  # every picture has its final size already
                return_tensors="pt",
            )
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ModelError(f"the processor failed: {text}", kind="internal", model=self._name) from error
        ids = inputs["input_ids"][0]
        grids = inputs.get("image_grid_thw")
        self._check_features(ids, grids, len(pictures))
        if len(ids) + sampling.max_tokens > self._context:
            raise self._rejected(
                f"{len(ids)} prompt tokens and {sampling.max_tokens} new ones do not fit into the context of "
                f"{self._context}: lower the pixel budgets or max_tokens"
            )
        return Prompt(ids, inputs["mm_token_type_ids"][0], inputs.get("pixel_values"), grids, sampling.seed)

    def _check_sizes(self, pictures: Sequence[Picture]) -> None:
        factor = self._processor.image_processor.patch_size * self._processor.image_processor.merge_size
        for width, height in (picture.size for picture in pictures):
            if width % factor or height % factor:
                raise self._rejected(
                    f"a picture of {width}×{height} px, but this model needs sides in multiples of {factor}: "
                    "set budget.factor"
                )

    def _part(self, part: Any) -> dict[str, str]:
        if not isinstance(part, str):
            return {"type": "image"}
        for token in self._controls:
            part = part.replace(token, f"{token[0]} {token[1:]}")
        return {"type": "text", "text": part}

    def _check_features(self, ids: torch.Tensor, grids: torch.Tensor | None, pictures: int) -> None:
        """Every picture must be there with as many tokens as the vision tower will make features."""
        merged = self._processor.image_processor.merge_size**2
        features = 0 if grids is None else int(grids.prod(-1).sum()) // merged
        tokens = int((ids == self._image_token).sum())
        if tokens != features or pictures != (0 if grids is None else len(grids)):
            raise self._rejected(
                f"{tokens} picture tokens for {features} picture features of {pictures} pictures: "
                "the checkpoint's chat template does not fit its processor"
            )

    def _rejected(self, text: str) -> ModelError:
        return ModelError(text, kind="rejected", model=self._name)

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


def _stop_tokens(model: Any) -> list[int]:
    ids = model.generation_config.eos_token_id
    return [ids] if isinstance(ids, int) else list(ids or ())
