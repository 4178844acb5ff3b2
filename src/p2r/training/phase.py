"""One phase, in processes of its own: `accelerate launch -m p2r.training.phase RUN/phases/01-perceiver`.

Everything it needs is in the run folder, everything it does goes there. It is started by `rounds`, which
reads `error.json` when it ends badly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, ModelError, P2RError
from p2r.health import Health
from p2r.journal import FolderLock, write_json
from p2r.training.dataset import EXACT, read_data, settings_of
from p2r.training.folder import ERROR, RECIPE, PhaseFolder
from p2r.training.lengths import keep_short
from p2r.training.recipe import load_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from p2r.scoring.judge import Judge
    from p2r.settings import Settings
    from p2r.training.folder import PhaseState
    from p2r.training.frozen import FrozenRole
    from p2r.training.metrics import Recorder
    from p2r.training.recipe import Phase, Recipe
    from p2r.training.rewards import Rewarder
    from p2r.types import Box, Sample

FROZEN_URL = "P2R_FROZEN_URL"  # set by `rounds` when it has started a server
FROZEN_KEY = "P2R_FROZEN_KEY"
END_WITH_STDIN = "P2R_END_WITH_STDIN"


class PhaseRun:
    """A phase on one process.

    Args:
        path: the folder of the phase.
    """

    def __init__(self, path: Path) -> None:
        self.folder = PhaseFolder(path)
        self.run_folder = path.parents[1]
        self.recipe: Recipe = load_recipe(self.run_folder / RECIPE)
        self.state: PhaseState = self.folder.state()
        self.phase: Phase = self.recipe.plan()[self.state.number - 1][1]
        self.settings: Settings = settings_of(self.recipe)
        self._closing: list[Callable[[], Coroutine[Any, Any, None]]] = []

    def run(self) -> None:
        """Train from where the phase stopped, and write its model.

        Raises:
            P2RError: the phase cannot go on; what it did is kept.
        """
        # Heavy, and only here.
        import torch
        from accelerate import PartialState
        from transformers import set_seed

        from p2r.training import trainer as build
        from p2r.training.frozen import weights_digest
        from p2r.training.metrics import Recorder
        from p2r.training.rewards import Rewarder
        from p2r.training.rows import Looks, Rows, draw_order

        torch.set_flush_denormal(True)
        place = PartialState(cpu=not torch.cuda.is_available())
        with contextlib.ExitStack() as stack:
            if place.is_main_process:
                stack.enter_context(FolderLock(self.folder.path))
                self._clear_torn()
            place.wait_for_everyone()
            recipe, phase, settings, state = self.recipe, self.phase, self.settings, self.state
            start = Path(state.start)
            processor = build.load_processor(start)
            data = read_data(recipe, self.run_folder)
            seed = recipe.seed * 1_000 + state.number
            set_seed(seed)
            model = build.load_policy(start, recipe)
            from p2r.models.preparing import Preparer

            preparer = Preparer(processor, model.config, str(start))
            samples = keep_short(data.samples, recipe, phase, settings, preparer, processor)
            steps = build.phase_steps(phase, len(samples))
            order = draw_order(
                len(samples), build.prompts_needed(phase, steps), f"{recipe.seed}-{state.number}"
            )
            looks = Looks(samples, settings, keep=2 * phase.prompts + 8)
            boxes: dict[int, tuple[Box, ...]] = {}
            rows = Rows(phase.role, samples, settings, looks, boxes)
            config = build.configure(
                recipe, phase, settings, model, output=self.folder.trainer, steps=steps, seed=seed
            )
            if phase.freeze_vision:
                build.freeze_vision(model)
            health = Health(recipe.failures.most, recipe.failures.window)
            late = _Late()
            recorder = Recorder(
                self.folder,
                state,
                group=phase.group,
                rollouts_every=phase.rollouts_every,
                writes=place.is_main_process,
            )
            from trl import GRPOTrainer

            trainer = GRPOTrainer(
                model=model,
                reward_funcs=late.reward,
                args=config,
                train_dataset=rows.dataset(order, preparer),
                processing_class=processor,
                callbacks=[recorder],
                peft_config=build.adapter(recipe),
            )
            recorder.logs = lambda: trainer._logs  # noqa: SLF001 - gathered from all processes, and nowhere else
            if trainer.ref_model is not None:
                build.speed_up(trainer.ref_model, recipe.attention)
            needs_frozen = phase.role in ("perceiver", "reasoner")
            frozen = self._frozen(trainer, processor) if needs_frozen else None
            weights = weights_digest(self._frozen_weights(trainer)) if needs_frozen else ""
            state.steps, state.digest = steps, settings.digest
            state.frozen_before = state.frozen_before or weights
            if place.is_main_process:
                self.folder.write_state(state)
            if phase.role == "reasoner" and frozen is not None:
                self._perceive(frozen, samples, sorted(set(order)), looks, weights, health, boxes, place)
            late.rewarder = Rewarder(
                rows, recipe.gates, frozen if phase.role == "perceiver" else None, self._judge()
            )
            late.health = health
            self._train(trainer, recorder)
            if needs_frozen:
                state.frozen_after = weights_digest(self._frozen_weights(trainer))
            self._finish(trainer, processor, place)

    # The frozen role and the judge.

    def _frozen_weights(self, trainer: Any) -> Any:
        return trainer.ref_model if trainer.ref_model is not None else trainer.model

    def _frozen(self, trainer: Any, processor: Any) -> FrozenRole:
        from p2r.models.endpoint import EndpointModel
        from p2r.training.frozen import FrozenModel, FrozenWeights

        wanted = self.recipe.frozen
        if wanted.where != "process":
            url = os.environ.get(FROZEN_URL) or wanted.url or ""
            address, _, name = url.partition("#")
            key = os.environ.get(FROZEN_KEY)
            model = EndpointModel(address, name or None, api_key=key, max_concurrency=wanted.concurrency)
            self._closing.append(model.aclose)
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
        weights = trainer.accelerator.unwrap_model(self._frozen_weights(trainer))
        return FrozenWeights(weights, processor, batch=wanted.batch)

    def _judge(self) -> Judge | None:
        spec = self.recipe.judge
        if spec is None or spec == EXACT:
            return None
        from p2r.models.opening import open_model
        from p2r.scoring.judge import Judge

        model = open_model(spec, max_concurrency=self.recipe.frozen.concurrency)
        self._closing.append(model.aclose)
        return Judge(model)

    def _perceive(
        self,
        frozen: FrozenRole,
        samples: list[Sample],
        wanted: list[int],
        looks: Any,
        weights: str,
        health: Health,
        boxes: dict[int, tuple[Box, ...]],
        place: Any,
    ) -> None:
        from p2r.training.perceived import perceive_samples, read_boxes

        mine = wanted[place.process_index :: place.num_processes]
        asyncio.run(
            perceive_samples(
                frozen,
                samples,
                mine,
                settings=self.settings,
                looks=looks,
                weights=weights,
                path=self.folder.path / f"boxes-{place.process_index}.jsonl",
                batch=self.recipe.frozen.batch,
                health=health,
                on_done=lambda done: print(f"boxes of {done} of {len(mine)} samples", flush=True),  # noqa: T201
            )
        )
        place.wait_for_everyone()
        boxes.update(read_boxes(self.folder.path, samples, wanted, self.settings, weights))

    # Training, stopping, finishing.

    def _train(self, trainer: Any, recorder: Recorder) -> None:
        checkpoints = self.folder.checkpoints()
        last = str(checkpoints[-1]) if checkpoints else None
        try:
            trainer.train(resume_from_checkpoint=last)
        except (P2RError, KeyboardInterrupt):
            self._keep_where_it_stopped(trainer, recorder)
            raise
        finally:
            recorder.close()

    def _keep_where_it_stopped(self, trainer: Any, recorder: Recorder) -> None:
        """A checkpoint between two steps, so that not even the steps since the last one are lost.

        Several processes cannot agree on one when one of them has failed; there the last regular one counts.
        """
        step = trainer.state.global_step
        done = [path.name for path in self.folder.checkpoints()]
        if trainer.accelerator.num_processes > 1 or step == 0 or f"checkpoint-{step}" in done:
            return
        from p2r.training.metrics import mark_complete, put_random_state

        put_random_state(recorder.random_state)
        trainer._save_checkpoint(trainer.model, trial=None)  # noqa: SLF001 - there is no public way between steps
        mark_complete(self.folder.trainer / f"checkpoint-{step}", step)

    def _finish(self, trainer: Any, processor: Any, place: Any) -> None:
        from p2r.training.final import finish_folder

        partial = self.folder.path / "model.part"
        if place.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        place.wait_for_everyone()
        if self.recipe.lora is not None:
            merged = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
            if place.is_main_process:
                merged.save_pretrained(partial)
        else:
            trainer.save_model(str(partial))
        if place.is_main_process:
            finish_folder(partial, processor, self.settings)
            shutil.rmtree(self.folder.model, ignore_errors=True)
            partial.replace(self.folder.model)
            self.state.status = "done"
            self.folder.write_state(self.state)
        for close in self._closing:
            asyncio.run(close())

    def _clear_torn(self) -> None:
        """Remove what a kill left half written."""
        whole = self.folder.checkpoints()
        for path in self.folder.trainer.glob("checkpoint-*"):
            if path not in whole:
                shutil.rmtree(path)
        (self.folder.path / ERROR).unlink(missing_ok=True)


class _Late:
    """The reward function that TRL is given before its parts exist: it needs TRL's own reference model."""

    rewarder: Rewarder
    health: Health

    async def reward(
        self,
        prompts: list[Any],  # noqa: ARG002 - TRL calls with these names
        completions: list[Any],
        index: list[int],
        log_extra: Callable[[str, list[Any]], None],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float | None]:
        from p2r.training.rewarding import reward_batch

        texts = [completion[0]["content"] for completion in completions]
        return await reward_batch(self.rewarder, self.health, index, texts, log_extra, log_metric)


def _watch_stdin() -> None:
    """Stop when whoever started us is gone."""
    import _thread

    def watch() -> None:
        # Not through sys.stdin: a thread that holds its lock cannot be ended with the interpreter.
        while os.read(0, 1024):
            pass
        _thread.interrupt_main()

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Run the phase whose folder is the only argument."""
    path = Path(sys.argv[1]).resolve()
    if os.environ.get(END_WITH_STDIN):
        _watch_stdin()
    try:
        PhaseRun(path).run()
    except P2RError as error:
        _report(path, error)
        sys.exit(3 if isinstance(error, ModelError) else 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if full := _is_full(error, path):
            _report(path, full)
            sys.exit(2)
        raise


def _report(path: Path, error: P2RError) -> None:
    print(f"error: {error}", flush=True)  # noqa: T201 - into the log of the phase
    kind = error.kind if isinstance(error, ModelError) else ""
    with contextlib.suppress(InputError):
        write_json(path / ERROR, {"message": str(error), "model_error": kind})


def _is_full(error: BaseException, path: Path) -> InputError | None:
    """What libraries raise when a checkpoint does not fit the disk, as one readable error."""
    text = f"{error} {error.__cause__ or ''}"
    signs = ("No space left", "os error 28", "File too large", "os error 27", "Disk quota", "writing file")
    if not any(sign in text for sign in signs):
        return None
    free = shutil.disk_usage(path).free / 1e9
    return InputError(
        f"cannot write a checkpoint below {path}: {' '.join(str(error).split())[:200]} "
        f"({free:.1f} GB are free); free some space and run the same command again: "
        "it goes on from the last whole checkpoint"
    )


if __name__ == "__main__":
    main()
