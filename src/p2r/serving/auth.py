"""What every request passes before anything else looks at it: whose it is, and whether it may come in."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from p2r.serving.config import is_loopback
from p2r.serving.errors import RequestFailed
from p2r.serving.keys import Keys

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from p2r.serving.config import ServingConfig

# Says nothing about anybody's questions. Orchestrators have no keys.
_OPEN_PATHS = ("/healthz", "/readyz", "/openapi.json")
_PIECE_BYTES = 64 * 1024
# Of the page and of all that it loads: nothing from elsewhere or within other pages, no text run as code.
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guards:
    """Checks the bearer key; without keys, that the request was meant for this machine.

    Browsers send no bearer keys. For the page, and for what the page itself asks, a key is also taken as the
    password of HTTP's basic authentication, whatever the user's name. A browser sends the password unasked:
    requests that the page of another site made it send are refused by their `Origin`.

    A page of another site can make a browser send requests to a loopback address under the site's own name
    (DNS rebinding). Its `Host` header tells.
    """

    def __init__(self, app: ASGIApp, config: ServingConfig) -> None:
        self._app = app
        self._keys = Keys(config.api_keys)
        self._ui = config.ui

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _tidied(scope)
        # Ours, never the client's: it goes into headers and logs.
        scope.setdefault("state", {})["request_id"] = uuid.uuid4().hex

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = scope["state"]["request_id"]
                headers["X-Content-Type-Options"] = "nosniff"
                if self._is_page(scope):
                    headers.update(_PAGE_HEADERS)
                    headers.setdefault("Cache-Control", "no-cache")
            if message["type"] == "http.response.body":
                # In pieces, each of which waits until the client has read most of the one before: so a reply
                # is held once, and a client that does not read is noticed.
                body = message.get("body", b"")
                last = max(0, len(body) - 1) // _PIECE_BYTES * _PIECE_BYTES
                for start in range(0, last, _PIECE_BYTES):
                    piece = body[start : start + _PIECE_BYTES]
                    await send({**message, "body": piece, "more_body": True})
                message = {**message, "body": body[last:]}
            await send(message)

        refusal = self._refusal(scope)
        if refusal:
            await refusal.response()(scope, receive, send_named)
        else:
            await self._app(scope, receive, send_named)

    def _is_page(self, scope: Scope) -> bool:
        return self._ui and (scope["path"] == "/" or scope["path"].startswith("/page/"))

    def _refusal(self, scope: Scope) -> RequestFailed | None:
        headers = dict(scope["headers"])
        if b"content-length" in headers and b"transfer-encoding" in headers:
            # Another server on the way may have read the other one, and taken the rest for a request.
            why = "give a Content-Length or a Transfer-Encoding, not both"
            return RequestFailed(400, why, code="ambiguous_length", headers={"Connection": "close"})
        page = self._is_page(scope)
        origin, host = headers.get(b"origin"), headers.get(b"host", b"")
        own = origin is not None and origin.partition(b"://")[2] == host
        if page and scope["method"] != "GET" and origin is not None and not own:
            return RequestFailed(403, "the page of another site asked", code="cross_site")
        if self._keys:
            page = page or (self._ui and own)
            given = headers.get(b"authorization", b"")
            if scope["path"] in _OPEN_PATHS or self._keys.admit(given, password=page):
                return None
            return RequestFailed(
                401,
                "a valid key is needed: Authorization: Bearer KEY",
                code="invalid_api_key",
                # A browser asks for a name and a password then.
                headers={"WWW-Authenticate": 'Basic realm="p2r", charset="UTF-8"' if page else "Bearer"},
            )
        if is_loopback(_host(host.decode("latin-1"))):
            return None
        return RequestFailed(
            403,
            "a server without keys answers to localhost only: --api-key-file lets it serve other names",
            code="unknown_host",
        )


def _tidied(scope: Scope) -> Scope:
    # A base URL may end in a slash, and so may a path. HEAD is a GET whose body uvicorn leaves out.
    path = re.sub("/{2,}", "/", scope["path"])
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return {**scope, "path": path.rstrip("/") or "/", "method": method}


def _host(header: str) -> str:
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.partition(":")[0]
