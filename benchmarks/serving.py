"""Latency that the server adds, and its behavior under load. Loopback only, bounded.

    python benchmarks/serving.py                    # a minute of load
    python benchmarks/serving.py --seconds 300      # five
    python benchmarks/serving.py --short            # seconds, to test the script
    python benchmarks/serving.py --vllm http://127.0.0.1:8000/v1#nano --settings P2R_JSON

The model is scripted: every call takes `--delay` and returns fixed boxes or a fixed answer, so the rest is
our own time. The server runs in a separate process. Requests are prepared in advance, because that is the
client's work. Latency: one client, 4K JPEGs, the request's seconds and those of the same `P2R.predict`
without a server, in turn; the median of the differences is what the server adds. Load: 64 clients ask without
a pause, each answer is checked, the resident memory of the server is read. Shedding: four times as many
clients as concurrency and queue take; anything but 200 and 429 is an error.

With `--vllm` (a server that runs, with the bundled scenes' own model) it measures instead how many questions
are answered in a second by as many clients, in turn, the first turn of each to warm up: through the server;
by the pipeline in the client's process, which calls vLLM directly and makes the images itself; and by the
bare calls, with images that were made and encoded beforehand, which needs the boxes in advance.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pyvips

import p2r
from p2r.datasets.samples import read_samples
from p2r.models.base import Completion
from p2r.pipeline import P2R
from p2r.scenes.files import draw_files, make_sample
from p2r.settings import Settings
from p2r.types import Question

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from p2r.models.base import Model
    from p2r.types import Sample

BOXES = (
    '[{"bbox_2d": [100, 200, 150, 260], "label": "bus"}, {"bbox_2d": [700, 700, 760, 780], "label": "sign"}]'
)
CLIENTS, CONCURRENCY, QUEUE = 64, 16, 64
DEMO = Path(p2r.__file__).parent / "demo"
TEXT = "Which color is the bus?\nA. blue\nB. red"


class Scripted:
    """A model of fixed delay."""

    name = "scripted"

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    async def complete(self, messages, _sampling):
        """Boxes for the perceiver, an answer for the reasoner."""
        await asyncio.sleep(self._delay_s)
        looks = any("JSON list" in part for m in messages for part in m.content if isinstance(part, str))
        return Completion(BOXES if looks else "<think>…</think><answer>B</answer>", 100, 20, "stop")

    async def aclose(self) -> None:
        """Nothing to free."""


def noise_jpeg(width: int, height: int) -> bytes:
    """A JPEG with detail in it, seeded."""
    noise = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    image = pyvips.Image.new_from_memory(noise.data, width // 8, height // 8, 3, "uchar")
    return image.copy(interpretation="srgb").resize(8).jpegsave_buffer(Q=90)


def scene() -> bytes:
    """A 4K scene as `p2r scenes` draws it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.jpg"
        list(draw_files([(make_sample("train", 0, size="3840x2160"), path)]))
        return path.read_bytes()


def serve(options: argparse.Namespace) -> None:
    """The child process: serves until it is ended."""
    from p2r.serving.config import ServingConfig
    from p2r.serving.server import log_to_stderr
    from p2r.serving.server import serve as run

    log_to_stderr()
    model = options.vllm or Scripted(options.delay)
    concurrency = options.clients if options.vllm else CONCURRENCY
    pipeline = P2R(model, settings=settings_of(options), concurrency=concurrency)
    asyncio.run(run(pipeline, ServingConfig(port=0, concurrency=concurrency, queue=QUEUE)))


def settings_of(options: argparse.Namespace) -> Settings | None:
    """Those of the model behind vLLM; None for the defaults."""
    return Settings.load(options.settings) if options.settings else None


class Recorder:
    """A model that passes on every call and records it."""

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.calls: list[tuple] = []
        self._model = model

    async def complete(self, messages, sampling):
        """See `Model`."""
        self.calls.append((messages, sampling))
        return await self._model.complete(messages, sampling)

    async def aclose(self) -> None:
        """Its owner closes the model."""


def scene_body(sample: Sample) -> bytes:
    """A chat request about a bundled scene, its options in the text."""
    question = sample.question
    options = [f"\n{letter}. {text}" for letter, text in zip(question.letters, question.choices, strict=True)]
    return ask_body(Path(str(question.image)).read_bytes(), question.text + "".join(options))


async def against_vllm(client: httpx.AsyncClient, options: argparse.Namespace) -> None:
    """Questions a second through the server, and of the same calls to vLLM directly."""
    from p2r.models import open_model

    samples = [sample for sample in read_samples(DEMO / "samples.jsonl") if sample.question.choices]
    bodies = [scene_body(sample) for sample in samples]
    model = open_model(options.vllm, max_concurrency=options.clients)
    calls = []
    for sample in samples:
        recorder = Recorder(model)
        await P2R(recorder, settings=settings_of(options)).predict(sample.question)
        calls.append(recorder.calls)

    async def through_the_server(number: int) -> None:
        (await ask(client, bodies[number % len(bodies)])).raise_for_status()

    async def directly(number: int) -> None:
        question = samples[number % len(samples)].question
        await P2R(model, settings=settings_of(options)).predict(question)

    async def bare_calls(number: int) -> None:
        for messages, sampling in calls[number % len(calls)]:
            await model.complete(messages, sampling)

    ways = {"through the server": through_the_server, "directly": directly, "bare calls": bare_calls}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.turns + 1):
        for name, one in ways.items():
            rate = await rate_of(one, options.clients, options.questions)
            if turn:
                found[name].append(rate)
                print(f"{name}: {rate:.2f} questions/s", flush=True)
    await model.aclose()
    served, *others = (statistics.median(rates) for rates in found.values())
    shares = [f"{served / rate:.3f} of {name}" for name, rate in zip(list(ways)[1:], others, strict=True)]
    print(f"{options.clients} clients, {options.questions} questions: {', '.join(shares)}")


async def rate_of(one: Callable[[int], Awaitable[None]], clients: int, questions: int) -> float:
    """Questions a second with `clients` clients."""
    numbers = iter(range(questions))

    async def client() -> None:
        for number in numbers:
            await one(number)

    begin = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return questions / (time.perf_counter() - begin)


def ask_body(data: bytes, text: str = TEXT) -> bytes:
    """A chat request, as it is sent."""
    url = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return json.dumps({"model": "p2r", "messages": [{"role": "user", "content": parts}]}).encode()


async def ask(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    """The reply to a chat request."""
    return await client.post(
        "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )


async def latency(port: int, data: bytes, delay_s: float, rounds: int) -> None:
    """One client, with and without the server, in turn."""
    alone, body = P2R(Scripted(delay_s)), ask_body(data)
    # It writes the body in one go. Asynchronous clients take milliseconds for it, which are not the server's.
    client = http.client.HTTPConnection("127.0.0.1", port)
    served, direct = [], []
    for turn in range(rounds + 2):
        begin = time.perf_counter()
        client.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        reply = client.getresponse()
        reply.read()
        assert reply.status == 200, reply.status
        between = time.perf_counter()
        await alone.predict(Question(data, "Which color is the bus?", ("blue", "red")))
        end = time.perf_counter()
        if turn >= 2:  # the first ones warm up
            served.append(between - begin)
            direct.append(end - between)
    client.close()
    one, other = statistics.median(served), statistics.median(direct)
    added = statistics.median(with_it - without for with_it, without in zip(served, direct, strict=True))
    print(
        f"latency, {rounds} rounds: served {one * 1e3:.1f} ms, pipeline alone {other * 1e3:.1f} ms, "
        f"server adds {added * 1e3:.1f} ms; model calls {2e3 * delay_s:.0f} ms"
    )


async def load(client: httpx.AsyncClient, body: bytes, clients: int, seconds: float, pid: int) -> None:
    """Clients that ask without a pause; statuses, requests per second, memory."""
    statuses: Counter[int] = Counter()
    end = time.monotonic() + seconds
    memory = [resident_mib(pid)]

    async def one() -> None:
        while time.monotonic() < end:
            reply = await ask(client, body)
            statuses[reply.status_code] += 1
            if reply.status_code == 200:
                assert reply.json()["choices"][0]["message"]["content"] == "B. red"
            else:
                await asyncio.sleep(0.05)

    async def watch() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(max(0.5, seconds / 10))
            memory.append(resident_mib(pid))

    await asyncio.gather(watch(), *(one() for _ in range(clients)))
    shown = " ".join(f"{mib:.0f}" for mib in memory)
    print(f"{clients} clients, {seconds:g} s: {dict(statuses)}, {statuses[200] / seconds:.1f} answers/s")
    print(f"  resident MiB: {shown}")
    assert set(statuses) <= {200, 429}, statuses
    assert clients > CONCURRENCY + QUEUE or set(statuses) == {200}, statuses


def resident_mib(pid: int) -> float:
    """The resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


async def measure(port: str, pid: int, options: argparse.Namespace) -> None:
    """All measurements."""
    limits = httpx.Limits(max_connections=1000)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=120, limits=limits, trust_env=False
    ) as client:
        if options.vllm:
            await against_vllm(client, options)
            return
        for name, data in (("4K scene", scene()), ("4K noise", noise_jpeg(3840, 2160))):
            print(f"{name}, JPEG of {len(data) / 1e6:.1f} MB: ", end="")
            await latency(int(port), data, options.delay, options.rounds)
        small = ask_body(noise_jpeg(1280, 720))
        await load(client, small, CLIENTS, options.seconds, pid)
        await load(client, small, 4 * (CONCURRENCY + QUEUE), min(options.seconds, 10), pid)
        begin = time.perf_counter()
        (await ask(client, small)).raise_for_status()
        print(f"after that, one request: {(time.perf_counter() - begin) * 1e3:.0f} ms")


def main() -> None:
    """Start the server, measure, end it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds of a model call")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    parser.add_argument("--rounds", type=int, default=40, help="of the latency measurement")
    parser.add_argument("--short", action="store_true", help="3 rounds and 3 seconds of load")
    parser.add_argument("--vllm", metavar="URL", help="compare with calling this server directly")
    parser.add_argument("--settings", type=Path, help="the p2r.json of its model")
    parser.add_argument("--clients", type=int, default=16, help="with --vllm: how many at once")
    parser.add_argument("--questions", type=int, default=64, help="with --vllm: of one turn")
    parser.add_argument("--turns", type=int, default=3, help="with --vllm: that are measured")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.short:
        options.seconds, options.rounds, options.questions, options.turns = 3.0, 3, 8, 1
    if options.serve:
        serve(options)
        return
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    command = [sys.executable, __file__, "--serve", *sys.argv[1:]]
    with tempfile.NamedTemporaryFile("r+") as log:
        child = subprocess.Popen(command, stderr=log)
        try:
            while not (found := re.search(r"listening on \S+:(\d+)", Path(log.name).read_text())):
                if child.poll() is not None:
                    sys.exit(f"the server did not start: {Path(log.name).read_text()}")
                time.sleep(0.05)
            asyncio.run(measure(found[1], child.pid, options))
        finally:
            child.terminate()
            child.wait(60)
    print(f"ended with code {child.returncode}")


if __name__ == "__main__":
    main()
