"""Checks of the installation for `p2r doctor`: Python, packages, extras, devices, vLLM.

Those of a model are in `model_checks`, because they need the packages that are checked here.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from p2r.errors import InputError, MissingExtraError, install_command
from p2r.text import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["ok", "warning", "failure"]

# What each extra is for.
EXTRAS = {
    "local": "models on this machine",
    "eval": "benchmarks and p2r data",
    "train": "p2r train",
    "serve": "p2r serve",
    "heic": "HEIC images",
    "documents": "PDF documents",
    "ray": "p2r batch --ray",
    "quantized": "8-bit and 4-bit models",
}
_NATIVE = ("numpy", "PIL", "pyvips", "pydantic_core")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check."""

    name: str  # what was checked
    state: State  # a warning is about something that not everyone needs
    detail: str  # what was found
    hint: str = ""  # what to do about it
    of_model: bool = False  # it is about a given model, not about the installation

    def __post_init__(self) -> None:
        for part in ("name", "detail", "hint"):
            object.__setattr__(self, part, without_secrets(getattr(self, part)))


def check_installation() -> Iterator[CheckResult]:
    """Python, the packages of the core and of each extra, the devices, and vLLM."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield CheckResult("python", "ok", f"{version} in {sys.prefix}")
    yield _core()
    for extra, purpose in EXTRAS.items():
        packages = _packages(extra)
        if missing := _missing(extra):
            detail = f"{purpose}: {', '.join(missing)} not installed"
            yield CheckResult(f"extra {extra}", "warning", detail, install_command(extra))
        else:
            versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
            yield CheckResult(f"extra {extra}", "ok", ", ".join(versions))
    yield _bundled()
    yield from _devices()
    yield check_vllm()


def require_extra(extra: str) -> None:
    """Raise unless all packages of an extra are installed.

    Raises:
        MissingExtraError: names the first missing package, and the command that installs all.
    """
    if missing := _missing(extra):
        raise MissingExtraError(extra, missing[0])


def check_vllm() -> CheckResult:
    """Whether a vLLM can be started."""
    from p2r.models.vllm import VLLMServer

    try:
        program = VLLMServer("any").command(port=0)[0]
    except InputError as error:
        what, _, hint = str(error).partition(": ")
        return CheckResult("vllm", "warning", f"{what}: no model named vllm:… can be started", hint)
    return CheckResult("vllm", "ok", program)


def _core() -> CheckResult:
    versions = []
    for name in _NATIVE:  # the ones with compiled parts, which can be installed and still not load
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:
            hint = "pip install --force-reinstall perceive-to-reason"
            return CheckResult("core", "failure", f"{name}: {error}", hint)
        versions.append(f"{name} {module.__version__}")
    return CheckResult("core", "ok", ", ".join(versions))


def _packages(extra: str) -> list[str]:
    """The packages that the metadata of this installation names for an extra."""
    lines = importlib.metadata.requires("perceive-to-reason") or []
    names = [re.match(r"[\w.-]+", line) for line in lines if f"extra == '{extra}'" in line.replace('"', "'")]
    return [name[0] for name in names if name and name[0] != "perceive-to-reason"]


def _missing(extra: str) -> list[str]:
    missing = []
    for package in _packages(extra):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    return missing


def _bundled() -> CheckResult:
    from p2r.nano import NAMES, bundled

    names = ", ".join(bundled())
    if not names:
        detail = f"no weights of {' or '.join(NAMES)}: p2r demo and the default model need them"
        hint = "name another model (--model), or install the package again"
        return CheckResult("bundled", "warning", detail, hint)
    if missing := _missing("local"):
        detail = f"{names}: cannot run here, {EXTRAS['local']} need {', '.join(missing)}"
        return CheckResult("bundled", "warning", detail, install_command("local"))
    return CheckResult("bundled", "ok", names)


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
            detail = f"{device.name}, {device.total_memory / 1e9:.1f} GB of memory"
            yield CheckResult(f"gpu {index}", "ok", detail)
    elif torch.backends.mps.is_available():
        yield CheckResult("gpu", "ok", "Apple Metal")
    else:
        detail = "none that PyTorch can use: the bundled model needs none, larger ones are slow without"
        hint = "use a vLLM server elsewhere: --model http://HOST:8000/v1#NAME"
        yield CheckResult("gpu", "warning", detail, hint)
