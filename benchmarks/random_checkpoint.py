"""Checkpoints with the shapes of Qwen3-VL-2B, 4B and 8B, or very small ones, and random weights.

Tokenizer and processor are those of nano, with the size of the vocabulary padded to the real one.

    python benchmarks/random_checkpoint.py     # what a forward pass of each size computes
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for scripts.nano

# hidden, layers, heads, key-value heads, MLP; vision: hidden, depth, MLP. As in the released configurations.
SIZES: dict[str, tuple[tuple[int, int, int, int, int], tuple[int, int, int]]] = {
    "tiny": ((128, 2, 2, 1, 256), (96, 2, 192)),
    "2b": ((2048, 28, 16, 8, 6144), (1024, 24, 4096)),
    "4b": ((2560, 36, 32, 8, 9728), (1024, 24, 4096)),
    "8b": ((4096, 36, 32, 8, 12288), (1152, 27, 4304)),
}
VOCABULARY = 151_936
HEAD = 128  # width of an attention head of the language model
ROWS, TOKENS, PATCHES = 32, 2_031 + 64, 8_124  # of the step in docs/scaling.md; its prompts have one image


def main() -> None:
    print(f"PFLOP of a forward pass over {ROWS} rows of {TOKENS} tokens with an image of {PATCHES} patches")
    print(f"{'size':6}{'language model':>16}{'vision tower':>16}")
    for size in ("2b", "4b", "8b"):
        language, vision = forward_flop(size)
        print(f"{size:6}{ROWS * language / 1e15:16.2f}{ROWS * vision / 1e15:16.2f}")


def forward_flop(size: str) -> tuple[float, float]:
    """Of one row, language model and vision tower: 2 for each weight and token, and attention."""
    (hidden, layers, heads, shared, mlp), (vision, depth, vision_mlp) = SIZES[size]
    weights = layers * (2 * hidden * HEAD * (heads + shared) + 3 * hidden * mlp)
    tower = depth * (4 * vision**2 + 2 * vision * vision_mlp)
    causal = 2 * TOKENS**2 * heads * HEAD * layers  # every token attends to half of the others on average
    return 2 * weights * TOKENS + causal, 2 * tower * PATCHES + 4 * PATCHES**2 * vision * depth


def write_checkpoint(folder: Path, size: str, *, pixels: int, tokens: int) -> None:
    """Write a checkpoint of a size, unless it is there, and its settings.

    Args:
        pixels: budget of the overview and of each crop.
        tokens: the most of a reply.
    """
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from p2r.settings import PixelBudget, Settings, TokenLimits
    from scripts.nano.build import SPECIAL_TOKENS, build_processor, vision_tokens

    settings = Settings(
        budget=PixelBudget(overview_max_pixels=pixels, crop_max_pixels=pixels),
        max_tokens=TokenLimits(perceive=tokens, reason=tokens),
    )
    if folder.exists():
        settings.save(folder)
        return
    (hidden, layers, heads, shared, mlp), (vision, depth, vision_mlp) = SIZES[size]
    processor = build_processor(1_100, settings)
    ids = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    tiny = size == "tiny"
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(processor.tokenizer) if tiny else VOCABULARY,
            "hidden_size": hidden,
            "intermediate_size": mlp,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": shared,
            "head_dim": 64 if tiny else HEAD,
            "max_position_embeddings": 32_768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [12, 10, 10] if tiny else [24, 20, 20],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": size != "8b",
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": depth,
            "hidden_size": vision,
            "intermediate_size": vision_mlp,
            "num_heads": 2 if tiny else 16,
            "out_hidden_size": hidden,
            "patch_size": 16,
            "deepstack_visual_indexes": [1] if tiny else [5, 11, 17] if depth == 24 else [8, 16, 24],
        },
        **vision_tokens(ids),
        tie_word_embeddings=size != "8b",
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32 if tiny else torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen3VLForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    partial = folder.with_suffix(".part")
    model.save_pretrained(partial)
    processor.save_pretrained(partial)
    settings.save(partial)
    partial.rename(folder)
    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
