"""A model from its spec: a bundled one, a checkpoint, a managed vLLM, or a running server.

| spec | model |
| --- | --- |
| `nano`, `nano-base` | the bundled checkpoints, in this process |
| a folder, or a hub id like `Qwen/Qwen3-VL-8B-Instruct` | a checkpoint, in this process |
| `vllm:` and one of the above | a vLLM server that is started and ended for it |
| `http://host:port/v1#name`, `https://…` | a running OpenAI-compatible server |

Options may follow, each after a comma: `Qwen/Qwen3.5-4B,thinking=off,device=cuda:1` (see `p2r.models.options`
and, for those that say how a checkpoint is loaded, `p2r.models.placement`).
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from p2r.errors import InputError
from p2r.models.checkpoint import locate, settings_beside
from p2r.models.options import PLACEMENT, split_spec
from p2r.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from p2r.models.base import Model
    from p2r.models.options import ModelOptions

SERVER_SCHEMES = ("http://", "https://")
_VLLM = "vllm:"
# In the environment: spec → the same with user and password, for processes that read specs from files.
LOGINS = "P2R_LOGINS"
_LOCAL_BATCH = 8


def open_model(
    spec: str, *, options: ModelOptions | None = None, max_concurrency: int | None = None
) -> Model:
    """Open a model. A local checkpoint is loaded now; a server is reached (or started) by the first request.

    Args:
        spec: a model as text (docs/models.md); the options in it go before `options`.
        options: None for those that come with the checkpoint, or the defaults.
        max_concurrency: how many requests the caller will have in flight.

    Raises:
        InputError: the spec names nothing that exists; the text lists what it may be.
        MissingExtraError: what the model needs is not installed.
    """
    spec = json.loads(os.environ.get(LOGINS, "{}")).get(spec, spec)
    spec, changes = split_spec(spec)
    placement = {name: str(changes.pop(name)) for name in PLACEMENT if name in changes}
    if options is None:
        options = (settings_for(spec) or Settings()).options
    options = options.updated(changes, where=f"model {spec}")
    if spec.startswith(SERVER_SCHEMES):
        _refuse(placement, spec, "a server loads its model itself: leave it out")
        from p2r.models.endpoint import EndpointModel

        url, _, name = spec.partition("#")
        return EndpointModel(url, name or None, max_concurrency=max_concurrency or 64, options=options)
    if spec.startswith(_VLLM):
        from p2r.models.vllm import VLLMModel, VLLMServer

        name = spec.removeprefix(_VLLM)
        arguments = ["--dtype", placement.pop("dtype")] if "dtype" in placement else []
        _refuse(placement, spec, "set CUDA_VISIBLE_DEVICES, or vLLM's own argument in P2R_VLLM_ARGS")
        server = VLLMServer(locate(name, spec), name=name, arguments=arguments)
        return VLLMModel(server, max_concurrency=max_concurrency or 64, options=options)
    source = locate(spec)
    from p2r.models.local import LocalModel

    max_batch = min(_LOCAL_BATCH, max_concurrency or _LOCAL_BATCH)
    return LocalModel(source, name=spec, max_batch=max_batch, options=options, **placement)


def _refuse(placement: Mapping[str, str], spec: str, hint: str) -> None:
    for name, value in placement.items():
        raise InputError(f"model {spec}: {name}={value}: {hint}")


def settings_for(spec: str) -> Settings | None:
    """The settings that a checkpoint carries in its `p2r.json`; None for a server's, or when it has none.

    The options in the spec are not among them. Of a hub model the file is downloaded before the weights are.

    Raises:
        InputError: the file is there and cannot be read.
    """
    spec, _ = split_spec(spec)
    if spec.startswith(SERVER_SCHEMES):
        return None
    return settings_beside(locate(spec.removeprefix(_VLLM), spec))
