"""What it takes to repeat a run: command, versions, commit, machine, and the weights of a model spec."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import p2r
from p2r.errors import InputError
from p2r.models.checkpoint import locate
from p2r.models.options import split_spec
from p2r.text import without_secrets

PACKAGES = ("torch", "transformers", "vllm", "openai", "pyvips", "pillow", "numpy", "datasets")
_SAMPLE_BYTES = 1 << 20


def session(command: str) -> dict[str, Any]:
    """The entry of a run file for the command that starts now: when, versions, commit and machine."""
    packages = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    return {
        "started": time.time(),
        "command": without_secrets(command),
        "p2r": p2r.__version__,
        "commit": commit(Path(p2r.__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": packages,
    }


def commit(folder: Path) -> str | None:
    """The commit of the checkout that holds a folder, with `+changes` when files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", ".")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def revision(spec: str) -> str | None:
    """The weights that a model spec refers to, as far as they are known here.

    A folder: twelve hex digits over the names, sizes and first and last mebibyte of its files but README.md,
    which `p2r push` and people edit. A hub id: the commit in the cache. None for a server.
    """
    spec = split_spec(spec)[0].removeprefix("vllm:")
    folder = None if re.match(r"https?://", spec) else _folder(spec)
    if folder is None:
        return None
    if folder.parent.name == "snapshots":  # the cache of the hub keeps a model in …/snapshots/COMMIT
        return folder.name
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file() and path.name != "README.md"):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as data:
            digest.update(data.read(_SAMPLE_BYTES))
            data.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(data.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:12]


def _folder(spec: str) -> Path | None:
    try:
        source = locate(spec)
        if isinstance(source, Path):
            return source.resolve()
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(source, "config.json")
    except (InputError, ImportError, ValueError):  # the hub is stricter about ids than we are
        return None
    return Path(cached).parent if isinstance(cached, str) else None
