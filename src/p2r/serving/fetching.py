"""Images that a client names by address: fetched from allowed hosts, never from inside this network.

Each hop is checked before it is made: scheme, host, port, and every address that the host resolves to. The
connection is then made to the checked address itself, so that a name which resolves to something else a
moment later (DNS rebinding) changes nothing. The environment's proxies are not used, nothing is decompressed.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING

import httpx

from p2r.errors import InputError
from p2r.serving.addresses import is_public, resolve

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from p2r.serving.addresses import Resolver

MAX_REDIRECTS = 3
MAX_URL_CHARS = 2_048
TIMEOUT_S = 15.0
_PORTS = {"http": 80, "https": 443}


class ImageFetcher:
    """Fetches images.

    Args:
        hosts: the allowed host names, exactly; `name:port` allows another port than 80 and 443.
        max_bytes: of one image.
        resolver, transport: how names become addresses and how requests are sent.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        max_bytes: int,
        *,
        resolver: Resolver = resolve,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._hosts = {host.lower().rstrip(".") for host in hosts}
        self._max_bytes = max_bytes
        self._resolver = resolver
        self._transport = transport

    async def fetch(self, url: str, on_bytes: Callable[[int], None] = lambda _: None) -> bytes:
        """The bytes behind an `http(s)` address.

        Args:
            url: the address.
            on_bytes: called with the number of bytes that are there so far; what it raises ends the fetch.

        Raises:
            InputError: the address is not allowed, or there is no image of a legal size to be had there.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S), self._client() as client:
                return await self._follow(client, url, on_bytes)
        except TimeoutError:
            raise InputError(f"the image did not come within {TIMEOUT_S:.0f} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the image could not be fetched ({type(error).__name__})") from error

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        # Made once: to read the authorities takes longer than all the rest.
        return httpx.create_ssl_context(trust_env=False)

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self._certificates,
            transport=self._transport,
            trust_env=False,
            follow_redirects=False,
        )

    async def _follow(self, client: httpx.AsyncClient, url: str, on_bytes: Callable[[int], None]) -> bytes:
        if len(url) > MAX_URL_CHARS:
            raise InputError(f"the address of the image has more than {MAX_URL_CHARS} characters")
        target = httpx.URL(url)
        for _ in range(MAX_REDIRECTS + 1):
            address = await self._checked(target)
            request = client.build_request(
                "GET",
                target.copy_with(host=address, fragment=None),
                headers={
                    "Host": target.netloc.decode("ascii"),
                    "Accept": "image/*",
                    "Accept-Encoding": "identity",
                },
                # The certificate is checked for the name, though the connection goes to the address.
                extensions={"sni_hostname": target.raw_host.decode("ascii")},
            )
            response = await client.send(request, stream=True)
            try:
                if not response.has_redirect_location:
                    return await self._read(response, on_bytes)
                target = target.join(response.headers["Location"])
            finally:
                await response.aclose()
        raise InputError(f"the address of the image redirects more than {MAX_REDIRECTS} times")

    async def _checked(self, target: httpx.URL) -> str:
        host = target.host.lower().rstrip(".")
        if target.scheme not in _PORTS:
            raise InputError("an image is a data: URI, or an http(s) address of an allowed host")
        if target.userinfo:
            raise InputError("the address of the image has a user name in it")
        port = target.port or _PORTS[target.scheme]
        allowed = f"{host}:{port}" in self._hosts or (host in self._hosts and port in _PORTS.values())
        if not allowed:
            raise InputError(
                "images are not fetched from that host: send the image as a data: URI, or ask the "
                "operator for --allow-image-host"
            )
        addresses = await self._resolver(host, port)
        if not addresses or not all(is_public(address) for address in addresses):
            raise InputError("the host of the image has no address, or one that is not public")
        return addresses[0]

    async def _read(self, response: httpx.Response, on_bytes: Callable[[int], None]) -> bytes:
        if response.status_code != 200:
            raise InputError(f"the host of the image answered with status {response.status_code}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise InputError("the image came compressed")
        pieces = bytearray()
        async for piece in response.aiter_raw():
            pieces += piece
            if len(pieces) > self._max_bytes:
                raise InputError(f"the image has more than {self._max_bytes:,} bytes")
            on_bytes(len(pieces))
        return bytes(pieces)
