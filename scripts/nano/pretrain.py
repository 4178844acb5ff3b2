"""Trains nano-base: supervised warm-up on train scenes, the part that Qwen3-VL-Instruct plays in the paper.

    python -m scripts.nano.pretrain --device cuda --minutes 5.3 --workers 15 --out runs/nano-base

Processes draw scenes while it trains; the stages (`scripts.nano.training`) end by the clock. On a CPU, a
minute with `--tiny` tries everything, and `--resume FOLDER --stages together,habits` continues a checkpoint.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from tokenizers import Tokenizer

from p2r.scenes import WORLDS
from p2r.settings import Settings
from scripts.nano.build import NANO_SETTINGS, Shape, train_tokenizer
from scripts.nano.drawing import Drawers, Plan

TINY = Shape(hidden=64, layers=3, mlp=96, vision_hidden=64, vision_depth=2, vision_mlp=96, vocabulary=1_300)
# What must still happen when training ends: the last checkpoint and the last figures, in seconds.
_FINISH = 14.0


def main() -> None:
    """Parse the command line, start the drawing, then train."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description="Train nano-base on synthetic scenes.")
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    parser.add_argument("--minutes", type=float, default=5.3, help="wall clock, all included")
    parser.add_argument("--device", default="cpu", help="cuda or cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    parser.add_argument("--worlds", help="worlds to train, separated by commas; by default all but one")
    parser.add_argument("--held-out", default="map", help="the world that is not trained")
    parser.add_argument("--validation", type=int, default=60, help="scenes of each world")
    parser.add_argument("--stages", default="see,speak,together,habits")
    parser.add_argument("--resume", type=Path, help="a checkpoint folder to continue from")
    parser.add_argument("--start", type=Path, help="a model folder to start from, whatever its tokenizer")
    parser.add_argument("--drawn", type=int, help="scenes to wait for; 600 on a GPU, 60 on a CPU")
    parser.add_argument("--scale", type=float, help="of the examples of a step; 1 on a GPU, 1/24 on a CPU")
    parser.add_argument("--rate", type=float, help="of the learning rates; 1, and 0.3 with --resume")
    parser.add_argument("--pool-gb", type=float, help="drawn images on the device; 34 on a GPU, 1 on a CPU")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the command")
    parser.add_argument("--pack", action="store_true", help="write checkpoints as parts of tar files")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    held_out = tuple(name for name in WORLDS if name == options.held_out)
    worlds = options.worlds.split(",") if options.worlds else WORLDS
    plan = Plan(tuple(name for name in worlds if name not in held_out), held_out, options.validation)
    shape = TINY if options.tiny else Shape()
    if options.resume:
        tokenizer = Tokenizer.from_file(str(options.resume / "tokenizer.json"))
    else:
        tokenizer = train_tokenizer(shape.vocabulary, plan.all)
    print(
        f"[{time.monotonic() - began:6.1f} s] {tokenizer.get_vocab_size()} tokens; worlds {plan.all}",
        flush=True,
    )
    # A checkpoint goes on with its own prompts and budgets.
    settings = Settings.load(options.resume) if options.resume else NANO_SETTINGS
    # Before torch: a process that uses a GPU cannot be forked.
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    drawers = Drawers(plan, tokenizer, settings, workers=options.workers)
    try:
        _train(options, plan, shape, tokenizer, settings, drawers, began)
    finally:
        drawers.stop()


def _train(
    options: argparse.Namespace,
    plan: Plan,
    shape: Shape,
    tokenizer: Tokenizer,
    settings: Settings,
    drawers: Drawers,
    began: float,
) -> None:
    import torch

    from scripts.nano.training import Clock, Trainer

    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    cuda = options.device.startswith("cuda")
    if cuda:
        torch.set_num_threads(2)  # the others draw
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        # It would plan anew for every length.
        torch.backends.cuda.enable_cudnn_sdp(False)
    trainer = Trainer(
        plan,
        tokenizer,
        drawers,
        settings,
        options.out,
        device=torch.device("cuda", 0) if cuda else torch.device("cpu"),
        shape=shape,
        resume=options.resume,
        start=options.start,
        drawn=options.drawn or (600 if cuda else 60),
        scale=options.scale or (1.0 if cuda else 1 / 24),
        rate=options.rate or (0.3 if options.resume else 1.0),
        pool_bytes=1e9 * (options.pool_gb or (34 if cuda else 1)),
        pack=options.pack,
    )
    parameters = sum(one.numel() for one in trainer.model.parameters())
    print(f"[{time.monotonic() - began:6.1f} s] {parameters / 1e6:.1f} M parameters", flush=True)
    clock = Clock(began, time.monotonic() - began, 60 * options.minutes - _FINISH)
    trainer.run(clock, tuple(options.stages.split(",")))
    trainer.say("done")


if __name__ == "__main__":
    main()
