"""Models: a transformers checkpoint here, any OpenAI-compatible server, or a vLLM that we start."""

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

# The trained bundled model where its weights are, else the one that was warmed up only.
DEFAULT_MODEL = next(iter(bundled()), "nano-base")

# Loaded on first use, because they bring an HTTP client and more.
_HOMES = {
    "EndpointModel": "p2r.models.endpoint",
    "LocalModel": "p2r.models.local",
    "ModelOptions": "p2r.models.options",
    "VLLMModel": "p2r.models.vllm",
    "VLLMServer": "p2r.models.vllm",
    "open_model": "p2r.models.loading",
    "settings_for": "p2r.models.loading",
}

__all__ = [
    "DEFAULT_MODEL",
    "EndpointModel",
    "LocalModel",
    "ModelOptions",
    "VLLMModel",
    "VLLMServer",
    "open_model",
    "settings_for",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
