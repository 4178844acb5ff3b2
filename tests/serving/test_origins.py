"""Pages of other origins: what a real browser lets them read, and the headers for it."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from p2r.errors import InputError
from p2r.serving.config import ServingConfig
from tests.fake_model import failure
from tests.pages import chromium
from tests.serving.live_server import KEY, LiveServer, body, both_roles

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = "https://app.example.org"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}
ASK = """async ([url, body, key]) => {
  try {
    const reply = await fetch(url, {
      method: "POST", body: JSON.stringify(body),
      headers: {"Content-Type": "application/json", Authorization: `Bearer ${key}`},
    });
    return [reply.status, await reply.text(), reply.headers.get("X-Request-Id")];
  } catch (error) {
    return [0, error.name, null];
  }
}"""


@contextmanager
def site() -> Iterator[str]:
    """An empty page on another port of this machine, which is another origin."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://localhost:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.long
def test_a_browser_lets_the_allowed_page_read_and_no_other() -> None:
    with site() as allowed, site() as other, chromium() as browser:
        ours, foreign = browser.new_page(), browser.new_page()
        ours.goto(allowed)
        foreign.goto(other)
        with LiveServer(allow_origins=(allowed,), api_keys=(KEY,)) as server:
            url = f"{server.url}/v1/chat/completions"
            status, text, name = ours.evaluate(ASK, [url, body(), KEY])
            assert (status, "B. red" in text, len(name)) == (200, True, 32)
            status, text, _ = ours.evaluate(ASK, [url, body(stream=True), KEY])
            assert (status, "[DONE]" in text) == (200, True)
            assert ours.evaluate(ASK, [url, body(), "wrong"])[0] == 401
            assert ours.evaluate(ASK, [f"{server.url}/v1/embeddings", {}, KEY])[0] == 404
            assert foreign.evaluate(ASK, [url, body(), KEY])[:2] == [0, "TypeError"]
        with LiveServer() as server:
            url = f"{server.url}/v1/chat/completions"
            assert ours.evaluate(ASK, [url, body(), KEY])[:2] == [0, "TypeError"]


def test_the_headers_of_an_allowed_page() -> None:
    with LiveServer(allow_origins=(PAGE,), api_keys=(KEY,)) as server:
        ask = {"Origin": PAGE, **PREFLIGHT, "Access-Control-Request-Private-Network": "true"}
        preflight = server.http.options("/v1/chat/completions", headers=ask)
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == PAGE
        assert (
            preflight.headers["Access-Control-Allow-Headers"] == PREFLIGHT["Access-Control-Request-Headers"]
        )
        assert preflight.headers["Access-Control-Allow-Private-Network"] == "true"
        assert "Access-Control-Allow-Credentials" not in preflight.headers
        refusal = server.http.post("/v1/responses", json={}, headers={"Origin": PAGE})
        assert refusal.status_code == 401
        assert refusal.headers["Access-Control-Allow-Origin"] == PAGE
        assert refusal.headers["Access-Control-Expose-Headers"] == "X-Request-Id, Retry-After"
        with LiveServer(both_roles(failure("internal")), allow_origins=(PAGE,)) as broken:
            failed = broken.ask(headers={"Origin": PAGE})
        assert (failed.status_code, failed.headers["Access-Control-Allow-Origin"]) == (500, PAGE)
        other = server.http.options("/v1/models", headers={**ask, "Origin": "https://other.example.org"})
        assert other.status_code == 400
        assert "Access-Control-Allow-Origin" not in other.headers


def test_all_pages_have_no_credentials() -> None:
    with LiveServer(both_roles(), allow_origins=("*",)) as server:
        reply = server.http.post("/v1/chat/completions", json=body(), headers={"Origin": PAGE})
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in reply.headers
        # The rest of the server is for no page.
        assert (
            "Access-Control-Allow-Origin" not in server.http.get("/metrics", headers={"Origin": PAGE}).headers
        )


def test_by_default_no_page_may_ask() -> None:
    with LiveServer() as server:
        preflight = server.http.options("/v1/chat/completions", headers={"Origin": PAGE, **PREFLIGHT})
        assert not [name for name in preflight.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("given", "origin"),
    [("HTTPS://App.example.org:443", PAGE), ("http://localhost:3000", "http://localhost:3000"), ("*", "*")],
)
def test_an_origin_is_as_browsers_send_it(given: str, origin: str) -> None:
    assert ServingConfig(allow_origins=(given,)).allow_origins == (origin,)


@pytest.mark.parametrize(
    "given", ["app.example.org", "https://a.org/", "https://*.a.org", "null", "", "ftp://a"]
)
def test_what_is_no_origin_is_refused(given: str) -> None:
    with pytest.raises(InputError, match=r"is not an origin: write it as https://example\.org"):
        ServingConfig(allow_origins=(given,))
