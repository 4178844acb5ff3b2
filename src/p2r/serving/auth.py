"""Access control: bearer keys, the `Host` and `Origin` of browsers, and the headers that protect the page."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware

from p2r.errors import InputError, file_problem
from p2r.serving.config import is_loopback
from p2r.serving.errors import APIError
from p2r.serving.page.front import STYLE_HASH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from p2r.serving.config import ServingConfig

MIN_CHARS = 16
_KEY = re.compile(r"[!-~]+")
_OPEN_PATHS = ("/healthz", "/readyz", "/openapi.json")  # orchestrators have no keys
_PIECE_BYTES = 64 * 1024
# The page loads nothing from elsewhere, is not framed, and runs no text as code.
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; style-src 'sha256-{STYLE_HASH}'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def read_keys(file: Path) -> tuple[str, ...]:
    """Read keys, one a line, without empty lines and lines that begin with `#`.

    Raises:
        InputError: the file cannot be read, has no key, or one that is too short or has blanks in it.
    """
    hint = "make one with: openssl rand -hex 32"
    try:
        lines = map(str.strip, file.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"key file {file}: {file_problem(error, hint)}") from error
    keys = {number: line for number, line in enumerate(lines, 1) if line and not line.startswith("#")}
    for number, key in keys.items():
        if len(key) < MIN_CHARS or not _KEY.fullmatch(key):
            raise InputError(
                f"key file {file}: line {number}: a key is {MIN_CHARS} or more visible ASCII characters; "
                + hint
            )
    if not keys:
        raise InputError(f"key file {file}: there is no key in it; {hint}")
    return tuple(keys.values())


class Keys:
    """The valid keys. Only their hashes are kept."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = [_hashed(key.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def __contains__(self, key: bytes) -> bool:
        """Compares all hashes, each in constant time, so the time tells nothing about a key."""
        hashed = _hashed(key)
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(known, hashed)
        return found

    def authorize(self, authorization: bytes, *, password: bool) -> bool:
        """Whether an `Authorization` header has a valid key: `Bearer`, or `Basic` with `password`."""
        scheme, _, given = authorization.partition(b" ")
        kind = scheme.lower()
        if kind == b"basic" and password:
            try:
                given = base64.b64decode(given.strip(), validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif kind != b"bearer":
            return False
        return given.strip() in self


def _hashed(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class AuthMiddleware:
    """Checks the key of a request; without keys, that its `Host` is this machine.

    The `Host` check is against DNS rebinding: a page of another site can make a browser send requests to a
    loopback address under the name of that site. Browsers send no bearer keys, so for the page and its own
    requests a key is also accepted as the password of basic authentication. Browsers send that password with
    requests of other sites' pages too; these are refused by their `Origin`.
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
        # Doubled and trailing slashes come from base URLs. uvicorn drops the body of the reply to HEAD.
        path = re.sub("/{2,}", "/", scope["path"]).rstrip("/") or "/"
        scope = {**scope, "path": path, "method": scope["method"].replace("HEAD", "GET")}
        page = self._ui and (path == "/" or path.startswith("/page/"))
        # Never the client's: it goes into headers and logs.
        request_id = scope.setdefault("state", {})["request_id"] = uuid.uuid4().hex

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                if page:
                    headers.update(_PAGE_HEADERS)
                    headers.setdefault("Cache-Control", "no-cache")
            # In pieces, each sent when most of the one before was read: so a client that does not read is
            # noticed, and no copy of the whole body is buffered.
            body = message.get("body", b"")
            last = max(0, len(body) - 1) // _PIECE_BYTES * _PIECE_BYTES
            for start in range(0, last, _PIECE_BYTES):
                await send({**message, "body": body[start : start + _PIECE_BYTES], "more_body": True})
            await send({**message, "body": body[last:]} if last else message)

        refusal = self._refusal(scope, page=page)
        await (refusal.response() if refusal else self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, *, page: bool) -> APIError | None:
        headers = dict(scope["headers"])
        if b"content-length" in headers and b"transfer-encoding" in headers:
            # A proxy may use one of them and this server the other (request smuggling).
            message = "give a Content-Length or a Transfer-Encoding, not both"
            return APIError(400, message, code="ambiguous_length", headers={"Connection": "close"})
        origin, host = headers.get(b"origin"), headers.get(b"host", b"")
        own = origin is not None and origin.partition(b"://")[2] == host
        if page and scope["method"] != "GET" and origin is not None and not own:
            return APIError(403, "the request is from the page of another site", code="cross_site")
        if self._keys:
            page = page or (self._ui and own)
            authorization = headers.get(b"authorization", b"")
            if scope["path"] in _OPEN_PATHS or self._keys.authorize(authorization, password=page):
                return None
            return APIError(
                401,
                "a valid key is needed: Authorization: Bearer KEY",
                code="invalid_api_key",
                # With Basic, a browser shows a form for name and password.
                headers={"WWW-Authenticate": 'Basic realm="p2r", charset="UTF-8"' if page else "Bearer"},
            )
        name = host.decode("latin-1")
        if is_loopback(name.partition("]")[0] if name.startswith("[") else name.partition(":")[0]):
            return None
        return APIError(
            403,
            "a server without keys answers to localhost only: --api-key-file lets it serve other names",
            code="unknown_host",
        )


class CrossOrigin:
    """Lets pages of the given origins use `/v1` (CORS), and read its refusals.

    Without credentials: a page has to send a key itself. The other paths stay closed to other pages.

    Args:
        app: the application with its access control; a preflight comes without a key.
        origins: as browsers send them; `*` for all.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app = app
        self._cors = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            # Browsers require it for pages of the internet that access a server in the visitor's network.
            allow_private_network=True,
            expose_headers=("X-Request-Id", "Retry-After"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        api = scope["type"] == "http" and scope["path"].startswith("/v1/")
        await (self._cors if api else self._app)(scope, receive, send)
