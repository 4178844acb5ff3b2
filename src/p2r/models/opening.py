"""A model from a few words: the bundled ones, a checkpoint, a vLLM of our own, or a server that runs.

| spec | model |
| --- | --- |
| `nano`, `nano-base` | the bundled checkpoints, in this process |
| a folder, or a hub id like `Qwen/Qwen3-VL-8B-Instruct` | a checkpoint, in this process |
| `vllm:` and one of the above | a vLLM server that is started and ended for it |
| `http://host:port/v1#name`, `https://…` | a running OpenAI-compatible server |
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from p2r.models.source import locate
from p2r.settings import SETTINGS_FILE, Settings

if TYPE_CHECKING:
    from p2r.models.base import Model

_VLLM = "vllm:"
_LOCAL_BATCH = 8


def open_model(spec: str, *, max_concurrency: int | None = None) -> Model:
    """Open a model. A local checkpoint is loaded now; a server is reached (or started) by the first request.

    Args:
        spec: see the table above.
        max_concurrency: how many requests the caller will have in flight.

    Raises:
        InputError: the spec names nothing that exists; the text lists what it may be.
        MissingExtraError: what the model needs is not installed.
    """
    if spec.startswith(("http://", "https://")):
        from p2r.models.endpoint import EndpointModel

        url, _, name = spec.partition("#")
        return EndpointModel(url, name or None, max_concurrency=max_concurrency or 64)
    if spec.startswith(_VLLM):
        from p2r.models.vllm import VLLMModel, VLLMServer

        name = spec.removeprefix(_VLLM)
        server = VLLMServer(locate(name, spec), name=name)
        return VLLMModel(server, max_concurrency=max_concurrency or 64)
    source = locate(spec)
    from p2r.models.local import LocalModel

    return LocalModel(source, name=spec, max_batch=min(_LOCAL_BATCH, max_concurrency or _LOCAL_BATCH))


def settings_for(spec: str) -> Settings | None:
    """The settings that a checkpoint carries in its `p2r.json`; None when it has none or is a server's.

    Of a hub model the file is downloaded before the weights are: they may come later, or by vLLM, which
    leaves it out.

    Raises:
        InputError: the file is there and cannot be read.
    """
    if spec.startswith(("http://", "https://")):
        return None
    source = locate(spec.removeprefix(_VLLM), spec)
    file = source / SETTINGS_FILE if isinstance(source, Path) else _fetched(source, SETTINGS_FILE)
    return Settings.load(file) if file is not None and file.is_file() else None


def _fetched(hub_id: str, file: str) -> Path | None:
    """A file of a hub model, from the cache where there is no network; None when it cannot be had."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        return None
    try:
        return Path(hf_hub_download(hub_id, file))
    except (OSError, ValueError):
        # No such file, which is fine; or no such model, or no way to it, which opening it says better.
        return None
