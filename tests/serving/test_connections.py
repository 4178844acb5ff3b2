"""Bodies over real sockets: what arrives is what was sent, in any pieces, and the next request is heard."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from p2r.serving.connections import ImpatientProtocol

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = hashlib.shake_256(b"body").digest(3_000_000)
HEAD = f"POST /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n".encode()
NEXT = b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n"

passed_on: list[int] = []
gone = threading.Event()


class Counting(ImpatientProtocol):
    header_timeout_s = 5.0

    def _pass_on(self, data: bytes) -> None:
        passed_on.append(len(data))
        super()._pass_on(data)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The path and a digest of the body; `/early` does not read it."""
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
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(application, http=Counting, lifespan="off", ws="none", log_level="error")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def told(connection: socket.socket, lines: int) -> list[str]:
    """The last lines of so many replies."""
    data = b""
    while sum(line.startswith(b"/") for line in data.split(b"\n")[:-1]) < lines:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return [line for line in data.decode().split("\n") if line.startswith("/")]


def reply(path: str, body: bytes = b"") -> str:
    return f"/{path} {hashlib.sha256(body).hexdigest()}"


@pytest.mark.parametrize("piece", [1_000, 65_536, 700_001, len(BODY)])
def test_a_large_body_arrives_whole_and_the_next_request_is_heard(port: int, piece: int) -> None:
    passed_on.clear()
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(HEAD % b"large" + b"\r\n")
        for start in range(0, len(BODY), piece):
            connection.sendall(BODY[start : start + piece])
        connection.sendall(NEXT)
        assert told(connection, 2) == [reply("large", BODY), reply("next")]
    assert sum(passed_on) > len(BODY) // 2


def test_requests_that_come_at_once_are_kept_apart(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        whole = HEAD % b"large" + b"\r\n" + BODY
        connection.sendall(whole + whole + NEXT)
        assert told(connection, 3) == [reply("large", BODY), reply("large", BODY), reply("next")]


def test_a_body_in_chunks_is_read_by_h11(port: int) -> None:
    passed_on.clear()
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        head = b"POST /chunks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) + NEXT)
        assert told(connection, 2) == [reply("chunks", BODY), reply("next")]
    assert not passed_on


def test_a_client_that_waits_for_the_word_gets_it(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(HEAD % b"polite" + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(BODY)
        assert told(connection, 1) == [reply("polite", BODY)]


def test_what_nobody_reads_is_dropped(port: int) -> None:
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
