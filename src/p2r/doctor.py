"""What is installed, which devices there are, and whether a model answers: findings with their cures."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from p2r.errors import InputError, ModelError, P2RError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from p2r.errors import ModelErrorKind
    from p2r.pipeline import P2R
    from p2r.settings import Settings

State = Literal["ok", "warning", "failure"]

# What each extra is for, and the packages that it brings (a test compares them with pyproject.toml).
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "local": ("models on this machine", ("torch", "torchvision", "transformers")),
    "eval": ("p2r eval and p2r report", ("datasets", "matplotlib")),
    "train": ("p2r train", ("trl", "accelerate", "peft", "pyyaml")),
    "serve": ("p2r serve", ("fastapi", "uvicorn", "gradio", "prometheus-client", "httpx")),
}
_NATIVE = ("numpy", "PIL", "pyvips", "pydantic_core")
_CURES: dict[ModelErrorKind, str] = {
    "unreachable": "start the server, or mend the address: http://HOST:PORT/v1#NAME",
    "timeout": "the server is too slow or stuck: look at its log",
    "rejected": "the server says why; P2R_API_KEY or OPENAI_API_KEY holds the key, if it wants one",
    "overloaded": "try again later, or send fewer requests at once",
    "server": "look at the server's log",
    "invalid_reply": "it is no OpenAI-compatible server, or something between changes its replies",
    "internal": "run p2r answer --debug with this model to see the trace",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        state: `ok`; `warning`, something that is not needed by everyone; `failure`.
        detail: what was found.
        cure: what to do about it; empty when it is fine.
        of_model: it is about a given model, not about the installation.
    """

    name: str
    state: State
    detail: str
    cure: str = ""
    of_model: bool = False


def look_at_installation() -> Iterator[Finding]:
    """Python, the packages of the core and of each extra, the devices, and vLLM."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("python", "ok", f"{version} in {sys.prefix}")
    yield _core()
    for extra in EXTRAS:
        yield _extra(extra)
    yield _bundled()
    yield from _devices()
    yield _vllm()


def _core() -> Finding:
    reinstall = "pip install --force-reinstall perceive-to-reason"
    versions = []
    for name in _NATIVE:  # the ones with compiled parts, which can be there and still not load
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:
            return Finding("core", "failure", f"{name}: {error}", reinstall)
        versions.append(f"{name} {module.__version__}")
    return Finding("core", "ok", ", ".join(versions))


def _extra(extra: str) -> Finding:
    purpose, packages = EXTRAS[extra]
    versions, missing = [], []
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        detail = f"{purpose}: {', '.join(missing)} not installed"
        return Finding(f"extra {extra}", "warning", detail, f"pip install 'perceive-to-reason[{extra}]'")
    return Finding(f"extra {extra}", "ok", ", ".join(versions))


def _bundled() -> Finding:
    from p2r.nano import NAMES, bundled

    if names := list(bundled()):
        return Finding("bundled", "ok", ", ".join(names))
    detail = f"no weights of {' or '.join(NAMES)}: p2r demo and the default model need them"
    cure = "name another model (--model), or make them: python -m p2r.nano.pretrain --help"
    return Finding("bundled", "warning", detail, cure)


def _vllm() -> Finding:
    from p2r.models.vllm import VLLMServer

    try:
        program = VLLMServer("any").command(port=0)[0]
    except InputError as error:
        what, _, cure = str(error).partition(": ")
        return Finding("vllm", "warning", f"{what}: no model named vllm:… can be started", cure)
    return Finding("vllm", "ok", program)


def _devices() -> Iterator[Finding]:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    yield Finding("cpu", "ok", f"{os.cpu_count()} cores, {memory_gb:.1f} GB of memory")
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            yield Finding(
                f"gpu {index}", "ok", f"{device.name}, {device.total_memory / 1e9:.1f} GB of memory"
            )
    elif torch.backends.mps.is_available():
        yield Finding("gpu", "ok", "Apple Metal")
    else:
        detail = "none that PyTorch can use: the bundled model needs none, larger ones are slow without"
        yield Finding(
            "gpu", "warning", detail, "use a vLLM server elsewhere: --model http://HOST:8000/v1#NAME"
        )


async def look_at_model(spec: str, settings: Settings | None = None) -> list[Finding]:
    """Ask a model a question about a picture of our own, then the largest request of its budgets.

    Args:
        spec: as in `p2r.models.open_model`.
        settings: None for those that come with the model.
    """
    from p2r.pipeline import P2R

    try:
        async with P2R(spec, settings=settings) as p2r:
            return [await _answers(spec, p2r), await _fits(spec, p2r)]
    except P2RError as error:
        return [_failure(f"{spec} opens", error)]


async def _answers(spec: str, p2r: P2R) -> Finding:
    from p2r.types import Question

    question = Question(_square(1024, 1024), "What is the colour of the square?", ("red", "blue"))
    name = f"{spec} answers"
    try:
        prediction = await p2r.predict(question)
    except P2RError as error:
        return _failure(name, error)
    perception = prediction.perception
    outcome = perception.outcome if perception else ""
    detail = (
        f"{prediction.usage.calls} calls in {prediction.seconds['total']:.2f} s; "
        f"perceiver: {outcome}; answer: {prediction.answer or 'none'}"
    )
    if outcome == "malformed":
        cure = "it does not write boxes: use a model that grounds, or --prompts that it was trained with"
        return Finding(name, "warning", detail, cure, of_model=True)
    if prediction.status == "no_answer":
        cure = "it does not keep to the answer's form: try --prompts that it was trained with"
        return Finding(name, "warning", detail, cure, of_model=True)
    return Finding(name, "ok", detail, of_model=True)


async def _fits(spec: str, p2r: P2R) -> Finding:
    """Send what the largest pictures with the most crops become, and let the model write one token."""
    from p2r.models.base import Sampling
    from p2r.prompts import reason_messages
    from p2r.types import Box, Question

    name = f"{spec} budgets"
    crops = p2r.settings.geometry.max_crops
    question = Question(_square(7680, 4320), "What is the colour of the square?", ("red", "blue"))
    boxes = [Box(0, 0, 1000, 1000 - index, "square") for index in range(crops)]
    try:
        look = await p2r.look(question)
        evidence = await p2r.gather(look, boxes)
        messages = reason_messages(p2r.settings.prompts, question, evidence)
        completion = await p2r.reasoner.complete(messages, Sampling(1))
    except P2RError as error:
        failure = _failure(name, error)
        if isinstance(error, ModelError) and error.kind == "rejected":
            cure = "write the model's context window as budget.context_tokens into a p2r.json (--settings)"
            return replace(failure, cure=cure)
        return failure
    pictures = [evidence.overview, *(crop.picture for crop in evidence.crops)]
    pixels = sum(picture.width * picture.height for picture in pictures)
    answer = p2r.settings.max_tokens.reason
    detail = (
        f"an 8K picture with {crops} crops is {completion.prompt_tokens} tokens, "
        f"{pixels // p2r.settings.budget.factor**2} of them pictures; up to {answer} more for the answer"
    )
    return Finding(name, "ok", detail, of_model=True)


def _square(width: int, height: int) -> np.ndarray:
    import numpy as np

    pixels = np.full((height, width, 3), 235, np.uint8)
    top, left, side = height // 3, width // 3, height // 6
    pixels[top : top + side, left : left + side] = (220, 40, 40)
    return pixels


def _failure(name: str, error: P2RError) -> Finding:
    cure = _CURES[error.kind] if isinstance(error, ModelError) else ""
    return Finding(name, "failure", str(error), cure, of_model=True)
