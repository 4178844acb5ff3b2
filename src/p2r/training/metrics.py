"""What a phase writes while it runs: a line a step, a line a completion, and marks on whole checkpoints.

TRL logs and gathers; this only writes down. Rows of steps that a continued phase does again are removed
first, so that every step is there once.
"""

from __future__ import annotations

import json
import math
import os
import time
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from p2r.runs.files import encode_json, write_file, write_json
from p2r.runs.journal import Journal, read_lines
from p2r.training.checksums import checksums
from p2r.training.run_folder import COMPLETE, METRICS, ROLLOUTS

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from p2r.training.run_folder import PhaseFolder, PhaseState

RECORD = "record"  # the column in which rewards hand over what becomes of each completion


class Recorder(TrainerCallback):  # type: ignore[misc]
    """Writes `metrics.jsonl`, `rollouts.jsonl` and `state.json` of a phase, on the first process.

    Args:
        folder, state: of the phase.
        group: completions of a prompt.
        rollouts_every: steps between those whose completions are kept.
        writes: whether this is the first process.
        stop: when it is set, training ends after the step, with a checkpoint.
    """

    def __init__(
        self,
        folder: PhaseFolder,
        state: PhaseState,
        *,
        group: int,
        rollouts_every: int,
        writes: bool,
        stop: threading.Event,
    ) -> None:
        self._stop = stop
        self._folder = folder
        self._state = state
        self._group = group
        self._every = rollouts_every
        self._writes = writes
        self._began = time.monotonic()
        self._seconds_before = state.seconds
        self._step_began = self._began
        self._metrics: Journal | None = None
        self._rollouts: Journal | None = None
        self.logs: Callable[[], dict[str, Any]] = dict
        self.random_state: dict[str, Any] = {}
        self.updating = False  # the weights are no longer those of the step before, nor yet those of this one

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Forget the steps that will be done again, and open the files."""
        if self._writes:
            for name in (METRICS, ROLLOUTS):
                keep_until(self._folder.path / name, state.global_step)
            self._metrics = Journal(self._folder.path / METRICS)
            self._rollouts = Journal(self._folder.path / ROLLOUTS)
            self._metrics.records.clear()
            self._rollouts.records.clear()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Remember the random state: a step that fails half way can be done again as it was."""
        self._step_began = time.monotonic()
        self.random_state = take_random_state()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """From here on the weights change."""
        self.updating = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Stop here if that is wanted: between two steps, and in all processes at the same one."""
        self.random_state = take_random_state()
        self.updating = False
        if any_process(self._stop.is_set()):
            control.should_save = True
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:  # noqa: ARG002
        """Write what TRL logged for a step."""
        if not self._writes or self._metrics is None or self._rollouts is None or "reward" not in logs:
            return
        now = time.monotonic()
        phase = self._state
        row = {"step": state.global_step, "round": phase.round, "phase": phase.number, "role": phase.role}
        row |= {"time": round(time.time(), 3), "seconds/step": round(now - self._step_began, 4)}
        row |= {key: value for key, value in logs.items() if _is_figure(value)}
        if state.global_step % self._every == 0 or state.global_step == 1:
            self._write_rollouts(state.global_step)
        self._metrics.append(row)
        phase.step = state.global_step
        phase.seconds = self._seconds_before + now - self._began
        self._folder.write_state(phase)

    def _write_rollouts(self, step: int) -> None:
        logs = self.logs()
        records = logs.get("extra", {}).get(RECORD, ())
        advantages = list(logs.get("advantages", ()))
        assert self._rollouts is not None  # noqa: S101 - opened with the metrics
        for position, (record, advantage) in enumerate(zip(records, advantages, strict=True)):
            row = {
                "step": step,
                "group": position // self._group,
                "role": self._state.role,
                **json.loads(record),
            }
            row["advantage"] = round(advantage, 6) if row["reward"] is not None else None
            self._rollouts.append(row)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Mark a checkpoint as whole, once everything in it and everything before it is on the disk."""
        if self._writes:
            mark_complete(self._folder.trainer / f"checkpoint-{state.global_step}", state.global_step)

    def close(self) -> None:
        """Sync and close the files."""
        for journal in (self._metrics, self._rollouts):
            if journal is not None:
                journal.close()


def mark_complete(checkpoint: Path, step: int) -> None:
    """Sync the files of a checkpoint, then write `complete.json` with their checksums beside them.

    Raises:
        InputError: the disk is full.
    """
    for path in checkpoint.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    write_json(checkpoint / COMPLETE, {"step": step, "files": checksums(checkpoint)})


def keep_until(path: Path, step: int) -> None:
    """Drop the lines of later steps from a file of JSON lines.

    Raises:
        InputError: it cannot be written.
    """
    rows = read_lines(path)
    if not rows or all(row.get("step", 0) <= step for row in rows):
        return
    kept = (row for row in rows if row.get("step", 0) <= step)
    write_file(path, b"".join(encode_json(row) + b"\n" for row in kept))


def take_random_state() -> dict[str, Any]:
    """The random states that generation and dropout draw from."""
    import random

    import numpy as np
    import torch

    state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}  # noqa: NPY002
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def put_random_state(state: dict[str, Any]) -> None:
    """Go back to a random state."""
    import random

    import numpy as np
    import torch

    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any of the processes that train together; all of them have to ask."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return flag
    flags: list[bool | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(flags, flag)
    return any(flags)


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
