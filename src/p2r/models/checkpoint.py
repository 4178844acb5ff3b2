"""Checkpoints of the Qwen-VL family: where they are, whether they are safe to read, and loading them.

Differs from a plain `from_pretrained`: a hub id is resolved to its folder once, so that being offline is one
short error instead of minutes of retries; pickles and code of the checkpoint are not run; missing weights are
an error, never random numbers; and the patch embedding runs as a matrix product.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, MissingExtraError
from p2r.models import placement
from p2r.models.base import one_line
from p2r.nano import NAMES, bundled
from p2r.settings import SETTINGS_FILE, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

TRUST = "P2R_TRUST_REMOTE_CODE"  # in the environment: 1 runs the code that checkpoints bring
_LOG = logging.getLogger("p2r.models")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_LARGEST_CONFIG = 1 << 20  # bytes: larger JSON files are vocabularies and indices
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_WEIGHT_NAMES = ("pytorch_model", "adapter_model", "model", "consolidated", "diffusion")


# Where a checkpoint is.


def locate(name: str, spec: str = "") -> Path | str:
    """The folder of a checkpoint, or its hub id; nothing is downloaded.

    Args:
        name: a bundled model, a folder or a hub id.
        spec: how errors name it, if that is more than the name.

    Raises:
        InputError: it is none of them.
    """
    spec = spec or name
    if name in NAMES:
        if name not in bundled():
            raise InputError(
                f"model {spec}: this installation does not hold the weights of {name}; name another model "
                "(--model), or install the package again"
            )
        return bundled()[name]
    path = Path(name).expanduser()
    if name and path.exists():
        if not (path / "config.json").is_file():
            what = "no checkpoint folder (it has no config.json)"
            if (path / "adapter_config.json").is_file():
                what = "the folder of an adapter: merge it into its model first"
            raise InputError(f"model {spec}: {path} is {what}")
        _check_contents(path)
        return path
    if _HUB_ID.fullmatch(name):
        return name
    raise InputError(
        f"unknown model {spec!r}: {', '.join(NAMES)}, a checkpoint folder, a hub id such as "
        "Qwen/Qwen3-VL-2B-Instruct, vllm:<folder or hub id>, or http://host:port/v1#name"
    )


def find_folder(source: str | Path) -> Path:
    """The folder that holds a checkpoint; a hub id is downloaded unless it is in the cache.

    Raises:
        InputError: there is no such folder or hub id, or it holds no checkpoint.
    """
    name = locate(str(source))
    if isinstance(name, Path):
        return name
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise MissingExtraError("local", "huggingface_hub") from error
    problems: dict[type[Exception], str] = {  # the most special first
        errors.GatedRepoError: "is gated: accept its terms on its page, then `hf auth login`",
        errors.RepositoryNotFoundError: "is not on the hub (or it is private: `hf auth login`)",
        errors.HFValidationError: "is neither a folder nor a hub id like Qwen/Qwen3-VL-2B-Instruct",
        errors.LocalEntryNotFoundError: (
            "is neither a folder nor in the local cache, and the hub cannot be reached: check the name, or "
            f"run `hf download {name}` where there is a network"
        ),
    }
    wanted = ["*.json", "*.jinja", "*.safetensors", "*.txt"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted))
    except (OSError, ValueError) as error:
        found = (problem for kind, problem in problems.items() if isinstance(error, kind))
        problem = next(found, f"could not be downloaded: {one_line(error)}")
        raise InputError(f"model {name} {problem}") from error
    _check_contents(folder)
    return folder


def settings_beside(source: str | Path) -> Settings | None:
    """The settings in a checkpoint's `p2r.json`; None when it has none.

    Args:
        source: a folder, or a hub id; of the latter the file is downloaded, or taken from the cache.

    Raises:
        InputError: the file is there and cannot be read.
    """
    folder = source
    if isinstance(folder, str):
        try:
            from huggingface_hub import snapshot_download

            # Not `hf_hub_download`: without a network that tries for half a minute, and says so each time.
            folder = Path(snapshot_download(folder, allow_patterns=[SETTINGS_FILE]))
        except (ImportError, OSError, ValueError):
            # No such file, which is fine; or no such model or no network, which loading it reports better.
            return None
    file = folder / SETTINGS_FILE
    return Settings.load(file) if file.is_file() else None


# Whether it is safe to read.


def trusts_code() -> bool:
    """Whether code in checkpoints may run (`P2R_TRUST_REMOTE_CODE=1`)."""
    return os.environ.get(TRUST, "").lower() in ("1", "true", "yes", "on")


def _check_contents(folder: Path) -> None:
    """Refuse weights in pickles, which can run code, and log once that code of the checkpoint is not run."""
    files = {path.name for path in folder.iterdir()}
    adapter = {name for name in files if name.startswith("adapter_")}
    for weights in (adapter, files - adapter):
        pickled = sorted(
            name for name in weights if name.endswith(_PICKLES) and name.startswith(_WEIGHT_NAMES)
        )
        if pickled and not any(name.endswith(".safetensors") for name in weights):
            raise InputError(
                f"model {folder} holds its weights as a pickle ({pickled[0]}), which can run code when it is "
                "read: use safetensors (load it where you trust it, and save_pretrained writes them)"
            )
    if code := _own_code(folder):
        _log_own_code(folder, code)


def _own_code(folder: Path) -> str:
    """What of a checkpoint is code that its configuration names (`auto_map`); empty when nothing is."""
    for file in sorted(folder.glob("*.json")):
        if file.stat().st_size > _LARGEST_CONFIG:
            continue
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(data, dict) and (named := data.get("auto_map")):
            return f"{file.name} names {next(iter(named.values())) if isinstance(named, dict) else named}"
    return ""


@functools.cache
def _log_own_code(folder: Path, code: str) -> None:
    run = f"run because {TRUST} is set" if trusts_code() else "not run"
    _LOG.warning("model %s brings code of its own, which is %s (%s)", folder, run, code)


# Loading it.


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        model: the transformers model on its device, in evaluation mode.
        processor: tokenizer, image processor and chat template.
        device: where its inputs go.
        folder: where its files are.
    """

    model: Any
    processor: Any
    device: torch.device
    folder: Path


def load_checkpoint(
    source: str | Path,
    *,
    device: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    quantize: str | None = None,
) -> Checkpoint:
    """Load a checkpoint for inference.

    Args:
        source: a checkpoint folder, or a Hugging Face hub id.
        device: `cuda`, `cuda:1`, `mps`, `cpu`, …; `auto` spreads it over all devices; by default the fastest.
        dtype: `float32`, `bfloat16` or `float16`; by default bfloat16 where the device has it. On a CPU
            float32, and bfloat16 for weights above 1 GB on a processor with AMX or AVX512-BF16.
        attention: `sdpa`, `eager`, `flash_attention_2`, …; by default the choice of transformers.
        quantize: `8bit` or `4bit`: of the language model, by bitsandbytes.

    Raises:
        MissingExtraError: a package that this needs is not installed.
        InputError: the folder, the hub id, or one of the other arguments cannot be used; the text names it.
    """
    # All this before the checkpoint is looked for, which may have to be downloaded.
    for package in ("torch", "torchvision", "transformers", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("local", package)
    kinds = ("dtype", dtype, placement.DTYPES), ("quantization", quantize, placement.QUANTIZATIONS)
    for kind, value, known in kinds:
        if value not in (None, *known):
            raise InputError(f"unknown {kind} {value!r}: {', '.join(known)}")
    if quantize and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("quantized", "bitsandbytes")
    found = placement.found_devices()
    place = placement.choose_device(device, found)
    folder = find_folder(source)
    weight_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    first = found[0] if place == placement.AUTO else place
    precision = placement.choose_dtype(dtype, first, weight_bytes)
    with _quiet():
        processor = read_part("AutoProcessor", folder)
        if not hasattr(processor, "image_processor"):
            raise InputError(f"model {folder} does not see images: it has no image processor")
        if not processor.chat_template:
            raise InputError(f"model {folder} has no chat template")
        # Straight to its devices: beside the weights of a large model there may be no room for a copy.
        how: dict[str, Any] = {"device_map": place if place == placement.AUTO else {"": place}}
        if quantize is not None:
            if getattr(read_part("AutoConfig", folder), "quantization_config", None):
                raise InputError(f"model {folder} is quantized already: leave quantize={quantize} out")
            how["quantization_config"] = placement.quantization_config(quantize, precision)
        model = read_weights(folder, precision, attn_implementation=attention, **how)
    linearize_patch_embedding(model)
    return Checkpoint(model.eval(), processor, placement.input_device(model), folder)


def read_part(kind: str, folder: Path, **options: Any) -> Any:
    """What transformers reads from a checkpoint folder, without network, pickles and code of the checkpoint.

    Args:
        kind: `AutoConfig`, `AutoProcessor` or `AutoModelForImageTextToText`.
        folder: the checkpoint.
        options: of its `from_pretrained`.

    Raises:
        InputError: it cannot be read, or only with code of its own.
    """
    import transformers
    from safetensors import SafetensorError

    try:
        return getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, trust_remote_code=trusts_code(), **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        if not trusts_code() and "trust_remote_code" in str(error):
            raise InputError(
                f"model {folder} can only be read by code of its own ({_own_code(folder) or 'not named'}), "
                f"which is not run: use a checkpoint that transformers knows, or set {TRUST}=1 if you have "
                "read the code and trust it"
            ) from error
        raise InputError(f"model {folder} cannot be loaded: {one_line(error)}") from error


def read_weights(folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """The model of a checkpoint folder, on the CPU unless the options of `from_pretrained` say otherwise.

    Raises:
        InputError: it cannot be read, or lacks weights.
    """
    options |= {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    model, report = read_part("AutoModelForImageTextToText", folder, **options)
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"model {folder} lacks {len(missing)} weights, for example {missing[0]}")
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the loading bar, and advice meant for the authors of a checkpoint."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def linearize_patch_embedding(model: Any) -> None:
    """Compute the vision tower's patch convolution as the matrix product that it is.

    Each patch has exactly the kernel's size, and convolution kernels are slow at that (docs/models.md). The
    weights keep their names and shapes, so that the model can be trained and saved.
    """
    import torch

    for module in model.modules():
        convolution = getattr(module, "proj", None)
        if isinstance(convolution, torch.nn.Conv3d) and convolution.stride == convolution.kernel_size:
            # A bound method, so that a deep copy computes with its own weights. Where accelerate brings the
            # weights from another place for each call, `forward` does that, and calls the other.
            name = "_old_forward" if hasattr(convolution, "_old_forward") else "forward"
            setattr(convolution, name, MethodType(_product, convolution))


def _product(convolution: torch.nn.Conv3d, patches: torch.Tensor) -> torch.Tensor:
    """Patches of shape (n, channels, frames, height, width) → (n, hidden)."""
    from torch.nn import functional

    return functional.linear(patches.flatten(1), convolution.weight.flatten(1), convolution.bias)
