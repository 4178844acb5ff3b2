"""Connections and request bodies, with bounds on their number, time and memory.

uvicorn waits without limit for the head of a request, for the rest of a body that was already refused, and
for a client to read its reply. Here a connection is closed when its client takes too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

import h11
from pydantic import ValidationError
from pydantic_core import from_json
from uvicorn.protocols.http.h11_impl import H11Protocol

from p2r.serving.errors import APIError
from p2r.serving.schema import Options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pydantic_core import ErrorDetails
    from starlette.requests import Request

    from p2r.images.limits import MemoryBudget, Reservation
    from p2r.serving.config import ServingConfig
    from p2r.serving.schema import AskRequest

R = TypeVar("R", bound="AskRequest")
T = TypeVar("T")
P = ParamSpec("P")

IDLE_S = 30  # between the reply and the next request
_CHECK_S = 0.2  # between looks at a connection
_LINGER_S, _LINGER_BYTES = 1.0, 16 * 2**20
_MAX_VALUES = 200_000

_json_thread = ThreadPoolExecutor(1, thread_name_prefix="p2r-json")


async def in_json_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Read or write large JSON in one thread.

    It needs several times its size and holds the interpreter's lock: more threads need more memory and are
    not faster.
    """
    return await asyncio.get_running_loop().run_in_executor(_json_thread, partial(function, *args, **kwargs))


class HeldMemory:
    """The bytes of one request: its body, then its image and its reply. Released with the `with` block.

    Args:
        budget: of all requests. It is never waited for: requests that hold bytes would wait for each other.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._reservation: Reservation | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        return self._reservation.nbytes if self._reservation else 0

    def resize(self, nbytes: int) -> None:
        """Hold `nbytes` in all.

        Raises:
            APIError: 429, other requests hold too much.
        """
        self.release()
        self._reservation = self._budget.try_reserve(nbytes)
        if self._reservation is None:
            raise APIError(
                429,
                "other requests hold all of the server's memory for images: try again later",
                code="out_of_memory",
                headers={"Retry-After": "5", "Connection": "close"},
            )

    def release(self) -> None:
        """Hold nothing."""
        if self._reservation:
            self._reservation.release()
            self._reservation = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


# Bodies.


async def read_json(
    request: Request, config: ServingConfig, held: HeldMemory, kind: type[R], parse: Callable[[R], T]
) -> T:
    """Read a body into its model; the result of `parse`, which runs in the thread for JSON.

    Raises:
        APIError: too large, too slow, not JSON, or not valid; names the field.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise APIError(415, "send the body uncompressed", code="unsupported_encoding")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        # Pages of other sites may send only a few other types without a preflight.
        raise APIError(415, "the Content-Type must be application/json", code="unsupported_media_type")
    body = await read_body(request, held, config.max_body_bytes, config.body_timeout_s)
    return await in_json_thread(lambda: parse(_validated(body, kind)))


async def read_body(request: Request, held: HeldMemory, max_bytes: int, timeout_s: float) -> bytearray:
    """Read a body.

    Raises:
        APIError: too large, too slow, or there is no memory for it now.
    """
    too_large = APIError(
        413,
        f"the body has more than {max_bytes:,} bytes",
        code="body_too_large",
        headers={"Connection": "close"},
    )
    pieces, body = request.stream(), bytearray()
    announced = request.headers.get("content-length", "")
    try:
        if announced.isdecimal() and int(announced[:20]) > max_bytes:
            raise too_large
        async with asyncio.timeout(timeout_s):
            async for piece in pieces:
                body += piece
                if len(body) > max_bytes:
                    raise too_large
                if len(body) > held.nbytes:
                    # By what has arrived: a client that only announces bytes holds none.
                    held.resize(len(body) * 5 // 4)
    except TimeoutError:
        message = f"the body did not come within {timeout_s:g} s"
        raise APIError(408, message, code="body_timeout", headers={"Connection": "close"}) from None
    except APIError:
        body.clear()
        await _discard(pieces)
        raise
    return body


async def _discard(pieces: AsyncIterator[bytes]) -> None:
    """Read on for a moment: closing a socket with unread bytes resets it, and the refusal would be lost."""
    left = _LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            async for piece in pieces:
                left -= len(piece)
                if left < 0:
                    return


def _validated(body: bytearray, kind: type[R]) -> R:
    # A value takes a hundred bytes, and an empty list in the body takes three.
    if sum(map(body.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise APIError(413, f"the body has more than {_MAX_VALUES:,} values", code="body_too_large")
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise APIError(400, f"the body is not JSON: {error}", code="invalid_json") from None
    body.clear()
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _invalid(error.errors(include_url=False, include_input=False)[0]) from None


def _invalid(error: ErrorDetails) -> APIError:
    # Pydantic adds the names of union members to the path.
    param = ".".join(str(part) for part in error["loc"] if part not in ("str", "list[str]")) or None
    if error["type"] == "extra_forbidden":  # only our own options are strict
        code, message = "unsupported_field", f"there is no such option: {', '.join(Options.model_fields)}"
    else:
        code, message = "invalid_value", error["msg"].partition(" or instance of ")[0]
    return APIError(400, f"{param or 'body'}: {message}", param=param, code=code)


# Connections.


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with time limits for what the client has to do: more bytes do not extend them.

    Beyond `max_connections`, the connection that has waited longest for its client is closed, so silent
    clients do not keep others out.
    """

    max_connections: int
    seconds: dict[str, float]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self._awaited: tuple[str, object] | None = None
        self._since_s = 0.0
        self._resumed = 0
        self._check()
        if len(self.connections) > self.max_connections:
            max(self.connections, key=BoundedProtocol.waited_s).transport.abort()  # type: ignore[arg-type]

    def resume_writing(self) -> None:
        """See asyncio."""
        super().resume_writing()
        self._resumed += 1

    def waited_s(self) -> float:
        """The seconds since which the client has to do something; -1 if it has not."""
        awaited, now_s = self._find_awaited(), self.loop.time()
        if awaited != self._awaited:
            self._awaited, self._since_s = awaited, now_s
        return now_s - self._since_s if awaited else -1.0

    def _find_awaited(self) -> tuple[str, object] | None:
        """What the client has to do, and a mark that changes when it has done it."""
        if self.flow.write_paused or self.transport.is_closing():
            return "read", self._resumed
        if self.conn.their_state is h11.IDLE:
            begun = self.cycle is None or self.conn.trailing_data[0]
            return "head" if begun else "next request", self.cycle
        if self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            return "rest of body", self.cycle
        return None

    def _check(self) -> None:
        if self not in self.connections:
            return
        waited_s = self.waited_s()
        kind = self._awaited[0] if self._awaited else ""
        if kind and waited_s > self.seconds[kind]:
            if kind == "head":
                self._refuse_head()
            (self.transport.abort if kind == "read" else self.transport.close)()
        self.loop.call_later(_CHECK_S, self._check)

    def _refuse_head(self) -> None:
        message = f"the head of the request did not come within {self.seconds['head']:g} s"
        body = json.dumps(APIError(408, message, code="header_timeout").body())
        head = "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
        self.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())


def bounded_protocol(config: ServingConfig) -> type[BoundedProtocol]:
    """The protocol class of one server; uvicorn makes the instances."""
    seconds = {
        "head": config.header_timeout_s,
        "next request": IDLE_S,
        "rest of body": config.header_timeout_s,
        "read": config.write_timeout_s,
    }
    most = max(config.max_connections, 2 * (config.concurrency + config.queue))
    return type("Protocol", (BoundedProtocol,), {"max_connections": most, "seconds": seconds})
