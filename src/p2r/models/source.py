"""Where the weights of a model are: the bundled ones, a folder, or a hub id; and the settings beside them."""

from __future__ import annotations

import re
from pathlib import Path

from p2r.errors import InputError
from p2r.nano import NAMES, bundled
from p2r.settings import SETTINGS_FILE, Settings

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


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
            raise InputError(f"model {spec}: {path} is no checkpoint folder (it has no config.json)")
        return path
    if _HUB_ID.fullmatch(name):
        return name
    raise InputError(
        f"unknown model {spec!r}: {', '.join(NAMES)}, a checkpoint folder, a hub id such as "
        "Qwen/Qwen3-VL-2B-Instruct, vllm:<folder or hub id>, or http://host:port/v1#name"
    )


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
