"""The files of a run folder, and their records.

RUN/config.json               settings, versions, commands: all it takes to repeat the run
RUN/predictions-MODE.jsonl    one line for each question that was answered and scored, in the order of answers
RUN/failures-MODE.jsonl       one line for each attempt that failed
RUN/*-p2r-CONTROL.jsonl       the same for a control: mode `p2r` without its evidence
RUN/summary.json              the figures

A question counts as failed while it has a failure and no prediction: asking it again is enough.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from p2r.datasets.samples import corners, dataset
from p2r.errors import InputError, ModelErrorKind
from p2r.evaluation.benchmarks.base import Layout, Unreadable
from p2r.evaluation.controls import CONTROLS, Control
from p2r.runs.files import check_same_run, claim, read_run_file, write_json
from p2r.runs.journal import each_line
from p2r.scoring.localization import Localization, localize
from p2r.types import MODES, AnswerType, Box, Mode, Prediction, Score

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from datasets import Dataset

    from p2r.evaluation.benchmarks.base import Selection

CONFIG = "config.json"
SUMMARY = "summary.json"

# A kind of `ModelError`, `image` (it cannot be read), `judge` (it gave no verdict) or, in a batch, `row` (it
# holds no valid question).
FailureKind = ModelErrorKind | Literal["image", "judge", "row"]
# Why a question came out as it did: one outcome for each, the earliest cause.
Outcome = Literal[
    "correct", "reasoning", "localization", "wrong", "malformed", "no_answer", "unscored", "failed"
]
MEANING: dict[str, str] = {
    "correct": "right",
    "reasoning": "wrong although the evidence was in the crops",
    "localization": "wrong, and the evidence was not in the crops",
    "wrong": "wrong; where the evidence is, or was looked for, is not known",
    "malformed": "not right, and the perceiver's reply held no usable box",
    "no_answer": "the reply names no answer",
    "unscored": "could not be scored",
    "failed": "a call or the image failed; nothing was answered",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """What the lines of both files say about a question: how it was asked, in which session, and when."""

    id: str
    mode: Mode
    question: str
    choices: tuple[str, ...]
    answer_type: AnswerType
    category: str
    tags: dict[str, str]
    session: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRecord(_Line):
    """One attempt that failed: the kind of failure, and why in one line."""

    kind: FailureKind
    error: str

    # A failure counts as not correct.
    correct: ClassVar[Literal[False]] = False
    outcome: ClassVar[Outcome] = "failed"
    localization: ClassVar[None] = None

    def to_json(self) -> dict[str, Any]:
        """A line of `failures-MODE.jsonl`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read a line. In files of older versions the kind `image` is written `picture`."""
        kind: FailureKind = "image" if data["kind"] == "picture" else data["kind"]
        return cls(**_shared(data), kind=kind, error=data["error"])


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecord(_Line):
    """One question that was answered and scored."""

    prediction: Prediction
    score: Score
    gold: str
    gold_boxes: tuple[Box, ...] | None  # the gold evidence, 0–1000; None when unknown
    size: tuple[int, int]  # width and height of the image, in pixels
    others: tuple[tuple[int, int], ...] = ()  # of the further images of a question about several

    @property
    def correct(self) -> bool:
        """Whether it is right; False also when it could not be scored."""
        return self.score.correct is True

    @property
    def outcome(self) -> Outcome:
        """Why the question came out as it did."""
        prediction = self.prediction
        if self.score.correct is not False:
            return "correct" if self.score.correct else "unscored"
        if prediction.perception and prediction.perception.outcome == "malformed":
            return "malformed"
        if prediction.status == "no_answer":
            return "no_answer"
        found = self.localization
        if found is None:
            return "wrong"
        return "reasoning" if found.complete else "localization"

    @property
    def localization(self) -> Localization | None:
        """How well the evidence was found; None where no crops are made or no gold boxes are known."""
        if self.mode != "p2r" or self.gold_boxes is None:
            return None
        prediction = self.prediction
        return localize(self.gold_boxes, prediction.boxes, prediction.crops_px, self.size, self.others)

    def to_json(self) -> dict[str, Any]:
        """A line of `predictions-MODE.jsonl`: the keys of a prediction, a score and the question."""
        prediction = self.prediction.to_json()
        del prediction["error"]  # failures have a file of their own
        boxes = self.gold_boxes
        return {
            **prediction,
            **asdict(self.score),
            "gold": self.gold,
            "gold_boxes": None
            if boxes is None
            else [box.to_json() if box.image else list(box.as_tuple()) for box in boxes],
            "size": list(self.size),
            **({"others": [list(size) for size in self.others]} if self.others else {}),
            **{entry.name: getattr(self, entry.name) for entry in fields(_Line)},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read a line."""
        boxes = data.get("gold_boxes")
        width, height = data["size"]
        return cls(
            **_shared(data),
            prediction=Prediction.from_json(data),
            score=Score(data["correct"], data["method"], data["reason"]),
            gold=data["gold"],
            gold_boxes=None if boxes is None else tuple(map(Box.from_json, boxes)),
            size=(width, height),
            others=tuple((width, height) for width, height in data.get("others", ())),
        )


def _shared(data: dict[str, Any]) -> dict[str, Any]:
    return {entry.name: data[entry.name] for entry in fields(_Line)} | {"choices": tuple(data["choices"])}


# Of `RunData.to_dataset`, with their types.
_COLUMNS: dict[str, Any] = dict.fromkeys(("id", "mode", "question", "answer_type", "category"), "string")
_COLUMNS |= {"choices": ["string"], "answer": "string", "gold": "string", "correct": "bool"}
_COLUMNS |= dict.fromkeys(("method", "reason", "outcome", "text", "kind", "error"), "string")
_COLUMNS |= {"boxes": [["float64"]], "labels": ["string"], "gold_boxes": [["float64"]]}
_COLUMNS |= {"crops_px": [["int32"]], "size": ["int32"], "seconds": "float64"}

Record = AnswerRecord | FailureRecord
Pass = tuple[Mode, Control | None]  # a mode over all questions, or mode `p2r` without its evidence
R = TypeVar("R", AnswerRecord, FailureRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The settings that decide what is asked and answered; a run is continued with equal ones only."""

    benchmark: str
    data: str  # the fingerprint of its questions
    questions: int  # how many were chosen, and how
    limit: int | None
    seed: int
    boxes: str  # `perceived` or `gold`
    model: str  # specs without secrets, or names; and which weights they were, if known
    model_revision: str | None
    reasoner: str
    reasoner_revision: str | None
    judge: str | None
    judge_revision: str | None
    digest: str  # of prompts, geometry and budgets
    settings: dict[str, Any]
    sampling: dict[str, Any]  # stage → parameters


_EXTENT = ("data", "limit", "questions")  # what may differ when a run is extended


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What `config.json` holds."""

    identity: Identity
    sessions: tuple[dict[str, Any], ...] = ()  # of each command: when, versions, machine, concurrency
    source: str = ""  # where the questions come from
    rows: int = 0  # of the benchmark
    unreadable: tuple[Unreadable, ...] = ()  # those that cannot be asked
    opening: dict[str, Any] | None = None  # the arguments of `open_benchmark`
    layout: Layout = Layout()  # noqa: RUF009 - it is frozen

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `config.json` in a run folder.

        Raises:
            InputError: the folder is not that of an evaluation.
        """
        path = folder / CONFIG
        if not path.is_file():
            found = f"it has no {CONFIG}" if folder.is_dir() else "there is no such folder"
            raise InputError(f"{folder} is not a run folder: {found}; p2r eval, batch and train make one")
        try:
            return TypeAdapter(cls).validate_python(read_run_file(path, "p2r eval"))
        except ValidationError as error:
            raise InputError(f"{path} was not written by p2r eval: {error.errors()[0]['loc']}") from error

    def begin_session(self, out: Path, session: dict[str, Any], selection: Selection) -> int:
        """Write the config of a run that starts, continues or is extended; returns the session's number.

        Args:
            out: the folder; it exists and is locked.
            session: what describes the session.
            selection: the questions.

        Raises:
            InputError: see `earlier_sessions`.
        """
        sessions = (*earlier_sessions(out, self.identity, selection), session)
        write_json(out / CONFIG, asdict(replace(self, sessions=sessions)))
        return len(sessions)


def pass_name(mode: Mode, control: Control | None = None) -> str:
    """The name of a pass in the names of its files."""
    return f"{mode}-{control}" if control else mode


def earlier_sessions(out: Path, identity: Identity, selection: Selection) -> list[dict[str, Any]]:
    """The sessions of the run in a folder that a command may continue or extend; none for a new run.

    A run is extended by a larger limit, or by data that begins with the rows of the run so far.

    Raises:
        InputError: a setting differs from those of the run so far, or the folder holds something else.
    """
    claim(out, CONFIG, ("predictions-*.jsonl", "failures-*.jsonl", SUMMARY))
    if not (out / CONFIG).exists():
        return []
    config = read_run_file(out / CONFIG, "p2r eval")
    before, now = config["identity"], asdict(identity)
    if _extends(out, config, selection):
        before = before | {name: now[name] for name in _EXTENT}
    smaller = before.get("questions", 0) > identity.questions
    hint = "; a run can be extended by a larger --limit, and not be cut by a smaller one" if smaller else ""
    check_same_run(out, before, now, hint=hint)
    sessions: list[dict[str, Any]] = config["sessions"]
    return sessions


def _extends(out: Path, config: dict[str, Any], selection: Selection) -> bool:
    """Whether the questions of a run so far are among those that are chosen now."""
    rows = config.get("rows", 0)
    if not 0 < rows <= selection.total or selection.fingerprints[rows - 1] != config["identity"].get("data"):
        return False
    chosen = {entry.id for entry in selection.entries.values()}
    files = [file for kind in ("predictions", "failures") for file in out.glob(f"{kind}-*.jsonl")]
    return all(line.get("id") in chosen for file in files for line in each_line(file))


@dataclass(frozen=True, slots=True)
class RunData:
    """What a run folder holds, read for figures."""

    folder: Path
    config: RunConfig
    answers: dict[Mode, list[AnswerRecord]]  # each question once, in the order of their ids
    failures: dict[Mode, list[FailureRecord]]  # the last failure of each question that has no answer
    controls: dict[Control, list[Record]]  # answers and failures, each question once

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a run folder, also one that is being written or was interrupted.

        Raises:
            InputError: it is not one.
        """
        run = cls(folder, RunConfig.read(folder), {}, {}, {})
        for mode in MODES:
            answers, failures = _read_pass(folder, mode)
            if answers or failures:
                run.answers[mode], run.failures[mode] = answers, failures
        for control in CONTROLS:
            answers, failures = _read_pass(folder, pass_name("p2r", control))
            if answers or failures:
                run.controls[control] = [*answers, *failures]
        return run

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that were asked."""
        return tuple(self.answers)

    def records(self, mode: Mode) -> list[Record]:
        """The answers and failures of a mode, each question once."""
        return [*self.answers[mode], *self.failures[mode]]

    def to_dataset(self) -> Dataset:
        """The run as a `datasets.Dataset`: one row for each question in each mode, failed ones too.

        `correct` is None where a call failed or nothing could be scored, which a summary counts as not
        correct; `kind` and `error` say why a call failed. Boxes are 0–1000, crops are in pixels. The images
        are not in a run folder.

        Raises:
            MissingExtraError: `datasets` is not installed.
        """
        rows = []
        for record in (record for mode in self.modes for record in self.records(mode)):
            row = record.to_json() | {"outcome": record.outcome}
            if isinstance(record, AnswerRecord):
                found = record.prediction
                row |= {"boxes": corners(found.boxes), "labels": [box.label for box in found.boxes]}
                row |= {"gold_boxes": corners(record.gold_boxes), "seconds": found.seconds.get("total")}
            rows.append({name: row.get(name) for name in _COLUMNS})
        return dataset(rows, _COLUMNS)


def _read_pass(folder: Path, name: str) -> tuple[list[AnswerRecord], list[FailureRecord]]:
    answered = _read(folder / f"predictions-{name}.jsonl", AnswerRecord.from_json)
    failed = _read(folder / f"failures-{name}.jsonl", FailureRecord.from_json)
    left = [failed[one] for one in sorted(failed) if one not in answered]
    return [answered[one] for one in sorted(answered)], left


def _read(path: Path, from_json: Callable[[dict[str, Any]], R]) -> dict[str, R]:
    """Id → the last record."""
    found = {}
    for line in each_line(path):
        try:
            record = from_json(line)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: {line.get('id')}: not a record of p2r eval: {error!r}") from error
        found[record.id] = record
    return found
