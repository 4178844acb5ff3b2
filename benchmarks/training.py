"""Cost of PRA-GRPO against plain GRPO: steps of each role, memory, the frozen role here or by HTTP.

    python benchmarks/training.py [--model nano-base] [--prompts 8] [--tokens 32] [--steps 5] [--repeat 3]

Plain GRPO is TRL's trainer on the same rows with a reward that costs nothing. Every completion has exactly
`--tokens` tokens, so that all trainers generate and train on the same number. Each part runs in its own
process; times are medians over the steps after the first, in seconds. The parts are run in turns, and the
median of each figure counts; no other load may run meanwhile. Targets:

    perceiver step ≤ 1.35 × plain step + one batched generation of the frozen role
    reasoner step ≤ 1.1 × plain step on the same rows
    peak memory of the perceiver phase ≤ 1.05 × plain
    a step that calls the frozen role by HTTP, one call at a time ≥ 3 × ours
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.training.launch import CPU_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from p2r.training.session import Components, Session

PARTS = ("plain-perceiver", "perceiver", "plain-reasoner", "reasoner")
GROUP = 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of PRA-GRPO against plain GRPO.")
    parser.add_argument("--model", default="nano-base")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--part", choices=PARTS, help="run one part and print its figures as JSON")
    parser.add_argument("--repeat", type=int, default=3, help="how often each part is run, in turns")
    parser.add_argument("--scenes", type=Path, help="where scenes are drawn; kept there for the next time")
    options = parser.parse_args()
    if options.part:
        print("RESULT " + json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        scenes = options.scenes or Path(folder) / "scenes"
        runs = [{part: run_part(part, options, scenes) for part in PARTS} for _ in range(options.repeat)]
    found = {
        part: {name: statistics.median(run[part][name] for run in runs) for name in runs[0][part]}
        for part in PARTS
    }
    sys.exit(0 if report(found) else 1)


def run_part(part: str, options: argparse.Namespace, scenes: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--part", part, "--model", options.model, "--scenes", str(scenes)]
    for name in ("prompts", "tokens", "steps", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = {**os.environ, **CPU_VARIABLES, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        sys.exit(f"{part} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, float] = json.loads(lines[-1].removeprefix("RESULT "))
    print(part, {name: round(value, 3) for name, value in figures.items()}, flush=True)
    return figures


def report(found: dict[str, dict[str, float]]) -> bool:
    """Print each figure beside its target; whether all are met."""
    plain, ours = found["plain-perceiver"], found["perceiver"]
    rest = ours["rest"]
    rows = [
        ("perceiver step less one frozen generation, of a plain step", rest / plain["step"], 1.35, False),
        (
            "reasoner step, of a plain step",
            found["reasoner"]["step"] / found["plain-reasoner"]["step"],
            1.1,
            False,
        ),
        ("peak memory of the perceiver phase, of plain", ours["memory"] / plain["memory"], 1.05, False),
        (
            "a step with one HTTP call at a time, of ours",
            (rest + ours["http"]) / (rest + ours["frozen"]),
            3.0,
            True,
        ),
    ]
    met = True
    for name, value, target, least in rows:
        good = value >= target if least else value <= target
        met &= good
        print(f"{'ok  ' if good else 'MISS'} {name}: {value:.2f}× (target {'≥' if least else '≤'} {target}×)")
    return met


def measure(options: argparse.Namespace) -> dict[str, float]:
    import torch

    torch.set_num_threads(options.threads)
    role = options.part.removeprefix("plain-")
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(options, role, Path(folder))
        built = session.build()
        if role == "reasoner":
            session.perceive(built, "benchmark")
        plain = options.part.startswith("plain-")
        trainer = plain_trainer(built, session) if plain else built.trainer
        trainer.generation_config.min_new_tokens = options.tokens
        clock = Clock()
        trainer.add_callback(clock.callback())
        trainer.train()
        steps = clock.steps()
        figures = {
            "step": statistics.median(steps),
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        if options.part == "perceiver":
            # Of the steps that the clock saw: all but the first.
            frozen = [row.values["seconds/frozen"] for row in session.folder.metrics()[1:]]
            rest = [step - seconds for step, seconds in zip(steps, frozen, strict=True)]
            figures["rest"] = statistics.median(rest)
            figures |= frozen_figures(built, session)
        return figures


def open_session(options: argparse.Namespace, role: str, folder: Path) -> Session:
    from p2r.training.recipe import find_recipe, load_recipe
    from p2r.training.run import first_phase
    from p2r.training.session import Session

    rows = options.prompts * GROUP
    changes = [
        f"model={options.model}",
        f"phases=[{{role: {role}}}]",
        f"data.scenes={{count: {options.prompts}, scale: 0.375, folder: {options.scenes}}}",
        f"training.steps={options.steps}",
        f"training.prompts={options.prompts}",
        f"training.group={GROUP}",
        f"training.micro_batch={rows}",
        f"training.max_tokens={options.tokens}",
        "training.save_every=1000",
    ]
    recipe = load_recipe(find_recipe("nano"), changes)
    return Session(first_phase(recipe, folder / "run"))


def plain_trainer(built: Components, session: Session) -> Any:
    """TRL alone: the same weights, rows and configuration, rows in memory, a constant reward."""
    from datasets import Dataset
    from trl import GRPOTrainer

    from p2r.training import trl as building

    rows = [built.trainer.train_dataset[position] for position in range(len(built.order))]
    args = built.trainer.args
    # Their weights must not count as plain memory: they are freed before others are loaded.
    built.trainer = built.frozen = None
    built.recorder.logs = dict
    built.rewards.frozen = None
    gc.collect()

    def reward(completions: list[Any], **_: Any) -> list[float]:
        return [float(position % 2) for position in range(len(completions))]

    start = Path(session.state.start)
    model = building.load_policy(start, session.recipe, session.phase)
    dataset = Dataset.from_dict({"row": range(len(rows))}).with_transform(
        lambda batch: {key: [rows[row][key] for row in batch["row"]] for key in ("prompt", "images")}
    )
    plain = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=args,
        train_dataset=dataset,
        processing_class=built.processor,
    )
    building.speed_up(plain.ref_model, session.recipe.attention)
    return plain


def frozen_figures(built: Components, session: Session) -> dict[str, float]:
    """The frozen role's replies of a step: batched in the process, and by HTTP one at a time."""
    from p2r.evidence import build_evidence
    from p2r.models.base import Sampling
    from p2r.models.endpoint import EndpointModel
    from p2r.prompts import reason_messages
    from p2r.training.frozen import FrozenModel
    from p2r.types import Box

    rows = built.dataset
    conversations = []
    for position, index in enumerate(built.order[: session.phase.prompts]):
        look = rows.images(index)
        for member in range(GROUP):
            left = 100 * ((position + member) % 8)
            box = Box(left, left, left + 90, left + 90, "thing")
            evidence = build_evidence(look.source, [box], rows.settings, look.overview)
            conversations.append(
                reason_messages(rows.settings.prompts, rows.samples[index].question, evidence)
            )
    sampling = Sampling(session.phase.max_tokens or 32)
    began = time.perf_counter()
    asyncio.run(built.frozen.complete_all(conversations, sampling))
    batched = time.perf_counter() - began
    with served(session.state.start) as address:
        model = EndpointModel(address, "frozen", max_concurrency=1)
        asyncio.run(model.complete(conversations[0], sampling))  # the first call of a process is slow
        began = time.perf_counter()
        asyncio.run(FrozenModel(model).complete_all(conversations, sampling))
        one_by_one = time.perf_counter() - began
    return {"frozen": batched, "http": one_by_one}


@contextlib.contextmanager
def served(source: str) -> Iterator[str]:
    """The address of a server of the frozen role, in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("frozen_server.py")), source]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


class Clock:
    """Seconds from the end of one step to the end of the next: reading rows is part of a step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def callback(self) -> Any:
        """Adds the end of each step."""
        from transformers import TrainerCallback

        ends = self.ends

        class EndOfStep(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                ends.append(time.perf_counter())

        return EndOfStep()

    def steps(self) -> list[float]:
        """Seconds of each step, the first left out."""
        return [end - begin for begin, end in itertools.pairwise(self.ends)]


if __name__ == "__main__":
    main()
