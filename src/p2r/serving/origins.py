"""Which web pages may ask: cross-origin requests of browsers (CORS), for the protocol alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_READABLE = ("X-Request-Id", "Retry-After")


class Origins:
    """Lets pages of the given origins read what `/v1` replies, refusals included.

    Without credentials: a page has to send a key itself, and no browser adds a password. The rest of the
    server stays closed to other pages.

    Args:
        app: the application with its guards; a preflight comes without a key.
        origins: as browsers send them; `*` for all.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app = app
        self._open = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            # A page of the internet may reach a server on the visitor's own network only if that agrees.
            allow_private_network=True,
            expose_headers=_READABLE,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        api = scope["type"] == "http" and scope["path"].startswith("/v1/")
        await (self._open if api else self._app)(scope, receive, send)
