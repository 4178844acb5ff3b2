"""How a checkpoint is loaded in this process: device, precision, attention, quantization.

None of it is part of the settings: the same question makes the same prompts wherever a model runs.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

AUTO = "auto"  # a device: all of this machine, each with a part of the model
DTYPES = ("float32", "bfloat16", "float16")
QUANTIZATIONS = ("8bit", "4bit")
# They stay in the precision of computation: a small part of the weights, and the most sensitive one.
_NOT_QUANTIZED = ["model.visual", "lm_head"]
# Below this size, bfloat16 on a CPU gains little, and float32 gives the same answers on every machine.
_SMALL_BYTES = 1_000_000_000


def found_devices() -> list[str]:
    """The devices that torch can use here, the fastest first: `cuda:0`, `cuda:1`, …, `cpu`."""
    import torch

    kind = torch.accelerator.current_accelerator(check_available=True)
    count = torch.accelerator.device_count() if kind else 0
    return [*(f"{kind.type}:{index}" for index in range(count) if kind), "cpu"]


def choose_device(name: str | None, found: Sequence[str]) -> str:
    """The device to load on.

    Args:
        name: as a user writes it: `cuda`, `cuda:1`, `mps`, `cpu`, `auto`; None for the fastest.
        found: as `found_devices` gives them.

    Raises:
        InputError: it is not there.
    """
    kinds = [device.partition(":")[0] for device in found]
    if name is None:
        return kinds[0]  # without a number: the one that torch has set as the current one
    if name not in (AUTO, *kinds, *found):
        raise InputError(f"device {name!r} is not there: this machine has {', '.join(found)} ({AUTO}: all)")
    return name


def fast_bfloat16() -> bool:
    """Whether this processor computes in bfloat16: emulated products are 50 times slower than float32."""
    import torch

    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def choose_dtype(name: str | None, device: str, weight_bytes: int) -> torch.dtype:
    """The precision of weights and computation.

    Args:
        name: one of `DTYPES`; None for what the device is fast and exact enough with.
        device: `cuda:1`, `mps`, `cpu`, …
        weight_bytes: size of the files of the weights.
    """
    import torch
    from transformers.utils.import_utils import is_torch_bf16_available_on_device

    if name is not None:
        return getattr(torch, name)  # type: ignore[no-any-return]
    kind = device.partition(":")[0]
    if kind == "cpu":
        return torch.bfloat16 if fast_bfloat16() and weight_bytes > _SMALL_BYTES else torch.float32
    return torch.bfloat16 if is_torch_bf16_available_on_device(kind) else torch.float16


def quantization_config(name: str, dtype: torch.dtype) -> Any:
    """The configuration with which transformers quantizes a checkpoint as it reads it.

    Args:
        name: one of `QUANTIZATIONS`.
        dtype: in which products are computed.
    """
    from transformers import BitsAndBytesConfig

    # It warns of each kind of cast, and of faster kernels that it did not find.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    return BitsAndBytesConfig(
        load_in_8bit=name == "8bit",
        load_in_4bit=name == "4bit",
        llm_int8_skip_modules=_NOT_QUANTIZED,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
    )


def input_device(model: Any) -> torch.device:
    """Where the inputs of a model go; of one that is spread over devices, the first that computes."""
    import torch

    places = list((getattr(model, "hf_device_map", None) or {}).values())
    if len(set(places)) < 2:
        return model.device  # type: ignore[no-any-return]
    return torch.device(next((place for place in places if place not in ("cpu", "disk")), "cpu"))


def describe(model: Any) -> str:
    """Devices, precision, attention, quantization and memory of a loaded model, in words."""
    spread = getattr(model, "hf_device_map", None) or {"": model.device}
    stored = getattr(model.config, "quantization_config", None)
    attention = model.config._attn_implementation  # noqa: SLF001 - transformers has no public name for it
    return (
        f"{' and '.join(dict.fromkeys(map(str, spread.values())))}, {str(model.dtype).removeprefix('torch.')}"
        f"{f', quantized by {stored.quant_method.value}' if stored else ''}, attention {attention}, "
        f"{model.get_memory_footprint() / 1e9:.2f} GB of weights"
    )
