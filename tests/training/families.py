"""Very small models of every Qwen-VL family that transformers has; they write phrases (phrase_model.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.tiny_model import SPECIAL
from tests.training.phrase_model import CONTEXT, SETTINGS, like_phrases, phrase_processor

if TYPE_CHECKING:
    from pathlib import Path

_ROPE = {"rope_type": "default", "rope_theta": 1e5, "mrope_section": [4, 2, 2]}
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
    "rope_parameters": _ROPE,
    "bos_token_id": None,
    "eos_token_id": SPECIAL["<|im_end|>"],
    "pad_token_id": SPECIAL["<|endoftext|>"],
}
_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "patch_size": 16,
    "out_hidden_size": 32,
    "num_position_embeddings": 64,
}
_MOE = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
_LINEAR = {
    "head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "rope_parameters": _ROPE
    | {"mrope_section": [2, 1, 1], "mrope_interleaved": True, "partial_rotary_factor": 0.5},
}
_INTERLEAVED = {"head_dim": 16, "rope_parameters": _ROPE | {"mrope_interleaved": True}}
_DEEPSTACK = {"deepstack_visual_indexes": [0]}
_PATCH_14 = {"patch_size": 14}

# Family → what differs in its text and in its vision configuration.
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "qwen2_vl": ({}, _PATCH_14 | {"embed_dim": 32, "mlp_ratio": 2}),
    "qwen2_5_vl": ({}, _PATCH_14 | {"window_size": 56, "fullatt_block_indexes": [1]}),
    "qwen3_vl": (_INTERLEAVED, _DEEPSTACK),
    "qwen3_vl_moe": (_INTERLEAVED | _MOE, _DEEPSTACK),
    "qwen3_5": (_LINEAR, {}),
    "qwen3_5_moe": (_LINEAR | _MOE | {"shared_expert_intermediate_size": 32}, {}),
}


def write_family(folder: Path, family: str) -> Path:
    """Write the checkpoint of a family with its settings and return its folder."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    processor = phrase_processor()
    size = len(processor.tokenizer)
    text, vision = FAMILIES[family]
    config = AutoConfig.for_model(
        family,
        text_config=_TEXT | {"vocab_size": size} | text,
        vision_config=_VISION | vision,
        image_token_id=SPECIAL["<|image_pad|>"],
        video_token_id=SPECIAL["<|video_pad|>"],
        vision_start_token_id=SPECIAL["<|vision_start|>"],
        vision_end_token_id=SPECIAL["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    like_phrases(model, size)
    model.generation_config.eos_token_id = SPECIAL["<|im_end|>"]
    model.generation_config.pad_token_id = SPECIAL["<|endoftext|>"]
    model.save_pretrained(folder)
    patch = vision.get("patch_size", _VISION["patch_size"])
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
