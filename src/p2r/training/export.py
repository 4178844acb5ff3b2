"""Model folders that are complete: weights, processor, `p2r.json`; and the final model of a run."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from p2r.models.checkpoint import trusts_code
from p2r.runs.journal import write_file, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from p2r.settings import Settings

_LEFTOVERS = ("training_args.bin", "README.md")


def finish_folder(folder: Path, processor: Any, settings: Settings) -> None:
    """Put processor and settings beside the weights, so that the folder can be used as a model."""
    processor.image_processor.do_resize = True  # as it was loaded from, for users who hand in other sizes
    processor.save_pretrained(folder)
    settings.save(folder)
    if not trusts_code():
        _forget_code(folder)
    for name in _LEFTOVERS:
        (folder / name).unlink(missing_ok=True)


def _forget_code(folder: Path) -> None:
    """The code that the first checkpoint named was not run, and is not here."""
    for path in folder.glob("*config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("auto_map", None):
            write_json(path, config)


def write_final(trained: Path, out: Path, dtype: str, card: str) -> None:
    """Write the final model of a run: the weights of its last phase in the precision of its first.

    Args:
        trained: the model folder of the last phase.
        out: written in one step; replaced if it is there.
        dtype: of the weights, such as `bfloat16`.
        card: the text of README.md.
    """
    import torch
    from safetensors.torch import load_file, save_file

    partial = out.with_name(out.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    wanted = getattr(torch, dtype)
    for path in sorted(trained.iterdir()):
        if path.suffix != ".safetensors":
            shutil.copy2(path, partial / path.name)
            continue
        tensors = load_file(path)
        cast = {name: one.to(wanted) if one.is_floating_point() else one for name, one in tensors.items()}
        save_file(cast, partial / path.name, metadata={"format": "pt"})
    _name_dtype(partial / "config.json", dtype)
    write_file(partial / "README.md", card)
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)


def _name_dtype(path: Path, dtype: str) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))

    def rename(part: Any) -> None:
        if isinstance(part, dict):
            for key, value in part.items():
                if key in ("dtype", "torch_dtype"):
                    part[key] = dtype
                else:
                    rename(value)

    rename(config)
    write_json(path, config)


def stored_dtype(folder: Path) -> str:
    """The precision that a checkpoint says its weights are stored in."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
