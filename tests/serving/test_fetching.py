"""Images by address: only from allowed hosts, only from public addresses, at every hop."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest

from p2r.errors import InputError
from p2r.serving.fetching import ImageFetcher, is_public, resolve
from tests.serving.live_server import IMAGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

PUBLIC, OTHER_PUBLIC = "93.184.216.34", "1.1.1.1"


async def arriving(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def found(data: bytes = IMAGE, **headers: str) -> httpx.Response:
    return httpx.Response(200, content=arriving(data), headers=headers)


class Web:
    """A scripted web: names and the replies of their addresses; it records the requests."""

    def __init__(
        self,
        names: dict[str, Sequence[str]],
        answer: Callable[[httpx.Request], httpx.Response] = lambda _: found(),
    ) -> None:
        self._names = {name: list(addresses) for name, addresses in names.items()}
        self._answer = answer
        self.requests: list[httpx.Request] = []
        self.lookups: list[str] = []

    async def resolve(self, host: str, port: int) -> list[str]:
        self.lookups.append(host)
        return self._names[host] if host in self._names else await resolve(host, port)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request)

    def fetch(self, url: str, *hosts: str, max_bytes: int = 10**6) -> bytes:
        transport = httpx.MockTransport(self.handle)
        fetcher = ImageFetcher(hosts, max_bytes, resolver=self.resolve, transport=transport)
        return asyncio.run(fetcher.fetch(url))


def test_an_image_is_fetched_from_the_checked_address_under_its_own_name() -> None:
    web = Web({"images.example": [PUBLIC]})
    assert web.fetch("https://Images.example/a.jpg?x=1#top", "images.example") == IMAGE
    (request,) = web.requests
    assert request.url.host == PUBLIC
    assert request.url.raw_path == b"/a.jpg?x=1"
    assert request.headers["Host"] == "images.example"
    assert request.extensions["sni_hostname"] == "images.example"


def test_a_name_is_resolved_once() -> None:
    # Rebinding: the second answer would be this machine. The connection goes to what was checked.
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    web = Web({})

    async def changing(host: str, port: int) -> list[str]:
        return next(answers)

    web.resolve = changing  # type: ignore[method-assign]
    assert web.fetch("http://images.example/", "images.example") == IMAGE
    assert [request.url.host for request in web.requests] == [PUBLIC]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::7f00:1", "2002:7f00:1::", "64:ff9b::7f00:1"),
    ],
)
def test_names_of_inner_addresses_are_refused(address: str) -> None:
    web = Web({"images.example": [address]})
    with pytest.raises(InputError, match="not public"):
        web.fetch("http://images.example/", "images.example")
    assert web.requests == []


def test_one_inner_address_among_public_ones_is_enough_to_refuse() -> None:
    web = Web({"images.example": [PUBLIC, "10.0.0.1"]})
    with pytest.raises(InputError, match="not public"):
        web.fetch("http://images.example/", "images.example")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"],
)
def test_inner_addresses_in_every_spelling_are_refused_even_when_allowed(host: str) -> None:
    web = Web({})
    with pytest.raises(InputError):
        web.fetch(f"http://{host}/", host, host.strip("[]"))
    assert web.requests == []


@pytest.mark.parametrize(
    "url",
    [
        *("http://other.example/", "http://sub.images.example/", "http://images.example.evil.example/"),
        *(
            "http://images.example:22/",
            "http://user@images.example/",
            "http://other.example@images.example/",
        ),
        *("file:///etc/passwd", "ftp://images.example/", "gopher://images.example/", "/etc/passwd", ""),
        *(
            "http://images.example/" + "x" * 3000,
            "http://pic\r\nHost: x/",
            "http://[::1",
            "//images.example/",
        ),
    ],
)
def test_addresses_that_are_not_allowed_are_refused_without_a_request(url: str) -> None:
    web = Web({"images.example": [PUBLIC], "other.example": [PUBLIC]})
    with pytest.raises(InputError):
        web.fetch(url, "images.example")
    assert web.requests == []


def test_another_port_must_be_allowed() -> None:
    web = Web({"images.example": [PUBLIC]})
    assert web.fetch("http://images.example:8080/", "images.example:8080") == IMAGE
    assert web.requests[0].headers["Host"] == "images.example:8080"
    with pytest.raises(InputError, match="not fetched from that host"):
        web.fetch("http://images.example/", "images.example:8080")


def redirecting(**targets: str) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        target = targets.get(request.url.path.strip("/"))
        if target is None:
            return found()
        return httpx.Response(302, headers={"Location": target})

    return answer


def test_redirects_are_followed_among_allowed_hosts() -> None:
    web = Web(
        {"one.example": [PUBLIC], "two.example": [OTHER_PUBLIC]},
        redirecting(a="https://two.example/b", b="/c"),
    )
    assert web.fetch("http://one.example/a", "one.example", "two.example") == IMAGE
    assert [request.url.host for request in web.requests] == [PUBLIC, OTHER_PUBLIC, OTHER_PUBLIC]


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1/", "http://169.254.169.254/latest/", "http://inner.example/", "http://other.example/"],
)
def test_every_redirect_is_checked(target: str) -> None:
    web = Web(
        {"one.example": [PUBLIC], "inner.example": ["10.0.0.1"], "other.example": [PUBLIC]},
        redirecting(a=target),
    )
    with pytest.raises(InputError):
        web.fetch("http://one.example/a", "one.example", "inner.example", "127.0.0.1", "169.254.169.254")
    assert len(web.requests) == 1


def test_a_redirect_to_a_file_and_a_circle_end() -> None:
    for target in ("file:///etc/passwd", "/a"):
        web = Web({"one.example": [PUBLIC]}, redirecting(a=target))
        with pytest.raises(InputError):
            web.fetch("http://one.example/a", "one.example")
        assert len(web.requests) <= 4


def _always(answer: httpx.Response, _: httpx.Request) -> httpx.Response:
    return answer


def test_too_many_bytes_compressed_ones_and_errors_are_refused() -> None:
    answers = [
        (found(b"x" * 2000), "more than 1,000 bytes"),
        (httpx.Response(404), "status 404"),
        (found(IMAGE, **{"Content-Encoding": "br"}), "compressed"),
    ]
    for answer, message in answers:
        web = Web({"one.example": [PUBLIC]}, partial(_always, answer))
        with pytest.raises(InputError, match=message):
            web.fetch("http://one.example/", "one.example", max_bytes=1000)


def test_public_addresses_are_public() -> None:
    assert all(
        map(is_public, [PUBLIC, "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
    )
    assert not is_public("no address")


@pytest.mark.parametrize(
    "address",
    [
        *("fec0::1", "feff::1", "fc00::1", "fe80::1%eth0", "ff0e::1", "::", "::1", "5f00::1", "100::1"),
        *("2001:db8::1", "3fff::1", "2001:2::1", "2001:10::1", "2001:0:7f00:1::", "2002:808:808::1"),
        *("64:ff9b::10.0.0.1", "64:ff9b:1::8.8.8.8", "::ffff:10.0.0.1", "::8.8.8.8", "::ffff:0:8.8.8.8"),
        *("2a00:1450:4001::5efe:10.0.0.1", "2a00:1450:4001::200:5efe:10.0.0.1", "4000::1"),
        *("192.88.99.1", "192.0.0.9", "198.18.0.1", "198.51.100.1", "100.64.0.1", "240.0.0.1", "224.0.0.1"),
        *("0.0.0.0", "255.255.255.255", "169.254.169.254"),
    ],
)
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_the_caller_is_notified_of_bytes_and_may_stop_the_fetch() -> None:
    heard: list[int] = []

    def on_bytes(count: int) -> None:
        heard.append(count)
        if count > 5_000:
            raise RuntimeError("no memory")

    web = Web({"one.example": [PUBLIC]}, lambda _: found(b"x" * 20_000))
    fetcher = ImageFetcher(
        ["one.example"], 10**6, resolver=web.resolve, transport=httpx.MockTransport(web.handle)
    )
    with pytest.raises(RuntimeError, match="no memory"):
        asyncio.run(fetcher.fetch("http://one.example/", on_bytes))
    assert heard == [1_000, 2_000, 3_000, 4_000, 5_000, 6_000]
