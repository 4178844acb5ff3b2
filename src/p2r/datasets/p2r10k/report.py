"""What a built set holds, what was left out and why, and what it shares with benchmarks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.datasets.p2r10k.build import Drawn, Plan, Record
    from p2r.datasets.p2r10k.overlap import Reference

LISTED = 100  # ids that a report names of each kind


def report_of(plan: Plan, drawn: Sequence[Drawn]) -> dict[str, Any]:
    """The report of a build (`report.json`); its keys are explained in docs/data.md."""
    kept = [record for one in drawn for record in one.records if record["kept"]]
    return {
        "samples": len(kept),
        "seed": plan.seed,
        "answer_types": _types(kept),
        "inferred": _inferred(kept),
        "gold_boxes": _boxed(kept),
        "sources": {one.source: _source(one) for one in drawn},
        "images": _images(kept),
        "overlap": {reference.name: _overlap(reference, kept) for reference in plan.references},
        "notes": _notes(plan, drawn, kept),
    }


def _types(records: Sequence[Record]) -> dict[str, int]:
    return dict(Counter(record["line"]["answer_type"] for record in records).most_common())


def _inferred(records: Sequence[Record]) -> int:
    return sum(record["line"]["source"]["inferred"] for record in records)


def _boxed(records: Sequence[Record]) -> int:
    return sum(record["line"]["boxes"] is not None for record in records)


def _source(one: Drawn) -> dict[str, Any]:
    kept = [record for record in one.records if record["kept"]]
    dropped = [record for record in one.records if not record["kept"]]
    return {
        "place": one.place,
        "rows": one.rows,
        "wanted": one.wanted,
        "samples": len(kept),
        "answer_types": _types(kept),
        "inferred": _inferred(kept),
        "gold_boxes": _boxed(kept),
        "unusable": dict(one.unusable.most_common(LISTED)),
        "dropped": [{"row": record["row"], "reason": record["reason"]} for record in dropped],
    }


def _images(records: Sequence[Record]) -> dict[str, int]:
    """How many different images there are; `alike` counts those that look like another one's copy."""
    digests = {record["digest"]: record["look"] for record in records}
    looks = Counter(digests.values())
    return {
        "different": len(digests),
        "shared": len(records) - len(digests),
        "alike": sum(count for count in looks.values() if count > 1),
    }


def _overlap(reference: Reference, records: Sequence[Record]) -> dict[str, Any]:
    shown = {
        record["line"]["id"]: found
        for record in records
        if (found := reference.shows(int(record["look"], 16))) is not None
    }
    asked = {record["line"]["id"] for record in records if reference.asks(record["line"]["question"])}
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


def _notes(plan: Plan, drawn: Sequence[Drawn], kept: Sequence[Record]) -> list[str]:
    notes = []
    for one in drawn:
        count = sum(record["kept"] for record in one.records)
        if one.wanted is not None and count < one.wanted:
            notes.append(
                f"{one.source}: {count} samples instead of {one.wanted}; no more of its rows are usable"
            )
        if unusable := one.unusable.total():
            reason, times = one.unusable.most_common(1)[0]
            notes.append(
                f"{one.source}: {unusable} of {one.rows} rows are unusable, {times} of them: {reason}"
            )
    if inferred := _inferred(kept):
        notes.append(
            f"{inferred} answer types were inferred from questions and answers, because none was given"
        )
    if free := _types(kept).get("free"):
        notes.append(f"{free} answers are free-form: training on them needs a judge")
    if not plan.references:
        notes.append("compared with no benchmark; --against NAME does that")
    return notes
