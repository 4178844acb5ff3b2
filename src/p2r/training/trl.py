"""What a stock TRL `GRPOTrainer` gets from a recipe: its configuration and the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from p2r.errors import InputError
from p2r.models.base import Sampling
from p2r.models.checkpoint import linearize_patch_embedding, read_part, read_weights, trusts_code
from p2r.models.encoding import forbidden_tokens

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.settings import Settings
    from p2r.training.recipe import Phase, Recipe

# The field of `Settings.max_tokens` for each role.
_STAGE = {"perceiver": "perceive", "reasoner": "reason", "think": "reason", "direct": "direct"}

# Where TRL's defaults are not the paper's; `training.trainer` may change them.
_PAPER: dict[str, Any] = {
    "loss_type": "dapo",  # the mean over all tokens of a step, as the release aggregates
    "scale_rewards": "group",
    "use_bias_correction_kl": False,  # TRL weighs the KL by the ratio
    "top_k": 0,
}


def reply_tokens(phase: Phase, settings: Settings) -> int:
    """The most new tokens of a rollout, without `options.thinking_tokens`."""
    return phase.max_tokens or int(getattr(settings.max_tokens, _STAGE[phase.role]))


def completion_tokens(phase: Phase, settings: Settings) -> int:
    """The most new tokens of a rollout, with those for thinking."""
    return settings.options.widened(Sampling(reply_tokens(phase, settings))).max_tokens


def phase_steps(phase: Phase, samples: int) -> int:
    """The number of optimizer steps of a phase; InputError when there are too few samples for one."""
    steps = phase.steps or phase.epochs * phase.updates * samples // phase.prompts
    if steps < 1:
        raise InputError(
            f"{samples} samples are too few for a step of {phase.prompts} prompts: set training.steps or "
            "fewer training.prompts"
        )
    return steps


def prompts_needed(phase: Phase, steps: int) -> int:
    """The number of prompts that a phase of this many steps uses; repeated ones count again."""
    return math.ceil(steps / phase.updates) * phase.prompts


def load_policy(start: Path, recipe: Recipe, phase: Phase) -> Any:
    """The weights that a phase starts from, as they are trained.

    All weights: in float32, computed in the recipe's precision (an update of 1e-6 is lost in bfloat16). With
    adapters: the base in the recipe's precision.
    """
    model = read_weights(start, getattr(torch, recipe.precision) if recipe.lora else torch.float32)
    prepare_policy(model, recipe, phase)
    return model


def prepare_policy(model: Any, recipe: Recipe, phase: Phase) -> None:
    """Set attention and patch embedding of a model that is trained, and freeze its vision tower if wanted."""
    speed_up(model, recipe.attention)
    if phase.freeze_vision:
        tower = vision_tower(model)
        if tower is None:
            name = type(model).__name__
            raise InputError(f"training.freeze_vision: {name} has no vision tower `visual`: set it to false")
        tower.requires_grad_(requires_grad=False)


def load_processor(start: Path, settings: Settings) -> Any:
    """The processor of a checkpoint; images have their final size already, so it does not resize."""
    processor = read_part("AutoProcessor", start, padding_side="left", truncation_side="left")
    images = processor.image_processor
    images.do_resize = False
    needed, factor = images.patch_size * images.merge_size, settings.budget.factor
    if factor % needed:
        raise InputError(
            f"settings.budget.factor is {factor}, and model {start} needs image sides in multiples of "
            f"{needed}: set settings.budget.factor to {needed}"
        )
    return processor


def speed_up(model: Any, attention: str | None) -> None:
    """Set the attention, and compute the patch embedding as a matrix product; weights stay the same."""
    if attention is not None:
        model.set_attn_implementation({"text_config": attention})
    linearize_patch_embedding(model)


def configure(
    recipe: Recipe, phase: Phase, settings: Settings, start: Path, *, output: Path, seed: int
) -> Any:
    """TRL's configuration of a phase; `max_steps` is set when the data have been measured."""
    from trl import GRPOConfig

    if recipe.rollouts.engine != "transformers":
        check_image_sizes(start, settings)
    fields = _fields(recipe, phase, settings, output, seed)
    fields |= _engine(recipe, forbidden_tokens(read_part("AutoConfig", start)))
    if clash := sorted(set(fields) & set(phase.trainer)):
        raise InputError(f"training.trainer.{clash[0]} is set by the recipe's own keys; use those")
    defaults = dict(_PAPER)
    if recipe.rollouts.engine == "vllm-colocate" and recipe.data.max_prompt_tokens is not None:
        # By default vLLM reserves room for the model's whole context, more than its share of the GPU holds.
        longest = recipe.data.max_prompt_tokens + completion_tokens(phase, settings)
        defaults["vllm_max_model_length"] = longest
    check_batch(phase, process_count())
    try:
        return GRPOConfig(**{**defaults, **fields, **phase.trainer})
    except TypeError as error:
        raise InputError(f"training.trainer: {error}") from error
    except ValueError as error:
        raise InputError(f"the recipe does not fit TRL: {' '.join(str(error).split())}") from error


def check_batch(phase: Phase, processes: int) -> None:
    """InputError when micro-batches do not divide a step."""
    rows, per_pass = phase.prompts * phase.group, phase.micro_batch * processes
    if rows % per_pass:
        raise InputError(
            f"a step has {phase.prompts} × {phase.group} = {rows} completions, which {processes} processes × "
            f"micro_batch {phase.micro_batch} = {per_pass} do not divide: change micro_batch"
        )


def process_count() -> int:
    """The number of processes that train together."""
    from accelerate import PartialState

    return int(PartialState(cpu=not torch.cuda.is_available()).num_processes)


def _fields(recipe: Recipe, phase: Phase, settings: Settings, output: Path, seed: int) -> dict[str, Any]:
    rows = phase.prompts * phase.group
    return {
        "output_dir": str(output),
        "max_steps": 1,
        "per_device_train_batch_size": phase.micro_batch,
        "gradient_accumulation_steps": rows // (phase.micro_batch * process_count()),
        "num_generations": phase.group,
        "num_iterations": phase.updates,
        "max_completion_length": completion_tokens(phase, settings),
        "chat_template_kwargs": settings.options.template_kwargs(),
        "learning_rate": phase.learning_rate,
        "lr_scheduler_type": phase.schedule,
        "warmup_steps": phase.warmup_steps,
        "weight_decay": phase.weight_decay,
        "max_grad_norm": phase.max_grad_norm,
        "adam_beta1": phase.betas[0],
        "adam_beta2": phase.betas[1],
        "beta": phase.kl,
        "epsilon": phase.clip,
        "temperature": phase.temperature,
        "top_p": phase.top_p,
        "repetition_penalty": 1.0,
        "gradient_checkpointing": phase.gradient_checkpointing,
        "bf16": recipe.precision == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        **({"trust_remote_code": True} if trusts_code() else {}),
        # Of the reference alone: it holds no gradients and needs only the precision of computation.
        "model_init_kwargs": {"dtype": recipe.precision},
        "seed": seed,
        "shuffle_dataset": False,  # the order is drawn before
        "remove_unused_columns": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_steps": phase.save_every,
        "save_total_limit": 2,
        "report_to": list(recipe.report_to) or "none",
        "disable_tqdm": True,
    }


def _engine(recipe: Recipe, forbidden: list[int]) -> dict[str, Any]:
    rollouts = recipe.rollouts
    if rollouts.engine == "transformers":
        return {"generation_kwargs": {"suppress_tokens": forbidden}}
    common = {
        "use_vllm": True,
        # Integer keys: an engine in this process compares them. For a server JSON turns them into strings,
        # which it reads as integers.
        "generation_kwargs": {"logit_bias": dict.fromkeys(forbidden, -100.0)},
    }
    if rollouts.engine == "vllm-server":
        return common | {"vllm_mode": "server", "vllm_server_base_url": rollouts.url}
    return common | {
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": rollouts.memory,
        "vllm_tensor_parallel_size": rollouts.tensor_parallel,
    }


def check_image_sizes(start: Path, settings: Settings) -> None:
    """InputError when vLLM, which resizes images by the checkpoint's own limits, would resize ours again."""
    budget, limits = settings.budget, read_part("AutoProcessor", start).image_processor.size
    if budget.min_pixels < limits["shortest_edge"]:
        raise InputError(
            f"settings.budget.min_pixels is {budget.min_pixels}, and vLLM enlarges images for {start} to "
            f"{limits['shortest_edge']} pixels: set it to that"
        )
    for name in ("overview_max_pixels", "crop_max_pixels"):
        if getattr(budget, name) > limits["longest_edge"]:
            raise InputError(
                f"settings.budget.{name} is {getattr(budget, name)}, and vLLM shrinks images for {start} to "
                f"{limits['longest_edge']} pixels: set it to that or less"
            )


def mark_images_once(trainer: Any) -> None:
    """Give a vLLM in this process one token for each image, as it expects.

    TRL 1.16 passes as many as the image has features, and vLLM replaces the first by all of them once more:
    the model reads a broken prompt (TRL's issue 6294). A prompt with one token for each image stays as it is.
    """
    engine, image = trainer.vllm_generation, trainer.processing_class.image_token_id
    generate = engine.generate

    def from_short_prompts(prompts: list[list[int]], *args: Any, **options: Any) -> Any:
        short = [
            [token for at, token in enumerate(ids) if token != image or at == 0 or ids[at - 1] != image]
            for ids in prompts
        ]
        found = generate(short, *args, **options)
        if found[0] != prompts != short:
            raise InputError("vLLM and the trainer resize images differently: their prompts are not the same")
        return found

    engine.generate = from_short_prompts


def adapter(recipe: Recipe) -> Any:
    """The configuration of the adapters, or None."""
    if recipe.lora is None:
        return None
    from peft import LoraConfig

    lora = recipe.lora
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    return LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)


def vision_tower(model: Any) -> Any:
    """The vision tower of a checkpoint of the Qwen-VL families; None where there is none of that name."""
    return getattr(model.base_model, "visual", None)


def cache_vision_features(trainer: Any) -> None:
    """Encode each distinct image once, where the frozen towers of policy and reference are the same."""
    from p2r.models.vision_cache import VisionFeatureCache

    models = [trainer.model, *([trainer.ref_model] if trainer.ref_model is not None else [])]
    if any(one.dtype != torch.float32 or one.device.type != "cpu" for one in models):
        return
    cache = VisionFeatureCache()
    for tower in map(vision_tower, models):
        if not cache.attach(tower):
            print("vision features are not cached: images in this tower are not independent", flush=True)  # noqa: T201
