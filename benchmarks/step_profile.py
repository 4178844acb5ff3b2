"""The parts of a training step: seconds, peak memory, and the images that vision towers encode.

Parts may be nested; each counts what none of the parts within it does. A GPU is waited for where a part
begins and ends, so that its work counts where it was started.
"""

from __future__ import annotations

import contextlib
import functools
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REST = "reading rows and the rest"


@dataclass
class Part:
    """What a part of a step took."""

    calls: int = 0
    seconds: float = 0.0
    peak: float = 0.0  # GiB: of the GPU, or of this process on a CPU
    encoded: int = 0  # images that entered a vision tower
    images: set[tuple[Any, ...]] = field(default_factory=set)  # the distinct ones among them

    def figures(self) -> dict[str, Any]:
        """The part as JSON."""
        return {
            "calls": self.calls,
            "seconds": round(self.seconds, 3),
            "peak_gib": round(self.peak, 2),
            "images_encoded": self.encoded,
            "distinct_images": len(self.images),
        }


class StepProfile:
    """The parts of the current step, by name.

    Args:
        on_part: called with the name and the part when it ends for the first time in a step.
    """

    def __init__(self, on_part: Callable[[str, Part], None]) -> None:
        self._on_part = on_part
        self._running = [REST]
        self.parts: dict[str, Part] = {}
        self.start()

    def start(self) -> None:
        """Begin a step."""
        self.parts = {REST: Part(calls=1)}
        reset_peak()
        self._last = time.perf_counter()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What runs within it belongs to this part."""
        self.begin(name)
        try:
            yield
        finally:
            self.end()

    def begin(self, name: str) -> None:
        """Begin a part within the current one."""
        self.note()
        self._running.append(name)
        self.parts.setdefault(name, Part()).calls += 1

    def end(self) -> None:
        """End the current part."""
        self.note()
        name = self._running.pop()
        if self.parts[name].calls == 1:
            self._on_part(name, self.parts[name])

    def note(self) -> None:
        """Add what has passed to the current part."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now, part = time.perf_counter(), self.parts[self._running[-1]]
        part.seconds += now - self._last
        part.peak = max(part.peak, peak_gib())
        reset_peak()
        self._last = now

    def measure(self, owner: Any, method: str, name: str | Callable[..., str]) -> None:
        """Make a method of an object a part; `name` may choose one by the arguments of a call."""
        function = getattr(owner, method)

        @functools.wraps(function)
        def measured(*arguments: Any, **named: Any) -> Any:
            part = name if isinstance(name, str) else name(*arguments, **named)
            if part == self._running[-1]:
                return function(*arguments, **named)
            with self.part(part):
                return function(*arguments, **named)

        setattr(owner, method, measured)

    def count_images(self, tower: type[Any]) -> None:
        """Count the images that enter vision towers of a class; call it before any is built."""
        encode = tower.forward

        @functools.wraps(encode)
        def counted(module: Any, hidden_states: torch.Tensor, grid_thw: torch.Tensor, **named: Any) -> Any:
            part = self.parts[self._running[-1]]
            part.encoded += len(grid_thw)
            part.images.update(image_keys(hidden_states, grid_thw))
            return encode(module, hidden_states, grid_thw, **named)

        tower.forward = counted


def measure_parts(trainer: Any, profile: StepProfile) -> None:
    """Make parts of the methods of TRL's trainer."""

    def of_log_probs(model: Any, *_: Any, **__: Any) -> str:
        if torch.is_grad_enabled():
            return "forward pass"
        # The reference of adapters is their base, in the same model.
        off = (one.disable_adapters for one in model.modules() if hasattr(one, "disable_adapters"))
        return f"log-probabilities, {'reference' if model is trainer.ref_model or any(off) else 'policy'}"

    for method, name in (
        ("_generate_and_score_completions", "images, tokens, rest of rollouts"),
        ("_generate_single_turn", "generation"),
        ("_get_per_token_logps_and_entropies", of_log_probs),
        ("_calculate_rewards", "rewards (frozen role)"),
        ("compute_loss", "forward pass"),
    ):
        profile.measure(trainer, method, name)
    profile.measure(trainer.accelerator, "backward", "backward pass")
    if trainer.use_vllm:
        profile.measure(trainer.vllm_generation, "sync_weights", "weights to vLLM")


def image_keys(patches: torch.Tensor, grids: torch.Tensor) -> list[tuple[Any, ...]]:
    """A key of each image: its grid and two sums, equal in float32 and in bfloat16."""
    with torch.no_grad():
        rows = patches.to(torch.bfloat16).float().sum(-1).double()
        places = torch.arange(len(rows), device=rows.device, dtype=rows.dtype)
        sums, first = [], 0
        for count in grids.prod(-1).tolist():
            image = rows[first : first + count]
            sums += [image.sum(), image @ places[:count]]
            first += count
        values = torch.stack(sums).tolist()
    return [(*grid, *values[2 * at : 2 * at + 2]) for at, grid in enumerate(grids.tolist())]


def table(parts: dict[str, Part], seconds: float) -> list[str]:
    """The parts of a step, a line each, in the order in which they began."""
    lines = [f"  {'part':34}{'calls':>6}{'seconds':>9}{'share':>7}{'GiB':>7}  images encoded (distinct)"]
    for name, part in [*[one for one in parts.items() if one[0] != REST], (REST, parts[REST])]:
        images = f"  {part.encoded} ({len(part.images)})" if part.encoded else ""
        share = 100 * part.seconds / seconds
        lines.append(f"  {name:34}{part.calls:6}{part.seconds:9.2f}{share:5.0f} %{part.peak:7.2f}{images}")
    return lines


# Memory.


def reset_peak() -> None:
    """Forget the peak so far; where that is impossible, peaks are those since the start."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_gib() -> float:
    """The most memory since `reset_peak`, in GiB: allocated on the GPU, or resident on a CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
