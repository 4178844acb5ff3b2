"""The page of a training: its phases, curves of every metric, and groups of rollouts.

A run writes one line for every completion, more than a page can hold. Of each phase the page takes steps that
are evenly spaced, and of each step first the groups whose rewards differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.evaluation.tables import Grid
from p2r.report.html import build, card, fitted
from p2r.report.plots import Band, Curve, curve_plot, ends_of, figure
from p2r.report.thumbnails import evenly, thumbnails
from p2r.training.run_folder import DATA, RECIPE, RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from p2r.report.html import Cut
    from p2r.training.run_folder import PhaseFolder, PhaseState, Rollout, StepMetrics, TrainingRun
    from p2r.types import Sample

    Metrics = Sequence[StepMetrics]

MOST_GROUPS = 120
LEAST_OF_A_PHASE = 6
_COLORS = {"perceiver": 0, "reasoner": 1, "think": 2, "direct": 3, "joint": 4}  # of the roles


def _by_role(key: str, label: str) -> dict[str, str]:
    """A metric, and its values of each role in a joint phase."""
    return {f"{key}/perceiver": "perceiver", f"{key}/reasoner": "reasoner", key: label}


# What is plotted: title, whether it is a share, and the metrics with their labels.
PLOTS: tuple[tuple[str, bool, dict[str, str]], ...] = (
    ("Reward, mean", True, _by_role("reward", "reward")),
    ("Right answers, of those that were scored", True, _by_role("correct", "right")),
    ("Evidence recall: gold boxes whose center lies in a crop", True, _by_role("recall", "recall")),
    (
        "Replies of the perceiver",
        True,
        {"outcome/boxes": "boxes", "outcome/whole": "whole image", "outcome/malformed": "malformed"},
    ),
    ("Boxes of a list, mean", False, {"boxes/count": "boxes"}),
    ("Share of the image that the boxes cover", True, {"boxes/area": "area"}),
    (
        "Rewards set to 0 by a gate",
        True,
        {"gated/overlap": "overlap", "gated/label": "label", "gated/malformed": "malformed"},
    ),
    (
        "Groups without spread: all rewards are equal, nothing is learned",
        True,
        {"frac_reward_zero_std": "no spread"},
    ),
    ("Entropy of the policy, nats a token", False, {"entropy": "entropy"}),
    ("KL divergence to the phase's first weights", False, {"kl": "KL"}),
    (
        "Tokens of a completion",
        False,
        {
            "completions/mean_length": "mean",
            "completions/max_length": "longest",
            "completions/min_length": "shortest",
        },
    ),
    ("Completions cut off at the limit", True, {"completions/clipped_ratio": "cut off"}),
    ("Without an answer, and without a reward", True, {"no_answer": "no answer", "failed": "call failed"}),
    (
        "Seconds of a step",
        False,
        {
            "seconds/step": "whole step",
            "seconds/reward": "rewards",
            "seconds/frozen": "of which the frozen role",
        },
    ),
    ("Norm of the gradient", False, {"grad_norm": "norm"}),
    ("Loss", False, {"loss": "loss"}),
)
# The table of phases: metric → heading, and whether it is a share.
_COLUMNS = {
    "reward": ("reward", True),
    "reward/perceiver": ("perceiver's", True),
    "reward/reasoner": ("reasoner's", True),
    "correct": ("right", True),
    "recall": ("recall", True),
    "outcome/malformed": ("malformed", True),
    "frac_reward_zero_std": ("no spread", True),
    "failed": ("failed", True),
    "kl": ("KL", False),
    "completions/mean_length": ("tokens", False),
}


def build_training_page(
    run: TrainingRun,
    *,
    data: str | None = None,
    on_image: Callable[[int, int], None] | None = None,
    on_trouble: Callable[[str], None] | None = None,
) -> str:
    """The whole page of a training, finished or not.

    Args:
        run: the run folder.
        data: where its samples are now; None for where they were.
        on_image: called with the number of images that are done, and of all.
        on_trouble: called with the reason when there are no images.

    Raises:
        InputError: no step is done yet.
    """
    states = [phase.state() for phase in run.phases]
    metrics = [phase.metrics() for phase in run.phases]
    if not any(metrics):
        raise InputError(f"{run.folder}: no step is done yet")
    samples: dict[str, Sample] = {}
    try:
        samples = _samples(run, data)
    except InputError as error:
        if on_trouble:
            on_trouble(f"no questions and images beside the rollouts: {error}")
    bands = _bands(states, metrics)
    plotted = list(_plotted(metrics, bands))
    groups = _embedded_groups(run.phases, samples)
    names = dict.fromkeys(group["id"] for group in groups if group["id"] in samples)
    loaders = ((name, lambda name=name: samples[name].question.images[0]) for name in names)
    images = thumbnails(loaders, dict.fromkeys(names, ()), on_image)
    return build(
        "training",
        kind="training",
        items="rollouts",
        title=f"{run.recipe.name}: training",
        facts=_facts(run, states),
        cards=map(_card, states, metrics, bands),
        plots=(curve_plot(title, curves, bands, share=share) for title, share, curves in plotted),
        tables=[_phases_grid(states, metrics)],
        provenance={
            name: (run.folder / name).read_text(encoding="utf-8")
            for name in (RECIPE, RUN, DATA)
            if (run.folder / name).exists()
        },
        data={
            "phases": [band.label for band in bands],
            "series": [band.series for band in bands],
            "curves": [_values(curves, share=share) for _, share, curves in plotted],
            "bands": [[band.start, band.end] for band in bands],
            "groups": groups,
            "images": {name: made.overview for name, made in images.items() if made.overview},
        },
    )


def _samples(run: TrainingRun, data: str | None) -> dict[str, Sample]:
    source = data or (run.data and run.data.source)
    if not source:
        raise InputError(f"{run.folder} does not say where its samples are")
    return {sample.question.id: sample for sample in read_samples(Path(source))}


# Phases and curves.


def _bands(states: Sequence[PhaseState], metrics: Sequence[Metrics]) -> list[Band]:
    bands: list[Band] = []
    for state, rows in zip(states, metrics, strict=True):
        start = bands[-1].end if bands else 0
        # A phase that is running takes the room that it will need.
        end = start + max(state.steps, rows[-1].step if rows else 0)
        name, short = f"{state.role} {state.round}", f"{state.role[0].upper()}{state.round}"
        bands.append(Band(name, short, start, end, _COLORS[state.role]))
    return bands


def _points(rows: Metrics, key: str, start: int = 0) -> tuple[tuple[int, float], ...]:
    return tuple((start + row.step, row.values[key]) for row in rows if key in row.values)


def _plotted(metrics: Sequence[Metrics], bands: Sequence[Band]) -> Iterator[tuple[str, bool, list[Curve]]]:
    for title, share, keys in PLOTS:
        lines = {
            key: tuple(_points(rows, key, band.start) for band, rows in zip(bands, metrics, strict=True))
            for key in keys
        }
        found = {key: points for key, points in lines.items() if any(points)}
        if found:
            colors = {key: series if len(found) > 1 else None for series, key in enumerate(keys)}
            yield title, share, [Curve(keys[key], colors[key], points) for key, points in found.items()]


def _values(curves: Sequence[Curve], *, share: bool) -> list[dict[str, Any]]:
    """The values that the page shows beside the pointer."""
    return [
        {
            "label": curve.label,
            "values": {step: figure(value, share=share) for points in curve.points for step, value in points},
        }
        for curve in curves
    ]


def _facts(run: TrainingRun, states: Sequence[PhaseState]) -> Iterator[str]:
    yield run.recipe.model
    if stopped := [state for state in states if state.status == "stopped"]:
        yield f"stopped in {stopped[-1].role} {stopped[-1].round}: {stopped[-1].error}"
    done = sum(state.status == "done" for state in states)
    yield f"{done} of {len(run.recipe.plan())} phases done"
    yield f"{sum(state.step for state in states)} steps in {_clock(sum(state.seconds for state in states))}"
    if run.data:
        yield f"{run.data.samples} samples"


def _clock(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def _card(state: PhaseState, rows: Metrics, band: Band) -> str:
    lines, percent = ["no step yet"], ""
    if reward := _points(rows, "reward"):
        first, last = ends_of(reward, share=True).removesuffix(" %").split(" → ")
        lines, percent = [f"reward, from {first} %"], last
    if recall := _points(rows, "recall"):
        lines.append(f"recall {ends_of(recall, share=True)}")
    status = "" if state.status == "done" else f" ({state.status})"
    return card(band.series, band.label, percent, lines, f"{state.step} of {state.steps} steps{status}")


def _phases_grid(states: Sequence[PhaseState], metrics: Sequence[Metrics]) -> Grid:
    shown = [key for key in _COLUMNS if any(_points(rows, key) for rows in metrics)]
    lines = []
    for state, rows in zip(states, metrics, strict=True):
        cells = [f"{state.role} {state.round}", state.status, f"{state.step} of {state.steps}"]
        for key in shown:
            points = _points(rows, key)
            cells.append(ends_of(points, share=_COLUMNS[key][1]) if points else "–")
        lines.append((*cells[:3], _clock(state.seconds), *cells[3:]))
    headings = ("phase", "status", "steps", "time", *(_COLUMNS[key][0] for key in shown))
    note = "From the first to the last step, each as the running mean of the curves."
    return Grid("Phases", headings, tuple(lines), note)


# Rollouts.


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
        if (row.step, row.group) in wanted:
            found.setdefault((row.step, row.group), []).append(row)
    return [found[key] for key in sorted(found)]


def _embedded_groups(phases: Sequence[PhaseFolder], samples: Mapping[str, Sample]) -> list[dict[str, Any]]:
    """Groups of all phases as data for the page."""
    share = max(LEAST_OF_A_PHASE, MOST_GROUPS // max(1, len(phases)))
    groups = [(phase, rows) for phase, folder in enumerate(phases) for rows in chosen_groups(folder, share)]
    return fitted(lambda cut: [_group(phase, rows, samples, cut) for phase, rows in groups])


def _group(phase: int, rows: Sequence[Rollout], samples: Mapping[str, Sample], cut: Cut) -> dict[str, Any]:
    first = rows[0]
    sample = samples.get(first.id)
    return {
        "phase": phase,
        "step": first.step,
        "role": first.role,
        "id": first.id,
        "question": sample.question.text if sample else "",
        "choices": sample.question.choices if sample else (),
        "category": sample.category if sample else "",
        "gold": first.gold,
        "goldBoxes": [box.as_tuple() for box in sample.boxes or ()] if sample else (),
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
