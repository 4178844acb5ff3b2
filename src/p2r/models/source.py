"""Where the weights of a model are: the bundled ones, a folder, or a hub id."""

from __future__ import annotations

import re
from pathlib import Path

from p2r.errors import InputError
from p2r.nano import NAMES, bundled

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
                "(--model), or make them: python -m p2r.nano.pretrain --help"
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
