"""A resumable training loop for one stage: AdamW, cosine rate, checkpoints, a log, a live progress line."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from p2r.runs.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast one stage learns.

    Attributes:
        steps: optimizer steps.
        rate: the highest learning rate, reached after `warmup` steps, then a cosine down to a twentieth.
        warmup: steps of linear warm-up.
        log_every, save_every: in steps.
    """

    steps: int
    rate: float
    warmup: int = 50
    log_every: int = 20
    save_every: int = 200

    def at(self, step: int) -> float:
        """The learning rate of a step."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def run_stage(
    name: str,
    modules: Mapping[str, torch.nn.Module],
    schedule: Schedule,
    step: Callable[[int, np.random.Generator], Metrics],
    folder: Path,
    *,
    evaluate: Callable[[int], Metrics] | None = None,
    evaluate_every: int = 0,
) -> None:
    """Train until `schedule.steps`, starting again at the last checkpoint in `folder`.

    Args:
        name: names the checkpoint and the rows of `log.jsonl`.
        modules: what is saved and, where it requires gradients, trained.
        step: accumulates the gradients of one step from its number and a generator; returns metrics.
        evaluate: called every `evaluate_every` steps; its metrics go to the log.
    """
    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    unique = list({id(p): p for p in parameters}.values())
    optimizer = torch.optim.AdamW(unique, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=0.01)
    start = _restore(folder / f"{name}.pt", modules, optimizer)
    progress = _Progress(name, schedule.steps, start)
    for number in range(start, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.at(number)
        # A generator of its own for each step: a continued run draws what an uninterrupted one would.
        metrics = step(number, np.random.default_rng((number, len(name))))
        metrics["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(unique, 1.0))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.add(metrics)
        done = number + 1
        if done % schedule.log_every == 0 or done == schedule.steps:
            _append(folder, progress.flush(done))
        if evaluate and evaluate_every and (done % evaluate_every == 0 or done == schedule.steps):
            row = {"stage": name, "step": done, **evaluate(done)}
            progress.say(row)
            _append(folder, row)
        if done % schedule.save_every == 0 or done == schedule.steps:
            _keep(folder / f"{name}.pt", modules, optimizer, done)


def _restore(path: Path, modules: Mapping[str, torch.nn.Module], optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for key, module in modules.items():
        module.load_state_dict(state["modules"][key])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _keep(
    path: Path, modules: Mapping[str, torch.nn.Module], optimizer: torch.optim.Optimizer, step: int
) -> None:
    state: dict[str, Any] = {
        "modules": {key: module.state_dict() for key, module in modules.items()},
        "optimizer": optimizer.state_dict(),
        "step": step,
    }
    with replacing(path) as partial:
        torch.save(state, partial)


def _append(folder: Path, row: Mapping[str, Any]) -> None:
    with (folder / "log.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")


class _Progress:
    """Means since the last line, and the line itself."""

    def __init__(self, name: str, steps: int, start: int) -> None:
        self.name, self.steps, self.start = name, steps, start
        self.began = time.monotonic()
        self.seen: dict[str, list[float]] = {}

    def add(self, metrics: Metrics) -> None:
        for key, value in metrics.items():
            if not math.isnan(value):
                self.seen.setdefault(key, []).append(value)

    def flush(self, step: int) -> dict[str, Any]:
        # Not every step has every metric: each is averaged over the steps that have it.
        means = {key: round(sum(values) / len(values), 4) for key, values in self.seen.items()}
        spent = time.monotonic() - self.began
        left = spent / (step - self.start) * (self.steps - step)
        row = {"stage": self.name, "step": step, "seconds": round(spent, 1), **means}
        shown = "  ".join(f"{key} {value:.3g}" for key, value in means.items())
        print(f"{self.name} {step}/{self.steps}  {left / 60:.1f} min left  {shown}", flush=True)
        self.seen = {}
        return row

    def say(self, row: Mapping[str, Any]) -> None:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
