"""Which addresses a server may fetch from on behalf of a client: public ones only."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Resolver = Callable[[str, int], Awaitable[list[str]]]

# What Python calls global depends on its version.
_NOT_GLOBAL = (
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments
    ipaddress.ip_network("192.88.99.0/24"),  # relays of 6to4
    ipaddress.ip_network("2001::/23"),  # protocol assignments, Teredo among them
    ipaddress.ip_network("2002::/16"),  # 6to4
    ipaddress.ip_network("3fff::/20"),  # documentation
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that was given out so far
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)  # in front of an IPv4 address inside this network


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    Of IPv4 addresses inside IPv6 ones, two kinds may be public: mapped ones, and those behind NAT64.
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
    """The IP addresses of a host, as the operating system knows them; [] when there are none."""
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
