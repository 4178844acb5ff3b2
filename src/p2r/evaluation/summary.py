"""The figures of a run, from nothing but its folder.

Accuracy is over everything that was asked: a failed call, a reply without an answer and an answer that could
not be scored count as not correct, and each is reported apart. Pairs of modes are compared on the questions
that both of them answered, because a server's trouble says nothing about a mode.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

from p2r.evaluation.outcomes import OUTCOMES, located, outcome
from p2r.evaluation.statistics import clustered_wilson, paired_difference, wilson
from p2r.parsing.thinking import split_thinking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from p2r.evaluation.folder import RunData
    from p2r.evaluation.records import Record
    from p2r.types import Mode

DIGITS = 6
Key = TypeVar("Key", int, str)


def summarize(run: RunData) -> dict[str, Any]:
    """All figures of a run; see docs/evaluation.md for what each of them means."""
    identity = run.config["identity"]
    planned = identity["questions"]
    layout = run.config.get("layout", {})
    tags = [*layout.get("breakdowns", ()), *([layout["sections"]] if layout.get("sections") else [])]
    active = _active_seconds(run)
    asked = {mode: len(run.records[mode]) + len(run.failures[mode]) for mode in run.modes}
    summary = {
        "benchmark": identity["benchmark"],
        "model": identity["model"],
        "reasoner": identity["reasoner"],
        "judge": identity["judge"],
        "digest": identity["digest"],
        "questions": planned,
        "concurrency": max((session.get("concurrency", 1) for session in run.config["sessions"]), default=1),
        "unreadable": run.config.get("unreadable", []),
        "complete": bool(asked) and all(count == planned for count in asked.values()),
        "modes": {mode: _of_mode(run, mode, tags, active) for mode in run.modes},
        "pairs": [
            compared(run.records[first], run.records[second], first, second)
            for first, second in itertools.combinations(reversed(run.modes), 2)
        ],
    }
    rounded: dict[str, Any] = _rounded(summary)
    return rounded


def counted(records: Sequence[Record], failures: Sequence[Record]) -> dict[str, Any]:
    """Accuracy of some questions, with its 95 % interval (Wilson)."""
    n = len(records) + len(failures)
    correct = sum(record["correct"] is True for record in records)
    return {
        "n": n,
        "correct": correct,
        "accuracy": correct / n if n else 0.0,
        "ci95": wilson(correct, n),
        "failed": len(failures),
    }


def compared(
    first: Sequence[Record], second: Sequence[Record], first_name: str, second_name: str
) -> dict[str, Any]:
    """The paired difference of two lists of answers, on the questions that both were scored on."""
    scores = [
        {r["id"]: r["correct"] for r in records if r["correct"] is not None} for records in (first, second)
    ]
    both = sorted(scores[0].keys() & scores[1].keys())
    difference = paired_difference([scores[0][name] for name in both], [scores[1][name] for name in both])
    return {"first": first_name, "second": second_name, **asdict(difference)}


def grouped(records: Iterable[Record], key: Callable[[Record], Key | None]) -> dict[Key, list[Record]]:
    """Records by some property, without those that do not have it."""
    groups: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        if (value := key(record)) is not None:
            groups[value].append(record)
    return dict(sorted(groups.items()))


def _of_mode(run: RunData, mode: Mode, tags: Sequence[str], active: Mapping[Mode, float]) -> dict[str, Any]:
    records, failures = run.records[mode], run.failures[mode]
    outcomes = Counter(outcome(record) for record in [*records, *failures])
    usage = [record["usage"] for record in records]
    return {
        **counted(records, failures),
        "ci95_clustered": _clustered(records, failures),
        "no_answer": sum(record["status"] == "no_answer" for record in records),
        "malformed": sum(record["outcome"] == "malformed" for record in records),
        "unscored": outcomes["unscored"],
        "truncated": sum(bool(record["truncated"]) for record in records),
        "unclosed_thinking": sum(split_thinking(record["text"]).after is None for record in records),
        "mean_boxes": _mean(len(record["boxes"]) for record in records) if mode == "p2r" else None,
        "prompt_tokens_per_question": _mean(use["prompt_tokens"] for use in usage),
        "completion_tokens_per_question": _mean(use["completion_tokens"] for use in usage),
        "tokens_per_question": _mean(use["prompt_tokens"] + use["completion_tokens"] for use in usage),
        "seconds_per_question": _mean(record["seconds"].get("total", 0.0) for record in records),
        "questions_per_second": len(records) / active[mode] if active[mode] else None,
        "split": {name: outcomes[name] for name in OUTCOMES},
        "localization": _localization(records) if mode == "p2r" else None,
        "categories": _broken_down(records, failures, lambda record: record["category"] or None),
        "breakdowns": {tag: _broken_down(records, failures, _tag(tag)) for tag in tags},
        "failures": Counter(failure["kind"] for failure in failures),
    }


def _tag(name: str) -> Callable[[Record], str | None]:
    return lambda record: record["tags"].get(name)


def _broken_down(
    records: Sequence[Record], failures: Sequence[Record], key: Callable[[Record], str | None]
) -> dict[str, Any]:
    answered, failed = grouped(records, key), grouped(failures, key)
    return {
        value: counted(answered.get(value, []), failed.get(value, []))
        for value in sorted(answered.keys() | failed.keys())
    }


def _clustered(records: Sequence[Record], failures: Sequence[Record]) -> tuple[float, float] | None:
    clusters = grouped([*records, *failures], _tag("cluster"))
    if not clusters:
        return None
    return clustered_wilson([[r.get("correct") is True for r in group] for group in clusters.values()])


def _localization(records: Sequence[Record]) -> dict[str, Any] | None:
    """How well the evidence was found, over the questions that have some; None without gold boxes."""
    found = [result for record in records if (result := located(record)) is not None and result.found]
    if not found:
        return None
    complete = sum(result.complete for result in found)
    return {
        "questions": len(found),
        "gold_boxes": sum(len(result.found) for result in found),
        "recall": _mean(inside for result in found for inside in result.found),
        "covered": _mean(share for result in found for share in result.covered),
        "complete": complete / len(found),
        "complete_ci95": wilson(complete, len(found)),
        # As TreeBench has it: averaged over the gold boxes of a question, then over the questions.
        "miou": _mean(fmean(result.iou) for result in found),
    }


def _active_seconds(run: RunData) -> dict[Mode, float]:
    """Wall time of the sessions up to their last answer, shared out among the modes.

    The modes of a question are asked in turn, so each is given the share of the time that its questions took.
    """
    lines = [line for mode in run.modes for line in (*run.records[mode], *run.failures[mode])]
    ends: dict[int, float] = defaultdict(float)
    for line in lines:
        ends[line["session"]] = max(ends[line["session"]], line["at"])
    sessions = run.config["sessions"]
    wall = sum(max(0.0, end - sessions[number - 1]["started"]) for number, end in ends.items())
    busy = {
        mode: sum(record["seconds"].get("total", 0.0) for record in run.records[mode]) for mode in run.modes
    }
    total = sum(busy.values())
    return {mode: wall * seconds / total if total else 0.0 for mode, seconds in busy.items()}


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return fmean(found) if found else None


def _rounded(data: Any) -> Any:
    if isinstance(data, float):
        return round(data, DIGITS)
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_rounded(value) for value in data]
    return data
