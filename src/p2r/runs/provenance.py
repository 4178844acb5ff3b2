"""What it takes to repeat a run: versions, commit, machine, and which weights a model spec stood for."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import p2r
from p2r.errors import InputError
from p2r.models.checkpoint import locate
from p2r.models.options import split_spec

PACKAGES = ("torch", "transformers", "vllm", "openai", "pyvips", "pillow", "numpy", "datasets")
_SAMPLE_BYTES = 1 << 20


def environment() -> dict[str, Any]:
    """Versions of everything that takes part, the commit of this code, and the machine."""
    return {
        "p2r": p2r.__version__,
        "commit": commit(Path(p2r.__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def commit(folder: Path) -> str | None:
    """The commit of the checkout that holds a folder, with `+changes` when files differ from it."""
    try:
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    return done.stdout.strip()


def revision(spec: str) -> str | None:
    """Which weights a model spec stands for, as far as that can be told from here.

    A folder: twelve hex digits over its files' names, sizes and first and last mebibyte. A hub id: the commit
    in the cache. A server's weights are its own business: None.
    """
    spec = split_spec(spec)[0].removeprefix("vllm:")
    if re.match(r"https?://", spec):
        return None
    folder = _folder(spec)
    if folder is None:
        return None
    # The cache of the hub keeps a model in …/snapshots/COMMIT.
    if folder.parent.name == "snapshots":
        return folder.name
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
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
    except InputError:
        return None
    if isinstance(source, Path):
        return source.resolve()
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    try:
        cached = try_to_load_from_cache(source, "config.json")
    except ValueError:  # the hub is stricter about ids than we are
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
