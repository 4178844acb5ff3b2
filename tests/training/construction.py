"""Functions for a warm process: what is constructed from the recipes that ship, with tiny weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.training.phrase_model import phrase_processor, write_phrase_model
from tests.training.probes import open_session


def make_released(folder: str) -> str:
    """The phrase model with context and image sizes of a released Qwen3-VL, and without settings."""
    model = write_phrase_model(Path(folder))
    processor = phrase_processor()
    processor.image_processor.size = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    processor.save_pretrained(model)
    config = json.loads((model / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 262_144
    (model / "config.json").write_text(json.dumps(config))
    (model / "p2r.json").unlink()
    return str(model)


def constructed(recipe: str, out: str, changes: list[str]) -> dict[str, Any]:
    """What is built for the first phase of a run, with its optimizer."""
    from p2r.training.launch import FROZEN_KEY, FROZEN_URL

    # The server of a frozen role; nothing is sent to it before the first step.
    os.environ |= {FROZEN_URL: "http://127.0.0.1:1/v1#frozen", FROZEN_KEY: "key"}
    built = open_session(recipe, out, changes).build()
    trainer, args = built.trainer, built.trainer.args
    trainer.create_optimizer()
    names = (
        *("learning_rate", "num_generations", "num_iterations", "beta", "epsilon", "temperature"),
        *("loss_type", "scale_rewards", "max_completion_length", "bf16", "gradient_checkpointing"),
    )
    trained = [name for name, weights in trainer.model.named_parameters() if weights.requires_grad]
    return {
        "rows": args.per_device_train_batch_size * args.gradient_accumulation_steps,
        "generated together": args.generation_batch_size,
        "steps": args.max_steps,
        "settings": {name: getattr(args, name) for name in names},
        "frozen": type(built.frozen).__name__,
        "reference": trainer.ref_model and str(trainer.ref_model.dtype),
        "precision": str(trainer.model.get_input_embeddings().weight.dtype),
        "trained": trained,
        "in the optimizer": sum(len(group["params"]) for group in trainer.optimizer.param_groups),
    }


def engine_of(recipe: str, out: str, changes: list[str]) -> dict[str, Any]:
    """What TRL would start vLLM with; all that a trainer builds before is built."""
    from trl.trainer import grpo_trainer

    class Reached(Exception):  # noqa: N818 - no error
        pass

    def engine(**arguments: Any) -> None:
        raise Reached(arguments)

    grpo_trainer.VLLMGeneration = engine
    try:
        open_session(recipe, out, changes).build()
    except Reached as reached:
        names = ("mode", "gpu_memory_utilization", "tensor_parallel_size", "max_model_length", "max_num_seqs")
        return {name: reached.args[0][name] for name in names}
    raise AssertionError("no engine was built")


def accelerate_reads(config: str, model: str) -> dict[str, Any]:
    """A configuration as `accelerate launch` reads it, and which of its layers a model has."""
    from accelerate.commands.config.config_args import load_config_from_file

    from p2r.training.preflight.construction import empty_model

    read = load_config_from_file(config)
    wrapped = read.fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(",")
    layers = {type(module).__name__ for module in empty_model(Path(model)).modules()}
    return {
        "processes": read.num_processes,
        "type": str(read.distributed_type.value),
        "wrapped": [name for name in wrapped if name in layers],
    }
