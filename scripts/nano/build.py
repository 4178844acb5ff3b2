"""Builds an untrained nano: tokenizer, processor and a small `Qwen3VLForConditionalGeneration`.

Three choices make it learnable in minutes (docs/results.md has the figures): the tokenizer writes each
coordinate, digit, capital and word of a name as one token, and the rest of a sentence as a few; coordinate
tokens start with embeddings that vary smoothly with their value; the vision tower's position embeddings start
with two-dimensional sines instead of noise, so that the tower knows *where* from the first step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2r.settings import Geometry, PixelBudget, Settings, TokenLimits
from scripts.nano.lessons import corpus, name_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch
    from tokenizers import Tokenizer
    from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Coordinates of boxes and of facts ("at x = 310") are whole tokens; other numbers are read digit by digit.
_COORDINATE = r"(?:(?<=\[)|(?<=0, ))[0-9]*0(?=[,\]])|(?<=[xy] = )[0-9]+"
# Line breaks are inside expressions: the template language strips those outside.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'text' -%}{{ part.text }}"
    "{%- elif part.type in ('image', 'image_url') -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
NANO_SETTINGS = Settings(
    geometry=Geometry(max_crops=4),
    budget=PixelBudget(
        overview_max_pixels=30_720, crop_max_pixels=50_176, context_tokens=1_024, text_tokens=384
    ),
    max_tokens=TokenLimits(perceive=112, reason=112, direct=16),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a nano; tests use smaller ones."""

    hidden: int = 256
    layers: int = 6
    mlp: int = 704
    vision_hidden: int = 256
    vision_depth: int = 6
    vision_mlp: int = 832
    vocabulary: int = 1_536
    context: int = 1_024


def train_tokenizer(vocabulary: int, worlds: Sequence[str]) -> Tokenizer:
    """A byte-level BPE trained on the project's own prompts and answers about `worlds`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    texts = list(corpus(worlds))
    words = "|".join(sorted(name_words(worlds), key=len, reverse=True))
    tokenizer = Tokenizer(models.BPE())
    # What is found, read or chosen is a token of its own; all else may merge, across spaces too.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"{_COORDINATE}|[0-9]|\b(?:{words})\b|[A-Z](?![a-z])"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def wrap_tokenizer(tokenizer: Tokenizer) -> Any:
    """A tokenizer as transformers uses it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 (a token of the vocabulary, not a secret)
        pad_token="<|endoftext|>",  # noqa: S106
        model_max_length=1_024,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_processor(
    vocabulary: int, settings: Settings = NANO_SETTINGS, *, tokenizer: Tokenizer | None = None
) -> Qwen3VLProcessor:
    """Tokenizer (a new one for scenes of tags by default), image processor and chat template."""
    budget = settings.budget
    return assemble_processor(
        wrap_tokenizer(tokenizer or train_tokenizer(vocabulary, ("tags",))),
        CHAT_TEMPLATE,
        pixels=(budget.min_pixels, max(budget.overview_max_pixels, budget.crop_max_pixels)),
    )


def assemble_processor(tokenizer: Any, template: str, *, pixels: tuple[int, int]) -> Qwen3VLProcessor:
    """A processor for images of `pixels`, least and most; the models of the tests use it as well."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    sizes: dict[str, Any] = {
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "size": {"shortest_edge": pixels[0], "longest_edge": pixels[1]},
    }
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**sizes),
        chat_template=template,
    )


def vision_config(
    *, hidden: int, mlp: int, depth: int, heads: int, out: int, positions: int, **more: Any
) -> dict[str, Any]:
    """The configuration of a small vision tower; `more` replaces or adds keys for other families."""
    sizes = {
        "depth": depth,
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_heads": heads,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": out,
        "num_position_embeddings": positions,
    }
    return sizes | more


def vision_tokens(ids: Mapping[str, int]) -> dict[str, int]:
    """The keys of a configuration that name the special tokens of images, from the ids of all of them."""
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def build_model(
    processor: Qwen3VLProcessor, shape: Shape, *, seed: int = 0
) -> Qwen3VLForConditionalGeneration:
    """An untrained model in float32 whose position and number embeddings start with content."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    tokenizer = processor.tokenizer
    torch.manual_seed(seed)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": shape.hidden,
            "intermediate_size": shape.mlp,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": max(1, shape.hidden // 64),
            "num_key_value_heads": max(1, shape.hidden // 64),
            "head_dim": 64,
            "max_position_embeddings": shape.context,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e5,
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
            "bos_token_id": ids["<|im_start|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config=vision_config(
            hidden=shape.vision_hidden,
            mlp=shape.vision_mlp,
            depth=shape.vision_depth,
            heads=max(1, shape.vision_hidden // 64),
            out=shape.hidden,
            positions=256,
            deepstack_visual_indexes=[1],
        ),
        **vision_tokens(ids),
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config).float()
    _start_with_content(model, tokenizer)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    return model


def retokenized(folder: Path, tokenizer: Any) -> Qwen3VLForConditionalGeneration:
    """The model of a folder in float32, for another tokenizer; shared tokens keep their embeddings."""
    import torch
    from tokenizers import Tokenizer
    from transformers import Qwen3VLForConditionalGeneration

    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    old = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    new = tokenizer.get_vocab()
    known = model.model.language_model.embed_tokens.weight.detach().clone()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    words = model.model.language_model.embed_tokens.weight
    kept = {index: old[token] for token, index in new.items() if token in old}
    with torch.no_grad():
        words.normal_(std=known.std().item())
        words[list(kept)] = known[list(kept.values())]
    text, ids = model.config.text_config, {token: new[token] for token in SPECIAL_TOKENS}
    text.bos_token_id, text.eos_token_id = ids["<|im_start|>"], ids["<|im_end|>"]
    text.pad_token_id = ids["<|endoftext|>"]
    for key, value in vision_tokens(ids).items():
        setattr(model.config, key, value)
    model.generation_config.eos_token_id = text.eos_token_id
    model.generation_config.pad_token_id = text.pad_token_id
    return model


def _start_with_content(model: Qwen3VLForConditionalGeneration, tokenizer: Any) -> None:
    import torch

    visual = model.model.visual
    with torch.no_grad():
        side = int(visual.pos_embed.num_embeddings**0.5)
        place = torch.arange(side, dtype=torch.float32) / (side - 1)
        waves = fourier(place, visual.pos_embed.embedding_dim // 2)
        grid = torch.cat([waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)], dim=-1)
        visual.pos_embed.weight.copy_(0.5 * grid.reshape(side * side, -1))
        # Random deepstack features would be noise in the first layers of the language model.
        for merger in visual.deepstack_merger_list:
            torch.nn.init.zeros_(merger.linear_fc2.weight)
            torch.nn.init.zeros_(merger.linear_fc2.bias)
        words = model.model.language_model.embed_tokens.weight
        words.normal_(std=0.06)
        numbers = number_tokens(tokenizer)
        values = torch.tensor(sorted(numbers), dtype=torch.float32) / 1000
        smooth = (
            fourier(values, words.shape[1]) @ torch.linalg.qr(torch.randn(words.shape[1], words.shape[1]))[0]
        )
        words[[numbers[value] for value in sorted(numbers)]] = 0.075 * smooth


def fourier(values: torch.Tensor, width: int) -> torch.Tensor:
    """Sines and cosines of `values` in 0–1, half a period to 16 periods: (n,) → (n, width)."""
    import torch

    rates = torch.logspace(math.log10(0.5), math.log10(16), width // 2)
    angles = 2 * math.pi * values[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def number_tokens(tokenizer: Any) -> dict[int, int]:
    """Value → token id for the coordinates 0, 10, …, 1000 that are one token."""
    found = {}
    for value in range(0, 1001, 10):
        ids = tokenizer.encode(f"[{value}, 0]", add_special_tokens=False)
        ids = getattr(ids, "ids", ids)
        if tokenizer.decode([ids[1]]) == str(value):
            found[value] = ids[1]
    return found


def save(
    model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, settings: Settings, folder: Path
) -> None:
    """Write a checkpoint folder in bfloat16, with its settings beside it."""
    import copy

    import torch

    folder.mkdir(parents=True, exist_ok=True)
    # Small files, because not every way from one machine to another takes large ones.
    copy.deepcopy(model).to("cpu", torch.bfloat16).save_pretrained(folder, max_shard_size="14MB")
    processor.save_pretrained(folder)
    settings.save(folder)
