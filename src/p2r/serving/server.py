"""Runs the application with uvicorn, and lets accepted requests finish at shutdown."""

from __future__ import annotations

import ctypes
import logging
import signal
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from errno import EADDRINUSE
from typing import TYPE_CHECKING

from p2r.errors import InputError, MissingExtraError

try:
    import uvicorn
except ImportError as error:
    raise MissingExtraError("serve", "uvicorn") from error

from p2r.serving.app import create_app
from p2r.serving.http import IDLE_S, bounded_protocol

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from fastapi import FastAPI

    from p2r.pipeline import P2R
    from p2r.serving.config import ServingConfig

log = logging.getLogger("p2r.serving")

_FORCED_AFTER_S = 15
_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


class DrainingServer(uvicorn.Server):
    """At shutdown accepts no requests; those accepted before have `drain_s`, then they get a 503."""

    def __init__(self, app: FastAPI, config: ServingConfig) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=bounded_protocol(config),
                ws="none",
                lifespan="off",
                access_log=False,
                server_header=False,
                log_level="warning",
                h11_max_incomplete_event_size=16 * 1024,
                timeout_keep_alive=IDLE_S,
                # The most connections that are accepted at once, before anything is read from them: few
                # enough that none is closed to make room for the others.
                backlog=128,
                timeout_graceful_shutdown=int(config.drain_s) + _FORCED_AFTER_S,
            )
        )
        self._limiter = app.state.limiter
        self._drain_s = config.drain_s

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """See uvicorn; SIGHUP, the end of a terminal's session, is handled like SIGTERM."""
        with ExitStack() as undo:
            main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP")
            if main and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
                before = signal.signal(signal.SIGHUP, self.handle_exit)
                undo.callback(signal.signal, signal.SIGHUP, before)
            undo.enter_context(super().capture_signals())
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin the shutdown; a second signal does not wait.

        uvicorn raises the signal again at the end, which would end the process before the models are closed.
        """
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._limiter.drain(self._drain_s)
        count = self._limiter.accepted
        if count and not self.force_exit:
            requests = f"{count} request{'s' if count > 1 else ''}"
            log.info("stopping: up to %g s for %s; a second signal ends at once", self._drain_s, requests)
        else:
            log.info("stopping")
        await super().shutdown(sockets)


def bind(config: ServingConfig) -> list[socket.socket]:
    """Listen before a model is loaded, on one socket for each address of the host.

    Raises:
        InputError: the address cannot be used.
    """
    port, bound, problem = config.port, list[socket.socket](), ""
    try:
        found = socket.getaddrinfo(config.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"cannot listen on {config.host}: {error.strerror}") from None
    with ExitStack() as undo:
        for family, address in dict.fromkeys((each[0], each[4][0]) for each in found):
            try:
                bound.append(undo.enter_context(socket.create_server((address, port), family=family)))
            except OSError as error:
                problem = str(error.strerror)
                if error.errno == EADDRINUSE:
                    problem = "the port is in use: stop what uses it, or give --port"
                    break
                continue  # a name may have an address of a kind that this machine does not have
            # All addresses get the free port of the first.
            port = bound[-1].getsockname()[1]
        else:
            if bound:
                undo.pop_all()
                return bound
    raise InputError(f"cannot listen on {config.host}:{port}: {problem}")


async def serve(p2r: P2R, config: ServingConfig, sockets: list[socket.socket] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then close the pipeline.

    Args:
        p2r: answers the questions.
        config: of the server.
        sockets: as `bind` gives them; None to bind now.

    Raises:
        InputError: the address cannot be used.
    """
    # The allocator of glibc learns from the first large block that is freed to keep others of that size, for
    # each thread: after a burst of large images, gigabytes would stay.
    with suppress(OSError, AttributeError):  # another system, another allocator
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)
    try:
        server = DrainingServer(create_app(p2r, config), config)
        sockets = sockets or bind(config)
        for bound in sockets:
            host, port = bound.getsockname()[:2]
            log.info("listening on %s:%d", f"[{host}]" if ":" in host else host, port)
        await server.serve(sockets)
    finally:
        await p2r.aclose()


def log_to_stderr() -> None:
    """One line for each request, without images, texts and keys."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False
