"""The run folder of a training: its files, and the records in them. Plain data; no torch.

RUN/recipe.yaml                     the resolved recipe
RUN/run.json                        identity (data, model and settings digests), versions, sessions
RUN/data.json                       the data: rows, answer types, what was inferred and left out
RUN/scenes/                         images of scenes, when the recipe draws some
RUN/phases/01-perceiver/            one folder for each phase, numbered through all rounds
    state.json                      the state of the phase
    metrics.jsonl                   one line for each step
    rollouts.jsonl                  one line for each completion
    boxes-0.jsonl                   reasoner: the frozen perceiver's boxes, one line for each sample
    log.txt                         the output of the processes
    error.json                      why they ended
    trainer/checkpoint-STEP/        checkpoints; complete when they hold complete.json
    model/                          the weights after the phase, in Hugging Face format
RUN/model/                          the final model: weights, processor, p2r.json, README.md
"""

from __future__ import annotations

import os
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

from p2r.errors import InputError
from p2r.runs.files import encode_json, read_json, write_file, write_json
from p2r.runs.journal import each_line, read_lines
from p2r.training.recipe import read_resolved
from p2r.types import Box

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from p2r.training.recipe import PhaseRole, Recipe, Role

PhaseStatus = Literal["pending", "running", "stopped", "done"]
Checksums = dict[str, str]  # relative path → size and CRC-32

RECIPE = "recipe.yaml"
RUN = "run.json"
DATA = "data.json"
STATE = "state.json"
MODEL = "model"
METRICS = "metrics.jsonl"
ROLLOUTS = "rollouts.jsonl"
LOG = "log.txt"
ERROR = "error.json"
COMPLETE = "complete.json"

_CHUNK = 1 << 24  # bytes of a file that are read at a time


class _Record:
    """What a file of JSON holds. Keys of other versions are ignored."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        known = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: value for key, value in data.items() if key in known})

    @classmethod
    def read(cls, path: Path) -> Self:
        try:
            return cls.from_json(read_json(path))
        except TypeError as error:
            raise InputError(f"{path} holds no {cls.__name__}: {error}") from error


@dataclass(slots=True)
class RunRecord(_Record):
    """What a run computes, and how it was run (`run.json`)."""

    identity: dict[str, Any] = field(default_factory=dict)  # what may not differ when the run continues
    sessions: list[dict[str, Any]] = field(default_factory=list)  # start, command and versions of each
    # Checksums: `of` the last phase's model, and `files` of the final model's weights.
    model: dict[str, Checksums] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataRecord(_Record):
    """The training data (`data.json`)."""

    source: str
    samples: int
    fingerprint: str = ""  # twelve hex digits over questions, answers and images
    answer_types: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    gold_boxes: int = 0
    notes: list[str] = field(default_factory=list)  # what a person should know, such as inferred answer types


@dataclass(frozen=True, slots=True)
class PhaseError(_Record):
    """Why the processes of a phase ended (`error.json`); `model_error` is the kind of a ModelError."""

    message: str
    model_error: str = ""


@dataclass(frozen=True, slots=True)
class CheckpointMark(_Record):
    """A complete checkpoint (`complete.json`)."""

    step: int
    files: Checksums = field(default_factory=dict)


@dataclass(slots=True)
class PhaseState(_Record):
    """The state of a phase (`state.json`)."""

    number: int  # through all rounds, from 1
    round: int
    role: PhaseRole
    status: PhaseStatus = "pending"  # a stopped phase can be continued
    steps: int = 0  # optimizer steps in all
    step: int = 0  # how many of them are done and logged
    start: str = ""  # the folder of the weights that the phase starts from
    seconds: float = 0.0  # running time, over all sessions
    sessions: int = 0  # number of starts
    error: str = ""  # why it stopped
    frozen_before: str = ""  # digests of the frozen role's weights at the two ends of the phase
    frozen_after: str = ""
    weights: Checksums = field(default_factory=dict)  # of its model folder, when it is done
    start_weights: Checksums = field(default_factory=dict)  # where it starts from another phase's model
    note: str = ""  # what was found when it continued, such as a damaged checkpoint

    @property
    def name(self) -> str:
        """The name of its folder, such as `01-perceiver`."""
        return f"{self.number:02d}-{self.role}"


@dataclass(frozen=True, slots=True)
class StepMetrics(_Record):
    """A line of `metrics.jsonl`: a step, and what was measured in it (see docs/training.md)."""

    step: int
    round: int
    phase: int
    role: PhaseRole
    time: float = 0.0
    values: dict[str, float] = field(default_factory=dict)

    @property
    def rewards(self) -> dict[str, float]:
        """Trained role → its mean reward, where it was logged."""
        names = {"reward": self.role}
        if self.role == "joint":
            names = {"reward/perceiver": "perceiver", "reward/reasoner": "reasoner"}
        return {role: self.values[key] for key, role in names.items() if key in self.values}

    def to_json(self) -> dict[str, Any]:
        """Values are keys of the line."""
        row = asdict(self)
        values: dict[str, Any] = row.pop("values")
        return row | values

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What is no other key is a value."""
        named = {key: data[key] for key in ("step", "round", "phase", "role", "time") if key in data}
        return cls(**named, values={key: value for key, value in data.items() if key not in named})


@dataclass(frozen=True, slots=True)
class Rollout(_Record):
    """A line of `rollouts.jsonl`: a completion and its reward."""

    role: Role  # that wrote it
    id: str  # the sample
    text: str | None = None  # the completion
    step: int = 0
    group: int = 0  # the prompt within the step
    reward: float | None = None  # None when a call failed or the answer could not be scored
    gate: str = ""  # the gate that set the reward to 0
    outcome: str | None = None  # of a perceiver's text: `boxes`, `whole` or `malformed`
    boxes: tuple[Box, ...] = ()  # the evidence
    repeats: tuple[Box, ...] = ()  # that a perceiver wrote again
    answer: str | None = None  # what was read from the text that answers
    correct: bool | None = None  # None when unknown
    gold: str | None = None  # the right answer
    recall: float | None = None  # share of gold boxes whose center lies in a crop
    reasoner_text: str | None = None  # what the frozen reasoner wrote (perceiver phase)
    error: str = ""  # why there is no reward
    advantage: float | None = None  # as TRL computed it; None without a reward

    def to_json(self) -> dict[str, Any]:
        """Boxes are objects with `box` and `label`."""
        record = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return record | {key: [box.to_json() for box in record[key]] for key in ("boxes", "repeats")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Only `role` and `id` are needed."""
        boxes = {key: tuple(map(Box.from_json, data.get(key) or ())) for key in ("boxes", "repeats")}
        return super(Rollout, cls).from_json({**data, **boxes})


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

    def is_begun(self) -> bool:
        """Whether it has a state."""
        return (self.path / STATE).is_file()

    def state(self) -> PhaseState:
        """Read `state.json`."""
        return PhaseState.read(self.path / STATE)

    def write_state(self, state: PhaseState) -> None:
        """Replace `state.json` in one step."""
        write_json(self.path / STATE, state.to_json())

    def metrics(self) -> list[StepMetrics]:
        """One record for each step."""
        return [StepMetrics.from_json(row) for row in each_line(self.path / METRICS)]

    def rollouts(self) -> Iterator[Rollout]:
        """One record for each completion, read one by one: the file may be large beside the memory."""
        return (Rollout.from_json(row) for row in each_line(self.path / ROLLOUTS))

    def drop_after(self, step: int) -> None:
        """Remove the lines of later steps from `metrics.jsonl` and `rollouts.jsonl`."""
        for path in (self.path / METRICS, self.path / ROLLOUTS):
            rows = read_lines(path)
            kept = [row for row in rows if row.get("step", 0) <= step]
            if len(kept) < len(rows):
                write_file(path, b"".join(encode_json(row) + b"\n" for row in kept))

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.trainer / f"checkpoint-{step}"

    def checkpoints(self) -> list[Path]:
        """The complete checkpoints, oldest first. A kill leaves others, which do not count."""
        found = [path for path in self.trainer.glob("checkpoint-*") if (path / COMPLETE).is_file()]
        return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))

    def mark_complete(self, step: int) -> None:
        """Sync the files of a checkpoint, then write `complete.json` with their checksums beside them."""
        checkpoint = self.checkpoint(step)
        for path in _files(checkpoint):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        write_json(checkpoint / COMPLETE, CheckpointMark(step, checksums(checkpoint)).to_json())

    def clear_damaged(self) -> str:
        """Remove checkpoints that are half written or were damaged since; names those that were damaged."""
        complete = self.checkpoints()
        for path in self.trainer.glob("checkpoint-*"):
            if path not in complete:
                shutil.rmtree(path)
        notes = []
        while complete:
            path = complete[-1]
            try:
                found = damage(path, CheckpointMark.read(path / COMPLETE).files)
            except InputError:
                found = f"{COMPLETE} cannot be read"
            if not found:
                break
            notes.append(f"{path.name} is damaged ({found}) and removed")
            shutil.rmtree(complete.pop())
        start = complete[-1].name if complete else "the beginning of the phase"
        return f"{'; '.join(notes)}; it continues from {start}" if notes else ""


def checksums(folder: Path) -> Checksums:
    """Relative path → size and CRC-32 of every file below a folder; a few seconds for 10 GB."""
    files = _files(folder)
    names = [path.relative_to(folder).as_posix() for path in files]
    with ThreadPoolExecutor(4) as pool:  # reading and summing release the interpreter's lock
        return dict(zip(names, pool.map(_checksum, files), strict=True))


def damage(folder: Path, known: Mapping[str, str]) -> str:
    """What is wrong with a folder whose checksums were `known`; empty when its files are unchanged."""
    try:
        now = checksums(folder)
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    for name, checksum in known.items():
        if now.get(name) != checksum:
            return f"{name} is not as it was written" if name in now else f"{name} is missing"
    return ""


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _checksum(path: Path) -> str:
    size = total = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            total = zlib.crc32(chunk, total)
    return f"{size}-{total:08x}"


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A run folder, read for a report, also while it is being written."""

    folder: Path
    recipe: Recipe
    data: DataRecord | None = None  # None while the data are being prepared
    phases: tuple[PhaseFolder, ...] = ()  # that exist, in order
    notes: tuple[str, ...] = ()  # what of it can no longer be read

    @classmethod
    def read(cls, folder: Path) -> TrainingRun:
        """Read a run folder; InputError for one that is not that of a training."""
        if not is_training_run(folder):
            raise InputError(f"{folder} is not a run folder of p2r train: it has no {RECIPE}")
        recipe, unknown = read_resolved(folder / RECIPE)
        phases = [PhaseFolder(path) for path in sorted((folder / "phases").glob("[0-9]*-*"))]
        return cls(
            folder,
            recipe,
            DataRecord.read(folder / DATA) if (folder / DATA).exists() else None,
            tuple(phase for phase in phases if phase.is_begun()),
            tuple(f"{RECIPE}: {key} is no longer a key, and is left out" for key in unknown),
        )


def is_training_run(folder: Path) -> bool:
    """Whether a folder is that of a training (and not of an evaluation)."""
    return (folder / RECIPE).is_file()
