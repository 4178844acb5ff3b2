"""Where the weights of a model are: the bundled ones, a folder, or a hub id; and the settings beside them."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
from pathlib import Path

from p2r.errors import InputError
from p2r.nano import NAMES, bundled
from p2r.settings import SETTINGS_FILE, Settings

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_LOG = logging.getLogger("p2r.models")
TRUST = "P2R_TRUST_REMOTE_CODE"  # in the environment: 1 runs the code that checkpoints bring
_LARGEST_CONFIG = 1 << 20  # bytes: larger ones are vocabularies and indices
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def locate(name: str, spec: str = "") -> Path | str:
    """The folder of a checkpoint, or its hub id; nothing is downloaded.

    Args:
        name: a bundled model, a folder or a hub id.
        spec: what errors call it, where it is more than the name.

    Raises:
        InputError: it is none of them.
    """
    spec = spec or name
    if name in NAMES:
        if name not in bundled():
            raise InputError(
                f"model {spec}: this installation does not hold the weights of {name}; name another model "
                "(--model), or install the package again"
            )
        return bundled()[name]
    path = Path(name).expanduser()
    if name and path.exists():
        if not (path / "config.json").is_file():
            what = (
                "the folder of an adapter: merge it into its model first"
                if _is_adapter(path)
                else ("no checkpoint folder (it has no config.json)")
            )
            raise InputError(f"model {spec}: {path} is {what}")
        check_contents(path)
        return path
    if _HUB_ID.fullmatch(name):
        return name
    raise InputError(
        f"unknown model {spec!r}: {', '.join(NAMES)}, a checkpoint folder, a hub id such as "
        "Qwen/Qwen3-VL-2B-Instruct, vllm:<folder or hub id>, or http://host:port/v1#name"
    )


def trusts_code() -> bool:
    """Whether the user wants the code that checkpoints bring to run (`P2R_TRUST_REMOTE_CODE=1`)."""
    return os.environ.get(TRUST, "").lower() in ("1", "true", "yes", "on")


def check_contents(folder: Path) -> None:
    """Refuse a checkpoint with weights in pickles, and say once that code of its own is not run.

    Raises:
        InputError: reading the weights could run code.
    """
    files = {path.name for path in folder.iterdir()}
    for stem in ("adapter_", ""):
        weights = [name for name in files if name.startswith("adapter_") == bool(stem)]
        pickled = sorted(name for name in weights if name.endswith(_PICKLES) and _holds_weights(name))
        if pickled and not any(name.endswith(".safetensors") for name in weights):
            raise InputError(
                f"model {folder} holds its weights as a pickle ({pickled[0]}), which can run code when it is "
                "read: use safetensors (load it where you trust it, and save_pretrained writes them)"
            )
    if code := own_code(folder):
        _tell_about_code(folder, code)


def _holds_weights(name: str) -> bool:
    return name.startswith(("pytorch_model", "adapter_model", "model", "consolidated", "diffusion"))


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def own_code(folder: Path) -> str:
    """What of a checkpoint is code that its configuration names (`auto_map`); empty when nothing is."""
    for file in sorted(folder.glob("*.json")):
        if file.stat().st_size > _LARGEST_CONFIG:
            continue
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(data, dict) and (named := data.get("auto_map")):
            return f"{file.name} names {next(iter(named.values())) if isinstance(named, dict) else named}"
    return ""


@functools.cache
def _tell_about_code(folder: Path, code: str) -> None:
    if trusts_code():
        _LOG.warning("model %s: its own code is run (%s), because %s is set", folder, code, TRUST)
    else:
        _LOG.warning("model %s brings code of its own, which is not run (%s)", folder, code)


def settings_beside(source: str | Path) -> Settings | None:
    """The settings in a checkpoint's `p2r.json`; None when it has none.

    Args:
        source: a folder, or a hub id; of the latter the file is downloaded, or taken from the cache.

    Raises:
        InputError: the file is there and cannot be read.
    """
    file = source / SETTINGS_FILE if isinstance(source, Path) else _fetched(source, SETTINGS_FILE)
    return Settings.load(file) if file is not None and file.is_file() else None


def _fetched(hub_id: str, file: str) -> Path | None:
    """A file of a hub model, from the cache where there is no network; None when it cannot be had."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    try:
        # Not `hf_hub_download`: without a network that tries for half a minute, and says so each time.
        return Path(snapshot_download(hub_id, allow_patterns=[file])) / file
    except (OSError, ValueError):
        # No such file, which is fine; or no such model, or no way to it, which opening it says better.
        return None
