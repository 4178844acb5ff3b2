"""The model card of a trained model: what it is, how it was trained, how to use it, what to expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2r.models.options import split_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.training.recipe import Recipe
    from p2r.training.run_folder import PhaseFolder

_EDGE = 10  # steps at each end of a phase that its figures are means of


def model_card(
    recipe: Recipe, run: dict[str, Any], data: dict[str, Any], phases: Sequence[PhaseFolder]
) -> str:
    """The README.md of a final model, as markdown."""
    base, _ = split_spec(recipe.model)
    lines = [
        "---",
        *([f"base_model: {base}"] if "/" in base and not base.startswith("/") else []),
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "tags: [perceive-to-reason, grpo, trl]",
        "---",
        "",
        f"# {recipe.name}",
        "",
        f"`{recipe.model}` after PRA-GRPO (Perceive-to-Reason, arXiv 2607.01191), trained with `p2r train`: "
        "the roles perceiver and reasoner were updated in turn, rewarded for right final answers alone.",
        "",
        "```sh",
        "p2r answer IMAGE QUESTION --model THIS_FOLDER",
        "```",
        "",
        "`p2r.json` holds prompts, geometry and budgets; the model should be asked in that way "
        f"(digest `{run.get('identity', {}).get('digest', '')}`).",
        "",
        "## Training",
        "",
        f"{data.get('samples')} samples (fingerprint `{data.get('fingerprint')}`), seed {recipe.seed}. "
        f"Rewards are means over the first and the last {_EDGE} steps of a phase, on training samples; "
        "they are no evaluation.",
        "",
        "| phase | role | steps | reward, first | reward, last |",
        "| --- | --- | --- | --- | --- |",
    ]
    for folder in phases:
        state = folder.state()
        rewards = [row["reward"] for row in folder.metrics() if "reward" in row]
        lines.append(
            f"| {state.number} | {state.role} | {state.steps} | {_mean(rewards[:_EDGE])} "
            f"| {_mean(rewards[-_EDGE:])} |"
        )
    environment = (run.get("sessions") or [{}])[-1]
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
    lines += [
        "",
        f"Code: perceive-to-reason {environment.get('p2r')}, commit `{environment.get('commit')}`; "
        f"{packages}.",
    ]
    if recipe.model.startswith("nano"):
        lines += [
            "",
            "It knows synthetic scenes only and understands no photographs.",
        ]
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3f}" if values else "–"
