"""What a server may use and whom it lets in, checked at birth."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from p2r.errors import InputError
from p2r.images.limits import Limits

MIB = 1024 * 1024
_ORIGIN = re.compile(r"(https?)://([^/?#@\s:*]+|\[[0-9a-f:]+\])(?::(\d{1,5}))?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_IMAGE = Limits(max_pixels=400_000_000, max_bytes=24 * MIB, max_decoded_bytes=640 * MIB)
_UPLOAD = Limits(max_pixels=1_500_000_000, max_bytes=256 * MIB, max_decoded_bytes=640 * MIB)


@dataclass(frozen=True, slots=True)
class ServingConfig:
    """How a server is run.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        api_keys: bearer keys; without any, only loopback addresses are served.
        concurrency: how many questions are being answered at once.
        queue: how many more may wait; the next one gets a 429.
        timeout_s: the most seconds of one request, waiting included.
        drain_s: how long accepted requests may go on after the server was told to end.
        image_hosts: hosts from which `http(s)` images are fetched; none means data URIs only.
        allow_origins: of web pages that may ask from a browser, as `https://example.org`; `*` for all.
        header_timeout_s: the most seconds until the head of a request is there.
        write_timeout_s: the most seconds until a client has read 64 KiB of its reply.
        max_connections: beyond it, the connection that has waited longest for its client is closed.
        held_bytes: of bodies, images and replies that are held in memory, all requests together.
        max_body_bytes, body_timeout_s: of one request.
        max_text_chars: of a question with its options, and of a system prompt.
        max_evidence: the most crops that a request may ask for.
        image: what an image may be at most.
        upload: what an image may be at most that is uploaded on the page.
        uploads_bytes: of all uploads that are held, with their results.
        ui: whether there is a page at `/`.
    """

    host: str = "127.0.0.1"
    port: int = 8100
    api_keys: tuple[str, ...] = ()
    concurrency: int = 16
    queue: int = 64
    timeout_s: float = 120.0
    drain_s: float = 30.0
    image_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    header_timeout_s: float = 10.0
    write_timeout_s: float = 10.0
    max_connections: int = 512
    held_bytes: int = 256 * MIB
    max_body_bytes: int = 32 * MIB
    body_timeout_s: float = 30.0
    max_text_chars: int = 16_000
    max_evidence: int = 8
    image: Limits = _IMAGE
    upload: Limits = _UPLOAD
    uploads_bytes: int = 512 * MIB
    ui: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"port {self.port}: it must be within 0–65535")
        object.__setattr__(self, "allow_origins", tuple(map(read_origin, self.allow_origins)))
        if self.concurrency < 1:
            raise InputError(f"concurrency is {self.concurrency}: it must be at least 1")
        if self.queue < 0:
            raise InputError(f"queue is {self.queue}: it must be 0 or more")
        for name in ("timeout_s", "drain_s", "header_timeout_s", "write_timeout_s", "body_timeout_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be more than 0")
        if not self.api_keys and not is_loopback(self.host):
            raise InputError(
                f"host {self.host}: others could reach it, and there is no key: give --api-key-file, "
                "or listen on 127.0.0.1"
            )


def read_origin(text: str) -> str:
    """The origin of a web page as browsers send it, or `*` for all.

    Raises:
        InputError: it is none.
    """
    if text == "*":
        return text
    found = _ORIGIN.fullmatch(text)
    if not found:
        raise InputError(f"{text!r} is not an origin: write it as https://example.org, or * for every page")
    scheme, host, port = found[1].lower(), found[2].lower(), found[3]
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS[scheme] else "")


def is_loopback(host: str) -> bool:
    """Whether a host, as written in an address or a `Host` header without port, is this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
