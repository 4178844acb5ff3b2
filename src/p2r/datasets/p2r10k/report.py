"""The report of a build: what it holds, what was left out and why, and what it shares with benchmarks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.datasets.p2r10k.build import BuildPlan, Drawn, Row
    from p2r.datasets.p2r10k.overlap import Reference

LISTED = 100  # ids that a report names of each kind


def report_of(plan: BuildPlan, drawn: Sequence[Drawn]) -> dict[str, Any]:
    """The content of `report.json`; its keys are explained in docs/data.md."""
    kept = [row for one in drawn for row in one.kept]
    report = {
        **_counts(kept),
        "seed": plan.seed,
        "sources": {one.source: _source(one) for one in drawn},
        "images": _images(kept),
        "overlap": {name: _overlap(reference, kept) for name, reference in plan.references.items()},
    }
    return report | {"notes": list(_notes(plan, drawn, report))}


def _counts(kept: Sequence[Row]) -> dict[str, Any]:
    lines = [row.line for row in kept]
    return {
        "samples": len(lines),
        "answer_types": dict(Counter(line["answer_type"] for line in lines).most_common()),
        "inferred": sum(line["source"]["inferred"] for line in lines),
        "gold_boxes": sum(line["boxes"] is not None for line in lines),
    }


def _source(one: Drawn) -> dict[str, Any]:
    return {
        "place": one.place,
        "rows": one.rows,
        "wanted": one.wanted,
        **_counts(one.kept),
        "unusable": dict(one.unusable.most_common(LISTED)),
        "dropped": [{"row": row.row, "reason": row.reason} for row in one.read if not row.kept],
    }


def _images(kept: Sequence[Row]) -> dict[str, int]:
    """The number of different images; `alike` counts those that look like a copy of another one."""
    looks = Counter({row.digest: row.look for row in kept}.values())
    return {
        "different": looks.total(),
        "shared": len(kept) - looks.total(),
        "alike": sum(count for count in looks.values() if count > 1),
    }


def _overlap(reference: Reference, kept: Sequence[Row]) -> dict[str, Any]:
    shown = {row.line["id"]: found for row in kept if (found := reference.shows(row.look)) is not None}
    asked = {row.line["id"] for row in kept if reference.asks(row.line["question"])}
    both = sorted(asked & shown.keys())
    return {
        "source": reference.source,
        "images": len(shown),
        "questions": len(asked),
        "both": len(both),
        "unreadable": reference.unreadable,
        "same_images": dict(list(shown.items())[:LISTED]),
        "same_both": both[:LISTED],
    }


def _notes(plan: BuildPlan, drawn: Sequence[Drawn], report: dict[str, Any]) -> Iterator[str]:
    for one in drawn:
        count = len(one.kept)
        if one.wanted is not None and count < one.wanted:
            yield f"{one.source}: {count} samples instead of {one.wanted}; no more of its rows are usable"
        if unusable := one.unusable.total():
            reason, times = one.unusable.most_common(1)[0]
            yield f"{one.source}: {unusable} of {one.rows} rows are unusable, {times} of them: {reason}"
    if inferred := report["inferred"]:
        yield f"{inferred} answer types were inferred from questions and answers, because none was given"
    if free := report["answer_types"].get("free"):
        yield f"{free} answers are free-form: training on them needs a judge"
    if not plan.references:
        yield "compared with no benchmark; --against NAME does that"
