"""Attacks on `p2r serve` with its default settings: their cost, and the time until the server is idle.

    python benchmarks/server_attacks.py                          # all of them, about six minutes
    python benchmarks/server_attacks.py --only idle slow-bodies  # some of them
    python benchmarks/server_attacks.py --source OTHER/src       # the server of another version

Each attack goes over loopback to a real server process, with at most 1,024 file descriptors, as most systems
allow by default. Some run against the bundled model, the others against a scripted endpoint that streams.
Meanwhile a regular client sends small questions. Afterwards the attackers disconnect, or stay silent where
that is the attack, and the server has to return to its idle values: no running or waiting request, no open
call of the endpoint, as many file descriptors as before.

Columns: the server's peak memory during the attack and its memory afterwards (MiB), the most descriptors and
threads, its CPU seconds; the regular client's median and longest seconds, and its replies other than
answers; the seconds until idle. The exit code is 1 when a bound is broken: 2,048 MiB; 5 seconds, or where the
attackers stay, the server's own timeout; every regular question gets an answer or a 429.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import PIL.Image
import pyvips

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Attack = Callable[["Target"], Awaitable[None]]

KEY = "attackers-have-one-too"
MIB = 1024 * 1024
MOST_MIB = 2048
LEFT_S, HEAD_S, BODY_S = 5.0, 15.0, 35.0  # within which the server is idle again
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
BOXES = json.dumps([{"bbox_2d": [100 * n, 0, 100 * n + 400, 400], "label": "x"} for n in range(6)])


# What is sent.


def data_uri(data: bytes) -> str:
    """An image as a `data:` URI; the server does not rely on its type."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def asking(image: bytes, path: str = CHAT, **more: Any) -> bytes:
    """The body of a question."""
    text, url = "Which color is it?\nA. red\nB. blue", data_uri(image)
    if path == RESPONSES:
        parts = [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": text}]
        return json.dumps({"model": "p2r", "input": [{"role": "user", "content": parts}], **more}).encode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return json.dumps({"model": "p2r", "messages": [{"role": "user", "content": parts}], **more}).encode()


def head(
    path: str = CHAT, length: int | None = None, method: str = "POST", key: str = KEY, *more: str
) -> bytes:
    """The head of a request; without a length its body is chunked."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", framing, *more]
    return "\r\n".join([*lines, f"Authorization: Bearer {key}", "", ""]).encode()


def posted(body: bytes, path: str = CHAT) -> bytes:
    """A whole request."""
    return head(path, len(body)) + body


@cache
def small() -> bytes:
    """A small image of a regular client."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (320, 240), "red").save(file, "JPEG")
    return file.getvalue()


@cache
def noise(width: int = 4000, height: int = 3000) -> bytes:
    """An image that hardly compresses."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    image = pyvips.Image.new_from_memory(pixels.data, width, height, 3, "uchar")
    data: bytes = image.copy(interpretation="srgb").jpegsave_buffer(Q=85)
    return data


@cache
def black_png(width: int, height: int, bits: int = 8) -> bytes:
    """A black image in the bytes of a PNG, however large it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, rows = zlib.compressobj(1), []
    step = max(1, 64 * MIB // (width * bits // 8))
    row = bytes(1 + width * bits // 8)
    rows += [packer.compress(row * min(step, height - top)) for top in range(0, height, step)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", b"".join((*rows, packer.flush())))
        + chunk(b"IEND", b"")
    )


@cache
def bombs() -> list[bytes]:
    """Small files of formats that are decoded whole, at the server's limit."""
    image = pyvips.Image.black(9_900, 9_900, bands=3).copy(interpretation="srgb")
    return [
        image.webpsave_buffer(lossless=True, effort=0),
        image.heifsave_buffer(compression="av1", effort=0),
        image.pngsave_buffer(interlace=True, compression=1),
    ]


# The server and its measurements.


@dataclass
class Target:
    """A server process with its measurements."""

    process: subprocess.Popen[bytes]
    port: int
    endpoint: Endpoint | None = None

    async def client(self) -> Client:
        """A new connection."""
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self.port))
        return Client(made)

    def _proc(self, name: str) -> Path:
        return Path(f"/proc/{self.process.pid}/{name}")

    def forget_peak(self) -> None:
        """Restart the measurement of the memory peak."""
        self._proc("clear_refs").write_text("5")

    def mib(self, what: str = "VmRSS") -> float:
        """Resident memory."""
        return int(re.search(rf"{what}:\s+(\d+)", self._proc("status").read_text())[1]) / 1024  # type: ignore[index]

    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(list(self._proc("fd").iterdir()))

    def threads(self) -> int:
        """Threads."""
        return len(list(self._proc("task").iterdir()))

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        fields = self._proc("stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def busy(self) -> int:
        """Requests that run or wait, and calls of the endpoint that are open."""
        reply = await asked(self, head("/metrics", 0, "GET"), 5)
        text = reply.decode(errors="replace")
        counts = [
            abs(float(value)) for value in re.findall(r"^p2r_(?:running|queued) (\S+)", text, re.MULTILINE)
        ]
        if not counts:
            return 999
        return int(sum(counts)) + (self.endpoint.open if self.endpoint else 0)


class Client:
    """One connection of an attacker."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made

    async def send(self, data: bytes | memoryview, within_s: float = 60) -> bool:
        """Send; False when the server closed the connection or does not read."""
        try:
            async with asyncio.timeout(within_s):
                await asyncio.get_running_loop().sock_sendall(self.socket, data)
        except (OSError, TimeoutError):
            return False
        return True

    async def read(self, within_s: float = 30, until: bytes | None = None) -> bytes:
        """The bytes up to a text, or to the end."""
        data = b""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(within_s):
                while until is None or until not in data:
                    piece = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
                    if not piece:
                        break
                    data += piece
        return data

    def leave(self, *, reset: bool = False) -> None:
        """Hang up."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


async def asked(target: Target, request: bytes, within_s: float) -> bytes:
    """One reply on a connection of its own."""
    try:
        async with asyncio.timeout(within_s):
            client = await target.client()
    except (OSError, TimeoutError):
        return b""
    try:
        await client.send(request, within_s)
        data = await client.read(within_s, b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", data, re.IGNORECASE)
        missing = int(length[1]) - len(data.partition(b"\r\n\r\n")[2]) if length else 0
        while missing > 0:
            piece = await asyncio.wait_for(
                asyncio.get_running_loop().sock_recv(client.socket, 1 << 16), within_s
            )
            if not piece:
                break
            data, missing = data + piece, missing - len(piece)
    except (OSError, TimeoutError):
        return b""
    finally:
        client.leave()
    return data


@dataclass
class Endpoint:
    """An OpenAI-compatible server that streams `pieces` of thinking, `rate` a second (0: at once)."""

    pieces: int = 3_000
    rate: float = 50.0
    open: int = 0
    url: str = ""
    _server: asyncio.Server | None = field(default=None, repr=False)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=1 << 26)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1#scripted"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                text = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", text, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.open += 1
                try:
                    await self._reply(text, body, reader, writer)
                finally:
                    self.open -= 1
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _reply(
        self, text: bytes, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if text.startswith(b"GET"):
            self._write(writer, json.dumps({"object": "list", "data": [{"id": "scripted"}]}).encode())
            return
        if b"JSON list" in body:
            self._write(writer, json.dumps(_chunk("message", BOXES)).encode())
            return
        if not re.search(rb'"stream":\s*true', body):
            await asyncio.sleep(min(1.0, self.pieces / self.rate if self.rate else 0))
            self._write(writer, json.dumps(_chunk("message", "<answer>B</answer>")).encode())
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        left = asyncio.ensure_future(reader.read(1))  # ends when the server hangs up
        try:
            for number in range(self.pieces):
                piece = "<think>" if number == 0 else "a word or two "
                writer.write(b"data: " + json.dumps(_chunk("delta", piece, None)).encode() + b"\n\n")
                await writer.drain()
                if self.rate:
                    await asyncio.wait([left], timeout=1 / self.rate)
                if left.done():
                    return
            writer.write(b"data: " + json.dumps(_chunk("delta", "</think><answer>B</answer>")).encode())
            writer.write(b"\n\ndata: [DONE]\n\n")
            await writer.drain()
        finally:
            left.cancel()
        writer.close()
        raise ConnectionResetError

    def _write(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        start = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(start.encode() + body)


def _chunk(kind: str, content: str, finish: str | None = "stop") -> dict[str, Any]:
    choice = {"index": 0, kind: {"role": "assistant", "content": content}, "finish_reason": finish}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


# The attacks.


async def each(target: Target, count: int, one: Callable[[Client, int], Awaitable[None]]) -> list[Client]:
    """Run `one` for `count` clients at once; clients that could not connect are left out."""
    clients = list[Client]()

    async def go(number: int) -> None:
        try:
            async with asyncio.timeout(20):
                client = await target.client()
        except (OSError, TimeoutError):
            return
        clients.append(client)
        await one(client, number)

    await asyncio.gather(*(go(number) for number in range(count)))
    return clients


def leave_all(clients: list[Client]) -> None:
    """Half of them hang up, half reset their connections."""
    for number, client in enumerate(clients):
        client.leave(reset=number % 2 == 1)


async def streams_hang_up(target: Target) -> None:
    """16 clients leave in the middle of a stream of 50 pieces a second, three times."""

    async def one(client: Client, number: int) -> None:
        path = (CHAT, RESPONSES)[number % 2]
        await client.send(
            posted(asking(small(), path, stream=True, p2r={"include_images": number % 3 == 0}), path)
        )
        await client.read(10, b"a word or two")
        await asyncio.sleep(0.3 + 0.05 * number)
        client.leave(reset=number % 4 < 2)

    for _ in range(3):
        await each(target, 16, one)


async def leave_at_any_time(target: Target) -> None:
    """160 clients ask about a 12-megapixel image and leave after up to two seconds."""
    request = posted(asking(noise(), stream=True))

    async def one(client: Client, number: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(number / 80):
                await client.send(request)
                await client.read(60)
        client.leave(reset=number % 2 == 0)

    await each(target, 160, one)


async def half_closed(target: Target) -> None:
    """40 clients close their half after the question and never read."""

    async def one(client: Client, number: int) -> None:
        await client.send(posted(asking(small(), stream=number % 2 == 0)))
        client.socket.shutdown(socket.SHUT_WR)

    clients = await each(target, 40, one)
    await asyncio.sleep(3)
    leave_all(clients)


async def unread(target: Target, *, stream: bool) -> None:
    """32 clients request the images of a reply and do not read it for 15 seconds."""
    request = posted(asking(noise(), stream=stream, p2r={"include_images": True, "max_evidence": 6}))

    async def one(client: Client, number: int) -> None:  # noqa: ARG001
        await client.send(request)
        await client.read(8, b"HTTP")

    clients = await each(target, 32, one)
    await asyncio.sleep(15)
    leave_all(clients)


async def unread_streams(target: Target) -> None:
    """See `unread`."""
    await unread(target, stream=True)


async def unread_replies(target: Target) -> None:
    """See `unread`."""
    await unread(target, stream=False)


async def long_thinking(target: Target) -> None:
    """Two streams of 16,000 pieces at once."""
    assert target.endpoint
    target.endpoint.pieces, target.endpoint.rate = 16_000, 0.0

    async def one(client: Client, number: int) -> None:
        path = (CHAT, RESPONSES)[number % 2]
        await client.send(posted(asking(small(), path, stream=True), path))
        await client.read(100, b"0\r\n\r\n")

    leave_all(await each(target, 2, one))
    target.endpoint.pieces, target.endpoint.rate = 3_000, 50.0


async def large_bodies(target: Target) -> None:
    """100 clients send 31 MB each, wait for ten seconds and leave."""
    request = memoryview(posted(asking(small() + bytes(23 * MIB))))

    async def one(client: Client, number: int) -> None:  # noqa: ARG001
        await client.send(request)

    clients = await each(target, 100, one)
    await asyncio.sleep(5)
    leave_all(clients)


async def odd_json(target: Target) -> None:
    """24 clients send 31 MB that need much more memory when parsed."""
    start = b'{"model": "p2r", "messages": '
    bodies = [
        start + b"[" + b"[]," * (10 * MIB) + b"[]]}",
        start + b'"' + b"a" * (31 * MIB) + '\N{BUS}"}'.encode(),
        start + b"[" * (31 * MIB),
        start + b"[" + b'{"role":"user"},' * MIB + b"{}]}",
    ]
    requests = [memoryview(posted(body)) for body in bodies]

    async def one(client: Client, number: int) -> None:
        await client.send(requests[number % len(requests)])
        await client.read(30, b"\r\n\r\n")

    leave_all(await each(target, 24, one))


async def extreme_sides(target: Target) -> None:
    """Four PNG files of 50,000,000 × 8 pixels and of 8 × 50,000,000."""
    images = [await asyncio.to_thread(black_png, *size) for size in ((50_000_000, 8), (8, 50_000_000))]
    requests = [posted(asking(image)) for image in images]

    async def one(client: Client, number: int) -> None:
        await client.send(requests[number % 2])
        await client.read(60, b"\r\n\r\n")

    leave_all(await each(target, 4, one))


async def decode_and_leave(target: Target) -> None:
    """12 clients send a 16-bit PNG of 400 megapixels and leave a second later."""
    request = memoryview(posted(asking(await asyncio.to_thread(black_png, 20_000, 19_999, 16))))

    async def one(client: Client, number: int) -> None:  # noqa: ARG001
        await client.send(request)
        await asyncio.sleep(1)

    leave_all(await each(target, 12, one))
    await asyncio.sleep(4)


async def decoded_whole(target: Target) -> None:
    """24 clients send small WebP, AVIF and interlaced PNG files of 98 megapixels."""
    requests = [posted(asking(image)) for image in await asyncio.to_thread(bombs)]

    async def one(client: Client, number: int) -> None:
        await client.send(requests[number % len(requests)])
        await client.read(60, b"\r\n\r\n")

    leave_all(await each(target, 24, one))


async def silence_after_401(target: Target) -> None:
    """1,000 clients without a key send two chunks of a body and stay."""

    async def one(client: Client, number: int) -> None:  # noqa: ARG001
        await client.send(head(key="none") + b"1\r\n{\r\n")
        await client.read(5, b"invalid_api_key")
        await client.send(b"1\r\n \r\n")

    stay(target, await each(target, 1_000, one))


async def slow_heads(target: Target) -> None:
    """1,000 clients send one letter of a head a second and stay connected."""

    async def one(client: Client, number: int) -> None:  # noqa: ARG001
        for letter in b"GET / HT":
            if not await client.send(bytes([letter])):
                return
            await asyncio.sleep(1)

    stay(target, await each(target, 1_000, one))


async def idle(target: Target) -> None:
    """1,000 clients send one health check and stay connected."""

    async def one(client: Client, number: int) -> None:  # noqa: ARG001
        await client.send(head("/healthz", 0, "GET"))
        await client.read(5, b"ok")

    stay(target, await each(target, 1_000, one))
    await asyncio.sleep(3)


async def slow_bodies(target: Target) -> None:
    """200 clients send a body, a chunk size or a trailer letter by letter, or wait for a 100; they stay."""
    starts = [
        head(length=1_000) + b"{",
        head() + b"2\r\n{}\r\n0\r\nX-Trailer: ",
        head() + b"2\r\n{}\r\n0000",
        head(CHAT, 1_000, "POST", KEY, "Expect: 100-continue"),
    ]

    async def one(client: Client, number: int) -> None:
        await client.send(starts[number % len(starts)])
        for _ in range(8):
            await asyncio.sleep(1)
            if number % len(starts) != 3 and not await client.send(b"0"):
                return

    stay(target, await each(target, 200, one))


async def floods(target: Target) -> None:
    """50 connections with 100 pipelined requests each, of which nothing is read; 5,000 requests that are."""
    kinds = [head("/v1/models", 0, method) for method in ("HEAD", "OPTIONS", "GET")]
    kinds += [head("/nothing", 0, "GET"), head("/metrics", 0, "GET"), posted(b"{"), b"\0\r\n\r\n"]

    async def pipelined(client: Client, number: int) -> None:
        await client.send(kinds[number % len(kinds)] * 100, 5)

    async def one_by_one(client: Client, number: int) -> None:
        for turn in range(100):
            if not await client.send(kinds[(number + turn) % 5], 5) or not await client.read(5, b"\r\n\r\n"):
                return

    leave_all(await each(target, 50, pipelined) + await each(target, 50, one_by_one))


async def page_images(target: Target) -> None:
    """60 images of 20 MB for the page, which keeps those that were given."""
    basic = base64.b64encode(f"x:{KEY}".encode()).decode()
    data = noise(1000, 1000) + bytes(20 * MIB)
    lines = ["POST /page/images HTTP/1.1", "Host: localhost", "Content-Type: application/octet-stream"]
    lines += [f"Content-Length: {len(data)}", f"Authorization: Basic {basic}", "", ""]
    request = memoryview("\r\n".join(lines).encode() + data)

    async def one(client: Client, number: int) -> None:  # noqa: ARG001
        await client.send(request)
        await client.read(60, b"\r\n\r\n")

    leave_all(await each(target, 60, one))


_staying = list[Client]()


def stay(target: Target, clients: list[Client]) -> None:  # noqa: ARG001
    """Keep the connections open until the server is measured."""
    _staying.extend(clients)


BUNDLED: list[tuple[str, Attack, float]] = [
    ("large-bodies", large_bodies, LEFT_S),
    ("odd-json", odd_json, LEFT_S),
    ("extreme-sides", extreme_sides, LEFT_S),
    ("decode-and-leave", decode_and_leave, LEFT_S),
    ("decoded-whole", decoded_whole, LEFT_S),
    ("page-images", page_images, LEFT_S),
    ("silence-after-401", silence_after_401, HEAD_S),
    ("slow-heads", slow_heads, HEAD_S),
    ("idle", idle, BODY_S),
    ("slow-bodies", slow_bodies, BODY_S),
    ("floods", floods, LEFT_S),
]
STREAMED: list[tuple[str, Attack, float]] = [
    ("streams-hang-up", streams_hang_up, LEFT_S),
    ("leave-at-any-time", leave_at_any_time, LEFT_S),
    ("half-closed", half_closed, LEFT_S),
    ("unread-streams", unread_streams, LEFT_S),
    ("unread-replies", unread_replies, LEFT_S),
    ("long-thinking", long_thinking, LEFT_S),
]


# One attack, measured.


async def regular(target: Target, seconds: list[float], others: Counter[str]) -> None:
    """Ask small questions, one after the other."""
    request = posted(asking(small(), model="p2r-direct"))
    while True:
        begin_s = time.monotonic()
        # A new connection may be closed to make room; clients try once more then, the official ones too.
        reply = await asked(target, request, 60) or await asked(target, request, 60)
        status = reply[9:12].decode() or "none"
        if status == "200":
            seconds.append(time.monotonic() - begin_s)
        else:
            others[status] += 1
        await asyncio.sleep(0.3)


async def measure(name: str, attack: Attack, within_s: float, target: Target) -> bool:
    """Run one attack and print its line; whether the server held."""
    descriptors, threads, cpu_s = target.descriptors(), target.threads(), target.cpu_s()
    most = [descriptors, threads]
    seconds, others = list[float](), Counter[str]()
    target.forget_peak()

    async def watch() -> None:
        while True:
            most[:] = map(max, most, (target.descriptors(), target.threads()))
            await asyncio.sleep(0.1)

    watching = asyncio.create_task(watch())
    regular_task = asyncio.create_task(regular(target, seconds, others))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(attack(target))
        await asyncio.wait([running], timeout=150)
        running.cancel()
    end_s = time.monotonic()
    regular_task.cancel()
    await asyncio.wait([regular_task])
    idle_s = None
    while time.monotonic() < end_s + 60:
        busy, now = await target.busy(), target.descriptors()
        if not busy and now <= descriptors + 6:
            idle_s = time.monotonic() - end_s
            break
        await asyncio.sleep(0.1)
    watching.cancel()
    for client in _staying:
        client.leave()
    _staying.clear()
    peak, after = target.mib("VmHWM"), target.mib()
    held = peak < MOST_MIB and idle_s is not None and idle_s <= within_s and not set(others) - {"429"}
    told = " ".join(f"{count}×{status}" for status, count in others.items()) or "-"
    until = "never" if idle_s is None else f"{idle_s:.1f}"
    times = f"{median(seconds):6.2f} {max(seconds):6.2f}" if seconds else f"{'-':>6} {'-':>6}"
    print(
        f"{name:18} {peak:7.0f} {after:7.0f} {most[0]:5} {most[1]:5} {target.cpu_s() - cpu_s:6.1f} "
        f"{times} {told:12} {until:>6}  {'ok' if held else 'BROKEN'}",
        flush=True,
    )
    return held


def started(options: argparse.Namespace, keys: Path, log: Path, model: str | None) -> tuple[Any, int]:
    """A server process and its port."""
    command = [options.python, "-m", "p2r", "serve", "--port", "0", "--api-key-file", str(keys)]
    environment = {**os.environ, "NO_COLOR": "1"}
    if options.source:
        environment["PYTHONPATH"] = str(options.source)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *(["--model", model] if model else [])],
            stdout=output,
            stderr=output,
            env=environment,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)),
        )
    while not (found := re.search(r"listening on \S+:(\d+)", log.read_text())):
        if process.poll() is not None:
            sys.exit(f"the server did not start: {log.read_text()}")
        time.sleep(0.1)
    return process, int(found[1])


async def against(
    attacks: list[tuple[str, Attack, float]], options: argparse.Namespace, *, bundled: bool
) -> bool:
    """Run the attacks against one server; whether it held."""
    chosen = [attack for attack in attacks if not options.only or attack[0] in options.only]
    if not chosen:
        return True
    held = True
    async with Endpoint() as endpoint:
        with tempfile.TemporaryDirectory() as folder:
            keys, log = Path(folder) / "keys", options.log or Path(folder) / "log"
            keys.write_text(KEY)
            process, port = await asyncio.to_thread(
                started, options, keys, log, None if bundled else endpoint.url
            )
            target = Target(process, port, None if bundled else endpoint)
            try:
                for _ in range(3):  # the first ones start threads
                    await asked(target, posted(asking(small())), 60)
                print(f"\n{'bundled model' if bundled else 'endpoint'}: {target.mib():.0f} MiB when idle")
                for attack in chosen:
                    held = await measure(*attack, target) and held
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(process.wait, 60)
                print(f"ended with code {process.returncode}")
                return held and process.returncode == 0
            finally:
                process.kill()


async def attack_all(options: argparse.Namespace) -> bool:
    """All attacks, against both servers."""
    columns = f"{'attack':18} {'peak':>7} {'after':>7} {'fds':>5} {'thr':>5} {'CPU_s':>6} "
    print(f"{columns}{'median':>6} {'worst':>6} {'others':12} {'idle_s':>6}")
    held = await against(BUNDLED, options, bundled=True)
    return await against(STREAMED, options, bundled=False) and held


def main() -> None:
    """Run the attacks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [name for name, _, _ in (*BUNDLED, *STREAMED)]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the server")
    parser.add_argument("--source", type=Path, help="the src folder of another version of p2r")
    parser.add_argument("--log", type=Path, help="keep the server's log")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    sys.exit(0 if asyncio.run(attack_all(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
