"""uvicorn's connections, for bodies of megabytes and for clients that take their time.

A connection that says nothing, or says it one letter at a time, is closed; uvicorn would wait forever. Idle
time after a reply is its `timeout_keep_alive`, and a slow body is our `body_timeout_s`; between them is the
head of a request.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from p2r.serving.failures import RequestFailed

if TYPE_CHECKING:
    import asyncio

_AHEAD_BYTES = 1 << 20  # of a body, that the application has not taken yet


class ImpatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with a time for the head of a request, and a short way for the inside of a body."""

    header_timeout_s: float
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self._wait_or_not()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        conn = self.conn
        # Nothing public tells how much is to come. Where h11 does not know it either, or names it otherwise,
        # h11 reads all of the body.
        reader: Any = getattr(conn, "_reader", None)
        inside = conn.their_state is h11.SEND_BODY and getattr(reader, "_remaining", 0) > len(data)
        if inside and not conn.trailing_data[0]:
            reader._remaining -= len(data)  # noqa: SLF001
            self._pass_on(data)
        else:
            super().data_received(data)
            self._wait_or_not()

    def _pass_on(self, data: bytes) -> None:
        # h11 would copy them into its buffer and out of it, which takes half the time of a large request. It
        # reads the last ones, and so remains the one that knows where a request ends.
        if self.conn.our_state is h11.DONE:
            return
        self.cycle.body += data
        if len(self.cycle.body) > _AHEAD_BYTES:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_or_not(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._waiting is None:
            # From the first byte on: more bytes do not buy more time.
            self._waiting = self.loop.call_later(self.header_timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        seconds = f"{self.header_timeout_s:g}"
        refusal = RequestFailed(
            408, f"the head of the request did not come within {seconds} s", code="header_timeout"
        )
        body = json.dumps(refusal.body()).encode()
        head = (
            f"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
