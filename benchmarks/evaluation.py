"""Throughput of an evaluation: ours against one that works like the paper's release, on the same endpoint.

    python benchmarks/evaluation.py                              # a managed vLLM with nano-base, 4K scenes
    python benchmarks/evaluation.py --model http://127.0.0.1:8000/v1#nano --questions 300
    python benchmarks/evaluation.py --model scripted --delay 0.5 # no model: the cost of the images alone

The baseline: batches of 256; all perceiver prompts of a batch are made, then sent, then all reasoner prompts
are made, then sent: a barrier between the stages. Images by Pillow on the full raster, one after the other,
as a loop over a batch does. Prompts, geometry, budgets and the client are the same for both, and so are the
requests in flight that the endpoint may see. Each runs in a fresh process, in turn, `--repeat` times; figures
are medians. Images are written in advance and not timed. Exit code 1 when the target of 1.5 times is missed.

The table shows the share of the time in which the endpoint was idle, the mean number of requests in flight,
the seconds of each stage, and the CPU seconds of a question: in the process that asks, and in the server (a
managed vLLM, or the one with the pid `--engine`). These change little under other load; both together, over
the number of cores, are the least time a question can take on a machine that does both.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from metered import Metered
from p2r.datasets.samples import read_samples
from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.run import EvaluationPlan, evaluate
from p2r.models.base import Sampling
from p2r.models.loading import open_model, settings_for
from p2r.models.vllm import VLLMServer
from p2r.nano import bundled
from p2r.parsing.answers import read_answer
from p2r.parsing.perception import parse_perception
from p2r.prompts import perceive_messages, reason_messages
from p2r.scenes import write_scenes
from p2r.settings import Settings
from pillow_images import pillow_evidence, pillow_overview
from scripted_endpoint import scripted_endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Message

BATCH = 256
TARGET = 1.5


# --- what both share ---------------------------------------------------------------------------------------


def open_metered(arguments: argparse.Namespace) -> Metered:
    return Metered(open_model(arguments.model, max_concurrency=arguments.concurrency))


# --- ours --------------------------------------------------------------------------------------------------


async def ours(arguments: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """`p2r eval` as it is."""
    model = open_metered(arguments)
    with tempfile.TemporaryDirectory() as out:
        plan = EvaluationPlan(
            open_benchmark("jsonl", str(arguments.data)),
            Path(out) / "run",
            model,
            settings=settings,
            concurrency=arguments.concurrency,
        )
        start, cpu = time.perf_counter(), time.process_time()
        summary = await evaluate(plan, Console(file=io.StringIO()))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        lines = (Path(out) / "run" / "predictions-p2r.jsonl").read_text().splitlines()
    await model.aclose()
    stages: dict[str, float] = {}
    for line in lines:
        for stage, took in json.loads(line)["seconds"].items():
            stages[stage] = stages.get(stage, 0.0) + took
    figures = summary.modes["p2r"].total
    # Summed over questions that overlap, so a stage may hold more seconds than the run.
    return {
        "seconds": seconds,
        "correct": figures.correct,
        "failed": figures.failed,
        "cpu": cpu,
        "stages": {stage: stages[stage] for stage in ("image", "perceive", "evidence", "reason")},
        **model.measured(),
    }


# --- the baseline ------------------------------------------------------------------------------------------


async def baseline(arguments: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Batches with a barrier between the stages, images in a loop."""
    model = open_metered(arguments)
    samples = read_samples(arguments.data)
    stages = dict.fromkeys(("image", "perceive", "evidence", "reason"), 0.0)
    correct = 0
    clock = time.perf_counter()
    start, cpu = clock, time.process_time()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        stages[stage] += now - clock
        clock = now

    for first in range(0, len(samples), BATCH):
        batch = samples[first : first + BATCH]
        prompts = [
            perceive_messages(settings.prompts, sample.question, pillow_overview(sample, settings))
            for sample in batch
        ]
        lap("image")
        replies = await together(model, prompts, settings.max_tokens.perceive)
        lap("perceive")
        prompts = [
            reason_messages(
                settings.prompts,
                sample.question,
                pillow_evidence(sample, parse_perception(reply).boxes, settings),
            )
            for sample, reply in zip(batch, replies, strict=True)
        ]
        lap("evidence")
        replies = await together(model, prompts, settings.max_tokens.reason)
        lap("reason")
        for sample, reply in zip(batch, replies, strict=True):
            correct += read_answer(reply, sample.question).value == sample.answer
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    await model.aclose()
    found = {"seconds": seconds, "cpu": cpu, "correct": correct, "failed": 0, "stages": stages}
    return {**found, **model.measured()}


async def together(model: Metered, prompts: Sequence[Sequence[Message]], max_tokens: int) -> list[str]:
    """One batch: send all requests, and wait for all replies."""
    sampling = Sampling(max_tokens)
    return [done.text for done in await asyncio.gather(*(model.complete(one, sampling) for one in prompts))]


# --- the comparison ----------------------------------------------------------------------------------------

CONTESTANTS = {"ours": ours, "baseline": baseline}


@dataclass(frozen=True)
class Result:
    """The median run of one of the two."""

    name: str
    figures: dict[str, Any]
    rates: list[float]

    @property
    def rate(self) -> float:
        """Questions per second."""
        return statistics.median(self.rates)


def compare(arguments: argparse.Namespace) -> list[Result]:
    """Run both in turn, each in a process of its own."""
    engine = arguments.engine
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for _ in range(arguments.repeat):
        for name in CONTESTANTS:
            command = [
                *(sys.executable, __file__, "--contestant", name, "--model", arguments.model),
                *("--data", str(arguments.data), "--settings-of", arguments.settings_of),
                *("--concurrency", str(arguments.concurrency)),
            ]
            before = cpu_seconds(engine) if engine else 0.0
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout)
            found["cpu"] /= arguments.questions
            found["engine_cpu"] = (cpu_seconds(engine) - before) / arguments.questions if engine else None
            runs[name].append(found)
    results = []
    for name, measured in runs.items():
        measured.sort(key=lambda run: run["seconds"])
        rates = [arguments.questions / run["seconds"] for run in measured]
        results.append(Result(name, measured[len(measured) // 2], rates))
    return results


def cpu_seconds(pid: int) -> float:
    """CPU seconds so far of a process and its descendants, those that ended included (Linux)."""
    ticks, children = dict[int, int](), dict[int, list[int]]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            # After the name, which may hold spaces: state, parent, …; fields 14 to 17 are times.
            fields = path.read_text().rpartition(")")[2].split()
            process = int(path.parent.name)
            children.setdefault(int(fields[1]), []).append(process)
            ticks[process] = sum(map(int, fields[11:15]))
    total, left = 0, [pid]
    while left:
        process = left.pop()
        total += ticks.get(process, 0)
        left += children.get(process, [])
    return total / os.sysconf("SC_CLK_TCK")


def show(results: Sequence[Result], arguments: argparse.Namespace) -> None:
    table = Table(title=f"{arguments.questions} questions at {arguments.size}, {arguments.model}")
    for heading in (
        "",
        "questions/s",
        "endpoint idle",
        "in flight",
        "image",
        "perceive",
        "evidence",
        "reason",
        "CPU s, asking",
        "engine",
    ):
        table.add_column(heading, justify="right" if heading else "left")
    for result in results:
        figures = result.figures
        table.add_row(
            result.name,
            f"{result.rate:.2f}",
            f"{100 * figures['idle']:.0f} %",
            f"{figures['in_flight']:.1f}",
            *(f"{figures['stages'][stage]:.1f} s" for stage in ("image", "perceive", "evidence", "reason")),
            f"{figures['cpu']:.3f}",
            "–" if figures["engine_cpu"] is None else f"{figures['engine_cpu']:.3f}",
        )
    Console(stderr=True).print(table)


def main() -> int:
    arguments = parse()
    settings = (settings_for(arguments.settings_of) if arguments.settings_of else None) or Settings()
    if arguments.contestant:
        print(json.dumps(asyncio.run(CONTESTANTS[arguments.contestant](arguments, settings))))
        return 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if arguments.data is None:
            with Console(stderr=True).status("drawing the images …"):
                for _ in write_scenes(
                    folder, split="test", size=arguments.size, count=arguments.questions, seed=5
                ):
                    pass
            arguments.data = folder / "samples.jsonl"
        arguments.questions = len(read_samples(arguments.data))
        if arguments.model == "scripted":
            arguments.model = stack.enter_context(scripted_endpoint(arguments.delay))
        elif arguments.model == "vllm:nano-base":
            server = VLLMServer(bundled()["nano-base"], name="nano-base")
            stack.callback(server.stop)
            server.start()
            arguments.model = f"{server.base_url}#nano-base"
            arguments.engine = int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1])
            os.environ["P2R_API_KEY"] = server.api_key  # for the contestants
            arguments.settings_of = arguments.settings_of or "nano-base"
        results = compare(arguments)
    show(results, arguments)
    mine, theirs = results
    speedup = mine.rate / theirs.rate
    record = {
        "speedup": round(speedup, 2),
        "questions": arguments.questions,
        "size": arguments.size,
        "model": arguments.model,
        "concurrency": arguments.concurrency,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "command": " ".join(["python", *sys.argv]),
        "results": {result.name: {"questions_per_s": result.rates, **result.figures} for result in results},
    }
    print(json.dumps(record, indent=2))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    return int(speedup < TARGET)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vllm:nano-base", help="a spec, or `scripted`")
    parser.add_argument(
        "--settings-of", default="", metavar="SPEC", help="take prompts and budgets from this model"
    )
    parser.add_argument("--delay", type=float, default=0.2, help="seconds before each reply of `scripted`")
    parser.add_argument("--questions", type=int, default=512)
    parser.add_argument("--size", default="4k")
    parser.add_argument("--data", type=Path, help="a samples.jsonl, instead of new scenes")
    parser.add_argument(
        "--concurrency", type=int, default=64, help="requests that the endpoint may see at once"
    )
    parser.add_argument("--engine", type=int, metavar="PID", help="of the server behind --model")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
