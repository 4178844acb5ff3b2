"""Recipe and phase → what a session trains with: data, TRL's trainer, the frozen role, rewards."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.models.encoding import PromptEncoder
from p2r.runs.failures import Health
from p2r.training import trl as building
from p2r.training.dataset import EXACT, read_data, settings_of
from p2r.training.frozen import FrozenModel, FrozenWeights, open_endpoint
from p2r.training.launch import FROZEN_KEY, FROZEN_URL
from p2r.training.lengths import keep_short
from p2r.training.metrics import Recorder
from p2r.training.rewarding import Rewards
from p2r.training.rewards import Rewarder
from p2r.training.rows import Looks, Rows, draw_order

if TYPE_CHECKING:
    import threading

    from p2r.scoring.judge import Judge
    from p2r.settings import Settings
    from p2r.training.frozen import FrozenRole
    from p2r.training.recipe import Recipe
    from p2r.training.run_folder import PhaseFolder, PhaseState
    from p2r.types import Box


@dataclass(slots=True)
class Built:
    """What a session trains with.

    Attributes:
        trainer: TRL's.
        processor: of the checkpoint.
        rows: what the acting role is shown.
        order: the samples of the phase, by index, as they are gone through.
        boxes: the frozen perceiver's boxes, filled in before a reasoner trains.
        frozen: the role that is not trained; None for one-pass roles.
        rewards: what TRL calls.
        recorder: what writes down.
    """

    trainer: Any
    processor: Any
    rows: Rows
    order: list[int]
    boxes: dict[int, tuple[Box, ...]]
    frozen: FrozenRole | None
    rewards: Rewards
    recorder: Recorder

    @property
    def frozen_weights(self) -> Any:
        """The model that holds the weights of the phase's start: the KL reference, or adapters' base."""
        model = self.trainer.model if self.trainer.ref_model is None else self.trainer.ref_model
        return self.trainer.accelerator.unwrap_model(model)


def build(
    recipe: Recipe, run_folder: Path, folder: PhaseFolder, state: PhaseState, stop: threading.Event
) -> Built:
    """Load the weights and make a stock trainer of them.

    Args:
        recipe: of the run.
        run_folder: where its data are named.
        folder, state: of the phase; its steps and the digest of its settings are put into the state.
        stop: when it is set, training ends after the step.

    Raises:
        InputError: the recipe does not fit the model, the data or TRL.
    """
    from transformers import PrinterCallback, set_seed
    from trl import GRPOTrainer

    phase, settings = recipe.plan()[state.number - 1][1], settings_of(recipe)
    data = read_data(recipe, run_folder)
    seed = recipe.seed * 1_000 + state.number
    set_seed(seed)
    start = Path(state.start)
    processor = building.load_processor(start, settings)
    # Before the model: under ZeRO-3 it decides how weights are loaded.
    config = building.configure(recipe, phase, settings, start, output=folder.trainer, seed=seed)
    model = building.load_policy(start, recipe)
    encoder = PromptEncoder(processor, model.config, str(start), settings.options)
    samples = keep_short(data.samples, recipe, phase, settings, encoder, processor)
    steps = building.phase_steps(phase, len(samples))
    config.max_steps = steps
    state.steps, state.digest = steps, settings.digest
    order = draw_order(len(samples), building.prompts_needed(phase, steps), f"{recipe.seed}-{state.number}")
    boxes: dict[int, tuple[Box, ...]] = {}
    looks = Looks(samples, settings, keep=2 * phase.prompts + 8)
    rows = Rows(phase.role, samples, settings, looks, boxes)
    if phase.freeze_vision:
        building.freeze_vision(model)
    recorder = Recorder(
        folder,
        state,
        group=phase.group,
        rollouts_every=phase.rollouts_every,
        writes=config.process_index == 0,
        stop=stop,
    )
    rewards = Rewards(Health(recipe.failures.most, recipe.failures.window))
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=rewards.answer,
        args=config,
        train_dataset=rows.dataset(order, encoder),
        processing_class=processor,
        callbacks=[recorder],
        peft_config=building.adapter(recipe),
    )
    trainer.remove_callback(PrinterCallback)
    _log_whole_steps(trainer, phase.prompts * phase.group)
    recorder.logs = lambda: trainer._logs  # noqa: SLF001 - gathered from all processes, and nowhere else
    if trainer.ref_model is not None:
        building.speed_up(trainer.ref_model, recipe.attention)
    if phase.freeze_vision and recipe.lora is None:
        building.know_images(trainer)
    built = Built(trainer, processor, rows, order, boxes, None, rewards, recorder)
    if phase.role in ("perceiver", "reasoner"):
        built.frozen = _frozen(recipe, built, settings)
    answering = built.frozen if phase.role == "perceiver" else None
    rewards.rewarder = Rewarder(rows, recipe.gates, answering, _judge(recipe))
    return built


def _log_whole_steps(trainer: Any, rows: int) -> None:
    """TRL logs the completions that were generated last: of a step written in parts, its last part only."""
    if trainer.args.generation_batch_size < rows:
        trainer._logs["advantages"] = deque(maxlen=rows)  # noqa: SLF001
        trainer._logs["extra"] = defaultdict(lambda: deque(maxlen=rows))  # noqa: SLF001


def _frozen(recipe: Recipe, built: Built, settings: Settings) -> FrozenRole:
    wanted, trainer = recipe.frozen, built.trainer
    # Connections to a server belong to the loops of TRL; they end with this process.
    if wanted.where == "endpoint":
        return FrozenModel(open_endpoint(recipe, settings), wanted.concurrency)
    if wanted.where == "vllm":
        from p2r.models.endpoint import EndpointModel

        address, _, name = os.environ[FROZEN_URL].partition("#")
        model = EndpointModel(
            address,
            name,
            api_key=os.environ[FROZEN_KEY],
            max_concurrency=wanted.concurrency,
            options=settings.options,
        )
        return FrozenModel(model, wanted.concurrency)
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise InputError(
            "frozen.where: process needs whole weights in every process, and here they are sharded: "
            "set frozen.where to vllm or endpoint"
        )
    if trainer.ref_model is None and recipe.lora is None:
        raise InputError(
            "frozen.where: process shares the weights of the KL reference, and kl 0 has none: set "
            "training.kl, or frozen.where to vllm or endpoint"
        )
    return FrozenWeights(built.frozen_weights, built.processor, batch=wanted.batch, options=settings.options)


def _judge(recipe: Recipe) -> Judge | None:
    if recipe.judge is None or recipe.judge == EXACT:
        return None
    from p2r.models.loading import open_model
    from p2r.scoring.judge import Judge

    return Judge(open_model(recipe.judge, max_concurrency=recipe.frozen.concurrency))
