"""Runs the application: uvicorn, with an end that lets accepted requests finish."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, MissingExtraError

try:
    import uvicorn
except ImportError as error:
    raise MissingExtraError("serve", "uvicorn") from error

from p2r.serving.app import create_app
from p2r.serving.connections import ImpatientProtocol

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from fastapi import FastAPI

    from p2r.pipeline import P2R
    from p2r.serving.config import ServingConfig

log = logging.getLogger("p2r.serving")

_FORCED_AFTER_S = 15


class DrainingServer(uvicorn.Server):
    """Ends in an orderly way: nobody new is let in, those inside have `drain_s`, then they get a 503."""

    def __init__(self, app: FastAPI, config: ServingConfig, **options: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=config.host,
                port=config.port,
                http=_protocol(config),
                ws="none",
                lifespan="on",
                access_log=False,
                server_header=False,
                log_level="warning",
                h11_max_incomplete_event_size=16 * 1024,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=int(config.drain_s) + _FORCED_AFTER_S,
                **options,
            )
        )
        self._admission = app.state.admission
        self._drain_s = config.drain_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                log.info("listening on %s", "{}:{}".format(*listening.getsockname()[:2]))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin to end; a second signal does not wait.

        uvicorn would raise the signal again at the end, and it would kill us before the models are closed.
        """
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._admission.end(self._drain_s)
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves it out then, and the page would be torn down with complaints.
            await self.lifespan.shutdown()


def _protocol(config: ServingConfig) -> type[ImpatientProtocol]:
    # uvicorn makes the instances, and takes a class only.
    return type("Protocol", (ImpatientProtocol,), {"header_timeout_s": config.header_timeout_s})


async def serve(p2r: P2R, config: ServingConfig) -> None:
    """Serve until SIGTERM or SIGINT, then close the pipeline.

    Raises:
        InputError: the address cannot be listened on.
        MissingExtraError: there is to be a page, and no Gradio.
    """
    try:
        await DrainingServer(create_app(p2r, config), config).serve()
    except SystemExit:
        # uvicorn has logged why.
        raise InputError(f"cannot listen on {config.host}:{config.port}: is it in use?") from None
    finally:
        await p2r.aclose()


def log_to_stderr() -> None:
    """One line a request; never a picture, a text or a key."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False
