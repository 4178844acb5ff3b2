"""What the page lets through: nothing of Gradio's that it does not use, and nobody without a key."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from live_server import BOXES, KEY, PICTURE, LiveServer, both_roles, refused, wait_until

from fake_model import FakeModel, StreamingFakeModel
from p2r.images.limits import Limits
from p2r.images.memory import MemoryBudget
from p2r.serving.admission import Admission
from p2r.serving.config import ServingConfig
from p2r.serving.page.door import Door
from p2r.serving.page.shelf import Shelf
from pictures import encoded, smooth

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from starlette.types import Message, Receive, Scope, Send

# Gradio uses pandas in ways that pandas is about to drop.
pytestmark = pytest.mark.filterwarnings(r"ignore:::gradio\.queueing")
JOIN = "/gradio_api/queue/join"
BYTES = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    limits = Limits(max_pixels=4_000_000, max_bytes=200_000, max_decoded_bytes=30_000_000)
    model = both_roles(kind=StreamingFakeModel)
    with LiveServer(model, ui=True, picture=limits, body_timeout_s=0.5) as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[LiveServer]:
    with LiveServer(ui=True, api_keys=(KEY,)) as running:
        yield running


def basic(password: str, name: str = "me") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def functions(server: LiveServer) -> dict[str, int]:
    """The numbers of the page's two functions, by what they do."""
    config = server.http.get("/config").json()
    return {
        "example" if len(function["inputs"]) == 1 else "ask": function["id"]
        for function in config["dependencies"]
    }


def joined(server: LiveServer, data: list[Any], function: str = "ask", **more: Any) -> httpx.Response:
    asked = {"data": data, "fn_index": functions(server)[function], "session_hash": "abc123", **more}
    return server.http.post(JOIN, json=asked)


def heard(server: LiveServer) -> str:
    return server.http.get("/gradio_api/queue/data?session_hash=abc123").text


# Who may come in.


@pytest.mark.parametrize("path", ["/", "/config", "/page/pictures/x", "/assets/x.js", "/page/results/x/y"])
def test_a_key_is_needed_for_the_page_too(locked: LiveServer, path: str) -> None:
    for headers in (
        {},
        basic("a-wrong-key-of-enough-length"),
        basic("", KEY),
        {"Authorization": f"Basic {KEY}"},
    ):
        reply = locked.http.get(path, headers=headers)
        refused(reply, 401, code="invalid_api_key")
        assert reply.headers["WWW-Authenticate"].startswith("Basic")
    for headers in (basic(KEY), basic(KEY, "ü"), {"Authorization": f"Bearer {KEY}"}):
        assert locked.http.get(path, headers=headers).status_code in (200, 404)


def test_a_password_opens_the_page_alone(locked: LiveServer) -> None:
    for path in ("/v1/models", "/metrics"):
        reply = locked.http.get(path, headers=basic(KEY))
        refused(reply, 401, code="invalid_api_key")
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    refused(locked.ask(headers=basic(KEY)), 401)
    refused(locked.http.post(JOIN, json={}), 401)
    refused(locked.http.post("/page/pictures", content=PICTURE, headers=BYTES), 401)
    assert locked.http.get("/manifest.json").status_code == 200


def test_other_names_and_other_sites_are_refused(server: LiveServer) -> None:
    refused(server.http.get("/", headers={"Host": "evil.example"}), 403, code="unknown_host")
    evil = {"Origin": "http://evil.example"}
    refused(server.http.post("/page/pictures", content=PICTURE, headers=BYTES | evil), 403, code="cross_site")
    refused(server.http.post(JOIN, json={}, headers=evil), 403, code="cross_site")
    refused(server.http.post(JOIN, json={}, headers={"Origin": "null"}), 403, code="cross_site")
    own = {"Origin": server.url}
    assert server.http.post("/page/pictures", content=PICTURE, headers=BYTES | own).status_code == 200
    refused(server.http.post("/page/pictures", content=PICTURE), 415)


def test_the_page_keeps_to_itself(server: LiveServer) -> None:
    headers = server.http.get("/").headers
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert "Access-Control-Allow-Origin" not in headers


# What of Gradio can be reached.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/api/predict"),
        ("POST", "/gradio_api/call/answer"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/reset"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/proxy=https://example.hf.space/x"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/gradio_api/vibe-code"),
        ("POST", "/gradio_api/vibe-edit"),
        ("GET", "/gradio_api/openapi.json"),
        ("GET", "/monitoring"),
        ("GET", "/login_check"),
        ("GET", "/static/../../../../etc/passwd"),
        ("GET", "/nothing"),
    ],
)
def test_nothing_else_of_gradio_is_there(server: LiveServer, method: str, path: str) -> None:
    reply = server.http.request(method, path, json={} if method == "POST" else None)
    assert reply.status_code in (404, 405)
    assert set(reply.json()) == {"error"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_page_takes_no_other_requests(server: LiveServer, method: str) -> None:
    refused(server.http.request(method, "/config"), 405)


@pytest.mark.parametrize(
    "change",
    [
        {"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "What?", "", True]},
        {"data": [["x"], "What?", "", True]},
        {"data": "x"},
        {"data": None},
        {"fn_index": "0"},
        {"session_hash": "../x"},
        {"session_hash": None},
        [],
    ],
)
def test_only_plain_values_reach_gradio(server: LiveServer, change: Any) -> None:
    asked = {"data": ["", "What?", "", True], "fn_index": functions(server)["ask"], "session_hash": "abc123"}
    reply = server.http.post(JOIN, json=asked | change if isinstance(change, dict) else change)
    refused(reply, 400, code="invalid_value")


def test_a_large_a_slow_and_a_broken_request(server: LiveServer) -> None:
    refused(joined(server, ["x" * 200_000]), 413, code="body_too_large")
    refused(server.http.post(JOIN, content=b"{"), 400)
    refused(server.http.post(JOIN, content=b"[" * 90_000), 400)

    def slowly() -> Iterator[bytes]:
        yield b"{"
        threading.Event().wait(1.5)
        yield b"}"

    refused(server.http.post(JOIN, content=slowly()), 408, code="body_timeout")


# Pictures and results.


def test_pictures_are_within_the_servers_limits(server: LiveServer) -> None:
    def give(data: bytes) -> httpx.Response:
        return server.http.post("/page/pictures", content=data, headers=BYTES)

    refused(give(b"no picture"), 400, code="invalid_image")
    refused(give(encoded(smooth(60, 50), "PNG")[:-40]), 400, code="invalid_image")
    refused(give(bytes(300_000)), 413, code="body_too_large")
    refused(give(encoded(smooth(2100, 2000), "JPEG", quality=5)), 400, code="invalid_image")
    told = give(PICTURE).json()
    assert (told["width"], told["height"]) == (400, 300)
    preview = server.http.get(f"/page/pictures/{told['name']}")
    assert preview.headers["Content-Type"] == "image/jpeg"
    refused(server.http.get("/page/pictures/unknown"), 404)
    refused(server.http.get("/page/pictures/..%2F..%2Fpyproject.toml"), 404)
    refused(server.http.get("/page/thumbnails/unknown"), 404)
    refused(server.http.get("/page/results/unknown/figure.png"), 404)


def test_the_oldest_things_on_a_shelf_go_first() -> None:
    shelf: Shelf[str] = Shelf(10)
    first, second = shelf.put("first", 4), shelf.put("second", 4)
    assert shelf.get(first) == "first"
    third = shelf.put("third", 4)
    assert (shelf.get(first), shelf.get(second), shelf.get(third)) == ("first", None, "third")
    large = shelf.put("large", 100)
    assert shelf.get(large) == "large"
    assert shelf.get(first) is None
    assert len({first, second, third, large}) == 4
    assert len(first) >= 20


# Questions: the server's own queue, deadline and end hold.


def test_a_question_without_a_browser(server: LiveServer) -> None:
    name = server.http.post("/page/pictures", content=PICTURE, headers=BYTES).json()["name"]
    assert joined(server, [name, "Which?\nA. red\nB. blue", "", False]).status_code == 200
    told = heard(server)
    assert "B. blue" in told
    assert "2 outlined regions" in told
    assert (
        'p2r_outcomes_total{mode="p2r",perception="boxes",status="answered"}'
        in server.http.get("/metrics").text
    )


def test_the_queue_is_the_servers() -> None:
    waiting = FakeModel(lambda _: BOXES, delay_s=600)
    with LiveServer(waiting, ui=True, concurrency=1, queue=0) as server:
        name = server.http.post("/page/pictures", content=PICTURE, headers=BYTES).json()["name"]
        joined(server, [name, "What?", "", False])
        wait_until(lambda: server.app.state.admission.running == 1)
        refused(server.ask(), 429, code="queue_full")
        refused(server.http.post("/page/pictures", content=PICTURE, headers=BYTES), 429, code="queue_full")
        # Nobody listens to the answer any more.
        with server.http.stream("GET", "/gradio_api/queue/data?session_hash=abc123") as listening:
            next(listening.iter_lines())
        wait_until(lambda: server.app.state.admission.accepted == 0, 30)
        assert waiting.cancelled == 1


def test_the_deadline_is_the_servers() -> None:
    with LiveServer(FakeModel(lambda _: BOXES, delay_s=600), ui=True, timeout_s=0.5) as server:
        name = server.http.post("/page/pictures", content=PICTURE, headers=BYTES).json()["name"]
        begin_s = time.monotonic()
        joined(server, [name, "What?", "", False])
        assert "there was none within 0.5 s" in heard(server)
        assert time.monotonic() - begin_s < 20


def test_open_pages_do_not_hold_up_the_end() -> None:
    with LiveServer(FakeModel(lambda _: BOXES, delay_s=600), ui=True, drain_s=0.5) as server:
        name = server.http.post("/page/pictures", content=PICTURE, headers=BYTES).json()["name"]
        joined(server, [name, "What?", "", False])
        told: list[str] = []
        paths = ("/gradio_api/heartbeat/abc123", "/gradio_api/queue/data?session_hash=abc123")
        listening = [
            threading.Thread(target=lambda path=path: told.append(server.http.get(path).text))
            for path in paths
        ]
        for each in listening:
            each.start()
        wait_until(lambda: server.app.state.admission.running == 1)
        begin_s = time.monotonic()
        server.end()
        server.join()
        for each in listening:
            each.join()
    # uvicorn itself would wait for the open pages for 15 s.
    assert time.monotonic() - begin_s < 12
    assert "the server is shutting down" in "".join(told)


def test_an_open_page_is_told_the_end_of_its_reply() -> None:
    admission = Admission(1, 0)
    sent: list[Message] = []

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"listening", "more_body": True})
        admission.draining.set()
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message)

    door = Door(page, page, ServingConfig(), admission, MemoryBudget(1_000_000))
    scope = {"type": "http", "method": "GET", "path": "/gradio_api/heartbeat/abc123", "query_string": b""}
    asyncio.run(door({**scope, "headers": []}, None, send))
    assert [message.get("body") for message in sent] == [None, b"listening", b""]
    assert "more_body" not in sent[-1]


def test_without_the_page_there_is_none() -> None:
    with LiveServer() as server:
        for path in ("/", "/config", "/page/pictures/x", "/gradio_api/info"):
            refused(server.http.get(path), 404)
