"""What is installed, which devices there are, and what a model can do: answer, write boxes, hold the images.

Each thing that was looked at is a finding; one that is not fine says what to do.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from p2r.errors import InputError, MissingExtraError, ModelError, P2RError
from p2r.text import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.box_probe import BoxProbe
    from p2r.errors import ModelErrorKind
    from p2r.models.base import Model
    from p2r.pipeline import P2R
    from p2r.settings import Settings

State = Literal["ok", "warning", "failure"]

# What each extra is for.
EXTRAS = {
    "local": "models on this machine",
    "eval": "benchmarks and p2r data",
    "train": "p2r train",
    "serve": "p2r serve",
    "heic": "HEIC images",
}
_NATIVE = ("numpy", "PIL", "pyvips", "pydantic_core")
_LARGE = (7680, 4320)
_PROMPT_TOKENS = 512  # of the longest prompt that is likely, without images
_THINKING = "if it thinks, add ,thinking=off or ,thinking_tokens=4096 to the model's name"
_HINTS: dict[ModelErrorKind, str] = {
    "unreachable": "start the server, or mend the address: http://HOST:PORT/v1#NAME",
    "timeout": "the server is too slow or stuck: look at its log",
    "rejected": "the server says why; P2R_API_KEY or OPENAI_API_KEY holds the key, if it wants one",
    "overloaded": "try again later, or send fewer requests at once",
    "server": "look at the server's log",
    "invalid_reply": "it is no OpenAI-compatible server, or something between changes its replies",
    "internal": "run p2r answer --debug with this model to see the trace",
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        state: `ok`; `warning`, something that is not needed by everyone; `failure`.
        detail: what was found.
        hint: what to do about it; empty when it is fine.
        of_model: it is about a given model, not about the installation.
    """

    name: str
    state: State
    detail: str
    hint: str = ""
    of_model: bool = False

    def __post_init__(self) -> None:
        for part in ("name", "detail", "hint"):
            object.__setattr__(self, part, without_secrets(getattr(self, part)))


def look_at_installation() -> Iterator[CheckResult]:
    """Python, the packages of the core and of each extra, the devices, and vLLM."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield CheckResult("python", "ok", f"{version} in {sys.prefix}")
    yield _core()
    for extra in EXTRAS:
        yield _extra(extra)
    yield _bundled()
    yield from _devices()
    yield _vllm()


def _core() -> CheckResult:
    reinstall = "pip install --force-reinstall perceive-to-reason"
    versions = []
    for name in _NATIVE:  # the ones with compiled parts, which can be there and still not load
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:
            return CheckResult("core", "failure", f"{name}: {error}", reinstall)
        versions.append(f"{name} {module.__version__}")
    return CheckResult("core", "ok", ", ".join(versions))


def _extra(extra: str) -> CheckResult:
    purpose, packages = EXTRAS[extra], _packages(extra)
    if missing := _missing(packages):
        detail = f"{purpose}: {', '.join(missing)} not installed"
        return CheckResult(f"extra {extra}", "warning", detail, _install(extra))
    versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return CheckResult(f"extra {extra}", "ok", ", ".join(versions))


def _packages(extra: str) -> list[str]:
    """What the metadata of this installation names for an extra."""
    lines = importlib.metadata.requires("perceive-to-reason") or []
    names = [re.match(r"[\w.-]+", line) for line in lines if f"extra == '{extra}'" in line.replace('"', "'")]
    return [name[0] for name in names if name and name[0] != "perceive-to-reason"]


def _missing(packages: Sequence[str]) -> list[str]:
    missing = []
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    return missing


def require_extra(extra: str) -> None:
    """Raise unless all packages of an extra are installed.

    Raises:
        MissingExtraError: names the first one that is missing, and the command that installs all.
    """
    if missing := _missing(_packages(extra)):
        raise MissingExtraError(extra, missing[0])


def _install(extra: str) -> str:
    return f"pip install 'perceive-to-reason[{extra}]'"


def _bundled() -> CheckResult:
    from p2r.nano import NAMES, bundled

    names = ", ".join(bundled())
    purpose, packages = EXTRAS["local"], _packages("local")
    if names and (missing := _missing(packages)):
        detail = f"{names}: cannot run here, {purpose} need {', '.join(missing)}"
        return CheckResult("bundled", "warning", detail, _install("local"))
    if names:
        return CheckResult("bundled", "ok", names)
    detail = f"no weights of {' or '.join(NAMES)}: p2r demo and the default model need them"
    hint = "name another model (--model), or install the package again"
    return CheckResult("bundled", "warning", detail, hint)


def _vllm() -> CheckResult:
    from p2r.models.vllm import VLLMServer

    try:
        program = VLLMServer("any").command(port=0)[0]
    except InputError as error:
        what, _, hint = str(error).partition(": ")
        return CheckResult("vllm", "warning", f"{what}: no model named vllm:… can be started", hint)
    return CheckResult("vllm", "ok", program)


def _devices() -> Iterator[CheckResult]:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    yield CheckResult("cpu", "ok", f"{os.cpu_count()} cores, {memory_gb:.1f} GB of memory")
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            yield CheckResult(
                f"gpu {index}", "ok", f"{device.name}, {device.total_memory / 1e9:.1f} GB of memory"
            )
    elif torch.backends.mps.is_available():
        yield CheckResult("gpu", "ok", "Apple Metal")
    else:
        detail = "none that PyTorch can use: the bundled model needs none, larger ones are slow without"
        yield CheckResult(
            "gpu", "warning", detail, "use a vLLM server elsewhere: --model http://HOST:8000/v1#NAME"
        )


async def look_at_model(model: str | Model, settings: Settings | None = None) -> list[CheckResult]:
    """Ask a model a question about a scene, where objects are, and the largest request of its budgets.

    Args:
        model: as in `P2R`.
        settings: None for those that come with the model.
    """
    from p2r.pipeline import P2R

    name = model if isinstance(model, str) else model.name
    try:
        async with P2R(model, settings=settings) as p2r:
            context = await _context_tokens(p2r.reasoner)
            try:
                answers = await _answers(name, p2r)
            except P2RError as error:
                # Whatever makes a first question fail would be found again by the other looks.
                return [_too_large(name, p2r, context, error) or _failure(f"{name} answers", error)]
            return [answers, await _boxes(name, p2r), await _budgets(name, p2r, context)]
    except P2RError as error:
        return [_failure(f"{name} opens", error)]


async def _context_tokens(model: Model) -> int | None:
    ask = getattr(model, "context_tokens", None)
    return None if ask is None else await ask()


async def _answers(spec: str, p2r: P2R) -> CheckResult:
    from p2r.box_probe import probe_samples

    name = f"{spec} answers"
    prediction = await p2r.predict(next(probe_samples()).sample().question)
    detail = (
        f"{prediction.usage.calls} calls in {prediction.seconds['total']:.2f} s; "
        f"answer: {prediction.answer or 'none'}"
    )
    if prediction.truncated:
        detail += f", cut at max_tokens.reason = {p2r.settings.max_tokens.reason}"
    if prediction.status == "no_answer":
        hint = "it does not keep to the answer's form: try --prompts that it was trained with"
        hint = _THINKING if prediction.truncated else hint
        return CheckResult(name, "warning", detail, hint, of_model=True)
    return CheckResult(name, "ok", detail, of_model=True)


async def _boxes(spec: str, p2r: P2R) -> CheckResult:
    from p2r.box_probe import probe_boxes

    name = f"{spec} boxes"
    try:
        probe = await probe_boxes(p2r)
    except P2RError as error:
        return _failure(name, error)
    replies = len(probe.replies)
    if not probe.fits:
        detail, hint = _no_format(probe, p2r.settings)
        return CheckResult(name, "warning", detail, hint, of_model=True)
    found = f"in {probe.found(probe.best)} of {replies} probes the crop shows the object"
    detail = f"box format {probe.best}: {found} (mean IoU {probe.iou(probe.best):.2f})"
    if probe.best != probe.box_format:
        wrong = f"; but {probe.box_format} is set ({probe.found(probe.box_format)} of {replies})"
        hint = f'--set box_format={probe.best}, or "box_format": "{probe.best}" in a settings file (p2r.json)'
        return CheckResult(name, "failure", detail + wrong, hint, of_model=True)
    return CheckResult(name, "ok", detail, of_model=True)


def _no_format(probe: BoxProbe, settings: Settings) -> tuple[str, str]:
    """Why no box format fits, and what to do."""
    replies = len(probe.replies)
    cut = sum(reply.cut for reply in probe.replies)
    whole = sum(reply.outcome == "whole" for reply in probe.replies)
    malformed = sum(reply.outcome == "malformed" for reply in probe.replies)
    if 2 * cut >= replies:
        thinking = " while it was thinking" if any(reply.thinks for reply in probe.replies) else ""
        limit = f"max_tokens.perceive = {settings.max_tokens.perceive}"
        return f"{cut} of {replies} replies were cut at {limit}{thinking}", f"{_THINKING}; or raise the limit"
    detail = (
        f"no box format fits: in at most {probe.found(probe.best)} of {replies} probes the crop shows the "
        f"object ({malformed} replies without a box, {whole} that ask for the whole image)"
    )
    if 2 * malformed >= replies:
        return (
            detail,
            "it does not write boxes: use a model that grounds, or --prompts that it was trained with",
        )
    return detail, "it does not ground small objects, or not with these --prompts"


async def _budgets(spec: str, p2r: P2R, context: int | None) -> CheckResult:
    """Send what the largest images with the most crops become, and let the model write one token."""
    import numpy as np

    from p2r.models.base import Sampling
    from p2r.prompts import reason_messages
    from p2r.types import Box, Question

    name = f"{spec} budgets"
    settings = p2r.settings
    crops = settings.geometry.max_crops
    gray = np.full((_LARGE[1], _LARGE[0], 3), 128, np.uint8)
    question = Question(gray, "What is the color of the image?", ("gray", "blue"))
    boxes = [Box(0, 0, 1000, 1000 - index, "all of it") for index in range(crops)]
    try:
        image = await p2r.open_image(question)
        evidence = await p2r.cut_evidence(image, boxes)
        messages = reason_messages(settings.prompts, question, evidence)
        completion = await p2r.reasoner.complete(messages, Sampling(1))
    except P2RError as error:
        failure = _too_large(spec, p2r, context, error) or _failure(name, error)
        if context is None and isinstance(error, ModelError) and error.kind == "rejected":
            hint = "if its context window is too small, name it: --set budget.context_tokens=TOKENS"
            return replace(failure, hint=hint)
        return failure
    sent = [evidence.overview, *(crop.image for crop in evidence.crops)]
    images = sum(image.width * image.height for image in sent) // settings.budget.factor**2
    counted, reply = completion.prompt_tokens, _longest_reply(settings)
    if context is not None and counted + reply > context:
        detail = f"an 8K image with {crops} crops is {counted} tokens, a reply up to {reply}"
        return _context_failure(spec, settings, context, detail)
    if 0 < counted < images:
        detail = (
            f"an 8K image with {crops} crops is sent as {images} tokens of {settings.budget.factor}² pixels, "
            f"but the server counts {counted}: it shrinks images, or counts them in another way"
        )
        hint = (
            "raise the server's limit of pixels (vLLM: --mm-processor-kwargs), or lower budget.*_max_pixels"
        )
        return CheckResult(name, "warning", detail, hint, of_model=True)
    detail = (
        f"an 8K image with {crops} crops is {counted} tokens, {images} of them images; "
        f"up to {settings.max_tokens.reason} more for the answer"
    )
    return CheckResult(name, "ok", detail, of_model=True)


def _longest_reply(settings: Settings) -> int:
    from p2r.models.base import Sampling

    limits = settings.max_tokens
    return settings.options.widened(Sampling(max(limits.perceive, limits.reason))).max_tokens


def _too_large(spec: str, p2r: P2R, context: int | None, error: P2RError) -> CheckResult | None:
    """A failure if the context window explains why a request was refused."""
    from p2r.evidence import plan_sizes

    settings = p2r.settings
    if not isinstance(error, ModelError) or error.kind != "rejected" or context is None:
        return None
    crops = settings.geometry.max_crops
    images = plan_sizes(_LARGE, [(0, 0, *_LARGE)] * crops, settings.budget).tokens
    text = _PROMPT_TOKENS + _longest_reply(settings)
    if images + text <= context:
        return None
    detail = f"an 8K image with {crops} crops is {images} tokens, prompt and reply up to {text}"
    return _context_failure(spec, settings, context, detail)


def _context_failure(spec: str, settings: Settings, context: int, detail: str) -> CheckResult:
    """The one failure of budgets and limits that are more than a context window."""
    budget = settings.budget
    text = _PROMPT_TOKENS + _longest_reply(settings)
    least = (1 + settings.geometry.max_crops) * -(-budget.min_pixels // budget.factor**2)
    hint = "a server with a larger context window (vLLM: --max-model-len)"
    if text + least <= context:
        hint = f"--set budget.context_tokens={context} --set budget.text_tokens={text}; or {hint}"
    else:
        hint += ", or lower max_tokens.perceive and max_tokens.reason"
    detail += f": more than the context window of {context}"
    return CheckResult(f"{spec} budgets", "failure", detail, hint, of_model=True)


def _failure(name: str, error: P2RError) -> CheckResult:
    hint = _HINTS[error.kind] if isinstance(error, ModelError) else ""
    return CheckResult(name, "failure", str(error), hint, of_model=True)
