"""Functions for a warm process: what vision towers encode and rollouts cast, plain and as a session does."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from p2r.models.vision_cache import VisionFeatureCache, encode_once
from p2r.training import trl as building
from tests.training.probes import open_session, ragged, take_batch

if TYPE_CHECKING:
    from collections.abc import Callable


def cached_features(recipe: str, out: str) -> dict[str, Any]:
    """Features of images of many sizes, each of them in four rows: plain, and twice from a cache."""
    changes = ["phases=[{role: reasoner}]", "training.prompts=8", "training.micro_batch=32"]
    built = open_session(recipe, out, changes).build()
    ragged(built)
    _, inputs = take_batch(built)
    tower = built.trainer.model.model.visual
    del tower.forward  # that of the session
    pixels, grids = inputs["pixel_values"], inputs["image_grid_thw"]
    encoded: list[int] = []
    encode = tower.forward

    def counting(hidden_states: torch.Tensor, grid_thw: torch.Tensor, **more: Any) -> Any:
        encoded.append(len(grid_thw))
        return encode(hidden_states, grid_thw, **more)

    with torch.no_grad():
        plain = _levels(tower(pixels, grid_thw=grids))
        tower.forward = counting
        assert encode_once(tower, VisionFeatureCache())
        encoded.clear()  # of the probe
        found = [_levels(tower(pixels, grid_thw=grids)) for _ in range(2)]
    differences = [
        float((one - other).abs().max()) for levels in found for one, other in zip(levels, plain, strict=True)
    ]
    return {"difference": max(differences), "encoded": encoded, "images": len(grids)}


def _levels(output: Any) -> tuple[torch.Tensor, ...]:
    return output.pooler_output, *(getattr(output, "deepstack_features", None) or ())


def steps(recipe: str, out: str, changes: list[str], *, plain: bool) -> dict[str, Any]:
    """Train: metrics, rollouts, and the images that entered towers in each part of the steps."""
    if plain:
        for name in ("encode_images_once", "cast_weights_once"):
            setattr(building, name, lambda _trainer: None)
    session = open_session(recipe, out, changes)
    built = session.build()
    trainer = built.trainer
    encoded: Counter[str] = Counter()
    part = ["update"]

    def within(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            part.append(name)
            try:
                return function(*arguments, **named)
            finally:
                part.pop()

        return call

    def count(_module: Any, _arguments: Any, named: dict[str, Any]) -> None:
        encoded[part[-1]] += len(named["cu_seqlens"]) - 1

    towers = {
        id(tower): tower
        for tower in map(building.vision_tower, (trainer.model, trainer.ref_model or trainer.model))
    }
    for tower in towers.values():
        tower.blocks[0].register_forward_pre_hook(count, with_kwargs=True)
    trainer._generate_single_turn = within("generation", trainer._generate_single_turn)
    trainer._generate_and_score_completions = within("reference", trainer._generate_and_score_completions)
    trainer._calculate_rewards = within("rewards", trainer._calculate_rewards)
    trainer.train()
    built.recorder.close()
    built.rewards.close()
    logs = [row for row in trainer.state.log_history if "kl" in row]
    return {
        "encoded": encoded,
        "texts": [(row.step, row.text, row.reward) for row in session.folder.rollouts()],
        "metrics": [{name: row[name] for name in ("loss", "kl", "grad_norm", "entropy")} for row in logs],
    }


class _Casts(TorchDispatchMode):
    """Counts the weights that are cast to bfloat16."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._weights = {weight.data_ptr() for weight in model.parameters()}
        self.found: Counter[int] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        if function is torch.ops.aten._to_copy.default and named.get("dtype") == torch.bfloat16:
            place = arguments[0].data_ptr()
            self.found[place] += place in self._weights
        return function(*arguments, **(named or {}))


def rollouts_in_bfloat16(recipe: str, out: str) -> dict[str, Any]:
    """Rollouts of float32 weights, cast for each token and as in a session; then of other weights."""
    changes = ["phases=[{role: think}]", "precision=bfloat16"]
    trainer = open_session(recipe, out, changes).build().trainer
    model = trainer.accelerator.prepare_model(trainer.model)  # as `train` does
    rows = next(iter(trainer.get_train_dataloader()))
    found: dict[str, Any] = {"casts": [], "logits": []}
    once, prepared = model.generate, model.forward
    del model.generate
    plain = model.generate

    def cast_each_time(**named: Any) -> Any:
        model.forward = model._original_forward  # that of accelerate turns the cache of autocast on
        try:
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                return plain(**named)
        finally:
            model.forward = prepared

    def recording(function: Callable[..., Any]) -> Callable[..., Any]:
        def generate(generation_config: Any, **named: Any) -> Any:
            generation_config.output_logits = generation_config.return_dict_in_generate = True
            generation_config.eos_token_id = None
            with _Casts(model) as casts:
                output = function(**named, generation_config=generation_config)
            found["casts"].append(max(casts.found.values()))
            found["logits"].append(torch.stack(output.logits).float().flatten().tolist())
            return output.sequences

        return generate

    trainer.current_gradient_accumulation_steps = 1
    for number, function in enumerate((cast_each_time, once, cast_each_time, once)):
        if number == 2:  # an update
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(0.1 * torch.randn_like(weight))
        model.generate = recording(function)
        torch.manual_seed(0)
        trainer.model.train()
        trainer._buffered_inputs = None
        trainer._prepare_inputs(rows)
    return found
