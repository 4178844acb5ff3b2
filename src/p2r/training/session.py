"""One session of a phase on one process: build the trainer, perceive, train, write the model."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import threading
from typing import TYPE_CHECKING

from p2r.errors import ModelError, P2RError
from p2r.runs.failures import FailureMonitor
from p2r.runs.files import folder_lock
from p2r.runs.provenance import revision
from p2r.training.checksums import checksums
from p2r.training.components import build
from p2r.training.dataset import settings_of
from p2r.training.export import finish_folder
from p2r.training.frozen import FrozenWeights, weights_digest
from p2r.training.metrics import mark_complete, put_random_state
from p2r.training.phase import GRACE_S
from p2r.training.precomputed_boxes import perceive_samples, read_boxes
from p2r.training.recipefile import load_recipe
from p2r.training.run_folder import RECIPE, PhaseFolder

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.training.components import Built
    from p2r.types import Sample


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
                # The processes of a run that was killed end by themselves.
                stack.enter_context(folder_lock(self.folder.path, wait_s=GRACE_S + 2))
                self.state.note = self.folder.clear_damaged()
                print(self.state.note or "all checkpoints are whole", flush=True)  # noqa: T201 - for log.txt
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
        return build(self.recipe, self.run_folder, self.folder, self.state, self._stop)

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
                health=FailureMonitor(self.recipe.failures.most, self.recipe.failures.window),
                on_done=on_done,
            )
        )
        accelerator.wait_for_everyone()
        built.boxes.update(read_boxes(self.folder.path, samples, wanted, self.settings, weights))

    def try_step(self) -> None:
        """Build, perceive and train, and write neither checkpoints nor a model: for a check before a run.

        Raises:
            P2RError: the phase could not be trained.
        """
        built = self.build()
        if self.phase.role == "reasoner":
            self.perceive(built, "check")
        try:
            built.trainer.train()
        finally:
            built.recorder.close()
            built.rewards.close()
        lost = [row["error"] for row in self.folder.rollouts() if row["reward"] is None]
        if lost:
            raise ModelError(f"{len(lost)} rollouts got no reward: {lost[0]}", kind="internal")

    def _train(self, built: Built) -> None:
        checkpoints = self.folder.checkpoints()
        last = str(checkpoints[-1]) if checkpoints else None
        try:
            built.trainer.train(resume_from_checkpoint=last)
        except (P2RError, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends anyway, and has this left to do
            self._keep_where_it_stopped(built)
            raise
        finally:
            built.recorder.close()
            built.rewards.close()
        if built.trainer.state.global_step < self.state.steps:
            raise KeyboardInterrupt

    def _keep_where_it_stopped(self, built: Built) -> None:
        """A checkpoint in the middle of a step, so that not even the steps since the last one are lost.

        Weights change at the end of a step, so until then they are those of the step before. Several
        processes cannot agree on one when one of them has failed; there the last regular one counts.
        """
        trainer = built.trainer
        step = trainer.state.global_step
        done = [path.name for path in self.folder.checkpoints()]
        if trainer.accelerator.num_processes > 1 or step == 0 or f"checkpoint-{step}" in done:
            return
        if built.recorder.updating:
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
            self.state.weights = checksums(self.folder.model)
            self.state.status = "done"
            self.folder.write_state(self.state)
        accelerator.wait_for_everyone()
