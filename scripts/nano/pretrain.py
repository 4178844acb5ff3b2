"""Trains nano-base: supervised warm-up on train scenes, the part that Qwen3-VL-Instruct plays in the paper.

    python -m scripts.nano.pretrain --out runs/nano-base

Stages: `see` (the vision tower alone, on glyphs), then `speak` (the language model on the frozen tower).
The same command continues an interrupted run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from p2r.runs.files import replacing
from scripts.nano.build import NANO_SETTINGS, Shape, build_model, build_processor, save
from scripts.nano.glyph_data import GlyphImages, draw_glyphs
from scripts.nano.language_stage import language_step
from scripts.nano.loop import Metrics, Schedule, run_stage
from scripts.nano.scenepack import ScenePack, draw_pack
from scripts.nano.sft_data import ExampleBuilder
from scripts.nano.tower import encode, encode_pack, token_lookup
from scripts.nano.vision_stage import GlyphHead, vision_step

if TYPE_CHECKING:
    from collections.abc import Callable

Arrays = TypeVar("Arrays")


def main() -> None:
    """Parse the command line and run every stage that is not finished."""
    parser = argparse.ArgumentParser(description="Train nano-base on synthetic scenes.")
    parser.add_argument("--out", type=Path, required=True, help="run folder; the same one continues a run")
    parser.add_argument("--see-steps", type=int, default=7_000)
    parser.add_argument("--speak-steps", type=int, default=3_200)
    parser.add_argument("--glyphs", type=int, default=6_000)
    parser.add_argument("--scenes", type=int, default=10_000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    processor = build_processor(Shape().vocabulary, NANO_SETTINGS)
    model = build_model(processor, Shape())
    run_vision_stage(model, processor.tokenizer, options.out, steps=options.see_steps, count=options.glyphs)
    match_scales(model, options.out)
    pack = cached(options.out / "pack.npz", ScenePack, lambda: draw_pack(options.scenes, NANO_SETTINGS))
    builder = ExampleBuilder(pack, processor.tokenizer, NANO_SETTINGS)
    # On a CPU the backward of plain attention is the faster one at these lengths.
    model.set_attn_implementation({"text_config": "eager"})
    run_language_stage(model, builder, options.out, steps=options.speak_steps)
    save(model, processor, NANO_SETTINGS, options.out / "model")


def run_vision_stage(model: Any, tokenizer: Any, folder: Path, *, steps: int, count: int) -> None:
    """Stage `see`: the vision tower and the word embeddings, on glyphs."""
    glyphs = cached(folder / "glyphs.npz", GlyphImages, lambda: draw_glyphs(count, seed=0))
    visual = model.model.visual
    # The head holds the language model's word embeddings, so its checkpoint restores them too.
    head = GlyphHead(model.model.language_model.embed_tokens, tokenizer)

    def step(_: int, rng: np.random.Generator) -> Metrics:
        return vision_step(visual, head, glyphs, rng)

    run_stage("see", {"visual": visual, "head": head}, Schedule(steps, 1.5e-3, warmup=100), step, folder)


def match_scales(model: Any, folder: Path) -> None:
    """Divide the merger's last layer so that visual tokens are as large as word embeddings."""
    glyphs = cached(folder / "glyphs.npz", GlyphImages, lambda: draw_glyphs(64, seed=0))
    merger = model.model.visual.merger
    with torch.no_grad():
        tokens = encode(model.model.visual, [torch.from_numpy(glyphs.pixels[:64, :160, :160])])[0]
        words = model.model.language_model.embed_tokens.weight
        factor = words.norm(dim=-1).mean() / tokens.norm(dim=-1).mean()
        merger.linear_fc2.weight.mul_(factor)
        merger.linear_fc2.bias.mul_(factor)


def run_language_stage(model: Any, builder: ExampleBuilder, folder: Path, *, steps: int) -> None:
    """Stage `speak`: the language model, on examples about train scenes, with the tower frozen."""
    language = model.model.language_model
    tokens = encode_pack(model.model.visual, builder.pack, language.config.hidden_size)
    lookup = token_lookup(tokens, builder.pack)

    def step(number: int, _: np.random.Generator) -> Metrics:
        return language_step(model, builder, lookup, number)

    run_stage("speak", {"language": language}, Schedule(steps, 1.2e-3, warmup=100), step, folder)


def cached(path: Path, kind: Callable[..., Arrays], draw: Callable[[], Arrays]) -> Arrays:
    """The arrays of an earlier run of the same folder, or new ones."""
    if not path.exists():
        drawn = draw()
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, **{name: getattr(drawn, name) for name in kind.__slots__})  # type: ignore[attr-defined]
    with np.load(path) as arrays:
        loaded = {name: arrays[name] for name in kind.__slots__}  # type: ignore[attr-defined]
    return kind(**{name: array if array.ndim else array.item() for name, array in loaded.items()})


if __name__ == "__main__":
    main()
