"""A very small Qwen3-VL that speaks in phrases: a token that it likes is a whole box list or answer.

Untrained models write nothing that earns a reward. This one is built so that its replies vary with the
pictures, are well formed often enough, and are right about half of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2r.settings import PixelBudget, Settings, TokenLimits
from tiny_model import CHAT_TEMPLATE, SPECIAL, build_processor

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
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    size = len(processor.tokenizer)
    hidden = 32
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": size,
            "hidden_size": hidden,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "max_position_embeddings": CONTEXT,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e5,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": False,
            "eos_token_id": SPECIAL["<|im_end|>"],
            "pad_token_id": SPECIAL["<|endoftext|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 16,
            "out_hidden_size": hidden,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=SPECIAL["<|image_pad|>"],
        video_token_id=SPECIAL["<|video_pad|>"],
        vision_start_token_id=SPECIAL["<|vision_start|>"],
        vision_end_token_id=SPECIAL["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
        # Every position carries a constant in its first channel, which the head turns into a liking for
        # phrases and the end, and a dislike of everything else.
        model.model.language_model.embed_tokens.weight[:, 0] = 20.0
        model.lm_head.weight[:, 0] = -3.0
        likely = [*range(size - len(PHRASES), size), SPECIAL["<|im_end|>"]]
        model.lm_head.weight[likely, 0] = 3.0
        model.lm_head.weight[size - 2 : size, 0] = (
            3.3  # the answers a little more: a greedy reasoner gives one
        )
    model.generation_config.eos_token_id = SPECIAL["<|im_end|>"]
    model.generation_config.pad_token_id = SPECIAL["<|endoftext|>"]
    return model


def write_phrase_model(folder: Path) -> Path:
    """Write the checkpoint with its settings and return its folder."""
    processor = phrase_processor()
    phrase_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    SETTINGS.save(folder)
    return folder
