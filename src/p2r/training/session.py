"""One session of a phase on one process: build the trainer, perceive, train, write the model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, P2RError
from p2r.health import Health
from p2r.journal import FolderLock
from p2r.models.preparing import Preparer
from p2r.provenance import revision
from p2r.training import trainer as building
from p2r.training.dataset import EXACT, read_data, settings_of
from p2r.training.final import finish_folder
from p2r.training.folder import ERROR, RECIPE, PhaseFolder
from p2r.training.frozen import FrozenModel, FrozenWeights, weights_digest
from p2r.training.launch import FROZEN_KEY, FROZEN_URL
from p2r.training.lengths import keep_short
from p2r.training.metrics import Recorder, mark_complete, put_random_state
from p2r.training.perceived import perceive_samples, read_boxes
from p2r.training.recipefile import load_recipe
from p2r.training.rewarding import Rewards
from p2r.training.rewards import Rewarder
from p2r.training.rows import Looks, Rows, draw_order

if TYPE_CHECKING:
    from p2r.scoring.judge import Judge
    from p2r.training.frozen import FrozenRole
    from p2r.types import Box, Sample


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


class Session:
    """A session of the phase in a folder.

    Args:
        path: `RUN/phases/01-perceiver`.
        stop: when it is set, the session ends after the step that runs, and keeps a checkpoint.

    Raises:
        InputError: the run folder cannot be read.
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
        """Train from where the phase stopped, and write its model.

        Raises:
            P2RError: the phase cannot go on; what it did is kept.
        """
        import torch
        from accelerate import PartialState

        torch.set_flush_denormal(True)
        place = PartialState(cpu=not torch.cuda.is_available())
        with contextlib.ExitStack() as stack:
            if place.is_main_process:
                stack.enter_context(FolderLock(self.folder.path))
                self._clear_torn()
            place.wait_for_everyone()
            built = self.build()
            state = self.state
            in_process = isinstance(built.frozen, FrozenWeights)
            weights = (
                weights_digest(built.frozen_weights) if in_process else revision(state.start) or state.start
            )
            if in_process:
                state.frozen_before = state.frozen_before or weights
            if self.phase.role == "reasoner":
                self.perceive(built, weights)
            if place.is_main_process:
                self.folder.write_state(state)
            self._train(built)
            if in_process:
                state.frozen_after = weights_digest(built.frozen_weights)
            self._write_model(built)

    def build(self) -> Built:
        """Load the weights and make a stock trainer of them.

        Raises:
            InputError: the recipe does not fit the model, the data or TRL.
        """
        from transformers import PrinterCallback, set_seed
        from trl import GRPOTrainer

        recipe, phase, settings, state = self.recipe, self.phase, self.settings, self.state
        data = read_data(recipe, self.run_folder)
        seed = recipe.seed * 1_000 + state.number
        set_seed(seed)
        start = Path(state.start)
        processor = building.load_processor(start)
        # Before the model: under ZeRO-3 it decides how weights are loaded.
        config = building.configure(recipe, phase, settings, start, output=self.folder.trainer, seed=seed)
        model = building.load_policy(start, recipe)
        preparer = Preparer(processor, model.config, str(start))
        samples = keep_short(data.samples, recipe, phase, settings, preparer, processor)
        steps = building.phase_steps(phase, len(samples))
        config.max_steps = steps
        state.steps, state.digest = steps, settings.digest
        order = draw_order(
            len(samples), building.prompts_needed(phase, steps), f"{recipe.seed}-{state.number}"
        )
        boxes: dict[int, tuple[Box, ...]] = {}
        looks = Looks(samples, settings, keep=2 * phase.prompts + 8)
        rows = Rows(phase.role, samples, settings, looks, boxes)
        if phase.freeze_vision:
            building.freeze_vision(model)
        recorder = Recorder(
            self.folder,
            state,
            group=phase.group,
            rollouts_every=phase.rollouts_every,
            writes=config.process_index == 0,
            stop=self._stop,
        )
        rewards = Rewards(Health(recipe.failures.most, recipe.failures.window))
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=rewards.answer,
            args=config,
            train_dataset=rows.dataset(order, preparer),
            processing_class=processor,
            callbacks=[recorder],
            peft_config=building.adapter(recipe),
        )
        trainer.remove_callback(PrinterCallback)
        recorder.logs = lambda: trainer._logs  # noqa: SLF001 - gathered from all processes, and nowhere else
        if trainer.ref_model is not None:
            building.speed_up(trainer.ref_model, recipe.attention)
        if phase.freeze_vision and recipe.lora is None:
            building.know_pictures(trainer)
        built = Built(trainer, processor, rows, order, boxes, None, rewards, recorder)
        if phase.role in ("perceiver", "reasoner"):
            built.frozen = self._frozen(built)
        answering = built.frozen if phase.role == "perceiver" else None
        rewards.rewarder = Rewarder(rows, recipe.gates, answering, self._judge())
        return built

    def _frozen(self, built: Built) -> FrozenRole:
        wanted, trainer = self.recipe.frozen, built.trainer
        if wanted.where != "process":
            from p2r.models.endpoint import EndpointModel

            address, _, name = (os.environ.get(FROZEN_URL) or wanted.url or "").partition("#")
            key = os.environ.get(FROZEN_KEY)
            # Its connections belong to the loops of TRL; they end with this process.
            model = EndpointModel(address, name or None, api_key=key, max_concurrency=wanted.concurrency)
            return FrozenModel(model, wanted.concurrency)
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise InputError(
                "frozen.where: process needs whole weights in every process, and here they are sharded: "
                "set frozen.where to vllm or endpoint"
            )
        if trainer.ref_model is None and self.recipe.lora is None:
            raise InputError(
                "frozen.where: process shares the weights of the KL reference, and kl 0 has none: set "
                "training.kl, or frozen.where to vllm or endpoint"
            )
        return FrozenWeights(built.frozen_weights, built.processor, batch=wanted.batch)

    def _judge(self) -> Judge | None:
        spec = self.recipe.judge
        if spec is None or spec == EXACT:
            return None
        from p2r.models.opening import open_model
        from p2r.scoring.judge import Judge

        return Judge(open_model(spec, max_concurrency=self.recipe.frozen.concurrency))

    def perceive(self, built: Built, weights: str) -> None:
        """Let the frozen perceiver look at every sample of the phase, each process at its share.

        Raises:
            ModelError: too many calls fail.
        """
        if built.frozen is None:
            return
        rows, accelerator = built.rows, built.trainer.accelerator
        samples: list[Sample] = list(rows.samples)
        wanted = sorted(set(built.order))
        mine = wanted[accelerator.process_index :: accelerator.num_processes]

        def on_done(done: int) -> None:
            print(f"boxes of {done} of {len(mine)} samples", flush=True)  # noqa: T201
            if self._stop.is_set():
                raise KeyboardInterrupt

        asyncio.run(
            perceive_samples(
                built.frozen,
                samples,
                mine,
                settings=self.settings,
                looks=rows.looks,
                weights=weights,
                path=self.folder.path / f"boxes-{accelerator.process_index}.jsonl",
                batch=self.recipe.frozen.batch,
                health=Health(self.recipe.failures.most, self.recipe.failures.window),
                on_done=on_done,
            )
        )
        accelerator.wait_for_everyone()
        built.boxes.update(read_boxes(self.folder.path, samples, wanted, self.settings, weights))

    def _train(self, built: Built) -> None:
        checkpoints = self.folder.checkpoints()
        last = str(checkpoints[-1]) if checkpoints else None
        try:
            built.trainer.train(resume_from_checkpoint=last)
        except P2RError:
            self._keep_where_it_stopped(built)
            raise
        finally:
            built.recorder.close()
        if built.trainer.state.global_step < self.state.steps:
            raise KeyboardInterrupt

    def _keep_where_it_stopped(self, built: Built) -> None:
        """A checkpoint after rewards have failed, so that not even the steps since the last one are lost.

        Weights change after the rewards of a step, so they are still those of the step before. Several
        processes cannot agree on one when one of them has failed; there the last regular one counts.
        """
        trainer = built.trainer
        step = trainer.state.global_step
        done = [path.name for path in self.folder.checkpoints()]
        if trainer.accelerator.num_processes > 1 or step == 0 or f"checkpoint-{step}" in done:
            return
        put_random_state(built.recorder.random_state)
        trainer._save_checkpoint(trainer.model, trial=None)  # noqa: SLF001 - nothing public saves between steps
        mark_complete(self.folder.trainer / f"checkpoint-{step}", step)

    def _write_model(self, built: Built) -> None:
        trainer = built.trainer
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
            finish_folder(partial, built.processor, self.settings)
            shutil.rmtree(self.folder.model, ignore_errors=True)
            partial.replace(self.folder.model)
            self.state.status = "done"
            self.folder.write_state(self.state)
        accelerator.wait_for_everyone()

    def _clear_torn(self) -> None:
        """Remove what a kill left half written."""
        whole = self.folder.checkpoints()
        for path in self.folder.trainer.glob("checkpoint-*"):
            if path not in whole:
                shutil.rmtree(path)
        (self.folder.path / ERROR).unlink(missing_ok=True)
