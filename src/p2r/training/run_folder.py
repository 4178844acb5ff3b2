"""The run folder of a training: where everything is, and reading it back. Plain data; no torch.

RUN/recipe.yaml                     the resolved recipe
RUN/run.json                        identity (data, model and settings digests), versions, sessions
RUN/data.json                       what the data are: rows, answer types, what was inferred and left out
RUN/scenes/                         images of scenes, when the recipe draws some
RUN/phases/01-perceiver/            one folder for each phase, numbered through all rounds
    state.json                      the state of the phase
    metrics.jsonl                   one line for each step
    rollouts.jsonl                  one line for each completion
    boxes.jsonl                     reasoner: the frozen perceiver's boxes, one line for each sample
    log.txt                         what the processes printed
    trainer/checkpoint-STEP/        checkpoints; whole when they hold complete.json
    model/                          the weights after the phase, in Hugging Face format
RUN/model/                          the final model: weights, processor, p2r.json, README.md
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from p2r.errors import InputError
from p2r.runs.files import write_json
from p2r.runs.journal import read_lines
from p2r.training.checksums import Checksums, damage

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.training.recipe import Recipe, Role

PhaseStatus = Literal["pending", "running", "stopped", "done"]

RECIPE = "recipe.yaml"
RUN = "run.json"
DATA = "data.json"
STATE = "state.json"
MODEL = "model"
METRICS = "metrics.jsonl"
ROLLOUTS = "rollouts.jsonl"
BOXES = "boxes.jsonl"
LOG = "log.txt"
ERROR = "error.json"
COMPLETE = "complete.json"


@dataclass(slots=True)
class PhaseState:
    """Where a phase is (`state.json`).

    Attributes:
        number: of the phase, through all rounds, from 1.
        round, role: which phase of which round.
        status: `pending`, `running`, `stopped` (it can be continued), `done`.
        steps: optimizer steps in all.
        step: how many of them are done and logged.
        start: the folder or hub id of the weights that the phase starts from.
        seconds: in which it ran, over all sessions.
        sessions: how often it was started.
        error: why it stopped.
        digest: of the settings.
        frozen_before, frozen_after: digests of the frozen role's weights at the two ends of the phase.
        weights: checksums of its model folder, when it is done.
        start_weights: those of the model folder that it starts from, where that is another phase's.
        note: what was found when it went on, such as a damaged checkpoint.
    """

    number: int
    round: int
    role: Role
    status: PhaseStatus = "pending"
    steps: int = 0
    step: int = 0
    start: str = ""
    seconds: float = 0.0
    sessions: int = 0
    error: str = ""
    digest: str = ""
    frozen_before: str = ""
    frozen_after: str = ""
    weights: Checksums = field(default_factory=dict)
    start_weights: Checksums = field(default_factory=dict)
    note: str = ""

    @property
    def name(self) -> str:
        """The name of its folder, such as `01-perceiver`."""
        return f"{self.number:02d}-{self.role}"


@dataclass(frozen=True, slots=True)
class PhaseFolder:
    """The folder of one phase."""

    path: Path

    @property
    def trainer(self) -> Path:
        """Where TRL writes its checkpoints."""
        return self.path / "trainer"

    @property
    def model(self) -> Path:
        """The weights after the phase."""
        return self.path / "model"

    def state(self) -> PhaseState:
        """Read `state.json`.

        Raises:
            InputError: it is missing or damaged.
        """
        data = read_json(self.path / STATE)
        known = {entry.name for entry in fields(PhaseState)}
        try:
            return PhaseState(**{key: value for key, value in data.items() if key in known})
        except TypeError as error:
            raise InputError(f"{self.path / STATE} is no state of a phase: {error}") from error

    def write_state(self, state: PhaseState) -> None:
        """Replace `state.json` in one step."""
        write_json(self.path / STATE, asdict(state))

    def metrics(self) -> list[dict[str, Any]]:
        """One row for each step; see docs/training.md for the keys."""
        return read_lines(self.path / METRICS)

    def rollouts(self) -> list[dict[str, Any]]:
        """One row for each completion; see docs/training.md for the keys."""
        return read_lines(self.path / ROLLOUTS)

    def checkpoints(self) -> list[Path]:
        """The whole checkpoints, oldest first. A kill leaves others, which are none."""
        found = [path for path in self.trainer.glob("checkpoint-*") if (path / COMPLETE).is_file()]
        return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))

    def clear_damaged(self) -> str:
        """Remove checkpoints that are half written or were damaged since; says which were damaged."""
        said = []
        whole = self.checkpoints()
        for path in self.trainer.glob("checkpoint-*"):
            if path not in whole:
                shutil.rmtree(path)
        for path in reversed(whole):
            found = _damage(path)
            if not found:
                break  # this one is gone on from
            said.append(f"{path.name} is damaged ({found}) and removed")
            shutil.rmtree(path)
        if not said:
            return ""
        left = self.checkpoints()
        return f"{'; '.join(said)}; it goes on from {left[-1].name if left else 'the beginning of the phase'}"


def _damage(checkpoint: Path) -> str:
    try:
        complete = read_json(checkpoint / COMPLETE)
    except InputError:
        return f"{COMPLETE} cannot be read"
    return damage(checkpoint, complete.get("files", {}))


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A run folder, read for figures, also while it is being written.

    Attributes:
        folder: where it is.
        recipe: as resolved.
        run: what `run.json` holds.
        data: what `data.json` holds; empty while the data are being prepared.
        phases: the folders of the phases that exist, in order.
        notes: what of it cannot be read any more.
    """

    folder: Path
    recipe: Recipe
    run: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    phases: tuple[PhaseFolder, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> TrainingRun:
        """Read a run folder.

        Raises:
            InputError: it is not that of a training.
        """
        from p2r.training.recipefile import read_resolved

        if not is_training_run(folder):
            raise InputError(f"{folder} is not a run folder of p2r train: it has no {RECIPE}")
        data = folder / DATA
        recipe, unknown = read_resolved(folder / RECIPE)
        return cls(
            folder,
            recipe,
            read_json(folder / RUN),
            read_json(data) if data.exists() else {},
            tuple(
                PhaseFolder(path)
                for path in sorted((folder / "phases").glob("[0-9]*-*"))
                if (path / STATE).is_file()
            ),
            tuple(f"{RECIPE}: {key} is no key any more, and is left out" for key in unknown),
        )


def is_training_run(folder: Path) -> bool:
    """Whether a folder is that of a training (and not of an evaluation)."""
    return (folder / RECIPE).is_file()


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file of JSON.

    Raises:
        InputError: it cannot be read or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: an object is needed")
    return data
