"""An OpenAI-compatible server on loopback that misbehaves on command.

    with Server([status(500), status(429, retry_after=0.1), reply("fine")]) as server:
        ...  # server.url is the base URL, server.requests what arrived

A script is a list of behaviors, one for each completion request in the order of arrival (the last one
repeats), or a function from the request's position to a behavior.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behavior = Callable[["Exchange"], None]


class Exchange(BaseHTTPRequestHandler):
    """One connection: `/models` is always answered, `/chat/completions` as the script says."""

    protocol_version = "HTTP/1.1"
    owner: Server
    body: dict[str, Any]

    def log_message(self, *args: Any) -> None:
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        if self.path.endswith("/models"):
            self.owner.models_asked += 1
            if self.owner.models is None:
                self.send(500, "Internal Server Error", content_type="text/plain")
                return
            models = [
                {"object": "model", **({"id": model} if isinstance(model, str) else model)}
                for model in self.owner.models
            ]
            self.send(200, json.dumps({"object": "list", "data": models}))
        else:
            self.send(200, "{}")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.body = json.loads(raw)
        self.owner.take(self)(self)

    def send(self, code: int, body: str, *, content_type: str = "application/json", **headers: str) -> None:
        data = body.encode()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


@dataclass(frozen=True)
class Request:
    """What arrived: the JSON body and the headers, names in lower case."""

    body: dict[str, Any]
    headers: dict[str, str]


class Server:
    """Serves in threads until the `with` block ends. With `models=None` it cannot list its models.

    A model is a name, or the whole entry of the list (`{"id": "served", "max_model_len": 8192}`).

    Attributes:
        url: the base URL, ending in `/v1`.
        requests: every completion request so far.
        connections: how many TCP connections were accepted.
        models_asked: number of requests for the list of models.
        asked: set once the first completion request has arrived.
    """

    def __init__(
        self,
        script: Sequence[Behavior] | Callable[[int], Behavior] = (),
        *,
        models: Sequence[str | dict[str, Any]] | None = ("served",),
    ) -> None:
        self._script = script or (reply("fine"),)
        self._lock = threading.Lock()
        self.models = models
        self.requests: list[Request] = []
        self.connections = 0
        self.models_asked = 0
        self.asked = threading.Event()
        self.ended = threading.Event()
        owner = self

        class Handler(Exchange):
            def setup(self) -> None:
                self.owner = owner
                with owner._lock:
                    owner.connections += 1
                super().setup()

        self._http = _QuietServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def take(self, exchange: Exchange) -> Behavior:
        headers = {name.lower(): value for name, value in exchange.headers.items()}
        with self._lock:
            position = len(self.requests)
            self.requests.append(Request(exchange.body, headers))
        self.asked.set()
        if callable(self._script):
            return self._script(position)
        return self._script[min(position, len(self._script) - 1)]

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is part of the tests."""


def dead_url() -> str:
    """A base URL at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def completion(text: object, *, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    """The JSON of a whole reply: 7 prompt tokens, one completion token for each word."""
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "served",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": len(str(text or "").split()), "total_tokens": 0},
    }


def reply(text: str | None, *, finish: str = "stop", **message: Any) -> Behavior:
    """A good reply; extra keywords go into the message (`reasoning_content="…"`)."""
    return body(json.dumps(completion(text, finish=finish, **message)))


def body(text: str, *, content_type: str = "application/json") -> Behavior:
    """Status 200 and exactly this body."""
    return lambda exchange: exchange.send(200, text, content_type=content_type)


def garbage() -> Behavior:
    """A page of a proxy instead of JSON."""
    return body("<html>It works!</html>", content_type="text/html")


def status(code: int, *, retry_after: float | None = None, message: str = "scripted") -> Behavior:
    """An error in the protocol's shape."""
    headers = {} if retry_after is None else {"Retry_After": str(retry_after)}
    text = json.dumps({"error": {"message": message, "type": "scripted", "code": code}})
    return lambda exchange: exchange.send(code, text, **headers)


def half() -> Behavior:
    """The connection ends in the middle of the body."""

    def behave(exchange: Exchange) -> None:
        data = json.dumps(completion("never complete")).encode()
        exchange.send_response(200)
        exchange.send_header("Content-Type", "application/json")
        exchange.send_header("Content-Length", str(len(data)))
        exchange.end_headers()
        exchange.wfile.write(data[: len(data) // 2])
        exchange.close_connection = True

    return behave


def reset() -> Behavior:
    """The connection is reset before anything is said."""

    def behave(exchange: Exchange) -> None:
        exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        exchange.close_connection = True
        exchange.connection.close()

    return behave


def slow(seconds: float, then: Behavior) -> Behavior:
    """Wait, then behave."""

    def behave(exchange: Exchange) -> None:
        exchange.owner.ended.wait(seconds)
        then(exchange)

    return behave


def silence() -> Behavior:
    """Never answer."""

    def behave(exchange: Exchange) -> None:
        exchange.owner.ended.wait()
        exchange.close_connection = True

    return behave


def chunk(text: str | None = None, *, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """One piece of a stream."""
    if text is not None:
        delta["content"] = text
    return {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "served",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def stream(*chunks: dict[str, Any], done: bool = True, pause_s: float = 0.0) -> Behavior:
    """Server-sent events, one for each chunk; without `done` the connection just ends."""

    def behave(exchange: Exchange) -> None:
        exchange.send_response(200)
        exchange.send_header("Content-Type", "text/event-stream")
        exchange.send_header("Connection", "close")
        exchange.end_headers()
        for piece in chunks:
            exchange.wfile.write(f"data: {json.dumps(piece)}\n\n".encode())
            exchange.wfile.flush()
            exchange.owner.ended.wait(pause_s)
        if done:
            exchange.wfile.write(b"data: [DONE]\n\n")
        exchange.close_connection = True

    return behave
