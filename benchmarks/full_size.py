"""PRA-GRPO steps of a full-size Qwen3-VL with random weights: tokens a second, memory, shares of the time.

    python benchmarks/full_size.py --size tiny             # a minute on a CPU, to test the script
    python benchmarks/full_size.py --size 2b               # one 80 GB GPU, all weights
    python benchmarks/full_size.py --size 4b --lora        # one 80 GB GPU, adapters

Prints one JSON object after each step; the first step includes initialization. No checkpoint is saved. Random
weights generate no useful text, so every completion has exactly `--tokens` tokens, gates are off, and the
frozen reasoner gets the plain image, once for each prompt. The tokenizer and processor are those of nano,
with the size of the vocabulary padded to the real one, because nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# hidden, layers, heads, key-value heads, MLP; vision: hidden, depth, MLP. As in the released configurations.
SIZES: dict[str, tuple[tuple[int, int, int, int, int], tuple[int, int, int]]] = {
    "tiny": ((128, 2, 2, 1, 256), (96, 2, 192)),
    "2b": ((2048, 28, 16, 8, 6144), (1024, 24, 4096)),
    "4b": ((2560, 36, 32, 8, 9728), (1024, 24, 4096)),
    "8b": ((4096, 36, 32, 8, 12288), (1152, 27, 4304)),
}
VOCABULARY = 151_936

sys.path.insert(0, str(Path(__file__).parents[1]))  # for scripts.nano


def main() -> None:
    parser = argparse.ArgumentParser(description="PRA-GRPO steps at full size, with random weights.")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--roles", nargs="+", default=["perceiver", "reasoner"])
    parser.add_argument(
        "--pixels", type=int, default=2_097_152, help="budget of the overview and of each crop"
    )
    options = parser.parse_args()
    if options.size == "tiny":
        options.pixels = 65_536
    # As in a run: each phase in its own process, so that the memory of the one before is free.
    alone = ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with tempfile.TemporaryDirectory() as folder, alone:
        model = alone.submit(write_checkpoint, Path(folder) / "model", options).result()
        for role in options.roles:
            alone.submit(take_steps, role, model, Path(folder), options).result()


def write_checkpoint(folder: Path, options: argparse.Namespace) -> Path:
    """A checkpoint with the shapes of a size and random weights."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from scripts.nano.build import SPECIAL_TOKENS, build_processor, vision_tokens

    (hidden, layers, heads, shared, mlp), (vision, depth, vision_mlp) = SIZES[options.size]
    settings = budgets(options)
    processor = build_processor(1_100, settings)
    ids = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    tiny = options.size == "tiny"
    head = 64 if tiny else 128
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(processor.tokenizer) if tiny else VOCABULARY,
            "hidden_size": hidden,
            "intermediate_size": mlp,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": shared,
            "head_dim": head,
            "max_position_embeddings": 32_768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [12, 10, 10] if tiny else [24, 20, 20],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": options.size != "8b",
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
        tie_word_embeddings=options.size != "8b",
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32 if tiny else torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen3VLForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    print(f"{model.num_parameters() / 1e9:.2f} billion weights", file=sys.stderr)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    settings.save(folder)
    return folder


def budgets(options: argparse.Namespace) -> Any:
    """The release's training budget, or a small one."""
    from p2r.settings import PixelBudget, Settings, TokenLimits

    return Settings(
        budget=PixelBudget(overview_max_pixels=options.pixels, crop_max_pixels=options.pixels),
        max_tokens=TokenLimits(perceive=options.tokens, reason=options.tokens),
    )


def take_steps(role: str, model: Path, folder: Path, options: argparse.Namespace) -> None:
    """Take the steps of one phase, and print the figures of each."""
    import torch
    import yaml

    from p2r.training.recipe import load_recipe
    from p2r.training.run import first_phase
    from p2r.training.session import Session

    cuda = torch.cuda.is_available()
    recipe_data = {
        "name": "full-size",
        "model": str(model),
        "data": {
            "scenes": {
                "count": options.prompts,
                "scale": 1.0 if cuda else 0.2,
                "folder": str(folder / "scenes"),
            }
        },
        "judge": "exact",
        "precision": "bfloat16" if cuda else "float32",
        "gates": {"malformed": False, "overlap": None, "label": False},
        "phases": [{"role": role}],
        "training": {
            "steps": options.steps,
            "prompts": options.prompts,
            "group": options.group,
            "micro_batch": options.micro_batch,
            "max_tokens": options.tokens,
            "trainer": {"save_strategy": "no"},
        },
        "frozen": {"batch": 32},
    }
    if options.lora:
        recipe_data["lora"] = {}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_data))
    recipe, out = load_recipe(path), folder / role
    session = Session(first_phase(recipe, out))
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    built = session.build()
    if role == "reasoner":
        session.perceive(built, "random")
    trainer = built.trainer
    trainer.generation_config.min_new_tokens = options.tokens
    generating = Stopwatch(trainer._generate_single_turn)  # noqa: SLF001 - what is measured
    trainer._generate_single_turn = generating  # noqa: SLF001
    trainer.add_callback(step_printer(role, generating, options))
    trainer.train()
    built.recorder.close()


def step_printer(role: str, generating: Stopwatch, options: argparse.Namespace) -> Any:
    """A callback that prints the figures of each step."""
    import torch
    from transformers import TrainerCallback

    class StepPrinter(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()
            generating.seconds = 0.0

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:  # noqa: ARG002
            if "reward" not in logs:  # the summary at the end
                return
            seconds = time.perf_counter() - self.began
            parts = {"generation": generating.seconds, "frozen": float(logs.get("seconds/frozen", 0.0))}
            figures = {
                "size": options.size,
                "lora": options.lora,
                "role": role,
                "step": state.global_step,
                "seconds": round(seconds, 2),
                "new_tokens_a_second": round(options.prompts * options.group * options.tokens / seconds, 1),
                **{part: round(of_it / seconds, 3) for part, of_it in parts.items()},
                "update_and_rest": round(1 - sum(parts.values()) / seconds, 3),
            }
            if torch.cuda.is_available():
                figures["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
            print(json.dumps(figures), flush=True)

    return StepPrinter()


class Stopwatch:
    """A function, with the seconds of its calls."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.seconds = 0.0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it."""
        began = time.perf_counter()
        try:
            return self._function(*arguments, **named)
        finally:
            self.seconds += time.perf_counter() - began


if __name__ == "__main__":
    main()
