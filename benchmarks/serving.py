"""What the server adds to the method, and how it holds up under load. Loopback only, bounded.

    python benchmarks/serving.py                    # a minute of load
    python benchmarks/serving.py --seconds 300      # five

The model is scripted: every call takes `--delay` and returns fixed boxes or a fixed answer, so what is left
is ours. The server runs in a process of its own. Latency: one client, a 4K JPEG, the request's seconds and
those of the same `P2R.predict` without a server, in turn; the difference of the medians is what the server
adds. Load: 64 clients ask without a pause, each answer is checked, the resident memory of the server is read.
Shedding: four times as many clients as concurrency and queue take; anything but 200 and 429 is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
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

import httpx
import numpy as np
import pyvips

from p2r.models.base import Completion
from p2r.pipeline import P2R
from p2r.types import Question

BOXES = (
    '[{"bbox_2d": [100, 200, 150, 260], "label": "bus"}, {"bbox_2d": [700, 700, 760, 780], "label": "sign"}]'
)
CLIENTS, CONCURRENCY, QUEUE = 64, 16, 64
TEXT = "Which colour is the bus?\nA. blue\nB. red"


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


def picture(width: int, height: int) -> bytes:
    """A JPEG with detail in it, seeded."""
    noise = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    image = pyvips.Image.new_from_memory(noise.data, width // 8, height // 8, 3, "uchar")
    return image.copy(interpretation="srgb").resize(8).jpegsave_buffer(Q=90)


def serve(delay_s: float) -> None:
    """The child process: serves until it is ended."""
    from p2r.serving.config import ServingConfig
    from p2r.serving.server import log_to_stderr
    from p2r.serving.server import serve as run

    log_to_stderr()
    asyncio.run(run(P2R(Scripted(delay_s)), ServingConfig(port=0, concurrency=CONCURRENCY, queue=QUEUE)))


def ask_body(data: bytes) -> dict:
    """A chat request."""
    url = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": TEXT}]
    return {"model": "p2r", "messages": [{"role": "user", "content": parts}]}


async def latency(client: httpx.AsyncClient, data: bytes, delay_s: float, rounds: int) -> None:
    """One client, with and without the server, in turn."""
    p2r, body = P2R(Scripted(delay_s)), ask_body(data)
    served, direct = [], []
    for turn in range(rounds + 2):
        begin = time.perf_counter()
        (await client.post("/v1/chat/completions", json=body)).raise_for_status()
        between = time.perf_counter()
        await p2r.predict(Question(data, "Which colour is the bus?", ("blue", "red")))
        end = time.perf_counter()
        if turn >= 2:  # the first ones warm up
            served.append(between - begin)
            direct.append(end - between)
    one, other = statistics.median(served), statistics.median(direct)
    print(
        f"latency, {rounds} rounds: served {one * 1e3:.1f} ms, pipeline alone {other * 1e3:.1f} ms, "
        f"server adds {(one - other) * 1e3:.1f} ms; model calls {2e3 * delay_s:.0f} ms"
    )


async def load(client: httpx.AsyncClient, body: dict, clients: int, seconds: float, pid: int) -> None:
    """Clients that ask without a pause; statuses, requests per second, memory."""
    statuses: Counter[int] = Counter()
    end = time.monotonic() + seconds
    memory = [resident_mib(pid)]

    async def one() -> None:
        while time.monotonic() < end:
            reply = await client.post("/v1/chat/completions", json=body)
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
        await latency(client, picture(3840, 2160), options.delay, options.rounds)
        small = ask_body(picture(1280, 720))
        await load(client, small, CLIENTS, options.seconds, pid)
        await load(client, small, 4 * (CONCURRENCY + QUEUE), min(options.seconds, 10), pid)
        begin = time.perf_counter()
        (await client.post("/v1/chat/completions", json=small)).raise_for_status()
        print(f"after that, one request: {(time.perf_counter() - begin) * 1e3:.0f} ms")


def main() -> None:
    """Start the server, measure, end it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds of a model call")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    parser.add_argument("--rounds", type=int, default=20, help="of the latency measurement")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.delay)
        return
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    command = [sys.executable, __file__, "--serve", "--delay", str(options.delay)]
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
