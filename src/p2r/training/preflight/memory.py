"""What a phase will need of a device and of the disk: an estimate from the model's shapes, nothing is loaded.

Counted are weights, gradients, AdamW, the KL reference, activations (V. Korthikanti et al., "Reducing
Activation Recomputation in Large Transformer Models", 2022: 34 bytes a token, layer and hidden unit in 16
bits), the pixels of a step's rollouts, and the keys and values of generation. Logits are not: TRL makes them
tile by tile. Libraries keep more; `SPARE` leaves room for it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.models.checkpoint import trusts_code

if TYPE_CHECKING:
    from p2r.training.recipe import Phase, Recipe

SPARE = 1.15  # what libraries, fragments and kernels take on top
_ACTIVATIONS = 17  # values a token, layer and hidden unit
_CHECKPOINTS = 2  # of them that are kept when activations are computed again


@dataclass(frozen=True, slots=True)
class Sizes:
    """The shapes of a model.

    Attributes:
        parameters: of all weights.
        vision: of them in the vision tower.
        adapters: what LoRA adds; 0 without it.
        layers, hidden: of the language model.
        tower_layers, tower_hidden: of the vision tower; hidden units of all patches of one token.
        cache: values of keys and values for a token.
        pixels: values of the pixels that one token of an image stands for.
    """

    parameters: int
    vision: int
    adapters: int
    layers: int
    hidden: int
    tower_layers: int
    tower_hidden: int
    cache: int
    pixels: int

    def trained(self, phase: Phase) -> int:
        """How many weights a phase changes."""
        if self.adapters:
            return self.adapters
        return self.parameters - (self.vision if phase.freeze_vision else 0)

    def activations(self, phase: Phase) -> int:
        """Values that a token leaves for the backward pass of a phase."""
        stacks = [(self.layers, self.hidden)]
        if not (self.adapters or phase.freeze_vision):
            stacks.append((self.tower_layers, self.tower_hidden))
        units = sum(layers * hidden for layers, hidden in stacks)
        if not phase.gradient_checkpointing:
            return _ACTIVATIONS * units
        # One layer at a time is computed again.
        return _CHECKPOINTS * units + _ACTIVATIONS * max(hidden for _, hidden in stacks)


@dataclass(frozen=True, slots=True)
class Processes:
    """How a phase is spread.

    Attributes:
        count: processes, each with a device.
        sharded: weights, gradients and AdamW are shared out among them (FSDP, ZeRO-3).
    """

    count: int
    sharded: bool


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes on each device.

    Attributes:
        weights, gradients, optimizer, reference: at all times.
        pixels: of the images of all rollouts that are generated together; TRL keeps them on the device
            until the last of them is trained on.
        update: activations of one micro-batch.
        generation: of the rollouts, or of the frozen role's batch, whichever is more: keys and values, a
            layer while the prompts are read, and the frozen role's pixels.
        engine: weights and one longest sequence in the share of a colocated vLLM, which is not in `peak`.
    """

    weights: int
    gradients: int
    optimizer: int
    reference: int
    pixels: int
    update: int
    generation: int
    engine: int

    @property
    def peak(self) -> int:
        """The most at a time, with room to spare."""
        still = self.weights + self.gradients + self.optimizer + self.reference + self.pixels
        # Between generation and update TRL shuffles the rows, which takes the pixels once more.
        return int(SPARE * (still + max(self.update, self.generation, self.pixels)))


def read_sizes(start: Path, recipe: Recipe) -> Sizes:
    """The shapes of a checkpoint, from its configuration alone.

    Raises:
        InputError: it is no checkpoint that can be trained.
    """
    model = empty_model(start)
    config = model.config
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    vision = config.vision_config
    patches = vision.spatial_merge_size**2  # of one token
    return Sizes(
        parameters=sum(weights.numel() for weights in model.parameters()),
        vision=sum(w.numel() for name, w in model.named_parameters() if ".visual." in f".{name}"),
        adapters=_adapters(model, recipe),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        tower_layers=vision.depth,
        tower_hidden=patches * vision.hidden_size,
        cache=2 * text.num_hidden_layers * heads * width,
        pixels=patches * vision.patch_size**2 * vision.temporal_patch_size * vision.in_channels,
    )


def empty_model(start: Path) -> Any:
    """The model of a checkpoint without its weights (on torch's device `meta`).

    Raises:
        InputError: it is no checkpoint of a vision-language model.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    from p2r.models.checkpoint import read_part

    config = read_part("AutoConfig", start)
    try:
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(config, trust_remote_code=trusts_code())
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"model {start}: {' '.join(str(error).split())[:300]}") from error


def _adapters(model: Any, recipe: Recipe) -> int:
    import torch

    lora = recipe.lora
    if lora is None:
        return 0
    found = 0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and _is_target(name, lora.targets):
            found += lora.rank * (module.in_features + module.out_features)
    if not found:
        raise InputError(f"lora.targets {lora.targets!r} matches no layer of the model {recipe.model}")
    return found


def _is_target(name: str, targets: str | tuple[str, ...]) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def device() -> tuple[str, int]:
    """The device that a process here would train on, and its memory in bytes; `cpu` where there is no GPU."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory
    return "cpu", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def processes_of(recipe: Recipe) -> Processes:
    """How many processes a recipe starts, and whether they share out the weights.

    Raises:
        InputError: the configuration of accelerate cannot be read.
    """
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


def rollouts_at_once(phase: Phase, processes: int) -> int:
    """How many completions TRL generates together on each device: a step's, unless it is told other parts."""
    if parts := phase.trainer.get("steps_per_generation"):
        return int(phase.micro_batch * parts)
    return int(phase.trainer.get("generation_batch_size") or phase.prompts * phase.group) // processes


def needed(
    sizes: Sizes, recipe: Recipe, phase: Phase, prompt: int, completion: int, frozen: tuple[int, int] = (0, 0)
) -> Need:
    """What a phase needs on each device.

    Args:
        sizes: of the model.
        recipe, phase: what is done.
        prompt: tokens of the longest prompt, images included.
        completion: the most new tokens.
        frozen: the same two of the frozen role, which is asked in another way than the role that is trained.
    """
    spread = processes_of(recipe)
    shards = spread.count if spread.sharded else 1
    short = 2 if recipe.precision == "bfloat16" else 4
    trained = sizes.trained(phase)
    # All weights are kept in 32 bits and computed with in the recipe's precision, a copy of which is made;
    # of shared out weights that is a copy of one layer.
    full = (4 + (short if short < 4 and not spread.sharded else 0)) * sizes.parameters
    weights = short * sizes.parameters + 4 * sizes.adapters if recipe.lora else full
    reference = short * sizes.parameters if phase.kl and not recipe.lora else 0
    rollouts = rollouts_at_once(phase, spread.count)

    def generated(rows: int, prompt: int, completion: int) -> int:
        read = prompt * _ACTIVATIONS * sizes.hidden
        return rows * (read + (prompt + completion) * sizes.cache) * short

    generation = 0
    if recipe.rollouts.engine == "transformers":
        generation = generated(rollouts, prompt, completion)
    if recipe.frozen.where == "process":
        batch = recipe.frozen.batch
        generation = max(generation, generated(batch, *frozen) + batch * frozen[0] * 4 * sizes.pixels)
    engine = 0
    if recipe.rollouts.engine == "vllm-colocate":
        sequence = (prompt + completion) * sizes.cache
        engine = 2 * (sizes.parameters + sequence) // recipe.rollouts.tensor_parallel
    return Need(
        weights=weights // shards,
        gradients=4 * trained // shards,
        optimizer=8 * trained // shards,
        reference=reference // shards,
        pixels=rollouts * prompt * 4 * sizes.pixels,
        update=phase.micro_batch * (prompt + completion) * sizes.activations(phase) * short,
        generation=generation,
        engine=engine,
    )


def disk_needed(sizes: Sizes, recipe: Recipe) -> int:
    """Bytes that a run folder grows to: three checkpoints, one of them half written, and the models."""
    phases = [phase for _, phase in recipe.plan()]
    trained = max(sizes.trained(phase) for phase in phases)
    stored = 4 * (sizes.adapters or sizes.parameters)
    checkpoint = stored + 8 * trained
    model = (2 if recipe.lora and recipe.precision == "bfloat16" else 4) * sizes.parameters
    return 3 * checkpoint + (len(phases) + 1) * model
