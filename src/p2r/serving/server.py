"""Runs the application: uvicorn, with an end that lets accepted requests finish."""

from __future__ import annotations

import ctypes
import logging
import signal
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from errno import EADDRINUSE
from typing import TYPE_CHECKING, Any

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
    """Ends in an orderly way: nobody new is let in, those inside have `drain_s`, then they get a 503."""

    def __init__(self, app: FastAPI, config: ServingConfig, **options: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=config.host,
                port=config.port,
                http=bounded_protocol(config),
                ws="none",
                lifespan="on",
                access_log=False,
                server_header=False,
                log_level="warning",
                h11_max_incomplete_event_size=16 * 1024,
                timeout_keep_alive=IDLE_S,
                # At most so many are accepted in one go, before anything is read: few enough that none of
                # them is closed to make room for the others.
                backlog=128,
                timeout_graceful_shutdown=int(config.drain_s) + _FORCED_AFTER_S,
                **options,
            )
        )
        self._admission = app.state.admission
        self._drain_s = config.drain_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        try:
            await super().startup(sockets)
        except OSError as error:
            # Somebody else took the address between our binding and our listening.
            raise InputError(f"cannot listen on {self.config.host}: {error.strerror}") from None
        for server in self.servers:
            for listening in server.sockets:
                log.info("listening on %s", _address(listening))

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """See uvicorn; here the end of a terminal's session lets requests finish too."""
        hangs_up = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP")
        # A server that was started with nohup is not to end with the session.
        if not hangs_up or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            with super().capture_signals():
                yield
            return
        before = signal.signal(signal.SIGHUP, self.handle_exit)
        try:
            with super().capture_signals():
                yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin to end; a second signal does not wait.

        uvicorn would raise the signal again at the end, and it would kill us before the models are closed.
        """
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._admission.end(self._drain_s)
        waiting = self._admission.accepted
        if waiting and not self.force_exit:
            requests = f"{waiting} request{'s' if waiting > 1 else ''}"
            log.info("stopping: up to %g s for %s; a second signal ends at once", self._drain_s, requests)
        else:
            log.info("stopping")
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves it out then, and the page would be torn down with complaints.
            await self.lifespan.shutdown()


def bind(config: ServingConfig) -> list[socket.socket]:
    """Take the address before a model is loaded; one socket for each address of the host.

    Raises:
        InputError: it cannot be had.
    """
    port, bound, problem = config.port, list[socket.socket](), ""
    try:
        found = socket.getaddrinfo(config.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"cannot listen on {config.host}: {error.strerror}") from None
    with ExitStack() as undo:
        for family, address in dict.fromkeys((each[0], each[4]) for each in found):
            try:
                bound.append(undo.enter_context(_bound(family, (address[0], port, *address[2:]))))
            except OSError as error:
                if error.errno == EADDRINUSE:
                    problem = "the port is in use: stop what uses it, or give --port"
                    raise InputError(f"cannot listen on {config.host}:{port}: {problem}") from None
                # A name may have an address of a kind that this machine does not have.
                problem = str(error.strerror)
                continue
            # Where any port will do, all addresses get the one that the first got.
            port = bound[-1].getsockname()[1]
        if not bound:
            raise InputError(f"cannot listen on {config.host}:{port}: {problem}")
        undo.pop_all()
    return bound


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


async def serve(p2r: P2R, config: ServingConfig, sockets: list[socket.socket] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then close the pipeline.

    Args:
        p2r: answers the questions.
        config: of the server.
        sockets: as `bind` gives them; None to bind now.

    Raises:
        InputError: the address cannot be listened on.
    """
    _give_memory_back()
    try:
        server = DrainingServer(create_app(p2r, config), config)
        await server.serve(sockets or bind(config))
    finally:
        await p2r.aclose()


def _give_memory_back() -> None:
    """Let images go back to the system when they are freed.

    The allocator of glibc learns from the first large block that is freed to keep others of that size, for
    each thread apart: after a burst of large images, gigabytes stay.
    """
    with suppress(OSError, AttributeError):  # another system, another allocator
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def log_to_stderr() -> None:
    """One line a request; never an image, a text or a key."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False
