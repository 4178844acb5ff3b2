"""Limits and access rules of a server."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from p2r.errors import InputError
from p2r.images.limits import Limits

MIB = 1024 * 1024
_ORIGIN = re.compile(r"(https?)://([^/?#@\s:*]+|\[[0-9a-f:]+\])(?::(\d{1,5}))?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_IMAGE = Limits(max_pixels=400_000_000, max_bytes=24 * MIB, max_decoded_bytes=640 * MIB, max_pages=0)
_UPLOAD = Limits(max_pixels=1_500_000_000, max_bytes=256 * MIB, max_decoded_bytes=640 * MIB, max_pages=0)


@dataclass(frozen=True, slots=True)
class ServingConfig:
    """How a server is run.

    Attributes:
        host, port: of its address; port 0 takes a free one.
        api_keys: bearer keys; without any, only loopback addresses are served.
        concurrency: the most questions that are answered at once.
        queue: the most that wait; the next one gets a 429.
        timeout_s: the most seconds of one request, waiting included.
        drain_s: the seconds that accepted requests have when the server shuts down.
        image_hosts: hosts from which `http(s)` images are fetched; none means data URIs only.
        allow_origins: of web pages that may use `/v1`, as `https://example.org`; `*` for all.
        header_timeout_s: the most seconds until the head of a request is complete.
        write_timeout_s: the most seconds until a client has read 64 KiB of its reply.
        max_connections: beyond it, the connection that has waited longest for its client is closed.
        held_bytes: of bodies, images and replies that are held in memory, all requests together.
        max_body_bytes, body_timeout_s: of one request.
        max_text_chars: of a question with its options and system prompts.
        max_evidence: the most crops that a request may set.
        max_looks: the most levels of looks that a request may set.
        max_images: of a question.
        image: limits of an image.
        upload: limits of an image that is uploaded on the page.
        uploads_bytes: of all uploads that are held, with their copies and results.
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
    max_looks: int = 3
    max_images: int = 8
    image: Limits = _IMAGE
    upload: Limits = _UPLOAD
    uploads_bytes: int = 1024 * MIB
    ui: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow_origins", tuple(map(read_origin, self.allow_origins)))
        if not 0 <= self.port <= 65535:
            raise InputError(f"port {self.port}: it must be within 0–65535")
        for name, least in (("concurrency", 1), ("queue", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        for name in ("timeout_s", "drain_s", "header_timeout_s", "write_timeout_s", "body_timeout_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be more than 0")
        if not self.api_keys and not is_loopback(self.host):
            raise InputError(
                f"host {self.host}: other machines could reach it, and there is no key: give --api-key-file, "
                "or listen on 127.0.0.1"
            )


def read_origin(text: str) -> str:
    """The origin of a web page as browsers send it, or `*` for all.

    Raises:
        InputError: it is not an origin.
    """
    if text == "*":
        return text
    found = _ORIGIN.fullmatch(text)
    if not found:
        raise InputError(f"{text!r} is not an origin: write it as https://example.org, or * for every page")
    scheme, host, port = found[1].lower(), found[2].lower(), found[3]
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS[scheme] else "")


def is_loopback(host: str) -> bool:
    """Whether a host, as in an address or in a `Host` header without its port, is only this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
