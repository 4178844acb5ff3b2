"""Images by address: fetched from allowed hosts, never from inside this network.

Scheme, host, port and every address of the host are checked before each request, redirects included. The
connection goes to the checked address, so a name that resolves differently a moment later (DNS rebinding) has
no effect. Proxies of the environment are not used, and nothing is decompressed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from functools import cached_property
from typing import TYPE_CHECKING

import httpx

from p2r.errors import InputError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    Resolver = Callable[[str, int], Awaitable[list[str]]]

MAX_REDIRECTS = 3
MAX_URL_CHARS = 2_048
TIMEOUT_S = 15.0
_PORTS = {"http": 80, "https": 443}
# What `ipaddress` calls global depends on the version of Python.
_NOT_GLOBAL = (
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments
    ipaddress.ip_network("192.88.99.0/24"),  # relays of 6to4
    ipaddress.ip_network("2001::/23"),  # protocol assignments, Teredo among them
    ipaddress.ip_network("2002::/16"),  # 6to4
    ipaddress.ip_network("3fff::/20"),  # documentation
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all public IPv6 addresses assigned so far
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)  # before the IPv4 address of a host in this network


class ImageFetcher:
    """Fetches images.

    Args:
        hosts: the allowed host names, exactly; `name:port` allows another port than 80 and 443.
        max_bytes: of one image.
        resolver, transport: how names are resolved and requests are sent.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        max_bytes: int,
        *,
        resolver: Resolver | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._hosts = {host.lower().rstrip(".") for host in hosts}
        self._max_bytes = max_bytes
        self._resolver = resolver or resolve
        self._transport = transport

    async def fetch(self, url: str, on_bytes: Callable[[int], None] = lambda _: None) -> bytes:
        """The bytes of an image at an `http(s)` address.

        Args:
            url: the address.
            on_bytes: called with the number of bytes received so far; an exception ends the fetch.

        Raises:
            InputError: the address is not allowed, or the image cannot be fetched or is too large.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S), self._client() as client:
                return await self._follow(client, url, on_bytes)
        except TimeoutError:
            raise InputError(f"the image did not come within {TIMEOUT_S:.0f} s") from None
        except InputError:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise InputError(f"the image could not be fetched ({type(error).__name__})") from error

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        return httpx.create_ssl_context(trust_env=False)  # slow, so only once

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=self._certificates, transport=self._transport, trust_env=False)

    async def _follow(self, client: httpx.AsyncClient, url: str, on_bytes: Callable[[int], None]) -> bytes:
        if len(url) > MAX_URL_CHARS:
            raise InputError(f"the address of the image has more than {MAX_URL_CHARS} characters")
        target = httpx.URL(url)
        for _ in range(MAX_REDIRECTS + 1):
            address = await self._checked(target)
            headers = {"Accept": "image/*", "Accept-Encoding": "identity"}
            async with client.stream(
                "GET",
                target.copy_with(host=address, fragment=None),
                headers={**headers, "Host": target.netloc.decode("ascii")},
                # The certificate is checked for the name, though the connection goes to the address.
                extensions={"sni_hostname": target.raw_host.decode("ascii")},
            ) as response:
                if not response.has_redirect_location:
                    return await self._read(response, on_bytes)
                target = target.join(response.headers["Location"])
        raise InputError(f"the address of the image redirects more than {MAX_REDIRECTS} times")

    async def _checked(self, target: httpx.URL) -> str:
        """The IP address to connect to."""
        host = target.host.lower().rstrip(".")
        if target.scheme not in _PORTS:
            raise InputError("an image is a data: URI, or an http(s) address of an allowed host")
        if target.userinfo:
            raise InputError("the address of the image has a user name in it")
        port = target.port or _PORTS[target.scheme]
        if f"{host}:{port}" not in self._hosts and not (host in self._hosts and port in _PORTS.values()):
            raise InputError(
                "images are not fetched from that host: send the image as a data: URI, or ask the "
                "operator for --allow-image-host"
            )
        addresses = await self._resolver(host, port)
        if not addresses or not all(map(is_public, addresses)):
            raise InputError("the host of the image has no address, or one that is not public")
        return addresses[0]

    async def _read(self, response: httpx.Response, on_bytes: Callable[[int], None]) -> bytes:
        if response.status_code != 200:
            raise InputError(f"the host of the image answered with status {response.status_code}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise InputError("the image came compressed")
        data = bytearray()
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > self._max_bytes:
                raise InputError(f"the image has more than {self._max_bytes:,} bytes")
            on_bytes(len(data))
        return bytes(data)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    IPv4 addresses inside IPv6 ones are read in two forms, mapped and NAT64; others are not public.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped or found in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
        if found not in _UNICAST or int(found) >> 32 & 0xFFFFFFFF in _ISATAP:
            return False
    special = found.is_multicast or found.is_reserved or any(found in network for network in _NOT_GLOBAL)
    return found.is_global and not special


async def resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a host, from the operating system; [] if it has none."""
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
