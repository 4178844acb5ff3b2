"""Connections over real sockets: bodies arrive whole, and every wait for a client is bounded."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from p2r.serving.config import ServingConfig
from p2r.serving.http import bounded_protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = hashlib.shake_256(b"body").digest(3_000_000)
HEAD = f"POST /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n".encode()
NEXT = b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n"

UNREAD = 40_000_000  # more than the buffers of the system hold

gone = threading.Event()
CONFIG = ServingConfig(header_timeout_s=0.6, write_timeout_s=0.6, max_connections=8, concurrency=1, queue=1)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The path and a digest of the body; `/early` does not read it, `/huge` replies with megabytes."""
    digest = hashlib.sha256()
    more = scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            gone.set()
            return
        digest.update(message.get("body", b""))
        more = message.get("more_body", False)
    text = f"{scope['path']} {digest.hexdigest()}\n".encode()
    if scope["path"] == "/huge":
        text = bytes(UNREAD)
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for start in range(0, len(text), 65536):
        await send({"type": "http.response.body", "body": text[start : start + 65536], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(
                application, http=bounded_protocol(CONFIG), lifespan="off", ws="none", log_level="error"
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def told(connection: socket.socket, lines: int) -> list[str]:
    """The last line of each reply."""
    data = b""
    while sum(line.startswith(b"/") for line in data.split(b"\n")[:-1]) < lines:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return [line for line in data.decode().split("\n") if line.startswith("/")]


def reply(path: str, body: bytes = b"") -> str:
    return f"/{path} {hashlib.sha256(body).hexdigest()}"


@pytest.mark.parametrize("piece", [1_000, 65_536, 700_001, len(BODY)])
def test_a_large_body_arrives_whole_and_the_next_request_is_read(port: int, piece: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(HEAD % b"large" + b"\r\n")
        for start in range(0, len(BODY), piece):
            connection.sendall(BODY[start : start + piece])
        connection.sendall(NEXT)
        assert told(connection, 2) == [reply("large", BODY), reply("next")]


def test_requests_that_come_at_once_are_kept_apart(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        whole = HEAD % b"large" + b"\r\n" + BODY
        connection.sendall(whole + whole + NEXT)
        assert told(connection, 3) == [reply("large", BODY), reply("large", BODY), reply("next")]


def test_a_body_in_chunks_arrives_whole(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        head = b"POST /chunks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) + NEXT)
        assert told(connection, 2) == [reply("chunks", BODY), reply("next")]


def test_a_client_that_expects_100_continue_gets_it(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(HEAD % b"polite" + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(BODY)
        assert told(connection, 1) == [reply("polite", BODY)]


def test_an_unread_body_is_discarded(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(HEAD % b"early" + b"\r\n")
        assert told(connection, 1) == [reply("early")]
        connection.sendall(BODY + NEXT)
        assert told(connection, 1) == [reply("next")]


def test_a_client_that_leaves_in_the_middle_is_noticed(port: int) -> None:
    gone.clear()
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(HEAD % b"half" + b"\r\n" + BODY[: len(BODY) // 2])
    assert gone.wait(10)


def ends_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the server closes a connection; what it says before is read."""
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        connection.settimeout(left_s)
        try:
            if not connection.recv(1 << 16):
                return True
        except TimeoutError:
            break
        except OSError:
            return True
    return False


def test_the_rest_of_a_body_that_was_answered_is_not_waited_for_without_end(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        head = b"POST /early HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"1\r\nx\r\n")
        assert told(connection, 1) == [reply("early")]
        connection.sendall(b"1\r\nx\r\n")
        assert ends_within(connection, 5)


@pytest.mark.parametrize("piece", [b"X", b"0", b"1\r\nx\r\n"], ids=["trailer", "chunk-size", "chunks"])
def test_a_trickle_does_not_extend_the_wait(port: int, piece: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        head = b"POST /early HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + (b"0\r\n" if piece == b"X" else b""))
        assert told(connection, 1) == [reply("early")]
        begin_s = time.monotonic()
        while not ends_within(connection, 0.1):
            assert time.monotonic() < begin_s + 5
            with contextlib.suppress(OSError):
                connection.sendall(piece)


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_client_that_does_not_read_is_cut_off(port: int, half_closed: bool) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(b"GET /huge HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        time.sleep(2.5)
        received = 0
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(1 << 20):
                received += len(piece)
    assert received < UNREAD


def test_a_client_that_reads_slowly_gets_all_of_it(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(b"GET /huge HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received, begin_s = 0, time.monotonic()
        while piece := connection.recv(1 << 20):
            received += len(piece)
            if received > 4_000_000 and time.monotonic() < begin_s + 1.5:
                time.sleep(0.05)
    assert received > UNREAD


def test_the_longest_waiting_connections_are_closed_at_the_limit(port: int) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(9)]
        asking = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
        asking.sendall(NEXT)
        assert told(asking, 1) == [reply("next")]
        # Those that waited longest, before their time was up.
        assert [ends_within(connection, 0.2) for connection in silent[:2]] == [True, True]
