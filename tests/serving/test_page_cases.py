"""The page on slow lines, with servers that forget, and with odd images and texts."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import httpx
import pytest

from p2r.serving.fetching import ImageFetcher
from tests.fake_model import StreamingFakeModel
from tests.image_files import encoded, smooth
from tests.serving.live_server import BOXES, LiveServer, both_roles, perceiving, wait_until
from tests.serving.test_fetching import PUBLIC, Web
from tests.serving.visitor import FIRST_QUESTION, THOUGHT, expect, in_view, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Request


# Slow lines, slow models, servers that end.


def test_the_first_paint_waits_for_one_file_only(browser: Browser, server: LiveServer) -> None:
    with browser.new_context() as session:
        page = session.new_page()
        held: list[str] = []
        page.route("**/page/**", lambda route: held.append(route.request.url))  # never answered
        page.goto(server.url, wait_until="commit")
        expect(page.get_by_role("heading", name="Ask about a detail")).to_be_in_viewport()
        # The style is there too, and Ask is disabled until the scripts run.
        expect(page.locator("#go")).to_have_css("border-radius", "9px")
        expect(page.locator("#go")).to_be_disabled()
        painted = "performance.getEntriesByName('first-contentful-paint').length"
        wait_until(lambda: page.evaluate(painted))
        assert any("app.js" in url for url in held)
    assert len(server.http.get("/").content) < 32_000


@pytest.mark.long
def test_on_a_slow_line_the_page_says_what_it_waits_for(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        page = visitor.page
        visitor.slow_line(latency_ms=1_000)
        image = encoded(smooth(2_000, 1_500), "TIFF", compression="tiff_adobe_deflate")
        page.locator("#file").set_input_files({"name": "a.tif", "mimeType": "image/tiff", "buffer": image})
        expect(page.locator("#transfer")).to_contain_text(re.compile("Sending|Preparing"))
        expect(page.locator("#loading")).to_have_text(re.compile(r"Preparing the image \d\.\d s"))
        expect(page.locator("#loading")).to_be_hidden()
        # What was there stays until what is sharper comes.
        visitor.click("1:1")
        blue = "it => it.getContext('2d').getImageData(700, 450, 1, 1).data[2]"
        visitor.settled()
        stage = page.evaluate("getComputedStyle(document.getElementById('viewer')).backgroundColor")
        assert stage == "rgb(230, 233, 239)"
        assert page.locator("canvas").evaluate(blue) != 239
        visitor.ask("What is it?")
        expect(page.locator("#stage")).to_contain_text("Waiting for its turn")
        assert in_view(page, page.locator("#asked"))
        expect(page.locator(".answer")).to_have_text("…")
        expect(visitor.answered()).to_have_text("B")


def test_panning_asks_for_regions_ahead_and_one_at_a_time(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        page, running, most = visitor.page, set(), [0]

        def begun(request: Request) -> None:
            if "/region" in request.url and "size=160," not in request.url:  # not for the list of images
                running.add(request)
                most[0] = max(most[0], len(running))

        def idle() -> None:
            count = None
            while running or count != (count := len(visitor.regions)):
                page.wait_for_timeout(300)

        page.on("request", begun)
        for kind in ("requestfinished", "requestfailed"):
            page.on(kind, lambda request: running.discard(request))
        image = encoded(smooth(5_000, 3_000), "TIFF", compression="tiff_adobe_deflate")
        visitor.give(image, name="scan.tif")
        visitor.settled()
        visitor.click("1:1")
        visitor.settled()
        idle()
        # A margin of 288 pixels on each side: what comes next is asked for when half of it is left.
        assert width(visitor.regions[-1]) == pytest.approx(1_440 * 1.4, abs=2)
        before = len(visitor.regions)
        visitor.drag((700, 450), (600, 450))
        idle()
        assert len(visitor.regions) == before
        visitor.drag((700, 450), (600, 450))
        idle()
        assert len(visitor.regions) == before + 1
        assert width(visitor.regions[-1]) == pytest.approx(1_440 * 1.4, abs=2)
        for _ in range(6):
            visitor.drag((1_000, 500), (500, 480))
        idle()
        assert most[0] <= 2  # one that is not needed any more ends, another begins
        assert len(visitor.regions) - before <= 20


def width(url: str) -> int:
    found = re.search(r"rect=(\d+),\d+,(\d+)", url)
    assert found
    return int(found[2]) - int(found[1])


class HeldModel(StreamingFakeModel):
    """It perceives at once, and reasons when it is released."""

    released = False

    async def _wait(self) -> None:
        while not self.released and not perceiving(self.calls[-1].messages):  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0.02)


def test_boxes_that_are_changed_while_it_reasons_stay(browser: Browser) -> None:
    slow = HeldModel(lambda messages: BOXES if perceiving(messages) else THOUGHT)
    with LiveServer(slow, ui=True) as server, visiting(browser, server) as visitor:
        page = visitor.page
        visitor.example()
        visitor.ask()
        expect(page.locator("#stage")).to_contain_text("Reasoning about 2 regions")
        visitor.settled()
        page.locator(".tag").first.click()
        page.keyboard.press("Delete")
        slow.released = True
        visitor.answered()
        assert page.locator(".box").count() == 1
        expect(page.locator("#steer")).to_contain_text("1 box, changed by you")
        visitor.click("Undo")
        assert page.locator(".box").count() == 2
        expect(page.locator("#viewer")).to_be_focused()


def test_stop_ends_a_question_whose_image_is_still_sent(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        visitor.slow_line(up=2_000)
        image = encoded(smooth(600, 400), "PNG")
        chosen = visitor.page.locator("#file")
        chosen.set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": image})
        expect(visitor.page.locator("#welcome")).to_be_hidden()
        visitor.ask("What is it?")
        expect(visitor.page.locator("#stage")).to_contain_text("Sending the image")
        visitor.click("Stop")
        expect(visitor.page.locator(".answer")).to_have_text("Stopped before it was answered.")


@pytest.mark.long
def test_a_server_that_restarts_has_forgotten_the_image(browser: Browser) -> None:
    waiting = StreamingFakeModel(lambda _: BOXES, delay_s=600)
    image = encoded(smooth(640, 480), "PNG")
    with LiveServer(waiting, ui=True, drain_s=0.2) as first, visiting(browser, first) as visitor:
        alert = visitor.page.get_by_role("alert")
        visitor.give(image, name="mine.png")
        visitor.ask("Which?")
        wait_until(lambda: waiting.in_flight == 1)
        first.end()
        first.join()
        expect(alert).to_contain_text("No answer: ")
        visitor.errors.clear()  # the browser says that connections were refused
        with LiveServer(both_roles(kind=StreamingFakeModel), ui=True, port=first.port) as second:
            visitor.ask()
            expect(alert).to_have_text("No answer: the image is not here any more: upload it again")
            visitor.visit(visitor.page.url.partition("/")[2].partition("/")[2].partition("/")[2])
            expect(alert).to_have_text("The server does not hold this any more.")
            assert visitor.page.locator("#images button").count() == 0
            visitor.give(image, name="mine.png")
            expect(alert).to_be_hidden()
            visitor.ask("Which?")
            expect(visitor.answered()).to_have_text("B")
            assert second.model.calls
        visitor.errors.clear()


# Odd images and texts.


@pytest.mark.long
@pytest.mark.parametrize("size", [(20_000, 200), (210, 9_000), (1, 1)])
def test_images_of_odd_shapes(browser: Browser, server: LiveServer, size: tuple[int, int]) -> None:
    with visiting(browser, server) as visitor:
        visitor.give(encoded(smooth(*size), "PNG"), name="odd.png")
        visitor.ask("What is it?")
        expect(visitor.answered()).to_have_text("B")
        expect(visitor.page.locator("#about")).to_have_text(f"odd.png, {size[0]} × {size[1]} pixels")
        for tool in ("Zoom in", "1:1", "Fit"):
            visitor.click(tool)
            visitor.settled()
        visitor.page.wait_for_timeout(500)
        asked = len(visitor.regions)
        visitor.page.wait_for_timeout(500)
        assert len(visitor.regions) == asked <= 16
        for crop in visitor.page.locator("#crops img").all():
            width, height = crop.evaluate("it => [it.naturalWidth, it.naturalHeight]")
            shown = crop.evaluate("it => [it.width, it.height]")
            assert min(width, height) > 0
            assert shown[0] <= width + 1
            assert shown[1] <= height + 1


@pytest.mark.parametrize("width", [1440, pytest.param(320, marks=pytest.mark.long)])
def test_long_texts_and_other_scripts(browser: Browser, width: int) -> None:
    arabic, chinese = "ما لون الحافلة؟ ", "巴士是什么颜色的?"
    boxes = json.dumps([{"bbox_2d": [100, 100, 300, 300], "label": chinese * 20}])
    model = both_roles(f"<think>{chinese * 1_200}</think><answer>Z</answer>", boxes, StreamingFakeModel)
    with (
        LiveServer(model, ui=True) as server,
        visiting(browser, server, viewport={"width": width, "height": 700}) as visitor,
    ):
        page = visitor.page
        visitor.give(encoded(smooth(640, 480), "JPEG"), name="a-very-long-name-" * 10 + ".jpg")
        visitor.ask(arabic * 600, "\n".join(f"{chinese} {index}" for index in range(30)))
        expect(page.get_by_role("alert")).to_have_text("There are 30 options: give at most 26 (A to Z).")
        page.get_by_label("Options, one on each line").fill(
            "\n".join(f"{chinese} {each}" for each in range(26))
        )
        visitor.ask()
        answer = visitor.answered()
        expect(answer).to_have_text(f"Z. {chinese} 25")
        expect(page.locator("#asked")).to_have_css("direction", "rtl")
        expect(page.locator("#question")).to_have_css("direction", "rtl")
        expect(answer).to_have_css("direction", "ltr")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for what in (answer, page.locator("#go"), page.locator("#asked"), page.locator("#viewer canvas")):
            assert what.evaluate("it => it.getBoundingClientRect().width") <= width
        for what in (answer, page.locator("#go")):
            assert in_view(page, what)
        visitor.shot(f"long-{width}")
        visitor.click("History")
        entry = page.locator("#entries button").bounding_box()
        assert entry
        assert entry["height"] < 160
        visitor.shot(f"long-history-{width}")


def test_an_answer_that_is_none(browser: Browser) -> None:
    model = both_roles("<think>I cannot tell.</think>", kind=StreamingFakeModel)
    with LiveServer(model, ui=True) as server, visiting(browser, server) as visitor:
        visitor.example()
        visitor.ask()
        expect(visitor.answered()).to_have_text(re.compile("^None: "))
        assert in_view(visitor.page, visitor.page.locator(".answer"))
        assert visitor.page.locator(".picked").count() == 0


def test_an_image_by_its_address(browser: Browser) -> None:
    web = Web({"images.example": [PUBLIC]})
    hosts = ("images.example",)
    fetcher = ImageFetcher(hosts, 10**6, resolver=web.resolve, transport=httpx.MockTransport(web.handle))
    with (
        LiveServer(ui=True, image_hosts=hosts, fetcher=fetcher) as server,
        visiting(browser, server) as visitor,
    ):
        page = visitor.page
        page.get_by_label("Or its address").fill("https://images.example/street.jpg?x=1")
        visitor.click("Fetch")
        page.locator("#images button[aria-label='street.jpg'][aria-pressed=true]").wait_for()
        page.evaluate(
            """() => {
                const text = new DataTransfer();
                text.setData("text/plain", "https://elsewhere.example/b.jpg");
                const paste = new ClipboardEvent("paste", {clipboardData: text, bubbles: true});
                document.body.dispatchEvent(paste);
            }"""
        )
        expect(page.get_by_role("alert")).to_contain_text("b.jpg: ")
        expect(page.get_by_role("alert")).to_contain_text("--allow-image-host")


def test_the_keyboard_reaches_everything_in_order(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        page = visitor.page
        visitor.example()
        visitor.ask()
        visitor.answered()
        page.evaluate("document.activeElement.blur()")
        reached: list[str] = []
        named = "it => it.ariaLabel || it.textContent || it.id"
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.locator(":focus")
            if focused.count():
                reached.append(focused.evaluate(named))
        wanted = [
            *(
                "Open image",
                "1-read.jpg",
                "History",
                "Settings",
                "Image",
                "Box 1 bus",
                "Box 2 sign",
                "Zoom in",
            ),
            *("Box", "Hide this result", "Compare with one pass", "Look again", "Link", "Figure", "JSON"),
            *("Question", "Options (4)", "Ask"),
        ]
        start = reached.index("Open image")
        assert [name for name in reached[start:] if name in wanted][: len(wanted)] == wanted
        # What happens is said to those who do not see it.
        expect(page.get_by_role("status").filter(has_text="Answer: B. 3")).to_have_count(1)
        page.get_by_role("button", name="Hide this result").press("Enter")
        expect(page.locator("#viewer")).to_be_focused()
        assert page.get_by_role("textbox", name="Question").input_value() == FIRST_QUESTION
