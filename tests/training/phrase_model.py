"""A very small Qwen3-VL whose likely tokens are phrases: a whole box list or a whole answer.

Untrained models write nothing that earns a reward. This one is built so that its replies vary with the
images, are well formed often enough, and are right about half of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2r.settings import PixelBudget, Settings, TokenLimits
from tests.tiny_model import CHAT_TEMPLATE, SPECIAL, build_processor, random_model

if TYPE_CHECKING:
    from pathlib import Path

PHRASES = (
    '[{"bbox_2d": [100, 100, 300, 300], "label": "left thing"}]',
    '[{"bbox_2d": [600, 500, 900, 800], "label": "right thing"}]',
    '[{"bbox_2d": [0, 0, 200, 200], "label": "one"}, {"bbox_2d": [500, 0, 800, 300], "label": "two"}]',
    '[{"bbox_2d": [0, 0, 200, 200], "label": "one"}, {"bbox_2d": [0, 0, 210, 200], "label": "two"}]',
    "[]",
    "hm",
    "<think>it is</think><answer>A</answer>",
    "<think>it is</think><answer>B</answer>",
)
SETTINGS = Settings(
    budget=PixelBudget(
        overview_max_pixels=128 * 128,
        crop_max_pixels=96 * 96,
        min_pixels=32 * 32,
        context_tokens=3_072,
        text_tokens=2_048,
    ),
    max_tokens=TokenLimits(perceive=1, reason=3, direct=3),
)
CONTEXT = 4_096


def phrase_processor() -> Any:
    """The tokenizer of single bytes with the phrases added, one token each."""
    from tokenizers import AddedToken

    processor = build_processor()
    processor.tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in PHRASES])
    processor.tokenizer.padding_side = "left"
    processor.chat_template = CHAT_TEMPLATE
    return processor


def phrase_model(processor: Any) -> Any:
    """About 100,000 parameters, float32."""
    import torch

    size = len(processor.tokenizer)
    model = random_model(size, CONTEXT, tied=False)
    like_phrases(model, size)
    with torch.no_grad():
        # The answers a little more: a greedy reasoner gives one.
        model.lm_head.weight[size - 2 : size, 0] = 3.3
    return model


def like_phrases(model: Any, size: int) -> None:
    """Make a model of any family prefer the phrases and the end to all other tokens of its `size` ones.

    Every position carries a constant in its first channel, which the head turns into that preference.
    """
    import torch

    with torch.no_grad():
        model.model.language_model.embed_tokens.weight[:, 0] = 20.0
        model.lm_head.weight[:, 0] = -3.0
        likely = [*range(size - len(PHRASES), size), SPECIAL["<|im_end|>"]]
        model.lm_head.weight[likely, 0] = 3.0


def write_phrase_model(folder: Path) -> Path:
    """Write the checkpoint with its settings and return its folder."""
    processor = phrase_processor()
    phrase_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    SETTINGS.save(folder)
    return folder
