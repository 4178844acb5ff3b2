"""One session of a phase on one process: build the trainer, precompute boxes, train, write the model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import threading
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from transformers import PrinterCallback, set_seed
from trl import GRPOTrainer

from p2r.errors import ModelError, P2RError
from p2r.models.encoding import PromptEncoder
from p2r.runs.failures import FailureMonitor
from p2r.runs.files import folder_lock
from p2r.runs.provenance import revision
from p2r.training import trl as building
from p2r.training.callback import Recorder, put_random_state
from p2r.training.data import (
    EXACT,
    RolloutDataset,
    draw_order,
    image_cache,
    keep_short,
    measure_prompts,
    read_data,
    settings_of,
    token_limits,
)
from p2r.training.export import finish_folder
from p2r.training.frozen import (
    FrozenModel,
    FrozenWeights,
    check_shared_weights,
    open_endpoint,
    perceive_samples,
    read_boxes,
    weights_digest,
)
from p2r.training.launch import FROZEN_KEY, FROZEN_URL, GRACE_S
from p2r.training.recipe import ONE_PASS, load_recipe
from p2r.training.rewards import RewardFunction, load_shaping
from p2r.training.run_folder import RECIPE, PhaseFolder, checksums

if TYPE_CHECKING:
    from p2r.scoring.judge import Judge
    from p2r.settings import Settings
    from p2r.training.frozen import FrozenRole
    from p2r.training.recipe import Recipe


@dataclass(slots=True)
class Components:
    """What a session trains with."""

    trainer: Any  # TRL's
    processor: Any
    dataset: RolloutDataset
    order: list[int]  # the samples of the phase, by index, in their order
    frozen: FrozenRole | None  # the roles as they were at the phase's start; None for one-pass roles
    rewards: RewardFunction
    recorder: Recorder

    @property
    def frozen_weights(self) -> Any:
        """The model with the weights of the phase's start: the KL reference, or the base of adapters."""
        model = self.trainer.model if self.trainer.ref_model is None else self.trainer.ref_model
        return self.trainer.accelerator.unwrap_model(model)


class Session:
    """A session of the phase in a folder, such as `RUN/phases/01-perceiver`.

    When `stop` is set, it ends after the current step, and saves a checkpoint.
    """

    def __init__(self, path: Path, stop: threading.Event | None = None) -> None:
        self.folder = PhaseFolder(path)
        self._stop = stop or threading.Event()
        self.run_folder = path.parents[1]
        self.recipe = load_recipe(self.run_folder / RECIPE)
        self.state = self.folder.state()
        self.phase = self.recipe.plan()[self.state.number - 1][1]
        self.settings = settings_of(self.recipe)

    def run(self) -> None:
        """Train from where the phase stopped, and write its model."""
        torch.set_flush_denormal(True)
        place = PartialState(cpu=not torch.cuda.is_available())
        with contextlib.ExitStack() as stack:
            if place.is_main_process:
                # The processes of a run that was killed end by themselves.
                stack.enter_context(folder_lock(self.folder.path, wait_s=GRACE_S + 2))
                self.state.note = self.folder.clear_damaged()
                _log(self.state.note or "all checkpoints are complete")
            place.wait_for_everyone()
            components, state = self.build(), self.state
            in_process = isinstance(components.frozen, FrozenWeights)
            weights = revision(state.start) or state.start
            if in_process:
                weights = weights_digest(components.frozen_weights)
                state.frozen_before = state.frozen_before or weights
            self.perceive(components, weights)
            if place.is_main_process:
                self.folder.write_state(state)
            self._train(components)
            if in_process:
                state.frozen_after = weights_digest(components.frozen_weights)
            self._write_model(components)

    def try_step(self) -> None:
        """Build, perceive and train without checkpoints or a model, as a check before a run."""
        components = self.build()
        self.perceive(components, "check")
        try:
            components.trainer.train()
        finally:
            components.recorder.close()
            components.rewards.close()
        lost = [row.error for row in self.folder.rollouts() if row.reward is None]
        if lost:
            raise ModelError(f"{len(lost)} rollouts got no reward: {lost[0]}", kind="internal")

    def build(self) -> Components:
        """Load the weights and make a stock trainer of them; steps and digest are put into the state."""
        recipe, phase, settings, state = self.recipe, self.phase, self.settings, self.state
        seed = recipe.seed * 1_000 + state.number
        set_seed(seed)
        start = Path(state.start)
        processor = building.load_processor(start, settings)
        # Before the model: under ZeRO-3 it decides how weights are loaded.
        config = building.configure(recipe, phase, settings, start, output=self.folder.trainer, seed=seed)
        model = building.load_policy(start, recipe, phase)
        encoder = PromptEncoder(processor, model.config, str(start), settings.options)
        samples = read_data(recipe, self.run_folder)
        lengths, most = measure_prompts(samples, recipe, phase, settings, encoder, processor)
        samples = keep_short(samples, recipe, lengths, most)
        state.steps = config.max_steps = building.phase_steps(phase, len(samples))
        wanted = building.prompts_needed(phase, state.steps)
        order = draw_order(len(samples), wanted, f"{recipe.seed}-{state.number}")
        images = image_cache(samples, settings, keep=2 * phase.prompts + 8)
        dataset = RolloutDataset(samples, settings, images)
        first = config.process_index == 0
        recorder = Recorder(self.folder, phase, state, writes=first, stop=self._stop)
        rewards = RewardFunction(
            dataset,
            recipe.gates,
            judge=_judge(recipe),
            monitor=self._monitor(),
            limits=token_limits(phase, settings),
            tokenizer=processor.tokenizer,
            shaping=load_shaping(recipe),
        )
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=rewards.answer,
            args=config,
            train_dataset=dataset.for_trl(phase.roles, order, encoder),
            processing_class=processor,
            callbacks=[recorder],
            peft_config=building.adapter(recipe),
        )
        trainer.remove_callback(PrinterCallback)
        if recipe.rollouts.engine == "vllm-colocate":
            building.adapt_engine(trainer)
        _log_whole_steps(trainer, phase.completions)
        recorder.logs = lambda: trainer._logs  # noqa: SLF001 - gathered from all processes, and nowhere else
        if trainer.ref_model is not None:
            building.speed_up(trainer.ref_model, recipe.attention)
        building.encode_images_once(trainer)
        building.cast_weights_once(trainer)
        components = Components(trainer, processor, dataset, order, None, rewards, recorder)
        if phase.role not in ONE_PASS:
            components.frozen = _frozen(recipe, components, settings)
        if "perceiver" in phase.roles:
            rewards.frozen = components.frozen
        return components

    def perceive(self, components: Components, weights: str) -> None:
        """For a reasoner: precompute the boxes of every sample of the phase, a share in each process."""
        if "reasoner" not in self.phase.roles or components.frozen is None:
            return
        dataset, accelerator = components.dataset, components.trainer.accelerator
        wanted = sorted(set(components.order))
        mine = wanted[accelerator.process_index :: accelerator.num_processes]

        def on_done(done: int) -> None:
            _log(f"boxes of {done} of {len(mine)} samples")
            if self._stop.is_set():
                raise KeyboardInterrupt

        asyncio.run(
            perceive_samples(
                components.frozen,
                dataset,
                mine,
                weights=weights,
                path=self.folder.path / f"boxes-{accelerator.process_index}.jsonl",
                batch=self.recipe.frozen.batch,
                monitor=self._monitor(),
                on_done=on_done,
            )
        )
        accelerator.wait_for_everyone()
        dataset.boxes.update(read_boxes(self.folder.path, dataset, wanted, weights))

    def _monitor(self) -> FailureMonitor:
        return FailureMonitor(self.recipe.failures.most, self.recipe.failures.window)

    def _train(self, components: Components) -> None:
        checkpoints = self.folder.checkpoints()
        last = str(checkpoints[-1]) if checkpoints else None
        try:
            components.trainer.train(resume_from_checkpoint=last)
        except (P2RError, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ending, and has this left to do
            self._save_interrupted(components)
            raise
        finally:
            components.recorder.close()
            components.rewards.close()
        if components.trainer.state.global_step < self.state.steps:
            raise KeyboardInterrupt

    def _save_interrupted(self, components: Components) -> None:
        """Save a checkpoint in the middle of a step, so that the steps since the last one are not lost.

        Weights change at the end of a step, so until then they are those of the step before. Several
        processes cannot agree on one when one of them has failed; there the last regular one counts.
        """
        trainer = components.trainer
        step = trainer.state.global_step
        if trainer.accelerator.num_processes > 1 or step == 0 or components.recorder.updating:
            return
        if self.folder.checkpoint(step) in self.folder.checkpoints():
            return
        put_random_state(components.recorder.random_state)
        trainer._save_checkpoint(trainer.model, trial=None)  # noqa: SLF001 - nothing public saves between steps
        self.folder.mark_complete(step)

    def _write_model(self, components: Components) -> None:
        trainer = components.trainer
        accelerator = trainer.accelerator
        partial = self.folder.path / "model.part"
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        accelerator.wait_for_everyone()
        if self.recipe.lora is not None:
            merged = accelerator.unwrap_model(trainer.model).merge_and_unload()
            if accelerator.is_main_process:
                merged.save_pretrained(partial)
        else:
            trainer.save_model(str(partial))
        if accelerator.is_main_process:
            finish_folder(partial, components.processor, self.settings)
            shutil.rmtree(self.folder.model, ignore_errors=True)
            partial.replace(self.folder.model)
            self.state.weights = checksums(self.folder.model)
            self.state.status = "done"
            self.folder.write_state(self.state)
        accelerator.wait_for_everyone()


def _log_whole_steps(trainer: Any, rows: int) -> None:
    """TRL logs the completions that were generated last: of a step written in parts, its last part only."""
    if trainer.args.generation_batch_size < rows:
        trainer._logs["advantages"] = deque(maxlen=rows)  # noqa: SLF001
        trainer._logs["extra"] = defaultdict(lambda: deque(maxlen=rows))  # noqa: SLF001


def _frozen(recipe: Recipe, components: Components, settings: Settings) -> FrozenRole:
    wanted, trainer = recipe.frozen, components.trainer
    # Connections to a server belong to the loops of TRL; they end with this process.
    if wanted.where == "endpoint":
        return FrozenModel(open_endpoint(recipe, settings))
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
        return FrozenModel(model)
    check_shared_weights(
        sharded=building.is_sharded(trainer),
        reference=trainer.ref_model is not None or recipe.lora is not None,
    )
    return FrozenWeights(
        components.frozen_weights, components.processor, batch=wanted.batch, options=settings.options
    )


def _judge(recipe: Recipe) -> Judge | None:
    if recipe.judge is None or recipe.judge == EXACT:
        return None
    from p2r.models.loading import open_model
    from p2r.scoring.judge import Judge

    return Judge(open_model(recipe.judge, max_concurrency=recipe.frozen.concurrency))


def _log(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - into the log of the phase
