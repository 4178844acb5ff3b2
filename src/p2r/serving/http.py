"""uvicorn's connections, with a bound on how many there are and on how long each may wait for its client.

uvicorn itself waits without end for the head of a request, for the rest of a body that was refused already,
and for a client to read its reply. The body of a request that is being answered has a time limit of its own
(`body_timeout_s`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from p2r.serving.errors import RequestFailed

if TYPE_CHECKING:
    import asyncio

    from p2r.serving.config import ServingConfig

    Awaited = Literal["head", "next request", "rest of body", "reading"]

IDLE_S = 30  # between the reply and the next request


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with time limits for what only the client can do.

    Beyond `max_connections`, the connection that has waited longest for its client is closed. So clients
    that say nothing cannot keep out those that do.

    Attributes:
        seconds: how long each of these may take; more bytes do not buy more time.
        waiting: the connections that wait for their clients, in the order in which they began to.
    """

    max_connections: int
    seconds: dict[Awaited, float]
    waiting: dict[BoundedProtocol, None]

    _awaited: Awaited | None = None
    _timer: asyncio.TimerHandle | None = None
    _served = False
    _client_ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self.max_connections:
            oldest = next(iter(self.waiting))
            oldest._stop_waiting()  # noqa: SLF001
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        super().data_received(data)
        self._watch()

    def eof_received(self) -> None:
        """See asyncio, which closes the connection then, once all that was written is read."""
        self._client_ended = True
        self._watch()

    def pause_writing(self) -> None:
        """See asyncio."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """See asyncio."""
        super().resume_writing()
        self._watch()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        self._served = True
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        super().connection_lost(exc)
        self._stop_waiting()

    def _watch(self) -> None:
        awaited = self._what_is_awaited()
        if awaited == self._awaited:
            return
        self._stop_waiting()
        if awaited:
            self._awaited = awaited
            self.waiting[self] = None
            self._timer = self.loop.call_later(self.seconds[awaited], self._give_up)

    def _what_is_awaited(self) -> Awaited | None:
        if self._client_ended or self.flow.write_paused or self.transport.is_closing():
            return "reading"
        ours, theirs = self.conn.our_state, self.conn.their_state
        if theirs is h11.IDLE:
            begun = not self._served or self.conn.trailing_data[0]
            return "head" if begun else "next request"
        return "rest of body" if ours is h11.DONE and theirs is h11.SEND_BODY else None

    def _stop_waiting(self) -> None:
        self._awaited = None
        self.waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self._awaited == "reading":
            self.transport.abort()
            return
        if self._awaited == "head":
            self._refuse_head()
        self.transport.close()
        self._watch()

    def _refuse_head(self) -> None:
        seconds = f"{self.seconds['head']:g}"
        refusal = RequestFailed(
            408, f"the head of the request did not come within {seconds} s", code="header_timeout"
        )
        body = json.dumps(refusal.body()).encode()
        head = (
            f"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)


def bounded_protocol(config: ServingConfig) -> type[BoundedProtocol]:
    """The protocol of one server. uvicorn makes the instances, and takes a class only."""
    seconds: dict[Awaited, float] = {
        "head": config.header_timeout_s,
        "next request": IDLE_S,
        "rest of body": config.header_timeout_s,
        "reading": config.write_timeout_s,
    }
    most = max(config.max_connections, 2 * (config.concurrency + config.queue))
    bounds = {"max_connections": most, "seconds": seconds, "waiting": {}}
    return type("Protocol", (BoundedProtocol,), bounds)
