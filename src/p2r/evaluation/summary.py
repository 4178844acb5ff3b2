"""The figures of a run, computed from its folder.

Accuracy is over everything that was asked: a failed call, a reply without an answer and an answer that could
not be scored count as not correct, and each is reported separately. Pairs of modes are compared on the
questions that both of them answered, because a server failure says nothing about a mode.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Self, TypeVar

from p2r.evaluation.records import MEANING, AnswerRecord, FailureRecord
from p2r.evaluation.statistics import PairedDifference, clustered_wilson, paired_difference, wilson
from p2r.parsing.thinking import split_thinking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from p2r.evaluation.benchmarks.base import Unreadable
    from p2r.evaluation.controls import Control
    from p2r.evaluation.records import FailureKind, Record, RunData
    from p2r.types import Mode

    Interval = tuple[float, float]

DIGITS = 6
R = TypeVar("R", bound="Record")
Key = TypeVar("Key", int, str)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The accuracy of some questions, with Wilson's interval."""

    n: int
    correct: int
    accuracy: float
    ci95: Interval
    failed: int

    @classmethod
    def of(cls, records: Sequence[Record]) -> Self:
        """Count answers and failures."""
        n, correct = len(records), sum(record.correct for record in records)
        failed = sum(isinstance(record, FailureRecord) for record in records)
        return cls(n, correct, correct / n if n else 0.0, wilson(correct, n), failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalizationFigures:
    """How well the evidence was found, over the questions that have some."""

    questions: int
    gold_boxes: int
    recall: float
    covered: float
    complete: float
    complete_ci95: Interval
    miou: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeFigures:
    """The figures of one mode; docs/evaluation.md says what each of them means."""

    total: Accuracy
    ci95_clustered: Interval | None
    no_answer: int
    malformed: int
    unscored: int
    truncated: int
    unclosed_thinking: int
    mean_boxes: float | None
    prompt_tokens_per_question: float | None
    completion_tokens_per_question: float | None
    tokens_per_question: float | None
    seconds_per_question: float | None
    questions_per_second: float | None
    split: dict[str, int]
    localization: LocalizationFigures | None
    categories: dict[str, Accuracy]
    breakdowns: dict[str, dict[str, Accuracy]]
    failures: dict[FailureKind, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(PairedDifference):
    """Two sets of answers, compared on the questions that both were scored on."""

    first: str
    second: str

    @classmethod
    def of(
        cls, first: Iterable[AnswerRecord], second: Iterable[AnswerRecord], names: tuple[str, str]
    ) -> Self:
        """Compare the second with the first."""
        x, y = (
            {one.id: one.correct for one in got if one.score.correct is not None} for got in (first, second)
        )
        both = x.keys() & y.keys()
        difference = paired_difference([x[name] for name in both], [y[name] for name in both])
        return cls(**asdict(difference), first=names[0], second=names[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFigures:
    """Mode `p2r` with and without its evidence, on the questions that were scored both times."""

    n: int
    correct: int  # with the evidence
    correct_without: int
    survived: int  # right with it, and still right without it
    share_survived: float | None  # of the right ones
    ci95: Interval
    guessing: float  # the share that is right by choosing an option at random
    think: float | None  # the accuracy of mode `think` on the same questions, if it was asked
    failed: int

    @classmethod
    def of(cls, run: RunData, records: Sequence[Record]) -> Self:
        """Compare a control with mode `p2r`."""
        plain, thought = (
            {one.id: one.correct for one in run.answers.get(mode, ()) if one.score.correct is not None}
            for mode in ("p2r", "think")
        )
        answers = [one for one in records if isinstance(one, AnswerRecord)]
        both = [one for one in answers if one.id in plain and one.score.correct is not None]
        correct = sum(plain[one.id] for one in both)
        survived = sum(one.correct and plain[one.id] for one in both)
        return cls(
            n=len(both),
            correct=correct,
            correct_without=sum(one.correct for one in both),
            survived=survived,
            share_survived=survived / correct if correct else None,
            ci95=wilson(survived, correct),
            guessing=_mean([1 / len(one.choices) if one.choices else 0.0 for one in both]) or 0.0,
            think=_mean([thought[one.id] for one in both if one.id in thought]),
            failed=len(records) - len(answers),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All figures of a run (`summary.json`)."""

    benchmark: str
    model: str
    reasoner: str
    judge: str | None
    digest: str
    questions: int
    concurrency: int
    unreadable: tuple[Unreadable, ...]
    complete: bool
    modes: dict[Mode, ModeFigures]
    pairs: tuple[Pair, ...]
    controls: dict[Control, ControlFigures]

    def to_json(self) -> dict[str, Any]:
        """Plain data; the counts of a mode are beside its other figures."""
        data: dict[str, Any] = _rounded(asdict(self))
        for mode, figures in data["modes"].items():
            data["modes"][mode] = figures.pop("total") | figures
        return data


def summarize(run: RunData) -> Summary:
    """All figures of a run."""
    identity, layout = run.config.identity, run.config.layout
    tags = [*layout.breakdowns, *([layout.sections] if layout.sections else [])]
    active_s = _active_seconds(run)
    modes = {mode: _of_mode(run, mode, tags, active_s[mode]) for mode in run.modes}
    pairs = itertools.combinations(reversed(run.modes), 2)
    # A control asks about the questions that have boxes.
    with_boxes = sum(bool(one.prediction.boxes) for one in run.answers.get("p2r", ()))
    return Summary(
        benchmark=identity.benchmark,
        model=identity.model,
        reasoner=identity.reasoner,
        judge=identity.judge,
        digest=identity.digest,
        questions=identity.questions,
        concurrency=max((session.get("concurrency", 1) for session in run.config.sessions), default=1),
        unreadable=run.config.unreadable,
        complete=bool(modes)
        and all(figures.total.n == identity.questions for figures in modes.values())
        and all(len(records) >= with_boxes for records in run.controls.values()),
        modes=modes,
        pairs=tuple(
            Pair.of(run.answers[first], run.answers[second], (first, second)) for first, second in pairs
        ),
        controls={name: ControlFigures.of(run, records) for name, records in run.controls.items()},
    )


def grouped(records: Iterable[R], key: Callable[[R], Key | None]) -> dict[Key, list[R]]:
    """Records by some property, in its order, without those that do not have it."""
    groups: dict[Key, list[R]] = defaultdict(list)
    for record in records:
        if (value := key(record)) is not None:
            groups[value].append(record)
    return dict(sorted(groups.items()))


def _of_mode(run: RunData, mode: Mode, tags: Sequence[str], active_s: float) -> ModeFigures:
    answers, records = run.answers[mode], run.records(mode)
    predictions = [record.prediction for record in answers]
    outcomes: Counter[str] = Counter(record.outcome for record in records)
    clusters = grouped(records, _tag("cluster")).values()
    prompt_tokens = [one.usage.prompt_tokens for one in predictions]
    completion_tokens = [one.usage.completion_tokens for one in predictions]
    return ModeFigures(
        total=Accuracy.of(records),
        ci95_clustered=clustered_wilson([[r.correct for r in group] for group in clusters])
        if clusters
        else None,
        no_answer=sum(one.status == "no_answer" for one in predictions),
        malformed=sum(one.perception.outcome == "malformed" for one in predictions if one.perception),
        unscored=outcomes["unscored"],
        truncated=sum(one.truncated for one in predictions),
        unclosed_thinking=sum(split_thinking(one.text).after is None for one in predictions),
        mean_boxes=_mean([len(one.boxes) for one in predictions]) if mode == "p2r" else None,
        prompt_tokens_per_question=_mean(prompt_tokens),
        completion_tokens_per_question=_mean(completion_tokens),
        tokens_per_question=_mean(list(map(sum, zip(prompt_tokens, completion_tokens, strict=True)))),
        seconds_per_question=_mean([one.seconds.get("total", 0.0) for one in predictions]),
        questions_per_second=len(answers) / active_s if active_s else None,
        split={name: outcomes[name] for name in MEANING},
        localization=_localization(answers) if mode == "p2r" else None,
        categories=_broken_down(records, lambda record: record.category or None),
        breakdowns={tag: _broken_down(records, _tag(tag)) for tag in tags},
        failures=dict(Counter(failure.kind for failure in run.failures[mode])),
    )


def _tag(name: str) -> Callable[[Record], str | None]:
    return lambda record: record.tags.get(name)


def _broken_down(records: Sequence[Record], key: Callable[[Record], str | None]) -> dict[str, Accuracy]:
    return {value: Accuracy.of(group) for value, group in grouped(records, key).items()}


def _localization(answers: Sequence[AnswerRecord]) -> LocalizationFigures | None:
    found = [result for record in answers if (result := record.localization) and result.found]
    if not found:
        return None
    complete = sum(result.complete for result in found)
    return LocalizationFigures(
        questions=len(found),
        gold_boxes=sum(len(result.found) for result in found),
        recall=fmean(inside for result in found for inside in result.found),
        covered=fmean(share for result in found for share in result.covered),
        complete=complete / len(found),
        complete_ci95=wilson(complete, len(found)),
        # As in TreeBench: averaged over the gold boxes of a question, then over the questions.
        miou=fmean(fmean(result.iou) for result in found),
    )


def _active_seconds(run: RunData) -> dict[Mode, float]:
    """Wall time of the sessions up to their last answer, divided among the modes.

    The modes of a question are asked in turn, so each gets the share of the time that its questions took.
    """
    ends: dict[int, float] = defaultdict(float)
    busy = dict.fromkeys(run.modes, 0.0)
    for mode in run.modes:
        for record in run.records(mode):
            ends[record.session] = max(ends[record.session], record.at)
            if isinstance(record, AnswerRecord):
                busy[mode] += record.prediction.seconds.get("total", 0.0)
    sessions = run.config.sessions
    wall = sum(max(0.0, end - sessions[number - 1]["started"]) for number, end in ends.items())
    total = sum(busy.values())
    return {mode: wall * seconds / total if total else 0.0 for mode, seconds in busy.items()}


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _rounded(data: Any) -> Any:
    if isinstance(data, float):
        return round(data, DIGITS)
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_rounded(value) for value in data]
    return data
