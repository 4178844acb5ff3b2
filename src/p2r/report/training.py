"""Puts the page of a training together: its phases, curves of every metric, and groups of rollouts."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.evaluation.tables import Grid
from p2r.evidence import OUTLINE_COLORS
from p2r.report.curves import Band, Curve, curve_plot, ends_of, figure, running_mean
from p2r.report.html import filled, in_script, shown, table
from p2r.report.rollouts import embedded_groups, group_images
from p2r.training.run_folder import DATA, RECIPE, RUN, StepMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from p2r.training.run_folder import PhaseState, TrainingRun
    from p2r.types import Sample

_COLORS = {"perceiver": 0, "reasoner": 1, "think": 2, "direct": 3}  # of the roles
# What is plotted: title, whether it is a share, and the metrics with their labels.
PLOTS: tuple[tuple[str, bool, dict[str, str]], ...] = (
    ("Reward, mean", True, {"reward": "reward"}),
    ("Answers that are right, of those that were scored", True, {"correct": "right"}),
    ("Evidence recall: gold boxes whose center lies in a crop", True, {"recall": "recall"}),
    (
        "What the perceiver wrote",
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
        "Groups without spread: all rewards are equal, nothing is learnt",
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
    "correct": ("right", True),
    "recall": ("recall", True),
    "outcome/malformed": ("malformed", True),
    "frac_reward_zero_std": ("no spread", True),
    "failed": ("failed", True),
    "kl": ("KL", False),
    "completions/mean_length": ("tokens", False),
}

Metrics = list[StepMetrics]


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
        on_image: is told how many images are made, of how many.
        on_trouble: is told why there are no images.

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
    groups = embedded_groups(run.phases, samples)
    embedded = {
        "phases": [_name(state) for state in states],
        "series": [band.series for band in bands],
        "colors": [f"rgb{rgb}" for _, rgb in OUTLINE_COLORS],
        "curves": [_values(curves, share=share) for _, share, curves in plotted],
        "bands": [[band.start, band.end] for band in bands],
        "groups": groups,
        "images": group_images(groups, samples, on_image),
    }
    return filled(
        "training",
        kind="training",
        items="rollouts",
        title=escape(f"{run.recipe.name}: training"),
        lead=_lead(run, states),
        cards="".join(
            _card(state, rows, band) for state, rows, band in zip(states, metrics, bands, strict=True)
        ),
        curves="".join(curve_plot(title, curves, bands, share=share) for title, share, curves in plotted),
        tables=table(_phases_grid(states, metrics)),
        provenance="".join(_provenance(run)),
        data=in_script(embedded),
    )


def _samples(run: TrainingRun, data: str | None) -> dict[str, Sample]:
    source = data or (run.data and run.data.source)
    if not source:
        raise InputError(f"{run.folder} does not say where its samples are")
    return {sample.question.id: sample for sample in read_samples(Path(source))}


def _name(state: PhaseState) -> str:
    return f"{state.role} {state.round}"


def _bands(states: Sequence[PhaseState], metrics: Sequence[Metrics]) -> list[Band]:
    bands, start = [], 0
    for state, rows in zip(states, metrics, strict=True):
        # A phase that is going on takes the room that it will need.
        end = start + max(state.steps, rows[-1].step if rows else 0)
        short = f"{state.role[0].upper()}{state.round}"
        bands.append(Band(_name(state), short, start, end, _COLORS[state.role]))
        start = end
    return bands


def _plotted(metrics: Sequence[Metrics], bands: Sequence[Band]) -> Iterator[tuple[str, bool, list[Curve]]]:
    for title, share, keys in PLOTS:
        found = [key for key in keys if any(key in row.values for rows in metrics for row in rows)]
        if not found:
            continue
        curves = [
            Curve(
                keys[key],
                list(keys).index(key) if len(found) > 1 else None,
                tuple(
                    tuple((band.start + row.step, row.values[key]) for row in rows if key in row.values)
                    for band, rows in zip(bands, metrics, strict=True)
                ),
            )
            for key in found
        ]
        yield title, share, curves


def _values(curves: Sequence[Curve], *, share: bool) -> list[dict[str, Any]]:
    """The values that the page shows beside the pointer."""
    return [
        {
            "label": curve.label,
            "values": {step: figure(value, share=share) for points in curve.points for step, value in points},
        }
        for curve in curves
    ]


def _ends(rows: Metrics, key: str) -> tuple[float, float] | None:
    """Where a metric begins and ends: the running mean at the first and the last step."""
    points = [(row.step, row.values[key]) for row in rows if key in row.values]
    if not points:
        return None
    smooth = running_mean(points)
    return smooth[0][1], smooth[-1][1]


def _lead(run: TrainingRun, states: Sequence[PhaseState]) -> str:
    planned = run.recipe.plan()
    done = sum(state.status == "done" for state in states)
    steps = sum(state.step for state in states)
    hours = sum(state.seconds for state in states) / 3600
    facts = [
        f"{run.recipe.model}",
        f"{done} of {len(planned)} phases done",
        f"{steps} steps in {_clock(hours)}",
        f"{run.data.samples} samples" if run.data else "",
        f"page made {datetime.now(UTC).strftime('%Y-%m-%d')}",
    ]
    stopped = [state for state in states if state.status == "stopped"]
    if stopped:
        facts.insert(1, f"stopped in {_name(stopped[-1])}: {stopped[-1].error}")
    return " · ".join(escape(fact) for fact in facts if fact)


def _clock(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} hours"
    return f"{60 * hours:.0f} minutes" if hours >= 1 / 60 else f"{3600 * hours:.0f} seconds"


def _card(state: PhaseState, rows: Metrics, band: Band) -> str:
    reward, recall = _ends(rows, "reward"), _ends(rows, "recall")
    big = f"{100 * reward[1]:.1f}<span> %</span>" if reward else "–"
    said = [f"reward, from {100 * reward[0]:.1f} %" if reward else "no step yet"]
    if recall:
        said.append(f"recall {ends_of(*recall, share=True)}")
    status = "" if state.status == "done" else f" ({state.status})"
    lines = "".join(f'<p class="interval">{escape(line)}</p>' for line in said)
    return (
        f'<article class="card series-{band.series}"><h3>{escape(_name(state))}</h3><p class="big">{big}</p>'
        f"{lines}<p>{state.step} of {state.steps} steps{escape(status)}</p></article>"
    )


def _phases_grid(states: Sequence[PhaseState], metrics: Sequence[Metrics]) -> Grid:
    shown_keys = [key for key in _COLUMNS if any(key in row.values for rows in metrics for row in rows)]
    lines = []
    for state, rows in zip(states, metrics, strict=True):
        cells = [_name(state), state.status, f"{state.step} of {state.steps}", _clock(state.seconds / 3600)]
        for key in shown_keys:
            ends = _ends(rows, key)
            share = _COLUMNS[key][1]
            cells.append(ends_of(*ends, share=share) if ends else "–")
        lines.append(tuple(cells))
    headings = ("phase", "status", "steps", "time", *(_COLUMNS[key][0] for key in shown_keys))
    note = "From the first to the last step, each as the running mean of the curves."
    return Grid("Phases", headings, tuple(lines), note)


def _provenance(run: TrainingRun) -> Iterator[str]:
    yield shown(str(run.folder / RECIPE), (run.folder / RECIPE).read_text(encoding="utf-8"))
    for name in (RUN, DATA):
        if (run.folder / name).exists():
            yield shown(name, (run.folder / name).read_text(encoding="utf-8"))
