"""CPU seconds of one question in the process that asks, by stage: what bounds `p2r batch` and `p2r eval`.

    python benchmarks/stages.py --size 8k                # scenes; budgets of Qwen3-VL, and those of nano
    python benchmarks/stages.py --data folder/samples.jsonl --count 50

CPU time of the process with its threads, which other load changes little. Each image has two boxes of 4 % of
the side, whose crops the reasoner gets. `rest` is what a question of `p2r eval` takes beyond that, against an
endpoint that answers at once with one box: HTTP, the event loop, records. Means over the images; what imports
take is left out, and so is the model's own time.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from p2r.datasets.samples import read_samples
from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.run import EvaluationPlan, evaluate
from p2r.evidence import build_evidence, plain_overview
from p2r.images import ImageSource
from p2r.models.base import Sampling
from p2r.models.loading import settings_for
from p2r.models.options import ModelOptions
from p2r.models.wire import request_body
from p2r.prompts import perceive_messages, reason_messages
from p2r.scenes import write_scenes
from p2r.settings import Settings
from p2r.types import Box
from scripted_endpoint import scripted_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2r.types import Sample

BOXES = (Box(450, 450, 490, 490, "middle"), Box(200, 700, 240, 740, "below"))
STAGES = ("decode, overview", "crops", "JPEG and PNG", "base64, JSON", "rest")


def stages(samples: Sequence[Sample], settings: Settings) -> dict[str, float]:
    """Mean CPU seconds of each stage but the last."""
    spent = dict.fromkeys(STAGES[:-1], 0.0)

    def timed(stage: str, function: Callable[[], Any]) -> Any:
        start = time.process_time()
        found = function()
        spent[stage] += (time.process_time() - start) / len(samples)
        return found

    for sample in samples:
        source = timed("decode, overview", partial(ImageSource.open, sample.question.image))
        overview = timed("decode, overview", partial(plain_overview, source, settings))
        evidence = timed("crops", partial(build_evidence, source, BOXES, settings, overview))
        for image in (overview, evidence.overview, *(crop.image for crop in evidence.crops)):
            timed("JPEG and PNG", image.encode)
        for messages in (
            perceive_messages(settings.prompts, sample.question, overview, settings.box_format),
            reason_messages(settings.prompts, sample.question, evidence),
        ):
            body = timed("base64, JSON", partial(request_body, "m", messages, Sampling(512), ModelOptions()))
            timed("base64, JSON", partial(json.dumps, body))
    return spent


def whole(data: Path, settings: Settings, questions: int) -> float:
    """CPU seconds of a question of `p2r eval` against an endpoint that answers at once."""
    with tempfile.TemporaryDirectory() as out, scripted_endpoint() as spec:
        benchmark = open_benchmark("jsonl", str(data))
        plan = EvaluationPlan(benchmark, Path(out) / "run", spec, settings=settings, limit=questions)
        start = time.process_time()
        asyncio.run(evaluate(plan, Console(file=io.StringIO())))
        return (time.process_time() - start) / questions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="8k")
    parser.add_argument("--count", type=int, default=24, help="images")
    parser.add_argument("--data", type=Path, help="a samples.jsonl, instead of new scenes")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        if arguments.data is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            list(write_scenes(folder, split="test", size=arguments.size, count=arguments.count, seed=5))
            arguments.data = folder / "samples.jsonl"
        samples = read_samples(arguments.data)[: arguments.count]
        table = Table(title=f"CPU milliseconds of a question, {len(samples)} images of {arguments.size}")
        for heading in ("budgets", *STAGES, "all"):
            table.add_column(heading, justify="right")
        record: dict[str, Any] = {
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
            "command": " ".join(["python", *sys.argv]),
        }
        whole(arguments.data, Settings(), min(4, len(samples)))  # imports
        for name, settings in (("Qwen3-VL", Settings()), ("nano", settings_for("nano-base") or Settings())):
            spent = stages(samples, settings)
            spent["all"] = whole(arguments.data, settings, len(samples))
            spent = {**spent, "rest": spent["all"] - sum(spent[stage] for stage in STAGES[:-1])}
            table.add_row(name, *(f"{1000 * spent[stage]:.0f}" for stage in (*STAGES, "all")))
            record[name] = {stage: round(spent[stage], 4) for stage in (*STAGES, "all")}
    Console(stderr=True).print(table)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
