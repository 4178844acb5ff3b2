"""Security: keys, host names, bodies, images, logs. Each test fails without its guard."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import socket
import struct
import time
import zlib
from typing import TYPE_CHECKING, Any

import openai
import pytest

from p2r.errors import InputError
from p2r.images.limits import Limits
from p2r.serving.auth import Keys, read_keys
from p2r.serving.config import ServingConfig, is_loopback
from tests.image_files import encoded
from tests.serving.live_server import (
    IMAGE,
    IMAGE_URI,
    KEY,
    LiveServer,
    body,
    both_roles,
    data_uri,
    gray,
    refused,
    user,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

JSON = {"Content-Type": "application/json"}
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    limits = Limits(max_pixels=4_000_000, max_bytes=200_000, max_decoded_bytes=30_000_000)
    with LiveServer(
        max_body_bytes=300_000, body_timeout_s=0.5, header_timeout_s=1.0, image=limits
    ) as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[LiveServer]:
    with LiveServer(api_keys=("another-key-of-enough-length", KEY)) as running:
        yield running


# Who may come in.


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        KEY,
        f"Basic {KEY}",
        "Bearer",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY}x",
        f"Bearer {KEY.upper()}",
        "Bearer " + "ü" * 20,
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/", "/nothing"])
def test_without_a_key_nothing_is_served(locked: LiveServer, header: str | None, path: str) -> None:
    headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
    reply = locked.http.get(path, headers=headers)
    refused(reply, 401, code="invalid_api_key")
    assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_with_a_key_everything_is(locked: LiveServer) -> None:
    assert locked.ask(headers=BEARER).status_code == 200
    assert locked.http.get("/metrics", headers=BEARER).status_code == 200
    assert locked.http.get("/healthz").status_code == 200
    # Keys, not names, decide then: a proxy has a name of its own.
    assert locked.http.get("/v1/models", headers=BEARER | {"Host": "p2r.example"}).status_code == 200
    refused(locked.ask(), 401)


def test_the_official_client_and_keys(locked: LiveServer) -> None:
    with locked.openai(KEY) as client:
        assert next(model.id for model in client.models.list()) == "p2r"
    with locked.openai("wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_the_time_of_a_key_comparison_does_not_depend_on_the_key() -> None:
    key = "k" * 8_000_000
    keys = Keys([key])
    first, last = b"x" + key[1:].encode(), key[:-1].encode() + b"x"

    def seconds(candidate: bytes) -> float:
        start_s = time.thread_time()
        assert candidate not in keys
        return time.thread_time() - start_s

    early, late = (min(seconds(candidate) for _ in range(5)) for candidate in (first, last))
    # A comparison that stops at the first difference is thousands of times faster for `first`.
    assert 0.3 < early / late < 3


class Uncomparable(bytes):
    """A key that must not be compared as it is, but by its hash."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("the key itself was compared")

    __hash__ = None  # type: ignore[assignment]


def test_a_key_is_never_compared_itself() -> None:
    assert Uncomparable(KEY.encode()) in Keys([KEY])
    assert Uncomparable(b"another") not in Keys([KEY])


def test_the_hash_of_every_key_is_compared() -> None:
    keys = Keys(["first-key-0123456789", "second-key-0123456789"])
    assert b"first-key-0123456789" in keys
    assert b"second-key-0123456789" in keys
    assert b"" not in keys
    assert not Keys([])


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", "a key with blanks in it\n", "ü" * 20])
def test_key_files_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(InputError, match="key file") as error:
        read_keys(file)
    assert text.strip("# \n") not in str(error.value) or not text.strip("# \n")
    with pytest.raises(InputError, match="there is no such file"):
        read_keys(tmp_path / "missing")


def test_key_files_that_can(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# the team's\n{KEY}\n\n  {KEY}2  \n")
    assert read_keys(file) == (KEY, f"{KEY}2")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "p2r.example", "8.8.8.8", ""])
def test_no_public_address_without_a_key(host: str) -> None:
    with pytest.raises(InputError, match="--api-key-file"):
        ServingConfig(host=host)
    assert ServingConfig(host=host, api_keys=(KEY,)).host == host


def test_loopback_and_limits() -> None:
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"]))
    wrongs: list[dict[str, Any]] = [{"port": 70000}, {"concurrency": 0}, {"queue": -1}, {"timeout_s": 0}]
    for wrong in wrongs:
        with pytest.raises(InputError, match=next(iter(wrong)).split("_")[0]):
            ServingConfig(**wrong)


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8100", "127.0.0.1.evil.example", "", "[::2]"])
def test_a_name_that_was_bound_to_loopback_is_not_served(server: LiveServer, name: str) -> None:
    refused(server.http.get("/v1/models", headers={"Host": name}), 403, code="unknown_host")


def test_a_page_of_another_site_cannot_ask(server: LiveServer) -> None:
    # What a page may send without being allowed to: a form's types. And nothing allows more.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        reply = server.http.post(
            "/v1/chat/completions", content=json.dumps(body()), headers={"Content-Type": kind}
        )
        refused(reply, 415)
    reply = server.http.options("/v1/chat/completions", headers={"Origin": "https://evil.example"})
    assert not [name for name in reply.headers if name.startswith("access-control")]


# What may be sent.


def post(server: LiveServer, content: bytes, **headers: str) -> httpx.Response:
    return server.http.post("/v1/chat/completions", content=content, headers=JSON | headers)


def test_a_huge_body_is_refused_announced_or_not(server: LiveServer) -> None:
    refused(post(server, b" " * 300_001), 413, code="body_too_large")

    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 10_000

    reply = server.http.post("/v1/chat/completions", content=pieces(), headers=JSON)
    refused(reply, 413, code="body_too_large")


def test_a_slow_body_times_out(server: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        connection.settimeout(10)
        assert b"408" in connection.recv(4096).splitlines()[0]
    assert server.app.state.limiter.accepted == 0


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_slow_headers_time_out(server: LiveServer, begun: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(10)
        if begun:
            connection.sendall(begun)
            answered = b""
            while b'{"status":"ok"}' not in answered:
                answered += connection.recv(4096)
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        connection.settimeout(0.1)
        told = b""
        # One letter after the other buys no more time.
        for letter in b"X-Slow: " + b"x" * 100:
            connection.sendall(bytes([letter]))
            try:
                told = connection.recv(4096)
                break
            except TimeoutError:
                continue
        assert told.startswith(b"HTTP/1.1 408")
        assert b'"code": "header_timeout"' in told
        connection.settimeout(10)
        # Closed; by a reset if our last letter came too late to be read.
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(4096) == b""


def test_a_silent_connection_times_out(server: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(10)
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_compressed_body_is_not_unpacked(server: LiveServer) -> None:
    refused(post(server, gzip.compress(b" " * 10**7), **{"Content-Encoding": "gzip"}), 415)


@pytest.mark.parametrize(
    "content",
    [
        b'{"model":' + b"[" * 100_000,
        b'{"model":' + b'{"a":' * 50_000,
        b"9" * 5_000,
        b'{"model": NaN}',
        b'{"model": "\\ud800"}',
        b"\xff\xfe",
        b"null",
        b'"text"',
        b'{"model": "p2r", "messages": [[]]}',
    ],
)
def test_nesting_and_odd_json_are_refused(server: LiveServer, content: bytes) -> None:
    refused(post(server, content), 400)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/hostname",
            "/etc/hostname",
            "/proc/self/environ",
            "../../etc/hostname",
            "C:\\boot.ini",
        ),
        *("http://127.0.0.1/a.png", "http://169.254.169.254/latest", "https://images.example/a.png"),
        *("", "data:", "data:image/png;base64,", "data:image/png,abc", "data:image/png;base64,%%%"),
        *("\x00data:image/png;base64,AAAA", "javascript:alert(1)", data_uri(b"<svg/>", "image/svg+xml")),
    ],
)
def test_images_are_data_or_from_allowed_hosts(server: LiveServer, url: str) -> None:
    message = refused(
        server.ask(body(url=url)), 400, "messages.0.content.0.image_url.url", code="invalid_image"
    )
    assert "No such file" not in message
    assert "no such file" not in message


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


def tiff_header(side: int) -> bytes:
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, side), (279, 9)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0" + b"\0" * 64


@pytest.mark.parametrize(
    "image",
    [
        png_header(40_000, 40_000),
        tiff_header(40_000),
        encoded(gray(3_000, 3_000), "PNG"),  # 9 megapixels of gray in a few kilobytes
        encoded(gray(1_990, 1_990), "WEBP"),  # 4 megapixels, at 8 bytes each
        IMAGE + b"x" * 200_000,
        IMAGE[:200],
    ],
    ids=["gigapixel-png", "gigapixel-tiff", "png-bomb", "whole-only", "bytes", "truncated"],
)
def test_images_over_a_limit_or_damaged_are_refused(server: LiveServer, image: bytes) -> None:
    calls = len(server.model.calls)
    refused(server.ask(body(url=data_uri(image))), 400, code="invalid_image")
    assert len(server.model.calls) == calls


# What goes out.


def test_logs_hold_neither_images_nor_texts_nor_keys(
    locked: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        locked.ask(body("What is my secret?"), headers=BEARER)
        locked.ask(body("What is my secret?", n=2), headers=BEARER)
        locked.ask(headers={"Authorization": "Bearer wrong-key-of-some-length"})
    logged = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("p2r", "uvicorn"))
    )
    assert "status 200" in logged
    assert "status 400" in logged
    for secret in (KEY, "wrong-key", "secret", IMAGE_URI[30:60]):
        assert secret not in logged


def test_headers_cannot_be_forged(server: LiveServer) -> None:
    reply = server.http.get("/healthz", headers={"X-Request-Id": "forged"})
    assert reply.headers["X-Request-Id"] != "forged"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "server" not in reply.headers
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /v1/models/p2r%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = connection.recv(4096).partition(b"\r\n\r\n")[0].lower()
    assert b"404" in head
    assert b"set-cookie" not in head


# The rest of the official client.


def test_the_official_client_asks_and_hits_each_error() -> None:
    with LiveServer(both_roles()) as server, server.openai() as client:
        reply = client.chat.completions.create(model="p2r-letter", messages=[user()], temperature=0)
        assert reply.choices[0].message.content == "B"
        assert reply.choices[0].message.p2r["boxes"][0]["label"] == "bus"
        assert reply.usage.total_tokens > 0
        assert client.models.retrieve("p2r-think").id == "p2r-think"
        with pytest.raises(openai.BadRequestError) as refusal:
            client.chat.completions.create(model="p2r", messages=[user()], n=2)
        assert refusal.value.param == "n"
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt", messages=[user()])
