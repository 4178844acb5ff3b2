"""Memory of a long evaluation: resident size over 2,000 questions about 8K images, measured and plotted.

    python benchmarks/evaluation_memory.py --plot docs/images/evaluation-memory.png --json out/memory.json

The model is a scripted endpoint in another process, so that only our own memory is measured: reading and
decoding images, cutting evidence, requests, records. Images are 20 scenes at 8K, asked about in turn; a row
of the benchmark is one question, so nothing is shared between two of them. Flat means: the least-squares line
through the second half of the run rises by less than 10 MB per 1,000 questions. Exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.run import EvaluationPlan, evaluate
from p2r.scenes import write_scenes
from scripted_endpoint import scripted_endpoint

IMAGES = 20
ALLOWED_RISE_MB = 10.0
SAMPLE_EVERY_S = 0.5


class Sampler(threading.Thread):
    """Writes down the resident size and the number of answers, twice a second."""

    def __init__(self, predictions: Path) -> None:
        super().__init__(daemon=True)
        self._predictions = predictions
        self._end = threading.Event()
        self.samples: list[tuple[float, int, float]] = []

    def run(self) -> None:
        """The thread."""
        start, size, lines = time.monotonic(), 0, 0
        while not self._end.wait(SAMPLE_EVERY_S):
            if self._predictions.exists():
                with self._predictions.open("rb") as file:
                    file.seek(size)
                    fresh = file.read()
                size, lines = size + len(fresh), lines + fresh.count(b"\n")
            self.samples.append((time.monotonic() - start, lines, resident_mb()))

    def finish(self) -> None:
        """Stop, and wait for the last sample."""
        self._end.set()
        self.join()


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def write_questions(folder: Path, count: int, size: str) -> Path:
    """`count` questions about `IMAGES` images."""
    made = list(write_scenes(folder, split="test", size=size, count=IMAGES, seed=11))
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    path = folder / "questions.jsonl"
    with path.open("w") as file:
        for position in range(count):
            row = rows[position % len(made)]
            print(json.dumps({**row, "id": f"{position}"}), file=file)
    return path


def rise_mb(samples: list[tuple[float, int, float]]) -> float:
    """Megabytes per 1,000 questions in the second half."""
    half = [(lines, size) for _, lines, size in samples if lines >= samples[-1][1] / 2]
    lines, sizes = np.array(half).T
    return float(np.polyfit(lines, sizes, 1)[0] * 1000)


def plot(samples: list[tuple[float, int, float]], rise: float, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
    axes.plot(
        [lines for _, lines, _ in samples], [size for *_, size in samples], color="#2459d3", linewidth=1
    )
    axes.set(xlabel="questions answered", ylabel="resident memory, MB", ylim=(0, None), xlim=(0, None))
    axes.set_title(f"{rise:+.1f} MB per 1,000 questions in the second half", fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=2_000)
    parser.add_argument("--size", default="8k")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument(
        "--folder", type=Path, help="where to keep the images; a temporary folder if not given"
    )
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as temporary, scripted_endpoint() as spec:
        folder, out = arguments.folder or Path(temporary) / "scenes", Path(temporary) / "run"
        with console.status("drawing the images …"):
            questions = write_questions(folder, arguments.questions, arguments.size)
        plan = EvaluationPlan(
            open_benchmark("jsonl", str(questions)),
            out,
            spec,
            concurrency=arguments.concurrency,
            modes=("p2r",),
        )
        sampler = Sampler(out / "predictions-p2r.jsonl")
        sampler.start()
        summary = asyncio.run(evaluate(plan, console))
        sampler.finish()
    samples = [sample for sample in sampler.samples if sample[1]]
    rise = rise_mb(samples)
    result: dict[str, Any] = {
        "questions": summary.modes["p2r"].total.n,
        "failed": summary.modes["p2r"].total.failed,
        "size": arguments.size,
        "concurrency": arguments.concurrency,
        "first_mb": round(samples[0][2], 1),
        "median_mb": round(float(np.median([size for *_, size in samples])), 1),
        "peak_mb": round(max(size for *_, size in samples), 1),
        "rise_mb_per_1000": round(rise, 2),
        "seconds": round(samples[-1][0], 1),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "command": " ".join(["python", *sys.argv]),
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({**result, "samples": samples}) + "\n")
    if arguments.plot:
        plot(samples, rise, arguments.plot)
    return int(rise >= ALLOWED_RISE_MB or result["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
