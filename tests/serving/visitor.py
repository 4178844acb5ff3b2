"""A user of the page, in a real browser."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, FilePayload, FloatRect, Locator, Page, Request

    from tests.serving.live_server import LiveServer

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
expect = sync_api.expect
SHOTS = os.environ.get("P2R_SCREENSHOTS")  # where screenshots go, to be looked at
WAIT_MS = 60_000
THOUGHT = "<think>The tag says <b>2</b> & not 6.</think><answer>B</answer>"
FIRST_QUESTION = "Which digit is on the purple tag?"
expect.set_options(timeout=WAIT_MS)


class Visitor:
    """A user of the page."""

    def __init__(self, page: Page, server: LiveServer) -> None:
        self.page, self.server = page, server
        self.errors: list[str] = []
        self.regions: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda said: self.errors.append(said.text) if said.type != "log" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._requested)
        self.visit()

    def _requested(self, request: Request) -> None:
        if not request.url.startswith((self.server.url, "blob:")):
            self.errors.append(f"asked elsewhere: {request.url}")
        if "/region" in request.url:
            self.regions.append(request.url)

    def visit(self, hash_: str = "") -> None:
        self.page.goto("about:blank")
        self.page.goto(f"{self.server.url}/{hash_}")
        self.page.locator("body.ready").wait_for()

    def click(self, name: str, **more: Any) -> None:
        self.page.get_by_role("button", name=name, exact=True).click(**more)

    def example(self, question: str = FIRST_QUESTION) -> None:
        self.click(question)
        expect(self.page.get_by_role("textbox", name="Question")).to_have_value(question)
        expect(self.page.locator("#zoom")).not_to_be_empty(timeout=30_000)  # the image is there

    def give(self, *data: bytes, name: str = "street.jpg") -> None:
        names = [name if len(data) == 1 else f"{index}-{name}" for index in range(len(data))]
        files: list[FilePayload] = [
            {"name": each, "mimeType": "image/jpeg", "buffer": content}
            for each, content in zip(names, data, strict=True)
        ]
        self.page.locator("#file").set_input_files(files)
        if data:
            self.page.locator(f"#images button[aria-label='{names[-1]}']").wait_for()

    def write(self, text: str, options: str = "") -> None:
        self.page.get_by_role("textbox", name="Question").fill(text)
        if options:
            self.click("Options")
            self.page.get_by_label("Options, one on each line").fill(options)

    def ask(self, text: str = "", options: str = "") -> None:
        if text:
            self.write(text, options)
        self.click("Ask")

    def answered(self, column: int = 0) -> Locator:
        """The answer, once it is shown with its seconds and tokens."""
        article = self.page.locator("#columns article").nth(column)
        expect(article.locator(".small")).to_contain_text("tokens in")
        return article.locator(".answer")

    def box(self, index: int) -> FloatRect:
        return bounds(self.page.locator(".box").nth(index))

    def slow_line(self, latency_ms: int = 50, up: float = -1, down: float = -1) -> None:
        """From now on, bytes per second each way; -1 for as fast as it goes."""
        line = self.page.context.new_cdp_session(self.page)
        line.send("Network.enable")
        slow = {"latency": latency_ms, "uploadThroughput": up, "downloadThroughput": down}
        line.send("Network.emulateNetworkConditions", {"offline": False, **slow})

    def settled(self) -> None:
        """Wait until the view does not move any more."""
        at = None
        boxes = self.page.locator(".box")
        while at != (at := (self.page.locator("#zoom").inner_text(), boxes.count() and self.box(0))):
            self.page.wait_for_timeout(60)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=6)
        self.page.mouse.up()

    def shot(self, name: str) -> None:
        if SHOTS:
            self.page.wait_for_timeout(1_500)
            self.page.screenshot(path=f"{SHOTS}/{name}.png")


@contextmanager
def visiting(browser: Browser, server: LiveServer, **context: Any) -> Iterator[Visitor]:
    """The page, open. At the end the console must be empty, and nothing may have come from elsewhere."""
    with browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **context}) as session:
        visitor = Visitor(session.new_page(), server)
        yield visitor
        # What the server refuses, the browser itself puts into the console.
        refused = "the server responded with a status of 4"
        assert [error for error in visitor.errors if refused not in error] == []


def bounds(locator: Locator) -> FloatRect:
    """The rectangle of an element on the page."""
    rectangle = locator.bounding_box()
    assert rectangle
    return rectangle


def in_view(page: Page, locator: Locator) -> bool:
    """Whether all of an element is on the screen, and nothing lies over its middle."""
    box, size = bounds(locator), page.viewport_size
    assert size
    inside = box["x"] >= 0 and box["y"] >= 0
    inside &= box["x"] + box["width"] <= size["width"] and box["y"] + box["height"] <= size["height"]
    return inside and locator.evaluate(
        """it => {
            const {x, y, width, height} = it.getBoundingClientRect();
            return it.contains(document.elementFromPoint(x + Math.min(20, width / 2), y + height / 2));
        }"""
    )
