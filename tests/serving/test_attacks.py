"""Clients that attack: slots, model calls and memory are free again as soon as they have left.

The same kinds, larger and against a server process, are in benchmarks/server_attacks.py.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from p2r.models.endpoint import EndpointModel
from p2r.settings import Settings
from tests.fake_model import StreamingFakeModel
from tests.image_files import encoded
from tests.servers import Exchange, Server, chunk, reply
from tests.serving.live_server import (
    BOXES,
    CHOICES,
    IMAGE,
    IMAGE_URI,
    THOUGHT,
    LiveServer,
    body,
    data_uri,
    perceiving,
    refused,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from p2r.models.base import Completion, Message, Sampling

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


def request(path: str = CHAT, **more: Any) -> bytes:
    """A whole request, as bytes."""
    if path == RESPONSES:
        parts = [{"type": "input_image", "image_url": IMAGE_URI}, {"type": "input_text", "text": CHOICES}]
        more = {"model": "p2r", "input": [{"role": "user", "content": parts}], **more}
    else:
        more = body(**more)
    content = json.dumps(more).encode()
    return head(path, f"Content-Length: {len(content)}") + content


def head(path: str = CHAT, *lines: str) -> bytes:
    start = f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"
    return "\r\n".join((*start, *lines, "", "")).encode()


def connected(server: LiveServer, data: bytes = b"") -> socket.socket:
    connection = socket.socket()
    connection.settimeout(20)
    # Small, so that a client which does not read is noticed soon.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(data)
    return connection


def read_until(connection: socket.socket, text: bytes) -> bytes:
    data = b""
    while text not in data:
        piece = connection.recv(1 << 16)
        assert piece, data
        data += piece
    return data


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def idle(server: LiveServer) -> bool:
    admission, memory = server.app.state.limiter, server.app.state.memory
    return not (admission.accepted or admission.queued or admission.running or memory.held)


class Talkative(StreamingFakeModel):
    """It thinks 50 pieces a second without end."""

    def __init__(self) -> None:
        super().__init__(lambda messages: BOXES if perceiving(messages) else THOUGHT)
        self.streams = 0

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[str | Completion]:
        self.streams += 1
        try:
            yield "<think>"
            while True:
                await asyncio.sleep(0.02)
                yield "a word or two "
        finally:
            self.streams -= 1


def test_clients_that_hang_up_in_a_stream_hold_nothing() -> None:
    model = Talkative()
    with LiveServer(model) as server:
        for turn in range(3):
            clients = [
                connected(server, request((CHAT, RESPONSES)[number % 2], stream=True)) for number in range(8)
            ]
            for client in clients:
                read_until(client, b"a word")
            assert model.streams == 8
            time.sleep(0.1 * turn)
            for number, client in enumerate(clients):
                reset(client) if number % 2 else client.close()
                time.sleep(0.013)  # not all of them between the same two pieces
            wait_until(lambda: idle(server) and model.streams == 0, 5)
        metrics = server.http.get("/metrics").text
    assert 'p2r_requests_total{status="499"} 24.0' in metrics
    assert "p2r_queued 0.0" in metrics


class Thinking:
    """A behavior of a real endpoint: it streams until its client hangs up, and is counted meanwhile."""

    def __init__(self) -> None:
        self.open = 0
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        if not exchange.body.get("stream"):
            reply(BOXES)(exchange)
            return
        exchange.send_response(200)
        exchange.send_header("Content-Type", "text/event-stream")
        exchange.send_header("Connection", "close")
        exchange.end_headers()
        with self._lock:
            self.open += 1
        try:
            while not exchange.owner.ended.wait(0.02):
                exchange.wfile.write(f"data: {json.dumps(chunk('<think>a word '))}\n\n".encode())
        except OSError:
            exchange.close_connection = True
        finally:
            with self._lock:
                self.open -= 1


def test_calls_of_an_endpoint_end_with_their_clients() -> None:
    thinking = Thinking()
    with Server(lambda _: thinking) as behind:
        model = EndpointModel(behind.url, "served")
        with LiveServer(model) as server:
            clients = [connected(server, request(stream=True)) for _ in range(6)]
            for client in clients:
                read_until(client, b"a word")
            assert thinking.open == 6
            for client in clients:
                client.close()
            wait_until(lambda: idle(server) and thinking.open == 0, 5)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_it_waits_takes_no_slot(stream: bool) -> None:
    model = Talkative()
    with (
        LiveServer(model, concurrency=1) as server,
        closing(connected(server, request(stream=True))) as first,
    ):
        read_until(first, b"a word")
        waiting = [connected(server, request(stream=stream)) for _ in range(3)]
        wait_until(lambda: server.app.state.limiter.queued == 3)
        waiting[0].close()
        reset(waiting[1])
        waiting[2].shutdown(socket.SHUT_WR)
        wait_until(lambda: server.app.state.limiter.queued == 0, 5)
        waiting[2].close()
        assert len(model.calls) == 1  # no call for clients that had left


def noisy() -> bytes:
    return encoded(np.random.default_rng(0).integers(0, 255, (1800, 2400, 3), np.uint8), "JPEG")


def unread(stream: bool, url: str) -> bytes:
    return request(url=url, stream=stream, p2r={"include_images": True})


@pytest.mark.long
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_does_not_read_holds_no_slot_and_is_cut_off(stream: bool) -> None:
    model = StreamingFakeModel(lambda messages: BOXES if perceiving(messages) else THOUGHT)
    url = data_uri(noisy())
    # A system's buffers hold some megabytes: these replies have more.
    with (
        LiveServer(model, settings=Settings(), concurrency=1, write_timeout_s=2) as server,
        closing(connected(server, unread(stream, url))),
    ):
        memory, admission = server.app.state.memory, server.app.state.limiter
        # The image and the reply that is not read are held, and the slot is free meanwhile.
        wait_until(lambda: memory.held > len(url) + 3_000_000 and not admission.running, 20)
        wait_until(lambda: idle(server), 10)


def test_bodies_beyond_the_memory_budget_get_429() -> None:
    with LiveServer(held_bytes=1_000_000, body_timeout_s=20) as server:
        half = head(CHAT, "Content-Length: 900000") + b" " * 700_000
        with closing(connected(server, half)):
            wait_until(lambda: server.app.state.memory.held > 700_000)
            told = server.ask(body(url=data_uri(IMAGE + bytes(400_000))))
            refused(told, 429, code="out_of_memory")
            assert int(told.headers["Retry-After"]) > 0
            assert server.ask().status_code == 200  # a small one fits
        wait_until(lambda: idle(server), 5)
        assert server.ask(body(url=data_uri(IMAGE + bytes(400_000)))).status_code == 200


def test_what_is_only_announced_holds_no_memory() -> None:
    with LiveServer(held_bytes=2_000_000) as server, ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(closing(connected(server, head(CHAT, "Content-Length: 30000000") + b"{")))
        wait_until(lambda: server.app.state.limiter.accepted == 10)
        assert server.ask().status_code == 200


def slow_bodies() -> Iterator[bytes]:
    yield head(CHAT, "Content-Length: 1000") + b"{"
    yield head(CHAT, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\nX-Trailer: "
    yield head(CHAT, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0000"
    yield head(CHAT, "Content-Length: 1000", "Expect: 100-continue")


@pytest.mark.long
def test_slow_bodies_do_not_block_others_and_time_out() -> None:
    with LiveServer(concurrency=1, queue=1, body_timeout_s=2) as server, ExitStack() as stack:
        slow = [stack.enter_context(closing(connected(server, data))) for data in slow_bodies()]
        wait_until(lambda: server.app.state.limiter.accepted == 4)
        assert server.ask().status_code == 200
        for connection in slow:
            read_until(connection, b"body_timeout")
            assert connection.recv(100) == b""
        wait_until(lambda: idle(server), 5)


@pytest.mark.parametrize(
    "content",
    [
        b'{"model": "p2r", "messages": [' + b"[]," * 250_000 + b"[]]}",
        b'{"model": "p2r", "messages": [{"role": "user", "content": [' + b"1," * 250_000 + b"1]}]}",
        b"[" * 300_000,
        b'{"a":' * 300_000,
    ],
    ids=["lists", "parts", "nested", "objects"],
)
def test_json_of_too_many_values_is_not_parsed(content: bytes) -> None:
    with LiveServer() as server:
        told = server.http.post(CHAT, content=content, headers={"Content-Type": "application/json"})
        refused(told, 413, code="body_too_large")


def test_two_lengths_of_a_body_are_refused_and_the_connection_is_closed() -> None:
    both = head(CHAT, "Content-Length: 4", "Transfer-Encoding: chunked")
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with LiveServer() as server, closing(connected(server, both + b"0\r\n\r\n" + smuggled)) as connection:
        data = b""
        while piece := connection.recv(1 << 16):
            data += piece
    assert b"400 Bad Request" in data
    assert b"ambiguous_length" in data
    assert data.count(b"HTTP/1.1") == 1


def test_a_deadline_ends_a_stream_and_frees_its_slot() -> None:
    model = Talkative()
    with LiveServer(model, concurrency=1, timeout_s=1.5) as server:
        with closing(connected(server, request(stream=True))) as client:
            read_until(client, b'"code": "deadline"')
        wait_until(lambda: idle(server) and model.streams == 0, 5)
