"""Memory and disk that a run needs, and what this machine has.

Memory is that of weights, gradients, optimizer and KL reference (docs/scaling.md). Activations, the pixels of
the rollouts and generation come on top: they have not been measured, so no number is given for them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p2r.checks import CheckResult
from p2r.errors import InputError

if TYPE_CHECKING:
    from p2r.training.recipe import Phase, Recipe

_TIGHT = 0.8  # share of a device that leaves little for what is not counted


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a phase, each with a device; `sharded`: they share out the weights (FSDP, ZeRO-3)."""

    count: int
    sharded: bool


def processes_of(recipe: Recipe) -> Processes:
    """The processes that a recipe starts."""
    launch = recipe.launch
    if launch.config is None:
        return Processes(launch.processes or 1, sharded=False)
    import yaml

    try:
        config = yaml.safe_load(Path(launch.config).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"launch.config {launch.config}: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise InputError(f"launch.config {launch.config}: a mapping of keys is needed")
    stage = (config.get("deepspeed_config") or {}).get("zero_stage", 0)
    sharded = config.get("distributed_type") == "FSDP" or stage == 3
    return Processes(launch.processes or int(config.get("num_processes") or 1), sharded)


def device() -> tuple[str, int]:
    """The device that a process here would train on, and its memory in bytes; `cpu` without a GPU."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory
    return "cpu", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_needed(recipe: Recipe, phase: Phase, parameters: int, trained: int) -> dict[str, int]:
    """Bytes on each device at all times, by part.

    Args:
        parameters: weights of the model, without adapters.
        trained: weights that the phase trains, adapters included.
    """
    processes = processes_of(recipe)
    short = 2 if recipe.precision == "bfloat16" else 4
    parts = {
        "weights": short * parameters + 4 * trained if recipe.lora else 4 * parameters,
        "gradients": 4 * trained,
        "AdamW": 8 * trained,
        "KL reference": short * parameters if phase.kl and not recipe.lora else 0,
    }
    shards = processes.count if processes.sharded else 1
    return {part: size // shards for part, size in parts.items() if size}


def check_memory(
    recipe: Recipe, phase: Phase, parameters: int, trained: int, device: str, memory: int
) -> CheckResult:
    """Does a phase fit on a device with so much memory? For the other arguments see `memory_needed`."""
    name = f"memory, {phase.role}"
    parts = memory_needed(recipe, phase, parameters, trained)
    total = sum(parts.values())
    named = ", ".join(f"{part} {_bytes(size)}" for part, size in parts.items())
    detail = f"{_bytes(total)} on each device ({named}), and activations, pixels and generation"
    if device == "cpu" and recipe.precision == "bfloat16":
        hint = "run this check where it will be trained"
        return CheckResult(name, "warning", f"{detail}; there is no GPU here to compare it with", hint)
    detail += f"; {device} has {_bytes(memory)}"
    room = float(memory)
    if recipe.rollouts.engine == "vllm-colocate":
        share, weights = room * recipe.rollouts.memory, 2 * parameters / recipe.rollouts.tensor_parallel
        room -= share
        detail += f", {_bytes(room)} beside vLLM"
        if weights > share:
            detail += f"; the weights of vLLM are {_bytes(weights)}, and its share is {_bytes(share)}"
            return CheckResult(name, "failure", detail, "raise rollouts.memory or rollouts.tensor_parallel")
    if total <= _TIGHT * room:
        return CheckResult(name, "ok", detail)
    hint = "train adapters (lora), or share out the weights (FSDP)"
    return CheckResult(name, "failure" if total > room else "warning", detail, hint)


def check_disk(recipe: Recipe, parameters: int, trained: int, out: Path) -> CheckResult:
    """Does a run fit on the disk of its folder, which need not exist yet?

    It grows to three checkpoints, one of them half written, and the models.
    """
    checkpoint = 4 * (trained if recipe.lora else parameters) + 8 * trained
    model = (2 if recipe.lora and recipe.precision == "bfloat16" else 4) * parameters
    need = 3 * checkpoint + (len(recipe.plan()) + 1) * model
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
