"""Groups of rollouts for the page: some of every phase, each with all completions of its prompt.

A run writes one line for every completion, far more than a page can hold. Of each phase the steps are taken
that lie evenly between its first and its last, and of each step first the groups whose rewards differ.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from p2r.errors import P2RError
from p2r.images import ImageSource
from p2r.report.html import fitted
from p2r.report.thumbnails import MOST_BYTES, OVERVIEW_STEPS, PAGE_BYTES, evenly, on_all_cores, thumbnail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from p2r.training.run_folder import PhaseFolder, Rollout
    from p2r.types import Sample

MOST_GROUPS = 120
LEAST_OF_A_PHASE = 6
LONGEST_TEXTS = (4_000, 2_000, 1_000, 500, 250, 100)


def chosen_groups(phase: PhaseFolder, most: int) -> list[list[Rollout]]:
    """At most `most` groups of a phase, each the rollouts of one prompt, in the order of their steps."""
    rewards: dict[int, dict[int, set[float | None]]] = {}
    for row in phase.rollouts():
        rewards.setdefault(row.step, {}).setdefault(row.group, set()).add(row.reward)
    steps = evenly(sorted(rewards), most)
    wanted: set[tuple[int, int]] = set()
    for place, step in enumerate(steps):
        count = most * (place + 1) // len(steps) - most * place // len(steps)
        # Stable: among groups alike, the first of the step.
        order = sorted(rewards[step], key=lambda group, step=step: len(rewards[step][group] - {None}) < 2)  # type: ignore[misc]
        wanted |= {(step, group) for group in order[:count]}
    found: dict[tuple[int, int], list[Rollout]] = {}
    for row in phase.rollouts():
        key = (row.step, row.group)
        if key in wanted:
            found.setdefault(key, []).append(row)
    return [found[key] for key in sorted(found)]


def embedded_groups(phases: Sequence[PhaseFolder], samples: Mapping[str, Sample]) -> list[dict[str, Any]]:
    """Groups of all phases as data for the page, their texts cut as far as its budget asks for.

    Args:
        phases: of the run.
        samples: id → sample, as far as they are known.
    """
    share = max(LEAST_OF_A_PHASE, MOST_GROUPS // max(1, len(phases)))
    groups = [(phase, rows) for phase, folder in enumerate(phases) for rows in chosen_groups(folder, share)]
    return fitted(lambda cut: [_group(phase, rows, samples, cut) for phase, rows in groups], LONGEST_TEXTS)


def _group(
    phase: int,
    rows: Sequence[Rollout],
    samples: Mapping[str, Sample],
    cut: Callable[[str | None], str | None],
) -> dict[str, Any]:
    first = rows[0]
    sample = samples.get(first.id)
    question = sample.question if sample else None
    return {
        "phase": phase,
        "step": first.step,
        "id": first.id,
        "question": question.text if question else "",
        "choices": list(question.choices) if question else [],
        "category": sample.category if sample else "",
        "gold": first.gold,
        "goldBoxes": [list(box.as_tuple()) for box in sample.boxes or ()] if sample else [],
        "rollouts": [
            {
                "reward": row.reward,
                "advantage": row.advantage,
                "gate": row.gate,
                "outcome": row.outcome,
                "boxes": [[*box.as_tuple(), cut(box.label)] for box in row.boxes],
                "recall": row.recall,
                "answer": cut(row.answer),
                "text": cut(row.text),
                "reasoner": cut(row.reasoner_text),
                "error": cut(row.error) or "",
            }
            for row in rows
        ],
    }


def group_images(
    groups: Sequence[Mapping[str, Any]],
    samples: Mapping[str, Sample],
    on_image: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """Thumbnails of the groups' images: id → `data:` URI; one that cannot be read is missing.

    Args:
        groups: as they will be embedded.
        samples: id → sample.
        on_image: is told how many are made, of how many.
    """
    names = list(dict.fromkeys(group["id"] for group in groups if group["id"] in samples))
    budget = min(MOST_BYTES, PAGE_BYTES // max(1, len(names)))

    def make(name: str) -> str:
        try:
            source = ImageSource.open(samples[name].question.image)
        except P2RError:
            return ""
        return thumbnail(source, (0, 0, source.width, source.height), OVERVIEW_STEPS, budget)

    made: dict[str, str] = {}
    for name, uri in zip(names, on_all_cores(partial(make, name) for name in names), strict=True):
        made[name] = uri
        if on_image:
            on_image(len(made), len(names))
    return {name: uri for name, uri in made.items() if uri}
