"""Results of the paper as data (arXiv 2607.01191; accuracies in percent)."""

from __future__ import annotations

import re
from dataclasses import dataclass

BENCHMARKS = ("vstar", "hrbench-4k", "hrbench-8k", "mme-realworld-lite")


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One row of the paper's table."""

    model: str  # as the paper calls it
    size: str  # of the Qwen3-VL model that it is, or is trained from; empty for others
    trained: bool  # P2R after PRA-GRPO; otherwise one pass without P2R
    percent: tuple[float, float, float, float]  # accuracy on each of `BENCHMARKS`

    @property
    def accuracy(self) -> dict[str, float]:
        """Benchmark → percent."""
        return dict(zip(BENCHMARKS, self.percent, strict=True))


ROWS = (
    PaperRow("Qwen3-VL-2B-Instruct", "2B", False, (74.9, 70.4, 64.6, 47.3)),
    PaperRow("P2R-2B", "2B", True, (84.3, 75.1, 74.8, 51.3)),
    PaperRow("Qwen3-VL-4B-Instruct", "4B", False, (81.7, 73.8, 67.0, 47.7)),
    PaperRow("P2R-4B", "4B", True, (93.2, 81.9, 80.5, 54.8)),
    PaperRow("Qwen3-VL-8B-Instruct", "8B", False, (83.8, 74.8, 70.1, 50.4)),
    PaperRow("P2R-8B", "8B", True, (93.7, 81.5, 82.6, 57.4)),
    PaperRow("Qwen3-VL-32B-Instruct", "32B", False, (86.9, 78.6, 73.6, 52.3)),
    PaperRow("DeepEyes-7B", "", False, (90.1, 75.1, 72.6, 53.2)),
)

_SIZE = re.compile(r"(?:P2R|Qwen3-VL)-(\d+B)(?![0-9A-Za-z])", re.IGNORECASE)


def rows_beside(model: str) -> tuple[PaperRow, ...]:
    """The paper's rows of a model, before and after training, by a name such as `P2R-4B` in its spec."""
    found = _SIZE.search(model)
    return tuple(row for row in ROWS if found and row.size == found[1].upper())
