"""Loads a vision-language checkpoint of the Qwen-VL family with transformers, ready for inference.

Differs from a plain `from_pretrained`: a hub id is resolved to its folder once, so that being offline is one
short error instead of minutes of retries; weights that are missing are an error, never random numbers; and
the patch embedding runs as the linear layer that it is.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, MissingExtraError
from p2r.models.source import TRUST, check_contents, locate, own_code, trusts_code

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

# Below this size, bfloat16 on a CPU gains little, and float32 gives the same answers on every machine.
_SMALL_PARAMETERS = 500_000_000


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `load_checkpoint` returns.

    Attributes:
        model: the transformers model on its device, in evaluation mode.
        processor: tokenizer, image processor and chat template.
        device: where the model is.
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
    revision: str | None = None,
) -> Checkpoint:
    """Load a checkpoint.

    Args:
        source: a folder with a config.json, or a Hugging Face hub id.
        device: a torch device; by default CUDA where there is one, else the CPU.
        dtype: a torch dtype's name. By default bfloat16 on CUDA; on a CPU float32, and bfloat16 for a large
            model on a processor that multiplies it fast (AMX or AVX512-BF16).
        revision: a branch, tag or commit of a hub id.

    Raises:
        MissingExtraError: torch, torchvision or transformers is not installed.
        InputError: the folder, the hub id, the device or the dtype cannot be used; the text names it.
    """
    folder = find_folder(source, revision)
    _require_packages()
    place = _device(device)
    with _quiet():
        model, processor = _load(folder, _dtype(dtype, place))
    if dtype is None and place.type == "cpu" and model.num_parameters() < _SMALL_PARAMETERS:
        model = model.float()
    linearize_patch_embedding(model)
    return Checkpoint(model.to(place).eval(), processor, place, folder)


def find_folder(source: str | Path, revision: str | None = None) -> Path:
    """The folder that holds a checkpoint; a hub id is downloaded unless it is in the cache.

    Raises:
        InputError: there is no such folder or hub id, or it holds no checkpoint.
    """
    path = Path(source).expanduser()
    if path.exists():
        return Path(locate(str(path)))
    name = str(source)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"model folder {name} does not exist")
    return _download(name, revision)


def _download(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise MissingExtraError("local", "huggingface_hub") from error
    wanted = ["*.json", "*.jinja", "*.safetensors", "*.txt"]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except GatedRepoError as error:
        raise InputError(
            f"model {name} is gated: accept its terms on its page, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"model {name}: the hub knows no such model (or it is private: `hf auth login`)"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"model {name} has no revision {revision!r}") from error
    except HFValidationError as error:
        raise InputError(
            f"model {name!r} is neither a folder nor a hub id like Qwen/Qwen3-VL-2B-Instruct"
        ) from error
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"model {name} is neither a folder nor in the local cache, and the hub cannot be reached: "
            f"check the name, or run `hf download {name}` where there is a network"
        ) from error
    except OSError as error:
        raise InputError(f"model {name} could not be downloaded: {_one_line(error)}") from error
    check_contents(folder)
    return folder


def _require_packages() -> None:
    for package in ("torch", "torchvision", "transformers"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtraError("local", package) from error


def _device(name: str | None) -> torch.device:
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {name!r} cannot be used: {_one_line(error)}") from error
    return device


def _dtype(name: str | None, device: torch.device) -> torch.dtype:
    import torch

    if name is not None:
        dtype = getattr(torch, name, None)
        if not isinstance(dtype, torch.dtype):
            raise InputError(f"unknown dtype {name!r}: float32, bfloat16 or float16")
        return dtype
    return torch.bfloat16 if device.type == "cuda" or _has_fast_bfloat16() else torch.float32


def _has_fast_bfloat16() -> bool:
    import torch

    # Without these instructions bfloat16 products are emulated: 50 times slower than float32 on AVX2.
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def _load(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    processor = read_part("AutoProcessor", folder)
    if not hasattr(processor, "image_processor"):
        raise InputError(f"model {folder} does not see images: it has no image processor")
    if not processor.chat_template:
        raise InputError(f"model {folder} has no chat template")
    return read_weights(folder, dtype), processor


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
                f"model {folder} can only be read by code of its own ({own_code(folder) or 'not named'}), "
                f"which is not run: use a checkpoint that transformers knows, or set {TRUST}=1 if you have "
                "read the code and trust it"
            ) from error
        raise InputError(f"model {folder} cannot be loaded: {_one_line(error)}") from error


def read_weights(folder: Path, dtype: torch.dtype) -> Any:
    """The model of a checkpoint folder, on the CPU.

    Raises:
        InputError: it cannot be read, or lacks weights.
    """
    model, report = read_part(
        "AutoModelForImageTextToText", folder, dtype=dtype, use_safetensors=True, output_loading_info=True
    )
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"model {folder} lacks {len(missing)} weights, for example {missing[0]}")
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back the loading bar, and advice meant for the authors of a checkpoint."""
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
    """Replace the vision tower's patch convolution by the linear layer that equals it.

    Each patch is a tensor of exactly the kernel's size, so the convolution is one product a patch, which
    convolution kernels are slow at (benchmarks in docs/models.md).
    """
    import torch

    for module in model.modules():
        convolution = getattr(module, "proj", None)
        if isinstance(convolution, torch.nn.Conv3d) and convolution.stride == convolution.kernel_size:
            module.proj = _as_linear(convolution)


def _as_linear(convolution: torch.nn.Conv3d) -> torch.nn.Module:
    import torch

    weight = convolution.weight.detach().flatten(1)
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=convolution.bias is not None)
    linear.weight = torch.nn.Parameter(weight, requires_grad=False)
    if convolution.bias is not None:
        linear.bias = torch.nn.Parameter(convolution.bias.detach(), requires_grad=False)
    linear.register_forward_pre_hook(lambda _module, inputs: (inputs[0].flatten(1),))
    return linear


def _one_line(error: BaseException) -> str:
    return " ".join(f"{error}".split())[:300] or type(error).__name__
