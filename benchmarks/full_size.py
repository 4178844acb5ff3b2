"""PRA-GRPO steps of a full-size Qwen3-VL with random weights: tokens a second, memory, parts of a step.

    python benchmarks/full_size.py --size tiny --profile                # a CPU, to test the script
    python benchmarks/full_size.py --size 2b --profile --compare plain  # one 80 GB GPU, all weights
    python benchmarks/full_size.py --size 4b --lora --profile           # one 80 GB GPU, adapters
    sh benchmarks/full_size.sh                                          # all sizes in ten minutes

Every figure is printed as soon as it is known: JSON on stdout, the same for people on stderr. Each role, and
stock TRL (`--compare plain`: a `GRPOTrainer` of a model's folder, on the same rows, with a reward that costs
nothing), runs in a process of its own, which ends at its share of `--minutes`. No checkpoint is saved.

Random weights write no boxes, so gates are off, every completion has `--tokens` tokens, and both roles see
the plain image. With `--crops N` each completion of a perceiver counts as N boxes of its own, and a reasoner
sees N crops: the images of a real step. Images that vLLM encodes are not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import faulthandler
import json
import logging
import os
import pickle
import platform
import random
import signal
import statistics
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from random_checkpoint import SIZES, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from step_profile import StepProfile

ROLES = ("perceiver", "reasoner")
ENGINES = ("transformers", "vllm-colocate", "vllm-server")
GRACE_S = 10.0  # in which a process ends itself before it is killed
FIGURES = "figures.jsonl"


def main() -> None:
    options = read_options()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    end = time.monotonic() + 60 * options.minutes
    parts = [(role, trainer) for role in options.roles for trainer in ("p2r", *options.compare)]
    with folder_of(options) as folder:
        whole = True
        for number, (role, trainer) in enumerate(parts):
            share = (end - time.monotonic()) / (len(parts) - number)
            if trainer == "plain" and not (options.runs / f"{role}.pickle").exists():
                emit({"role": role, "trainer": trainer, "rows": 0}, f"{role}: no rows for stock TRL")
                continue
            whole &= run_part(role, trainer, folder, options, share)
        if options.compare:
            compare(folder / FIGURES, options.roles)
    sys.exit(0 if whole else 1)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="PRA-GRPO steps at full size, with random weights.")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=ROLES)
    parser.add_argument("--lora", action="store_true", help="train adapters")
    parser.add_argument("--freeze-vision", action="store_true", help="train the language model only")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    parser.add_argument("--url", help="of the server of --engine vllm-server, which serves FOLDER/SIZE")
    parser.add_argument("--compare", nargs=1, choices=("plain",), default=[], help="with stock TRL")
    parser.add_argument("--profile", action="store_true", help="show the parts of each step")
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="in all; each role and trainer has a share"
    )
    parser.add_argument("--steps", type=int, default=3, help="at most; the time limit may end them")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, help="of each completion (64; 16 for tiny)")
    parser.add_argument("--crops", type=int, choices=range(4), default=0)
    parser.add_argument("--pixels", type=int, help="budget of an image (2097152; 16384 for tiny)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument(
        "--folder", type=Path, help="where the checkpoint is written and kept, to use it again"
    )
    options = parser.parse_args()
    tiny = options.size == "tiny"
    options.pixels = options.pixels or (16_384 if tiny else 2_097_152)
    options.tokens = options.tokens or (16 if tiny else 64)
    if options.engine != "transformers" and find_spec("vllm") is None:
        parser.error(f"--engine {options.engine} needs vLLM in this Python, and it is not installed")
    if (options.engine == "vllm-server") != (options.url is not None):
        parser.error("--url goes with --engine vllm-server, and is needed there")
    return options


@contextlib.contextmanager
def folder_of(options: argparse.Namespace) -> Iterator[Path]:
    """The folder of checkpoint and figures; the checkpoint of an earlier call is used again."""
    with tempfile.TemporaryDirectory() as runs:
        folder = options.folder or Path(runs)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FIGURES).write_text("", encoding="utf-8")
        options.runs = Path(runs)
        yield folder


def run_part(role: str, trainer: str, folder: Path, options: argparse.Namespace, limit: float) -> bool:
    """Take the steps of a role in a process of its own, as in a run; whether it ended by itself."""
    began = time.monotonic()
    process = get_context("spawn").Process(target=take_steps, args=(role, trainer, folder, options, limit))
    process.start()
    try:
        process.join(limit + GRACE_S)
    finally:
        process.kill()
        process.join()
    if process.exitcode == 0:
        return True
    seconds = time.monotonic() - began
    why = "time limit" if seconds >= limit else f"exit code {process.exitcode}"
    figures = {"role": role, "trainer": trainer, "ended_by": why, "seconds": round(seconds, 1)}
    emit(figures, f"{role}, {trainer}: ended after {seconds:.0f} s by its {why}; what is above is all")
    return False


def emit(figures: dict[str, Any], text: str) -> None:
    print(json.dumps(figures), file=sys.__stdout__, flush=True)
    print(text, file=sys.stderr, flush=True)


def compare(path: Path, roles: list[str]) -> None:
    """Print how many times as many tokens a second p2r generates as stock TRL, in each role."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for role in roles:
        speeds, steps = {}, {}
        for trainer in ("p2r", "plain"):
            taken = [row for row in rows if (row["role"], row["trainer"]) == (role, trainer)]
            taken = taken[1:] or taken  # the first step includes initialization
            speeds[trainer] = [row["new_tokens_a_second"] for row in taken]
            steps[trainer] = [row["step"] for row in taken]
        if not all(speeds.values()):
            emit({"role": role, "ratio": None}, f"{role}: no ratio, a trainer took no step")
            continue
        medians = {trainer: statistics.median(found) for trainer, found in speeds.items()}
        ratio = medians["p2r"] / medians["plain"]
        text = ", ".join(f"{one} {medians[one]:.0f} (steps {steps[one]})" for one in medians)
        figures = {"role": role, "ratio": round(ratio, 2), "steps": steps}
        emit(figures, f"{role}: {ratio:.2f} × the tokens a second of stock TRL: {text}")


# In the process of a part.


def take_steps(role: str, name: str, folder: Path, options: argparse.Namespace, limit: float) -> None:
    """Take the steps of one phase with p2r's trainer or with stock TRL, and print the figures of each."""
    end = time.monotonic() + limit
    # Also where Python hangs in compiled code; the trace shows where.
    faulthandler.dump_traceback_later(limit, exit=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    sys.stdout = sys.stderr  # what libraries print is no JSON
    warnings.filterwarnings("ignore")
    import torch
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel
    from transformers.utils.logging import disable_progress_bar

    from step_profile import StepProfile, measure_parts

    if options.engine != "transformers" and not torch.cuda.is_available():
        sys.exit("vLLM needs a GPU here: on a CPU it frees the weights that TRL loads new ones into")
    disable_progress_bar()
    logging.disable(logging.WARNING)
    about = {"size": options.size, "role": role, "trainer": name}
    profile = StepProfile(
        lambda part, of_it: emit(
            {**about, "part": part, **of_it.figures()}, f"  … {part} {of_it.seconds:.2f} s"
        )
    )
    if options.profile:
        profile.count_images(Qwen3VLVisionModel)
    write_checkpoint(folder / options.size, options.size, pixels=options.pixels, tokens=options.tokens)
    trainer = p2r_trainer(role, folder, options) if name == "p2r" else plain_trainer(role, folder, options)
    trainer.generation_config.min_new_tokens = options.tokens
    if options.engine != "transformers":
        trainer.vllm_generation.generation_kwargs["min_tokens"] = options.tokens
    if options.profile:
        measure_parts(trainer, profile)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}"
    weights = sum(one.numel() for one in trainer.model.parameters())
    trained = sum(one.numel() for one in trainer.model.parameters() if one.requires_grad)
    versions = {one: version(one) for one in ("torch", "transformers", "trl", "peft")}
    start = {"command": sys.argv[1:], "device": device, "weights": weights, "trained": trained, **versions}
    ready = limit - (end - time.monotonic())
    emit(
        {**about, **start, "ready_s": round(ready, 1)},
        f"{role}, {name}: {weights / 1e6:,.1f} million weights, {trained / 1e6:,.1f} trained, on {device}; "
        f"{', '.join(map(' '.join, versions.items()))}; ready after {ready:.0f} s",
    )
    trainer.add_callback(step_printer(about, trainer, profile, folder / FIGURES, options, end))
    trainer.train()
    os._exit(0)  # nothing is to be saved, and an engine may take long to end


def load_phase(role: str, folder: Path, options: argparse.Namespace) -> tuple[Any, Path]:
    """The recipe of the measurement, and the folder of its run."""
    import torch
    import yaml

    from p2r.training.recipe import load_recipe

    cuda = torch.cuda.is_available()
    rollouts: dict[str, Any] = {"engine": options.engine}
    folder_of_scenes = str(options.runs / "scenes")
    scenes = {"count": options.prompts, "scale": 1.0 if cuda else 0.2, "folder": folder_of_scenes}
    data: dict[str, Any] = {"scenes": scenes}
    if options.engine == "vllm-server":
        rollouts["url"] = options.url
    if options.engine == "vllm-colocate":
        data["max_prompt_tokens"] = 10_240  # as in the recipes: vLLM reserves memory for it
    recipe = {
        "name": "full-size",
        "model": str(folder / options.size),
        "data": data,
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
            "freeze_vision": options.freeze_vision,
            "trainer": {"save_strategy": "no"},
        },
        "rollouts": rollouts,
        "frozen": {"batch": 32},
        **({"lora": {}} if options.lora else {}),
    }
    path = options.runs / f"{role}.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return load_recipe(path, options.set), options.runs / role


def p2r_trainer(role: str, folder: Path, options: argparse.Namespace) -> Any:
    """The trainer of `p2r train`; its rows are kept for stock TRL."""
    from p2r.training.run import first_phase
    from p2r.training.session import Session

    recipe, out = load_phase(role, folder, options)
    session = Session(first_phase(recipe, out))
    built = session.build()
    began = time.perf_counter()
    session.perceive(built, "random")
    seconds = round(time.perf_counter() - began, 2)
    if role == "reasoner":
        emit({"role": role, "boxes_s": seconds}, f"reasoner: boxes by the frozen perceiver {seconds} s")
    if options.crops:
        draw_boxes(built, options.crops)
    if options.compare:
        rows = [built.trainer.train_dataset[at] for at in range(len(built.order))]
        (options.runs / f"{role}.pickle").write_bytes(pickle.dumps(rows))
    return built.trainer


def draw_boxes(built: Any, crops: int) -> None:
    """Let each completion of a perceiver stand for boxes of its own, and show crops to a reasoner."""
    from p2r.training.data import RolloutDataset

    class RandomBoxes(RolloutDataset):
        def perception(self, index: int, text: str) -> Any:
            rng = random.Random(text)
            corners = [(rng.randint(0, 600), rng.randint(0, 600)) for _ in range(crops)]
            boxes = [
                {"bbox_2d": [x, y, x + 300, y + 300], "label": f"thing {at}"}
                for at, (x, y) in enumerate(corners)
            ]
            return super().perception(index, json.dumps(boxes))

    dataset = built.dataset
    drawn = RandomBoxes(*[getattr(dataset, one.name) for one in dataclasses.fields(dataset)])
    built.rewards.dataset = drawn
    dataset.boxes.update(
        {index: drawn.perception(index, f"sample {index}").boxes for index in range(len(dataset.samples))}
    )


def plain_trainer(role: str, folder: Path, options: argparse.Namespace) -> Any:
    """Stock TRL: a model's folder, the same configuration, rows in memory, a reward that costs nothing."""
    from datasets import Dataset
    from trl import GRPOTrainer

    from p2r.training import trl as building
    from p2r.training.data import settings_of

    recipe, out = load_phase(role, folder, options)
    (phase,), settings, model = recipe.phases, settings_of(recipe), folder / options.size
    rows = pickle.loads((options.runs / f"{role}.pickle").read_bytes())
    args = building.configure(recipe, phase, settings, model, output=out / "plain", seed=0)
    args.max_steps = options.steps
    # Of the policy, which TRL loads: with adapters in the precision of computation, as p2r does.
    args.model_init_kwargs = {"dtype": recipe.precision if recipe.lora else "float32"}

    def reward(completions: list[Any], **_: Any) -> list[float]:
        return [float(at % 2) for at in range(len(completions))]

    trainer = GRPOTrainer(
        model=str(model),
        reward_funcs=reward,
        args=args,
        train_dataset=Dataset.from_dict({"row": range(len(rows))}).with_transform(
            lambda batch: {key: [rows[at][key] for at in batch["row"]] for key in ("prompt", "images")}
        ),
        processing_class=building.load_processor(model, settings),
        peft_config=building.adapter(recipe),
    )
    if phase.freeze_vision and recipe.lora is None:
        building.vision_tower(trainer.model).requires_grad_(requires_grad=False)
    return trainer


def step_printer(
    about: dict[str, Any],
    trainer: Any,
    profile: StepProfile,
    path: Path,
    options: argparse.Namespace,
    end: float,
) -> Any:
    """A callback that prints the figures of each step, and stops where no time is left for another."""
    from transformers import TrainerCallback

    from step_profile import table

    tokens: list[int] = []
    generate = trainer._generate_single_turn  # noqa: SLF001 - what is measured

    def counted(*arguments: Any, **named: Any) -> Any:
        completions, log_probs = generate(*arguments, **named)
        tokens.extend(map(len, completions))
        return completions, log_probs

    trainer._generate_single_turn = counted  # noqa: SLF001

    class StepPrinter(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            profile.start()

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            if options.profile:
                profile.begin("optimizer")

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            if options.profile:
                profile.end()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            profile.note()
            parts, new = profile.parts, sum(tokens)
            seconds = sum(one.seconds for one in parts.values())
            peak = max(one.peak for one in parts.values())
            speed = round(new / seconds, 1)
            figures = {
                **about,
                **{name: getattr(options, name) for name in ("engine", "lora", "freeze_vision", "crops")},
                "step": state.global_step,
                "seconds": round(seconds, 2),
                "new_tokens": new,
                "new_tokens_a_second": speed,
                "peak_gib": round(peak, 2),
                "parts": {name: part.figures() for name, part in parts.items()} if options.profile else {},
            }
            title = f"{about['role']}, {about['trainer']}, step {state.global_step}"
            text = f"{title}: {seconds:.2f} s, {speed} new tokens a second, peak {peak:.1f} GiB"
            emit(figures, "\n".join([text, *(table(parts, seconds) if options.profile else [])]))
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(figures) + "\n")
            if time.monotonic() + 1.1 * seconds > end and state.global_step < options.steps:
                print("  no time is left for another step", file=sys.stderr, flush=True)
                control.should_training_stop = True
            tokens.clear()
            profile.start()

    return StepPrinter()


if __name__ == "__main__":
    main()
