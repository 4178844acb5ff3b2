"""How long prompts are after resizing, images included; what does not fit is left out and counted."""

from __future__ import annotations

from itertools import cycle
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.evidence import OUTLINE_COLORS, plan_pixels
from p2r.images import ImageSource
from p2r.models.base import Message
from p2r.prompts import direct_messages, perceive_messages, reason_messages
from p2r.types import Box, Crop, Evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.encoding import PromptEncoder
    from p2r.settings import Settings
    from p2r.training.recipe import Phase, Recipe
    from p2r.types import Sample


def prompt_tokens(
    sample: Sample, phase: Phase, settings: Settings, encoder: PromptEncoder, processor: Any
) -> int:
    """The tokens of a prompt: of the text as rendered, and one for each `factor`² pixels of the images.

    A reasoner's crops are not known before its perceiver has looked: the longest evidence is counted.
    """
    question, prompts, budget = sample.question, settings.prompts, settings.budget
    size = ImageSource.open(question.image).size
    regions = [(0, 0, *size)] * settings.geometry.max_crops if phase.role == "reasoner" else []
    # The text alone: images are counted, not cut.
    width, height = plan_pixels(size, (), budget).overview
    blank: Any = SimpleNamespace(width=width, height=height)
    if phase.role == "perceiver":
        messages = perceive_messages(prompts, question, blank, settings.box_format)
    elif phase.role == "direct":
        messages = direct_messages(prompts, question, blank)
    else:
        crops = [
            Crop(blank, Box(0, 0, 1000, 1000, ""), region, color)
            for region, (color, _) in zip(regions, cycle(OUTLINE_COLORS), strict=False)
        ]
        messages = reason_messages(prompts, question, Evidence(blank, tuple(crops)))
    text = [
        Message(one.role, tuple(part for part in one.content if isinstance(part, str))) for one in messages
    ]
    words = len(processor.tokenizer(encoder.render(text))["input_ids"])
    images = plan_pixels(size, regions, budget).tokens
    return words + images + 2 * (1 + len(regions))


def keep_short(
    samples: Sequence[Sample],
    recipe: Recipe,
    phase: Phase,
    settings: Settings,
    encoder: PromptEncoder,
    processor: Any,
) -> list[Sample]:
    """The samples whose prompts fit; prints how many do not.

    Raises:
        InputError: more than `data.max_dropped` of them do not.
    """
    most = recipe.data.max_prompt_tokens
    if most is None:
        return list(samples)
    lengths = [prompt_tokens(sample, phase, settings, encoder, processor) for sample in samples]
    kept = [sample for sample, length in zip(samples, lengths, strict=True) if length <= most]
    dropped = len(samples) - len(kept)
    if dropped:
        print(f"{dropped} of {len(samples)} prompts are longer than {most} tokens", flush=True)  # noqa: T201
    if dropped > recipe.data.max_dropped * len(samples):
        raise InputError(
            f"{dropped} of {len(samples)} prompts are longer than {most} tokens (the longest has "
            f"{max(lengths)}), more than data.max_dropped allows: raise data.max_prompt_tokens or lower the "
            "pixel budgets"
        )
    return kept
