"""Builds a very small, untrained Qwen3-VL checkpoint in about a second, for tests of the real engine.

It answers nonsense, but a different nonsense for every image and text, which is what the tests need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.nano.build import assemble_processor, vision_config, vision_tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPECIAL = {
    "<|endoftext|>": 256,
    "<|im_start|>": 257,
    "<|im_end|>": 258,
    "<|vision_start|>": 259,
    "<|vision_end|>": 260,
    "<|image_pad|>": 261,
    "<|video_pad|>": 262,
}
VOCABULARY = 263
_ROPE = {"rope_type": "default", "rope_theta": 1e5, "mrope_section": [4, 2, 2]}
# The configuration of a small language model and vision tower of any Qwen-VL family.
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rope_parameters": _ROPE,
    "eos_token_id": SPECIAL["<|im_end|>"],
    "pad_token_id": SPECIAL["<|endoftext|>"],
}
INTERLEAVED: dict[str, Any] = {"head_dim": 16, "rope_parameters": _ROPE | {"mrope_interleaved": True}}
VISION = vision_config(hidden=32, mlp=64, depth=2, heads=2, out=32, positions=64)
CONTEXT = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role + '\n' }}"
    "{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}"
    "{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}"
    "{% endfor %}<|im_end|>{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}{% endif %}"
)


def build_processor() -> Any:
    """A tokenizer of single bytes and an image processor with explicit sizes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    return assemble_processor(fast, CHAT_TEMPLATE, pixels=(32 * 32, 128 * 128))


def random_model(vocabulary: int, context: int, *, tied: bool) -> Any:
    """A random Qwen3-VL of about 100,000 parameters, float32.

    Args:
        vocabulary: its size.
        context: the most tokens of a request.
        tied: whether the head is the word embeddings.
    """
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    config = Qwen3VLConfig(
        text_config=TEXT | INTERLEAVED | {"vocab_size": vocabulary, "max_position_embeddings": context},
        vision_config=VISION | {"deepstack_visual_indexes": [0]},
        **vision_tokens(SPECIAL),
        tie_word_embeddings=tied,
    )
    return with_random_weights(lambda: Qwen3VLForConditionalGeneration(config))


def with_random_weights(build: Callable[[], Any]) -> Any:
    """A model in float32 with weights so large that the greedy text depends on every image and word."""
    import torch

    torch.manual_seed(0)
    model = build().float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    model.generation_config.eos_token_id = SPECIAL["<|im_end|>"]
    model.generation_config.pad_token_id = SPECIAL["<|endoftext|>"]
    return model


def build_model() -> Any:
    """A model for the tokenizer of single bytes."""
    return random_model(VOCABULARY, CONTEXT, tied=True)


def write_tiny_model(folder: Path) -> Path:
    """Write the checkpoint into `folder` and return it."""
    build_model().save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder
