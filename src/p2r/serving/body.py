"""A request's body: read within limits of size and time, and made into its model or a clear refusal."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from p2r.serving.errors import RequestFailed
from p2r.serving.memory import in_json_thread
from p2r.serving.schema import Options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pydantic_core import ErrorDetails
    from starlette.requests import Request

    from p2r.serving.config import ServingConfig
    from p2r.serving.memory import HeldMemory
    from p2r.serving.schema import AskRequest

R = TypeVar("R", bound="AskRequest")
T = TypeVar("T")

_LINGER_S, _LINGER_BYTES = 1.0, 16 * 2**20
_MAX_VALUES = 200_000


async def read_request(
    request: Request, config: ServingConfig, held: HeldMemory, kind: type[R], understand: Callable[[R], T]
) -> T:
    """Read and check a body of some kind; what `understand` makes of it.

    Raises:
        RequestFailed: too large, too slow, not JSON, or not what the protocol says; names the field.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestFailed(415, "send the body uncompressed", code="unsupported_encoding")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        # Also keeps pages of other sites out, which may send only a few other types without asking.
        raise RequestFailed(415, "the Content-Type must be application/json", code="unsupported_media_type")
    body = await read_body(request, config, held, config.max_body_bytes)
    return await in_json_thread(lambda: understand(_parsed(body, kind)))


async def read_body(request: Request, config: ServingConfig, held: HeldMemory, most: int) -> bytearray:
    """Read a body of at most so many bytes.

    Raises:
        RequestFailed: too large, or too slow, or there is no memory for it now.
    """
    pieces = request.stream()
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > most:
        await _linger(pieces)
        raise _too_large(most)
    # Grown in place: memory that is new to the process costs more than what is copied into it.
    body = bytearray()
    try:
        async with asyncio.timeout(config.body_timeout_s):
            async for piece in pieces:
                body += piece
                if len(body) > most:
                    raise _too_large(most)
                if len(body) > held.nbytes:
                    # Not what was announced: a client that only announces holds nothing.
                    held.resize(len(body) * 5 // 4)
    except TimeoutError:
        raise RequestFailed(
            408,
            f"the body did not come within {config.body_timeout_s:g} s",
            code="body_timeout",
            headers={"Connection": "close"},
        ) from None
    except RequestFailed:
        body.clear()
        await _linger(pieces)
        raise
    return body


async def _linger(pieces: AsyncIterator[bytes]) -> None:
    """Read on for a moment and drop it: to close over unread bytes resets the connection, and the refusal
    that was sent is lost with it."""
    left = _LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            async for piece in pieces:
                left -= len(piece)
                if left < 0:
                    return


def _too_large(most: int) -> RequestFailed:
    return RequestFailed(
        413, f"the body has more than {most:,} bytes", code="body_too_large", headers={"Connection": "close"}
    )


def _parsed(body: bytearray, kind: type[R]) -> R:
    # Each value takes a hundred bytes, and an empty list in the body takes three.
    if sum(map(body.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise RequestFailed(413, f"the body has more than {_MAX_VALUES:,} values", code="body_too_large")
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestFailed(400, f"the body is not JSON: {error}", code="invalid_json") from None
    body.clear()
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_input=False)[0]) from None


def _refusal(error: ErrorDetails) -> RequestFailed:
    # Pydantic puts the names of union members into the path; fields are what clients know.
    members = ("str", "list[str]")
    param = ".".join(str(part) for part in error["loc"] if part not in members) or None
    unknown = error["type"] == "extra_forbidden"
    # Only our own options are strict.
    known = f"there is no such option: {', '.join(Options.model_fields)}"
    message = known if unknown else error["msg"].partition(" or instance of ")[0]
    code = "unsupported_field" if unknown else "invalid_value"
    return RequestFailed(400, f"{param or 'body'}: {message}", param=param, code=code)
