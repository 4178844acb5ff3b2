"""The page in a real browser: what a person does and sees, with a scripted model and with nano."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import pytest
from live_server import BOXES, KEY, LiveServer, both_roles, perceiving

from fake_model import StreamingFakeModel, failure
from p2r.nano import bundled
from pictures import encoded, smooth

if TYPE_CHECKING:
    from collections.abc import Iterator

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="the browser tests need chromium (apt install chromium)"),
    # Gradio uses pandas in ways that pandas is about to drop.
    pytest.mark.filterwarnings(r"ignore:::gradio\.queueing"),
]
# Where the pictures of the page go, to be looked at.
SHOTS = os.environ.get("P2R_SCREENSHOTS")
THOUGHT = "<think>The tag says <b>2</b> & not 6.</think><answer>B</answer>"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that containers do not give.
        sync_api.expect.set_options(timeout=WAIT_MS)
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(both_roles(THOUGHT, kind=StreamingFakeModel), ui=True) as running:
        yield running


@contextmanager
def opened(browser: sync_api.Browser, server: LiveServer, **context: object) -> Iterator[sync_api.Page]:
    """The page, open. At the end the console must be empty, and nothing may have come from elsewhere."""
    with browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}) as session:
        page = session.new_page()
        page.set_default_timeout(WAIT_MS)
        errors: list[str] = []
        asked: list[str] = []
        page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else 0)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url)
        page.get_by_role("button", name="Ask", exact=True).wait_for()
        yield page
        assert [url for url in asked if not url.startswith((server.url, "data:", "blob:"))] == []
        # What the server refuses, the browser itself puts into the console.
        assert [error for error in errors if "the server responded with a status of 4" not in error] == []


def shot(page: sync_api.Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def give(page: sync_api.Page, data: bytes, name: str = "street.jpg") -> None:
    page.get_by_label("Drop a picture here").set_input_files(
        {"name": name, "mimeType": "image/jpeg", "buffer": data}
    )


def ask(page: sync_api.Page, text: str, options: str = "") -> None:
    page.get_by_label("Question").fill(text)
    page.get_by_label("Options, one on each line").fill(options)
    page.get_by_role("button", name="Ask", exact=True).click()


def done(page: sync_api.Page) -> None:
    page.get_by_role("link", name="figure (PNG)").wait_for()


def loaded(page: sync_api.Page, selector: str) -> list[int]:
    """The widths in pixels of the pictures that the browser could decode."""
    return page.eval_on_selector_all(
        selector, "all => all.map(image => image.complete && image.naturalWidth)"
    )


def test_an_example_shows_boxes_crops_thinking_answer_and_can_be_kept(
    browser: sync_api.Browser, server: LiveServer
) -> None:
    with opened(browser, server) as page:
        page.get_by_role("button", name="Which digit is on the pink tag?").click()
        sync_api.expect(page.get_by_label("Question")).to_have_value("Which digit is on the pink tag?")
        sync_api.expect(page.get_by_label("Options, one on each line")).to_have_value("6\n2\n4\n5")
        page.wait_for_function("document.querySelector('.p2r-drop img').naturalWidth > 0")
        page.get_by_role("button", name="Ask", exact=True).click()
        done(page)
        shot(page, "example")
        assert page.get_by_alt_text("The picture with 2 outlined regions: 1 bus, 2 sign").count() == 1
        assert loaded(page, ".p2r-overview img")[0] > 500
        assert len([width for width in loaded(page, ".p2r-crops img") if width]) == 2
        looked, alone = page.get_by_label("Look, then think"), page.get_by_label("In one pass")
        for column in (looked, alone):
            assert column.locator(".p2r-answer").inner_text() == "B. 2"
            assert "The tag says <b>2</b> & not 6." in column.inner_text()
            assert re.search(r"\d\.\d\d s \(.*\) · \d+ \+ \d+ tokens in \d call", column.inner_text())
        assert "2 calls" in looked.inner_text()
        assert "1 call" in alone.inner_text()
        with page.expect_download() as download:
            page.get_by_role("link", name="figure (PNG)").click()
        with PIL.Image.open(download.value.path()) as figure:
            assert figure.size[0] == 1600
        with page.expect_download() as download:
            page.get_by_role("link", name="everything (JSON)").click()
        kept = json.loads(Path(download.value.path()).read_text())
        assert kept["question"] == "Which digit is on the pink tag?"
        assert kept["p2r"]["answer"] == kept["think"]["answer"] == "B"
        assert [box["label"] for box in kept["p2r"]["boxes"]] == ["bus", "sign"]
    outlined = page_colours(server)
    assert outlined == {"bus": "red", "sign": "green"}


def page_colours(server: LiveServer) -> dict[str, str]:
    """In which colours the reasoner was told that the boxes are."""
    told = next(call.text for call in reversed(server.model.calls) if "in this order" in call.text)
    names = told.partition("in this order: ")[2].partition(".")[0].split(", ")
    return dict(zip(("bus", "sign"), names, strict=True))


def test_boxes_are_seen_before_the_answer(browser: sync_api.Browser) -> None:
    slow = StreamingFakeModel(lambda messages: BOXES if perceiving(messages) else THOUGHT, delay_s=3.0)
    with LiveServer(slow, ui=True) as server, opened(browser, server) as page:
        give(page, encoded(smooth(800, 600), "JPEG"))
        page.get_by_text("street.jpg, 800 × 600 pixels").wait_for()
        ask(page, "What is it?")
        page.get_by_alt_text(re.compile("2 outlined regions")).wait_for()
        assert "B" not in page.get_by_label("Look, then think").inner_text().split()
        assert page.get_by_text("Thinking about what it saw").count() == 1
        shot(page, "looking")
        done(page)
        assert page.get_by_label("Look, then think").locator(".p2r-answer").inner_text() == "B"


def test_an_upload_with_options_in_the_text_by_keyboard_alone(
    browser: sync_api.Browser, server: LiveServer
) -> None:
    with opened(browser, server) as page:
        give(page, encoded(smooth(640, 480), "PNG"), "street.png")
        page.get_by_text("street.png, 640 × 480 pixels").wait_for()
        page.get_by_label("Drop a picture here").focus()
        for _ in range(4):
            page.keyboard.press("Tab")
            if page.get_by_label("Question").evaluate("box => box === document.activeElement"):
                break
        page.keyboard.type("Which colour? (A) red (B) blue")
        page.keyboard.press("Enter")
        done(page)
        assert page.get_by_label("Look, then think").locator(".p2r-answer").inner_text() == "B. blue"


def test_a_pasted_and_a_dropped_picture(browser: sync_api.Browser, server: LiveServer) -> None:
    hand_over = """([kind, bytes, target]) => {
        const files = new DataTransfer();
        files.items.add(new File([new Uint8Array(bytes)], "given.png", {type: "image/png"}));
        const event = kind === "paste" ? new ClipboardEvent("paste", {clipboardData: files, bubbles: true})
                                       : new DragEvent("drop", {dataTransfer: files, bubbles: true});
        document.querySelector(target).dispatchEvent(event);
    }"""
    with opened(browser, server) as page:
        for kind, target, width in (("paste", "body", 100), ("drop", ".p2r-drop", 120)):
            page.evaluate(hand_over, [kind, list(encoded(smooth(width, 90), "PNG")), target])
            page.get_by_text(f"given.png, {width} × 90 pixels").wait_for()


def test_what_is_refused_says_why(browser: sync_api.Browser, server: LiveServer) -> None:
    with opened(browser, server) as page:
        ask(page, "What is it?")
        page.get_by_role("alert").get_by_text("there is no picture").wait_for()
        give(page, b"This is a text.", "notes.txt")
        page.get_by_text(re.compile("Refused: .*not a picture|Refused: ")).wait_for()
        shot(page, "refused")
        assert page.locator(".p2r-drop img").is_hidden()
        give(page, encoded(smooth(90, 90), "JPEG"))
        page.get_by_text("street.jpg, 90 × 90 pixels").wait_for()
        ask(page, "Which?", "red")
        page.get_by_role("alert").get_by_text("one choice is none").wait_for()
        ask(page, "")
        page.get_by_role("alert").get_by_text("the question is empty").wait_for()


def test_a_dead_model_says_so_and_the_page_lives_on(browser: sync_api.Browser) -> None:
    replies = iter([failure("unreachable", "no route to 10.0.0.7"), BOXES, THOUGHT, THOUGHT])
    model = StreamingFakeModel(lambda _: next(replies))
    with LiveServer(model, ui=True) as server, opened(browser, server) as page:
        give(page, encoded(smooth(90, 90), "JPEG"))
        page.get_by_text("street.jpg, 90 × 90 pixels").wait_for()
        ask(page, "Which?", "red\nblue")
        page.get_by_role("alert").get_by_text("No answer: the model cannot be reached").wait_for()
        shot(page, "dead-model")
        assert "10.0.0.7" not in page.content()
        assert page.get_by_label("Look, then think").count() == 0
        page.get_by_role("button", name="Ask", exact=True).click()
        done(page)


def test_a_perceiver_that_names_nothing(browser: sync_api.Browser) -> None:
    replies = iter(["[]", THOUGHT, "no idea", THOUGHT])
    model = StreamingFakeModel(lambda _: next(replies))
    with LiveServer(model, ui=True) as server, opened(browser, server) as page:
        give(page, encoded(smooth(90, 90), "JPEG"))
        page.get_by_text("street.jpg, 90 × 90 pixels").wait_for()
        page.get_by_label("Compare with one pass").uncheck()
        for told in ("needs the whole picture", "no region that could be read"):
            ask(page, "Which?", "red\nblue")
            page.get_by_text(told).wait_for()
            done(page)
        assert page.get_by_label("In one pass").count() == 0


def test_what_a_model_writes_is_never_markup(browser: sync_api.Browser) -> None:
    label = "<img src=x onerror=alert(1)>"
    boxes = json.dumps([{"bbox_2d": [100, 100, 300, 300], "label": label}])
    model = both_roles(f"<think>{label}</think><answer>{label}</answer>", boxes, StreamingFakeModel)
    with LiveServer(model, ui=True) as server, opened(browser, server) as page:
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        give(page, encoded(smooth(90, 90), "JPEG"), f"{label}.jpg")
        page.get_by_text("90 × 90 pixels").wait_for()
        ask(page, label)
        done(page)
        assert page.get_by_label("Look, then think").locator(".p2r-answer").inner_text() == label
        assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_and_both_themes(browser: sync_api.Browser, server: LiveServer, scheme: str) -> None:
    with opened(browser, server, viewport={"width": 360, "height": 740}, color_scheme=scheme) as page:
        page.get_by_role("button", name="Which digit is on the pink tag?").click()
        sync_api.expect(page.get_by_label("Question")).to_have_value("Which digit is on the pink tag?")
        page.get_by_role("button", name="Ask", exact=True).click()
        done(page)
        shot(page, f"narrow-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        ink = page.locator(".p2r-answer").first.evaluate("answer => getComputedStyle(answer).color")
        assert (lightness(paper) > lightness(ink)) == (scheme == "light")
        assert abs(lightness(paper) - lightness(ink)) > 120


def lightness(colour: str) -> float:
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", colour)[:3])
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_every_control_has_a_name(browser: sync_api.Browser, server: LiveServer) -> None:
    with opened(browser, server) as page:
        assert page.title() == "perceive-to-reason"
        assert page.locator("html").get_attribute("lang") == "en"
        for control in page.locator("button:visible, input:visible, textarea:visible").all():
            named = control.evaluate(
                "it => it.innerText || it.getAttribute('aria-label') || "
                "[...(it.labels || [])].map(label => label.innerText).join()"
            )
            assert named.strip(), control.evaluate("it => it.outerHTML")
        assert page.locator("img:not([alt])").count() == 0


def test_with_keys_the_browser_logs_in(browser: sync_api.Browser) -> None:
    with LiveServer(both_roles(kind=StreamingFakeModel), ui=True, api_keys=(KEY,)) as server:
        credentials = {"username": "me", "password": KEY}
        with opened(browser, server, http_credentials=credentials) as page:
            give(page, encoded(smooth(90, 90), "JPEG"))
            page.get_by_text("street.jpg, 90 × 90 pixels").wait_for()
            ask(page, "Which?", "red\nblue")
            done(page)
            with page.expect_download() as download:
                page.get_by_role("link", name="everything (JSON)").click()
            assert json.loads(Path(download.value.path()).read_text())["p2r"]["answer"] == "B"


@pytest.mark.skipif(not bundled(), reason="the weights of the bundled model are not here")
def test_nano_looks_and_says_what_it_can_see(browser: sync_api.Browser) -> None:
    with LiveServer(next(iter(bundled())), settings=None, ui=True) as server, opened(browser, server) as page:
        assert page.get_by_text("In photographs it sees nothing").count() == 1
        page.get_by_role("button", name="Which digit is on the pink tag?").click()
        sync_api.expect(page.get_by_label("Question")).to_have_value("Which digit is on the pink tag?")
        page.get_by_role("button", name="Ask", exact=True).click()
        done(page)
        shot(page, "nano")
        assert page.get_by_alt_text(re.compile("outlined region")).count() == 1
        assert page.get_by_label("Look, then think").locator(".p2r-answer").inner_text() == "A. 6"
