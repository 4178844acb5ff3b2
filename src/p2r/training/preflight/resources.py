"""The part of a preflight that looks at room: on each device, and on the disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from p2r.checks import CheckResult
from p2r.training.preflight.memory import SPARE

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.training.preflight.memory import Need
    from p2r.training.recipe import Recipe


def check_memory(name: str, recipe: Recipe, need: Need, device: str, there: int) -> CheckResult:
    """Does a phase fit on a device?

    Args:
        name: of the finding.
        recipe: the run.
        need: of the phase, on each device.
        device, there: what this machine has: its name, or `cpu`, and its memory in bytes.
    """
    parts = {
        "weights": need.weights,
        "gradients": need.gradients,
        "AdamW": need.optimizer,
        "KL reference": need.reference,
        "pixels": need.pixels,
        "update": need.update,
        "generation": need.generation,
    }
    told = ", ".join(f"{part} {_bytes(size)}" for part, size in parts.items() if size)
    detail = f"about {_bytes(need.peak)} on each device (estimated: {told})"
    if device == "cpu" and recipe.precision == "bfloat16":
        hint = "run this check where it will be trained"
        return CheckResult(name, "warning", f"{detail}; there is no GPU here to compare it with", hint)
    detail += f"; {device} has {_bytes(there)}"
    room = float(there)
    if need.engine:
        share, engine = room * recipe.rollouts.memory, SPARE * need.engine
        room -= share
        detail += f", {_bytes(room)} beside vLLM"
        if engine > share:
            detail += f"; vLLM needs about {_bytes(engine)}, and its share is {_bytes(share)}"
            return CheckResult(name, "failure", detail, "raise rollouts.memory or rollouts.tensor_parallel")
    if need.peak <= 0.9 * room:
        return CheckResult(name, "ok", detail)
    hint = "lower micro_batch, frozen.batch or the pixel budgets; use lora, or FSDP"
    if max(need.generation, need.pixels) > need.update:
        hint = f"write rollouts in parts (training.trainer.steps_per_generation); {hint}"
    return CheckResult(name, "failure" if need.peak > room else "warning", detail, hint)


def check_disk(need: int, out: Path) -> CheckResult:
    """Does a run fit on the disk of its folder?

    Args:
        need: bytes that the run folder grows to.
        out: the run folder; it need not be there.
    """
    folder = out.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"up to {_bytes(need)} for checkpoints and models; {_bytes(free)} are free in {folder}"
    if need <= 0.95 * free:
        return CheckResult("disk", "ok", detail)
    return CheckResult("disk", "failure", detail, "free some space, or give --out another disk")


def _bytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
