"""What a stock TRL `GRPOTrainer` gets from a recipe: its configuration and the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from p2r.errors import InputError
from p2r.models.checkpoint import linearize_patch_embedding, read_part, read_weights, trusts_code
from p2r.models.encoding import forbidden_tokens
from p2r.training.data import token_limits

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.settings import Settings
    from p2r.training.recipe import Phase, Recipe

# Where TRL's defaults are not the paper's; `training.trainer` may change them.
_PAPER: dict[str, Any] = {
    "loss_type": "dapo",  # the mean over all tokens of a step, as the release aggregates
    "scale_rewards": "group",
    "use_bias_correction_kl": False,  # TRL weighs the KL by the ratio
    "top_k": 0,
}

# What the names of `training.loss` stand for, beside `_PAPER` and the recipe's `clip` and `clip_high`.
_LOSSES: dict[str | None, dict[str, Any]] = {
    None: {},
    "grpo": {"loss_type": "grpo", "scale_rewards": "group"},
    "dapo": {"loss_type": "dapo", "scale_rewards": "group"},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "gspo": {"loss_type": "grpo", "scale_rewards": "group", "importance_sampling_level": "sequence"},
    "cispo": {"loss_type": "cispo", "scale_rewards": "group"},
}


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
    """The number of samples that a phase of this many steps uses; repeated ones count again."""
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
        key = f"training.loss: {phase.loss}" if clash[0] in _LOSSES[phase.loss] else "the recipe's own keys"
        raise InputError(f"training.trainer.{clash[0]} is set by {key}: leave one of them out")
    defaults = dict(_PAPER)
    if recipe.rollouts.engine == "vllm-colocate" and recipe.data.max_prompt_tokens is not None:
        # By default vLLM reserves room for the model's whole context, more than its share of the GPU holds.
        longest = recipe.data.max_prompt_tokens + fields["max_completion_length"]
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
    per_pass = phase.micro_batch * processes
    if phase.completions % per_pass:
        raise InputError(
            f"a step has {phase.completions} completions (prompts × group × roles), which {processes} "
            f"processes × micro_batch {phase.micro_batch} = {per_pass} do not divide: change micro_batch"
        )


def process_count() -> int:
    """The number of processes that train together."""
    from accelerate import PartialState

    return int(PartialState(cpu=not torch.cuda.is_available()).num_processes)


def _fields(recipe: Recipe, phase: Phase, settings: Settings, output: Path, seed: int) -> dict[str, Any]:
    return {
        "output_dir": str(output),
        "max_steps": 1,
        "per_device_train_batch_size": phase.micro_batch,
        "gradient_accumulation_steps": phase.completions // (phase.micro_batch * process_count()),
        "num_generations": phase.group,
        "num_iterations": phase.updates,
        "max_completion_length": max(token_limits(phase, settings).values()),
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
        **({"epsilon_high": phase.clip_high} if phase.clip_high is not None else {}),
        **_LOSSES[phase.loss],
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
    """InputError when vLLM, which enlarges small images to the checkpoint's own limit, would enlarge ours."""
    least, needed = settings.budget.min_pixels, read_part("AutoProcessor", start).image_processor.size
    if least < needed["shortest_edge"]:
        raise InputError(
            f"settings.budget.min_pixels is {least}, and vLLM enlarges images for {start} to "
            f"{needed['shortest_edge']} pixels: set it to that"
        )


def adapt_engine(trainer: Any) -> None:
    """Let a vLLM in this process read the prompts that the trainer reads, with the weights that it has now.

    vLLM expects one token for each image; TRL 1.16 passes one for each of its features, and vLLM
    expands the first of them again (TRL's issue 6294). A prompt with one for each stays as it is.
    vLLM also keeps the features of images that it has seen, when it gets new weights too.
    """
    engine, image = trainer.vllm_generation, trainer.processing_class.image_token_id
    generate = engine.generate

    def from_short_prompts(prompts: list[list[int]], *args: Any, **options: Any) -> Any:
        short = [
            [token for at, token in enumerate(ids) if token != image or at == 0 or ids[at - 1] != image]
            for ids in prompts
        ]
        engine.llm.llm_engine.reset_encoder_cache()
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
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(whole.base_model, "visual", None)


def is_sharded(trainer: Any) -> bool:
    """Whether no process holds whole weights."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def encode_images_once(trainer: Any) -> None:
    """Encode each image once in a call of the model, and once in all calls where the tower does not change.

    Not where weights are sharded: there a process without new images would not join the others in the tower.
    """
    from p2r.models.vision_cache import VisionFeatureCache, encode_once

    if is_sharded(trainer):
        return
    cache = VisionFeatureCache()
    for model in filter(None, (trainer.model, trainer.ref_model)):
        tower = vision_tower(model)
        if model is trainer.ref_model:
            changes = trainer.args.sync_ref_model
        else:
            changes = tower is None or any(weight.requires_grad for weight in tower.parameters())
        if not encode_once(tower, None if changes else cache):
            print("vision features are not cached: images in this tower are not independent", flush=True)  # noqa: T201


def cast_weights_once(trainer: Any) -> None:
    """Let a rollout cast trained weights to the precision of computation once, instead of for each token.

    Autocast keeps what it has cast until the outermost context ends. So the weights are those of the moment,
    and the numbers those of the update (docs/decisions.md). Not where weights are sharded: it would keep
    whole ones.
    """
    if is_sharded(trainer):
        return
    generate = trainer.model.generate

    def generate_in_one_context(*arguments: Any, **named: Any) -> Any:
        with trainer.accelerator.autocast():
            return generate(*arguments, **named)

    trainer.model.generate = generate_in_one_context
