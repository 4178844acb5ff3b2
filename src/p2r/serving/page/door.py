"""The only way to Gradio: what the page needs goes through, nothing else does.

Gradio has many more routes than our page uses (uploads, files by path, a proxy, an API), and takes files by
address inside any input. So: a list of paths; inputs that are plain texts, numbers and switches; nothing from
the query but the name of the session; and headers that keep the page to itself.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request

from p2r.serving.admission import done_before
from p2r.serving.body import read_body
from p2r.serving.failures import RequestFailed
from p2r.serving.memory import HeldMemory

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from p2r.images.memory import MemoryBudget
    from p2r.serving.admission import Admission
    from p2r.serving.config import ServingConfig

_ASK = "/gradio_api/queue/join"
_HEAR = "/gradio_api/queue/data"
_READ = re.compile(
    r"/(?:|config|theme\.css|favicon\.ico|(?:assets|static)/[\w./-]+"
    r"|gradio_api/(?:info|startup-events|queue/data|heartbeat/\w{1,40}))"
)
_PAGE = re.compile(r"/(?:page/.*|manifest\.json)")
_SESSION = re.compile(r"\w{1,40}")
_NAMES = ("data", "fn_index", "session_hash", "trigger_id")
_PLAIN = (str, int, float, bool, type(None))
_CONTENT = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; font-src 'self' data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_LAST_WORDS_S = 0.5


def is_page(path: str) -> bool:
    """Whether a path belongs to the page: a browser asks for it, and can log in for it."""
    return path == _ASK or bool(_READ.fullmatch(path) or _PAGE.fullmatch(path))


class Door:
    """Lets the page's requests through to Gradio, and all others to the application.

    Args:
        app: the application.
        page: Gradio's.
        config, admission, memory: of the server.
    """

    def __init__(
        self,
        app: ASGIApp,
        page: ASGIApp,
        config: ServingConfig,
        admission: Admission,
        memory: MemoryBudget,
    ) -> None:
        self._app = app
        self._page = page
        self._config = config
        self._admission = admission
        self._memory = memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not is_page(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _CONTENT
                headers["X-Frame-Options"] = "DENY"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        try:
            if refusal := _refusal(scope):
                raise refusal
            if _PAGE.fullmatch(scope["path"]):
                await self._app(scope, receive, send_guarded)
            elif scope["path"] == _ASK:
                with HeldMemory(self._memory) as held:
                    request = Request(scope, receive)
                    body = _plain(bytes(await read_body(request, self._config, held, self._most())))
                await self._page(_with_length(scope, body), _replayed(body, receive), send_guarded)
            else:
                scope = {**scope, "query_string": _session_only(scope)}
                await self._until_the_end(scope, receive, send_guarded)
        except RequestFailed as failed:
            await failed.response()(scope, receive, send_guarded)
        except ClientDisconnect:
            return

    def _most(self) -> int:
        return 6 * self._config.max_text_chars + 4_096

    async def _until_the_end(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open pages listen for as long as they are open; a server that ends must not wait for them."""
        begun = False

        async def send_noticed(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        done = await done_before(self._page(scope, receive, send_noticed), self._end(scope["path"]))
        if begun and not done:
            await send({"type": "http.response.body", "body": b""})

    async def _end(self, path: str) -> None:
        await self._admission.draining.wait()
        if path == _HEAR:
            await self._admission.idle.wait()
            await asyncio.sleep(_LAST_WORDS_S)


def _refusal(scope: Scope) -> RequestFailed | None:
    """Requests that a page of another site makes a browser send: their `Origin` tells."""
    headers = Headers(scope=scope)
    if scope["method"] in ("GET", "HEAD"):
        return None
    if scope["method"] != "POST" or not (scope["path"] == _ASK or scope["path"] == "/page/pictures"):
        return RequestFailed(405, "the page takes no such request", headers={"Allow": "GET, HEAD"})
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host", ""):
        return RequestFailed(403, "the page of another site asked", code="cross_site")
    return None


def _plain(body: bytes) -> bytes:
    """What is asked, and nothing but plain values in it: a file of Gradio's is an object with a path.

    Raises:
        RequestFailed: it is anything else.
    """
    try:
        asked = json.loads(body)
        kept: dict[str, Any] = {name: asked.get(name) for name in _NAMES}
        fits = (
            isinstance(kept["data"], list)
            and all(isinstance(value, _PLAIN) for value in kept["data"])
            and isinstance(kept["fn_index"], int)
            and _SESSION.fullmatch(kept["session_hash"])
        )
    except (ValueError, RecursionError, AttributeError, TypeError):
        fits = False
    if not fits:
        raise RequestFailed(400, "the page asks with plain values", code="invalid_value")
    return json.dumps(kept).encode()


def _session_only(scope: Scope) -> bytes:
    # Others would make Gradio load a state from a file, for example.
    sessions = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])
    named = [session for session in sessions if _SESSION.fullmatch(session)]
    return urlencode({"session_hash": named[0]}).encode() if named else b""


def _with_length(scope: Scope, body: bytes) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    return {
        **scope,
        "headers": [*headers, (b"content-length", b"%d" % len(body))],
        "query_string": b"",
    }


def _replayed(body: bytes, receive: Receive) -> Receive:
    read = False

    async def replay() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
