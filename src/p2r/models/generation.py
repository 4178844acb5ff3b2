"""One batch through `generate` of transformers: padding, decoding rules, and reading the rows back."""

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

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.models.batching import Request
    from p2r.models.encoding import Prompt


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Turns greedy decoding into a draw: the largest of scores + Gumbel noise is a sample of their softmax.

    Each row has a generator of its own, so that a seeded draw does not depend on the rest of its batch.
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


class Progress(StoppingCriteria):  # type: ignore[misc]
    """Hands out the text of rows that somebody listens to, and ends the rows whose caller went away."""

    def __init__(self, requests: Sequence[Request[Prompt]], prompt_length: int, tokenizer: Any) -> None:
        self._requests = requests
        self._prompt_length = prompt_length
        self._tokenizer = tokenizer

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_kwargs: object) -> torch.Tensor:
        """Which rows shall end, shape (batch,)."""
        for request, row in zip(self._requests, input_ids, strict=True):
            prompt = request.item
            if prompt.on_text is None or request.abandoned:
                continue
            text = prompt.opening + _decode(self._tokenizer, row[self._prompt_length :].tolist())
            # A character may take several tokens; until it is whole it decodes as U+FFFD.
            if len(text) > prompt.sent and not text.endswith("\ufffd"):
                prompt.on_text(text[prompt.sent :])
                prompt.sent = len(text)
        return torch.tensor([request.abandoned for request in self._requests], device=input_ids.device)


def generate(
    model: Any,
    tokenizer: Any,
    requests: Sequence[Request[Prompt]],
    *,
    stops: Sequence[int],
    forbidden: Sequence[int],
) -> list[Completion]:
    """Complete prepared requests that share their sampling.

    Args:
        model, tokenizer: of the checkpoint.
        requests: their items are prompts as `LocalModel` prepares them.
        stops: the tokens that end a reply; the one that did is counted, as servers do.
        forbidden: the tokens that are never written.
    """
    prompts = [request.item for request in requests]
    sampling = requests[0].sampling
    # Padding is masked out everywhere but in the repetition penalty. A forbidden token there penalises
    # nothing, so that a reply does not depend on how much its row was padded.
    inputs = _padded(prompts, padding=forbidden[-1] if forbidden else 0)
    inputs = {key: value.to(model.device) for key, value in inputs.items()}
    length = inputs["input_ids"].shape[1]
    with _without_defaults(model):
        output = model.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=sampling.max_tokens,
                do_sample=False,
                repetition_penalty=sampling.repetition_penalty,
                suppress_tokens=list(forbidden) or None,
                eos_token_id=list(stops),
                pad_token_id=stops[0] if stops else 0,
            ),
            logits_processor=_draws(requests, model.device),
            stopping_criteria=StoppingCriteriaList([Progress(requests, length, tokenizer)]),
        )
    rows = output[:, length:].tolist()
    return [_read(tokenizer, prompt, row, stops) for prompt, row in zip(prompts, rows, strict=True)]


@contextmanager
def _without_defaults(model: Any) -> Iterator[None]:
    """Keep a checkpoint's own decoding defaults out of ours: `generate` would fill in what we leave unset."""
    # An adapter hands its own configuration to the model under it.
    holders = [model, *([model.get_base_model()] if hasattr(model, "get_base_model") else [])]
    kept = [holder.generation_config for holder in holders]
    try:
        for holder in holders:
            holder.generation_config = GenerationConfig()
        yield
    finally:
        for holder, config in zip(holders, kept, strict=True):
            holder.generation_config = config


def _padded(prompts: Sequence[Prompt], padding: int) -> dict[str, torch.Tensor]:
    """Stack prompts of different lengths, aligned at their ends: (batch, longest)."""
    shape = len(prompts), max(len(prompt.ids) for prompt in prompts)
    inputs = {
        "input_ids": torch.full(shape, padding, dtype=torch.long),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "mm_token_type_ids": torch.zeros(shape, dtype=torch.long),
    }
    for row, prompt in enumerate(prompts):
        start = shape[1] - len(prompt.ids)
        inputs["input_ids"][row, start:] = prompt.ids
        inputs["attention_mask"][row, start:] = 1
        inputs["mm_token_type_ids"][row, start:] = prompt.kinds
    patches = [prompt.patches for prompt in prompts if prompt.patches is not None]
    grids = [prompt.grids for prompt in prompts if prompt.grids is not None]
    if patches:
        inputs["pixel_values"] = torch.cat(patches)
        inputs["image_grid_thw"] = torch.cat(grids)
    return inputs


def _draws(requests: Sequence[Request[Prompt]], device: torch.device) -> LogitsProcessorList:
    rules = LogitsProcessorList()
    sampling = requests[0].sampling
    if sampling.temperature > 0:
        rules.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_p < 1:
            rules.append(TopPLogitsWarper(sampling.top_p))
        rules.append(GumbelNoise([request.sampling.seed for request in requests], device))
    return rules


def _read(tokenizer: Any, prompt: Prompt, row: list[int], stops: Sequence[int]) -> Completion:
    end = next((position for position, token in enumerate(row) if token in stops), None)
    written = row if end is None else row[: end + 1]
    return Completion(
        text=prompt.opening + _decode(tokenizer, written),
        prompt_tokens=len(prompt.ids),
        completion_tokens=len(written),
        finish_reason="length" if end is None else "stop",
    )


def _decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
