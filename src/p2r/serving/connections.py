"""A connection that says nothing, or says it one letter at a time, is closed; uvicorn would wait forever.

Idle time after a reply is uvicorn's `timeout_keep_alive`, and a slow body is `body_timeout_s`; between them
is the head of a request.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from p2r.serving.failures import RequestFailed

if TYPE_CHECKING:
    import asyncio


class ImpatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with a time for the head of a request."""

    header_timeout_s: float
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self._wait_or_not()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        super().data_received(data)
        self._wait_or_not()

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
