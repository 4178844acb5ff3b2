"""Complete model folders: weights, processor, `p2r.json`; the final model of a run, and its card."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from p2r.models.checkpoint import trusts_code
from p2r.models.options import split_spec
from p2r.runs.files import read_json, replacing, write_file, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.settings import Settings
    from p2r.training.recipe import Recipe
    from p2r.training.run_folder import DataRecord, PhaseFolder, RunRecord

_EDGE = 10  # steps at each end of a phase whose mean reward the card shows


def finish_folder(folder: Path, processor: Any, settings: Settings) -> None:
    """Put processor and settings beside the weights, so that the folder can be used as a model."""
    processor.image_processor.do_resize = True  # as in the base model, for users with images of other sizes
    processor.save_pretrained(folder)
    settings.save(folder)
    if not trusts_code():
        # The code that the first checkpoint names was not run, and is not here.
        for path in folder.glob("*config.json"):
            config = read_json(path)
            if config.pop("auto_map", None):
                write_json(path, config)
    for name in ("training_args.bin", "README.md"):
        (folder / name).unlink(missing_ok=True)


def write_final(trained: Path, out: Path, dtype: str, card: str) -> None:
    """Write the final model of a run into `out`, in one step.

    Args:
        trained: the model folder of the last phase.
        dtype: of the weights, such as `bfloat16`.
        card: the text of README.md.
    """
    import torch
    from safetensors.torch import load_file, save_file

    wanted = getattr(torch, dtype)
    with replacing(out) as partial:
        partial.mkdir(parents=True)
        for path in sorted(trained.iterdir()):
            if path.suffix != ".safetensors":
                shutil.copy2(path, partial / path.name)
                continue
            tensors = load_file(path)
            cast = {name: one.to(wanted) if one.is_floating_point() else one for name, one in tensors.items()}
            save_file(cast, partial / path.name, metadata={"format": "pt"})
        config = read_json(partial / "config.json")
        _name_dtype(config, dtype)
        write_json(partial / "config.json", config)
        write_file(partial / "README.md", card)


def stored_dtype(folder: Path) -> str:
    """The precision in which a checkpoint says its weights are stored."""
    config = read_json(folder / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")


def _name_dtype(config: dict[str, Any], dtype: str) -> None:
    for key, value in config.items():
        if key in ("dtype", "torch_dtype"):
            config[key] = dtype
        elif isinstance(value, dict):
            _name_dtype(value, dtype)


_CARD = Path(__file__).with_name("model_card.md")


def model_card(recipe: Recipe, run: RunRecord, data: DataRecord, phases: Sequence[PhaseFolder]) -> str:
    """The README.md of a final model, as markdown."""
    base, _ = split_spec(recipe.model)
    rows = []
    for folder, (_, phase) in zip(phases, recipe.plan(), strict=True):
        state, metrics = folder.state(), folder.metrics()
        for role in phase.roles:
            rewards = [row.rewards[role] for row in metrics if role in row.rewards]
            first, last = _mean(rewards[:_EDGE]), _mean(rewards[-_EDGE:])
            rows.append(f"| {state.number} | {role} | {state.steps} | {first} | {last} |\n")
    joint = any(phase.role == "joint" for phase in recipe.phases)
    method, how = ("GRPO", "in the same steps") if joint else ("PRA-GRPO", "in turn")
    session = run.sessions[-1]
    card = _CARD.read_text(encoding="utf-8").format(
        base=f"base_model: {base}\n" if "/" in base and not base.startswith("/") else "",
        name=recipe.name,
        model=Path(recipe.model).name if base.startswith("/") else recipe.model,  # the card may be published
        method=method,
        how=how,
        digest=run.identity["digest"],
        samples=data.samples,
        fingerprint=data.fingerprint,
        seed=recipe.seed,
        edge=_EDGE,
        phases="".join(rows),
        version=session["p2r"],
        commit=session["commit"],
        packages=", ".join(f"{name} {version}" for name, version in session["packages"].items()),
    )
    if recipe.model.startswith("nano"):
        card += "\nIt was trained on synthetic scenes only and does not understand photographs.\n"
    return card


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f}" if values else "–"
