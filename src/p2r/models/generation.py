"""Generation of one batch with transformers: padding, decoding rules, streaming, and reading the replies."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from p2r.models.base import Completion
from p2r.models.batching import complete_halving
from p2r.models.encoding import PromptEncoder, forbidden_tokens
from p2r.models.placement import input_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.errors import ModelError
    from p2r.models.batching import Request
    from p2r.models.encoding import EncodedPrompt
    from p2r.models.options import ModelOptions


class Generator:
    """Generates replies with a loaded model, in the calling thread.

    Args:
        model: a transformers model on its device.
        processor: of its checkpoint.
        name: the model's name, for errors.
        options: their variables go to the chat template.

    Attributes:
        encoder: makes the prompts that `complete` takes.
    """

    def __init__(self, model: Any, processor: Any, name: str, options: ModelOptions | None = None) -> None:
        self.encoder = PromptEncoder(processor, model.config, name, options)
        self._model = model
        self._tokenizer = processor.tokenizer
        self._name = name
        self._forbidden = forbidden_tokens(model.config)
        stops = model.generation_config.eos_token_id
        self._stops = [stops] if isinstance(stops, int) else list(stops or ())

    def complete(self, requests: Sequence[Request[EncodedPrompt]]) -> list[Completion | ModelError]:
        """Complete requests that differ at most in their seeds; a batch that is too large is halved."""
        return complete_halving(self._generate, requests, self._name)

    def _generate(self, requests: Sequence[Request[EncodedPrompt]]) -> list[Completion]:
        prompts = [request.item for request in requests]
        sampling = requests[0].sampling
        device = input_device(self._model)
        # Padding is masked out everywhere but in the repetition penalty. A forbidden token there penalizes
        # nothing, so that a reply does not depend on how much its row was padded.
        inputs = _padded(prompts, padding=self._forbidden[-1] if self._forbidden else 0)
        length = inputs["input_ids"].shape[1]
        processors = LogitsProcessorList()
        if sampling.temperature > 0:
            processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
            if sampling.top_p < 1:
                processors.append(TopPLogitsWarper(sampling.top_p))
            processors.append(GumbelNoise([request.sampling.seed for request in requests], device))
        with _without_defaults(self._model):
            output = self._model.generate(
                **{key: value.to(device) for key, value in inputs.items()},
                generation_config=GenerationConfig(
                    max_new_tokens=sampling.max_tokens,
                    do_sample=False,
                    repetition_penalty=sampling.repetition_penalty,
                    suppress_tokens=self._forbidden or None,
                    eos_token_id=self._stops,
                    pad_token_id=self._stops[0] if self._stops else 0,
                ),
                logits_processor=processors,
                stopping_criteria=StoppingCriteriaList([_RowStreamer(requests, length, self._decode)]),
            )
        rows = output[:, length:].tolist()
        return [self._completion(prompt, row) for prompt, row in zip(prompts, rows, strict=True)]

    def _completion(self, prompt: EncodedPrompt, row: list[int]) -> Completion:
        """The reply in a row of new tokens; its stop token is counted, as servers do."""
        end = next((position for position, token in enumerate(row) if token in self._stops), None)
        written = row if end is None else row[: end + 1]
        return Completion(
            text=prompt.opening + self._decode(written),
            prompt_tokens=len(prompt.input_ids),
            completion_tokens=len(written),
            finish_reason="length" if end is None else "stop",
        )

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Turns greedy decoding into a draw: the largest of scores + Gumbel noise is a sample of their softmax.

    Each row has its own generator, so that a seeded draw does not depend on the rest of its batch.
    """

    def __init__(self, seeds: Sequence[int | None], device: torch.device) -> None:
        self._generators = [torch.Generator(device) for _ in seeds]
        for generator, seed in zip(self._generators, seeds, strict=True):
            if seed is None:
                generator.seed()
            else:
                generator.manual_seed(seed)

    def __call__(self, _input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of shape (batch, vocabulary), with the noise."""
        noise = torch.empty_like(scores)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores - noise.clamp_min_(torch.finfo(noise.dtype).tiny).log_()


class _RowStreamer(StoppingCriteria):  # type: ignore[misc]
    """Passes on the text of streamed rows, and ends the rows of cancelled requests."""

    def __init__(self, requests: Sequence[Request[EncodedPrompt]], prompt_length: int, decode: Any) -> None:
        self._requests = requests
        self._prompt_length = prompt_length
        self._decode = decode
        self._sent = [0] * len(requests)  # characters

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_kwargs: object) -> torch.Tensor:
        """Which rows shall end, shape (batch,)."""
        for index, request in enumerate(self._requests):
            if request.on_text is None or request.abandoned:
                continue
            text = request.item.opening + self._decode(input_ids[index, self._prompt_length :].tolist())
            # A character may take several tokens; until it is complete it decodes as U+FFFD.
            if len(text) > self._sent[index] and not text.endswith("\ufffd"):
                request.on_text(text[self._sent[index] :])
                self._sent[index] = len(text)
        return torch.tensor([request.abandoned for request in self._requests], device=input_ids.device)


@contextmanager
def _without_defaults(model: Any) -> Iterator[None]:
    """Remove a checkpoint's own decoding defaults, which `generate` would use for what we leave unset."""
    # An adapter hands its own configuration to the model under it.
    holders = [model, *([model.get_base_model()] if hasattr(model, "get_base_model") else [])]
    saved = [holder.generation_config for holder in holders]
    try:
        for holder in holders:
            holder.generation_config = GenerationConfig()
        yield
    finally:
        for holder, config in zip(holders, saved, strict=True):
            holder.generation_config = config


def _padded(prompts: Sequence[EncodedPrompt], padding: int) -> dict[str, torch.Tensor]:
    """Stack prompts of different lengths, aligned at their ends: (batch, longest)."""
    shape = len(prompts), max(len(prompt.input_ids) for prompt in prompts)
    inputs = {
        "input_ids": torch.full(shape, padding, dtype=torch.long),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "mm_token_type_ids": torch.zeros(shape, dtype=torch.long),
    }
    for row, prompt in enumerate(prompts):
        start = shape[1] - len(prompt.input_ids)
        inputs["input_ids"][row, start:] = prompt.input_ids
        inputs["attention_mask"][row, start:] = 1
        inputs["mm_token_type_ids"][row, start:] = prompt.token_type_ids
    for name in ("pixel_values", "image_grid_thw"):
        parts = [part for prompt in prompts if (part := getattr(prompt, name)) is not None]
        if parts:
            inputs[name] = torch.cat(parts)
    return inputs
