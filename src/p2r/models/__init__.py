"""Models: messages in, text out. A checkpoint in this process, an OpenAI-compatible server, a managed vLLM.

- `base`: the `Model` protocol, messages, sampling, completions. `options`: thinking, fields of a server.
- `loading`: a model from its spec. `checkpoint`: finding, checking and reading checkpoints; `placement`: how.
- `local`: a checkpoint in this process; `batching`, `encoding` and `generation` are its parts, and
  `vision_cache` is training's.
- `endpoint`: a server; `wire` reads and writes the protocol, `dialect` learns what the server accepts,
  `retries` says what is sent again. `vllm`: a managed server; `_guard` ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2r.nano import bundled

if TYPE_CHECKING:
    from p2r.models.endpoint import EndpointModel as EndpointModel
    from p2r.models.loading import open_model as open_model
    from p2r.models.loading import settings_for as settings_for
    from p2r.models.local import LocalModel as LocalModel
    from p2r.models.options import ModelOptions as ModelOptions
    from p2r.models.vllm import VLLMModel as VLLMModel
    from p2r.models.vllm import VLLMServer as VLLMServer

# The trained bundled model where its weights are, else the one from supervised warm-up alone.
DEFAULT_MODEL = next(iter(bundled()), "nano-base")

# Loaded on first use, because they import an HTTP client and more.
_HOME_OF = {
    "EndpointModel": "endpoint",
    "LocalModel": "local",
    "ModelOptions": "options",
    "VLLMModel": "vllm",
    "VLLMServer": "vllm",
    "open_model": "loading",
    "settings_for": "loading",
}

__all__ = ["DEFAULT_MODEL", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"p2r.models.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
