"""Very small models of every Qwen-VL family that transformers has; they write phrases (phrase_model.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scripts.nano.build import vision_tokens
from tests.tiny_model import INTERLEAVED, SPECIAL, TEXT, VISION, with_random_weights
from tests.training.phrase_model import CONTEXT, SETTINGS, like_phrases, phrase_processor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MOE = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
_LINEAR = {
    "head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "rope_parameters": INTERLEAVED["rope_parameters"]
    | {"mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5},
}
_DEEPSTACK = {"deepstack_visual_indexes": [0]}
_PATCH_14 = {"patch_size": 14}

# Family → what differs in its text and in its vision configuration.
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "qwen2_vl": ({}, _PATCH_14 | {"embed_dim": 32, "mlp_ratio": 2}),
    "qwen2_5_vl": ({}, _PATCH_14 | {"window_size": 56, "fullatt_block_indexes": [1]}),
    "qwen3_vl": (INTERLEAVED, _DEEPSTACK),
    "qwen3_vl_moe": (INTERLEAVED | _MOE, _DEEPSTACK),
    "qwen3_5": (_LINEAR, {}),
    "qwen3_5_moe": (_LINEAR | _MOE | {"shared_expert_intermediate_size": 32}, {}),
}


def write_family(folder: Path, family: str, pieces: Sequence[str] = ()) -> Path:
    """Write the checkpoint of a family with its settings and return its folder.

    Args:
        folder: is made.
        family: a key of `FAMILIES`.
        pieces: texts to make tokens of; with them the model prefers no phrases.
    """
    from tokenizers import AddedToken
    from transformers import AutoConfig, AutoModelForImageTextToText

    processor = phrase_processor()
    processor.tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in pieces])
    size = len(processor.tokenizer)
    text, vision = FAMILIES[family]
    config = AutoConfig.for_model(
        family,
        text_config=TEXT
        | {"vocab_size": size, "max_position_embeddings": CONTEXT, "bos_token_id": None}
        | text,
        vision_config=VISION | vision,
        **vision_tokens(SPECIAL),
        tie_word_embeddings=False,
    )
    model = with_random_weights(lambda: AutoModelForImageTextToText.from_config(config))
    if not pieces:
        like_phrases(model, size)
    model.save_pretrained(folder)
    patch = vision.get("patch_size", VISION["patch_size"])
    processor = _own_class(family, processor)
    processor.image_processor.patch_size = processor.video_processor.patch_size = patch
    processor.save_pretrained(folder)
    replace(SETTINGS, budget=replace(SETTINGS.budget, factor=2 * patch)).save(folder)
    return folder


def _own_class(family: str, processor: Any) -> Any:
    """The same parts in the class that the released checkpoints of a family name."""
    import transformers

    name = {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor"}.get(family)
    if name is None:
        return processor
    video = transformers.Qwen2VLVideoProcessor(**processor.video_processor.to_dict())
    return getattr(transformers, name)(
        image_processor=processor.image_processor,
        tokenizer=processor.tokenizer,
        video_processor=video,
        chat_template=processor.chat_template,
    )
