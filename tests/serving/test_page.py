"""The page in a real browser, with a scripted model and with nano."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import pytest

from p2r.nano import bundled
from tests.fake_model import StreamingFakeModel, failure
from tests.image_files import encoded, smooth
from tests.serving.live_server import BOXES, KEY, LiveServer, both_roles, perceiving, wait_until
from tests.serving.visitor import FIRST_QUESTION, THOUGHT, bounds, expect, in_view, visiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.fake_model import Reply

AXE = "axe-core@4.14.1"


# The way of a question.


def test_an_example_from_question_to_figure(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        page = visitor.page
        visitor.shot("welcome")
        visitor.example()
        visitor.ask()
        answer = visitor.answered()
        expect(answer).to_have_text("B. 3")
        # Everything is on one screen, and the result says its question, image and model.
        assert in_view(page, answer)
        assert in_view(page, page.locator("#asked"))
        expect(page.locator("#asked")).to_have_text(FIRST_QUESTION)
        expect(page.locator("#about")).to_have_text("1-read.jpg, 2352 × 3527 pixels")
        expect(page.locator("#options .picked")).to_have_text("3")
        expect(page.locator(".thinking")).to_have_text("The tag says <b>2</b> & not 6.")
        cost = page.locator("#columns .small").inner_text()
        assert re.search(r"\d\.\d\d s \(image .*reason \d.*\) · \d+ \+ \d+ tokens in 2 calls · fake", cost)
        assert page.locator(".tag").all_inner_texts() == ["1 bus", "2 sign"]
        # A box and its crop have one color, and mark each other.
        for index in range(2):
            crop, box = page.locator("#crops button").nth(index), page.locator(".box").nth(index)
            assert f"c{index}" in str(crop.get_attribute("class")).split()
            assert f"c{index}" in str(box.get_attribute("class")).split()
            crop.hover()
            expect(box).to_have_class(re.compile("hot"))
        visitor.settled()
        page.locator(".tag").first.hover()
        expect(page.locator("#crops li").first).to_have_class(re.compile("hot"))
        with page.expect_download() as download:
            page.get_by_role("link", name="Figure").click()
        with PIL.Image.open(download.value.path()) as figure:
            assert figure.size[0] == 1600
        with page.expect_download() as download:
            page.get_by_role("link", name="JSON").click()
        kept = json.loads(Path(download.value.path()).read_text())
        assert (kept["question"], kept["prediction"]["answer"]) == (FIRST_QUESTION, "B")
        visitor.shot("answered")


def test_boxes_are_seen_before_the_answer(browser: Browser) -> None:
    slow = StreamingFakeModel(lambda messages: BOXES if perceiving(messages) else THOUGHT, delay_s=2.0)
    with LiveServer(slow, ui=True) as server, visiting(browser, server) as visitor:
        page = visitor.page
        visitor.give(encoded(smooth(800, 600), "JPEG"))
        visitor.ask("What is it?")
        stage = page.locator("#stage")
        expect(stage).to_have_text(re.compile(r"Looking at the whole image \d\.\d s"))
        expect(stage).to_contain_text("Reasoning about 2 regions")
        assert page.locator(".box").count() == page.locator("#crops li").count() == 2
        expect(page.locator(".answer")).to_have_text("…")
        visitor.shot("looking")
        expect(visitor.answered()).to_have_text("B")
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
        expect(page.locator("#said")).to_have_text("Answer: B")


def test_ask_is_stop_while_something_runs(browser: Browser) -> None:
    waiting = StreamingFakeModel(lambda _: BOXES, delay_s=600)
    with LiveServer(waiting, ui=True) as server, visiting(browser, server) as visitor:
        page = visitor.page
        visitor.example()
        visitor.ask()
        wait_until(lambda: waiting.in_flight == 1)
        visitor.write("Another one?")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("One question at a time")
        expect(page.locator("#asked")).to_have_text(FIRST_QUESTION)
        assert page.get_by_role("button", name="Ask", exact=True).count() == 0
        visitor.click("Stop")
        wait_until(lambda: waiting.cancelled == 1)
        expect(page.locator(".answer")).to_have_text("Stopped before it was answered.")
        assert len(waiting.calls) == 1
        expect(page.get_by_role("textbox", name="Question")).to_have_value("Another one?")


def test_a_slow_upload_belongs_to_its_own_question(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        page = visitor.page
        visitor.slow_line(up=6e4, down=4e5)
        data = encoded(PIL.Image.effect_noise((400, 300), 90).convert("RGB"), "PNG")
        page.locator("#file").set_input_files({"name": "slow.png", "mimeType": "image/png", "buffer": data})
        # It is seen at once, and can be asked about at once.
        expect(page.locator("#welcome")).to_be_hidden()
        expect(page.locator("#transfer")).to_contain_text("Sending slow.png")
        visitor.ask("What is it?")
        expect(page.locator("#stage")).to_contain_text("Sending the image")
        visitor.slow_line()
        expect(page.locator("#about")).to_contain_text("slow.png, 400 × 300")
        expect(visitor.answered()).to_have_text("B")
        result = page.url.partition("result=")[2]
        record = server.http.get(f"/page/results/{result}.json").json()
        assert (record["image"]["name"], record["image"]["width"]) == ("slow.png", 400)


@pytest.mark.long
def test_a_result_stays_with_its_image(browser: Browser) -> None:
    slow = StreamingFakeModel(lambda messages: BOXES if perceiving(messages) else THOUGHT, delay_s=1.5)
    with LiveServer(slow, ui=True) as server, visiting(browser, server) as visitor:
        page = visitor.page
        visitor.give(encoded(smooth(300, 200), "PNG"), encoded(smooth(500, 400), "PNG"), name="x.png")
        assert page.locator("#images button").count() == 2
        visitor.ask("Which?")
        wait_until(lambda: slow.in_flight == 1)
        visitor.click("0-x.png")
        expect(page.locator("#panel")).to_be_hidden()
        expect(page.locator("#stage span").first).to_have_text("“Which?” was answered: B")
        assert page.locator(".box").count() == 0
        visitor.click("History")
        page.locator("#entries button").click()
        expect(page.locator("#about")).to_have_text("1-x.png, 500 × 400 pixels")
        assert page.locator(".box").count() == 2


@pytest.mark.long
def test_comparing_editing_boxes_and_perceiving_again(browser: Browser) -> None:
    model = both_roles(THOUGHT, kind=StreamingFakeModel)
    with LiveServer(model, ui=True) as server, visiting(browser, server) as visitor:
        page = visitor.page
        visitor.example()
        visitor.ask()
        visitor.answered()
        visitor.settled()
        visitor.click("Compare with one pass")
        expect(visitor.answered(1)).to_have_text("B. 3")
        titles = page.locator("article h3").all_inner_texts()
        assert titles == ["Look, then reason", "One pass over the plain image"]
        visitor.shot("compared")
        first, second = (bounds(page.locator("article").nth(index)) for index in (0, 1))
        assert first["y"] == second["y"]
        assert page.url.count(",") == 1
        # Move the first box, delete the second, draw a third.
        before = len(model.calls)
        visitor.click("Fit")
        visitor.settled()
        box = visitor.box(0)
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.click(*middle)
        expect(page.locator(".box").first).to_have_class(re.compile("selected"))
        visitor.drag(middle, (middle[0] + 60, middle[1] + 40))
        assert visitor.box(0)["x"] == pytest.approx(box["x"] + 60, abs=1.5)
        assert visitor.box(0)["width"] == pytest.approx(box["width"], abs=1.5)
        page.get_by_role("button", name="Box 2 sign").click()
        page.keyboard.press("Delete")
        visitor.click("Box")
        visitor.drag((300, 300), (380, 360))
        expect(page.locator("#steer")).to_contain_text("2 boxes, changed by you")
        visitor.shot("steered")
        visitor.click("Reason from these")
        expect(page.locator("article h3")).to_have_text("Reasoned from your boxes")
        expect(visitor.answered()).to_have_text("B. 3")
        assert len(model.calls) == before + 1
        told = json.loads(server.http.get(f"/page/results/{page.url.partition('result=')[2]}.json").text)[
            "prediction"
        ]
        assert told["outcome"] is None
        assert [each["label"] for each in told["boxes"]] == ["bus", ""]
        assert told["boxes"][0]["box"][0] > 100
        visitor.click("Look again")
        expect(page.locator("article h3")).to_have_text("Look, then reason")
        visitor.answered()
        assert page.locator(".tag").all_text_contents() == ["1 bus", "2 sign"]


@pytest.mark.long
def test_a_link_opens_the_same_view_and_history_survives(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        visitor.give(encoded(smooth(640, 480), "PNG"), name="mine.png")
        visitor.ask("Which?", "red\nblue")
        expect(visitor.answered()).to_have_text("B. blue")
        link = "#" + visitor.page.url.partition("#")[2]
        visitor.visit(link)
        expect(visitor.page.locator(".answer")).to_have_text("B. blue")
        visitor.visit()
        visitor.click("History")
        expect(visitor.page.locator("#entries button")).to_contain_text("Which?B. bluemine.png")
        with visiting(browser, server) as other:
            other.visit(link)
            expect(other.page.locator(".answer")).to_have_text("B. blue")
            expect(other.page.locator("#asked")).to_have_text("Which?")
            assert other.page.locator(".box").count() == 2
            other.visit("#result=unknown")
            expect(other.page.get_by_role("alert")).to_have_text("The server does not hold this any more.")


# The image.


@pytest.mark.long
def test_zoom_and_pan_by_wheel_drag_keys_and_buttons(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        page, zoom = visitor.page, visitor.page.locator("#zoom")

        def percent() -> int:
            visitor.settled()
            return int(zoom.inner_text().split()[0])

        visitor.example()
        visitor.ask()
        visitor.answered()
        page.locator("#viewer").focus()
        page.keyboard.press("0")
        whole = percent()
        assert whole < 40
        line = page.locator(".box").nth(1).evaluate("it => getComputedStyle(it).boxShadow")
        box = visitor.box(0)
        page.mouse.move(box["x"], box["y"])
        page.mouse.wheel(0, -600)
        near = percent()
        assert near == pytest.approx(whole * 2.718 ** (300 * 0.002), rel=0.6)
        assert near > whole
        # The point under the mouse stays, the outline keeps its width.
        assert visitor.box(0)["x"] == pytest.approx(box["x"], abs=2)
        assert page.locator(".box").nth(1).evaluate("it => getComputedStyle(it).boxShadow") == line
        at = visitor.box(0)
        visitor.drag((500, 500), (420, 460))
        assert visitor.box(0)["x"] == pytest.approx(at["x"] - 80, abs=2)
        page.locator("#viewer").focus()
        page.keyboard.press("ArrowRight")
        visitor.settled()
        assert visitor.box(0)["x"] == pytest.approx(at["x"] - 160, abs=2)
        for name, key in (("Zoom in", "+"), ("Zoom out", "-")):
            start = percent()
            visitor.click(name)
            changed = percent()
            assert (changed > start) == (name == "Zoom in")
            page.locator("#viewer").focus()
            page.keyboard.press(key)
            assert abs(percent() - start) > abs(changed - start)
        visitor.click("1:1")
        assert percent() == 100
        # A crop at full size: one pixel of it for each pixel of the screen, or larger.
        visitor.click("Fit")
        page.locator("#crops button").first.click()
        assert percent() >= 100
        visitor.shot("zoomed")


@pytest.mark.long
def test_what_is_in_view_comes_at_the_resolution_of_the_screen(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        # A format that the browser does not read: of others it may have all pixels before the server has.
        visitor.give(encoded(smooth(3_326, 2_494), "TIFF"), name="scan.tif")
        expect(visitor.page.locator("#zoom")).not_to_be_empty(timeout=30_000)  # the image is there
        visitor.settled()
        with visitor.page.expect_request(lambda request: sharp(request.url)) as asked:
            visitor.click("1:1")
        # It covers the window, and is not all of the image.
        rect = rectangle(asked.value.url)
        assert 1300 < rect[2] - rect[0] < 3326


def rectangle(url: str) -> list[int]:
    return numbers("rect", url)


def numbers(name: str, url: str) -> list[int]:
    found = re.search(rf"{name}=([\d,]+)", url)
    assert found, url
    return [int(each) for each in found[1].split(",")]


def sharp(url: str) -> bool:
    if "/region" not in url:
        return False
    size = numbers("size", url)
    x0, y0, x1, y1 = rectangle(url)
    return size == [x1 - x0, y1 - y0] and size[0] > 1000


@pytest.mark.long
def test_labels_never_cover_what_they_name(browser: Browser) -> None:
    small = [
        [300, 300, 304, 304],
        [305, 300, 309, 304],
        [0, 0, 20, 20],
        [980, 980, 1000, 1000],
        [0, 0, 1000, 1000],
    ]
    boxes = json.dumps([{"bbox_2d": box, "label": f"a long name {index}"} for index, box in enumerate(small)])
    with (
        LiveServer(both_roles(THOUGHT, boxes, StreamingFakeModel), ui=True) as server,
        visiting(browser, server) as visitor,
    ):
        page = visitor.page
        visitor.give(encoded(smooth(600, 1500), "PNG"), name="portrait.png")
        visitor.ask("Which?")
        visitor.answered()
        for _ in range(3):
            visitor.settled()
            tags = page.locator(".tag:not(.off)").all()
            for tag in tags:
                box = tag.evaluate("it => it.parentElement.getBoundingClientRect().toJSON()")
                it = bounds(tag)
                apart = it["x"] >= box["right"] or it["x"] + it["width"] <= box["left"]
                assert apart or it["y"] >= box["bottom"] or it["y"] + it["height"] <= box["top"]
            assert len(tags) >= 2
            visitor.click("Zoom in")
        # Crops keep their shape.
        for crop in page.locator("#crops img").all():
            expect(crop).not_to_have_js_property("naturalWidth", 0)
            shape = crop.evaluate("it => it.width / it.height / (it.naturalWidth / it.naturalHeight)")
            assert shape == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(
    "size", [(390, 844), *(pytest.param(size, marks=pytest.mark.long) for size in ((320, 568), (3840, 2160)))]
)
def test_screens_of_all_sizes_by_touch(browser: Browser, server: LiveServer, size: tuple[int, int]) -> None:
    context = {"viewport": dict(zip(("width", "height"), size, strict=True)), "has_touch": True}
    with visiting(browser, server, **context, color_scheme="dark") as visitor:
        page = visitor.page
        page.get_by_role("button", name=FIRST_QUESTION).tap()
        page.get_by_role("button", name="Ask", exact=True).tap()
        answer = visitor.answered()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        for what in (answer, page.locator("#question"), page.locator("#go"), page.locator("#asked")):
            assert in_view(page, what)
        visitor.settled()
        before = int(page.locator("#zoom").inner_text().split()[0])
        touch = page.context.new_cdp_session(page)
        middle = size[0] / 2, 115
        for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 60), ("touchEnd", 0)):
            points = [
                {"x": middle[0] + sign * apart, "y": middle[1], "id": number}
                for number, sign in ((0, -1), (1, 1))
            ]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points if apart else []})
        visitor.settled()
        assert int(page.locator("#zoom").inner_text().split()[0]) == pytest.approx(before * 3, rel=0.15)
        visitor.shot(f"screen-{size[0]}")


# Ways to give an image.


def test_a_pasted_and_a_dropped_image(browser: Browser, server: LiveServer) -> None:
    hand_over = """([kind, bytes, name]) => {
        const files = new DataTransfer();
        files.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
        const event = kind === "paste" ? new ClipboardEvent("paste", {clipboardData: files, bubbles: true})
                                       : new DragEvent("drop", {dataTransfer: files, bubbles: true});
        document.body.dispatchEvent(event);
    }"""
    with visiting(browser, server) as visitor:
        for kind, width in (("paste", 100), ("drop", 120)):
            visitor.page.evaluate(hand_over, [kind, list(encoded(smooth(width, 90), "PNG")), f"{kind}.png"])
            visitor.page.locator(f"#images button[aria-label='{kind}.png'][aria-pressed=true]").wait_for()


@pytest.mark.long
def test_a_tiff_that_the_browser_cannot_read(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        visitor.give(encoded(smooth(2000, 1000), "TIFF"), name="scan.tif")
        expect(visitor.page.locator("#welcome")).to_be_hidden()
        visitor.settled()
        assert any("rect=0,0,2000,1000&size=2000,1000" in url for url in visitor.regions)


def test_a_refusal_shows_its_reason(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        alert = visitor.page.get_by_role("alert")
        visitor.ask("What is it?")
        expect(alert).to_have_text("Open an image first.")
        visitor.page.locator("#file").set_input_files(
            {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"This is a text."}
        )
        expect(alert).to_contain_text("notes.txt: ")
        visitor.give(encoded(smooth(90, 90), "JPEG"))
        expect(alert).to_be_hidden()
        visitor.ask("Which?", "red")
        expect(alert).to_contain_text("One option is none")
        visitor.page.get_by_role("textbox", name="Question").fill("")
        visitor.click("Ask")
        expect(alert).to_contain_text("What do you want to know")


def test_a_model_failure_is_shown_and_the_page_stays_usable(browser: Browser) -> None:
    replies: Iterator[Reply] = iter([failure("unreachable", "no route to 10.0.0.7"), "[]", THOUGHT])
    model = StreamingFakeModel(lambda _: next(replies))
    with LiveServer(model, ui=True) as server, visiting(browser, server) as visitor:
        visitor.give(encoded(smooth(90, 90), "JPEG"))
        visitor.ask("Which?", "red\nblue")
        expect(visitor.page.get_by_role("alert")).to_have_text("No answer: the model cannot be reached")
        expect(visitor.page.locator("#asked")).to_have_text("Which?")
        assert "10.0.0.7" not in visitor.page.content()
        visitor.ask()
        visitor.answered()
        expect(visitor.page.locator("#outcome")).to_contain_text("needs the whole image")


def test_texts_are_never_markup(browser: Browser) -> None:
    label = "<img src=x onerror=alert(1)>"
    boxes = json.dumps([{"bbox_2d": [100, 100, 300, 300], "label": label}])
    model = both_roles(f"<think>{label}</think><answer>{label}</answer>", boxes, StreamingFakeModel)
    with LiveServer(model, ui=True) as server, visiting(browser, server) as visitor:
        visitor.page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        visitor.give(encoded(smooth(90, 90), "JPEG"), name=f"{label}.jpg")
        visitor.ask(label)
        expect(visitor.answered()).to_have_text(label)
        visitor.click("History")
        assert visitor.page.locator("img[src=x]").count() == 0


@pytest.mark.long
def test_settings_go_along_with_the_question(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        page = visitor.page
        visitor.example()
        visitor.click("Settings")
        names = page.locator("#mode option").evaluate_all("all => all.map(each => each.value)")
        assert names == [each["id"] for each in server.http.get("/v1/models").json()["data"]]
        page.get_by_label("Crops, at most").fill("1")
        visitor.click("Done")
        visitor.ask()
        visitor.answered()
        assert page.locator("#crops li").count() == 1
        visitor.click("Settings")
        page.get_by_label("Answered by").select_option("p2r-direct")
        visitor.click("Done")
        visitor.ask()
        expect(page.locator("article h3")).to_have_text("One pass, bare answer")
        visitor.answered()
        assert page.locator(".box").count() == 0


# For everybody.


def test_by_keyboard_alone(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server) as visitor:
        page = visitor.page
        page.get_by_role("button", name=FIRST_QUESTION).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("textbox", name="Question")).to_be_focused()
        page.keyboard.press("Enter")
        visitor.answered()
        visitor.settled()
        page.get_by_role("button", name="Box", exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Box 3", exact=True)).to_be_focused()
        before = visitor.box(2)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
        after = visitor.box(2)
        assert after["x"] > before["x"]
        assert after["height"] > before["height"]
        page.keyboard.press("Delete")
        assert page.locator(".box").count() == 2


def test_reduced_motion_is_respected(browser: Browser, server: LiveServer) -> None:
    with visiting(browser, server, reduced_motion="reduce") as visitor:
        visitor.example()
        before = visitor.page.locator("#zoom").inner_text()
        visitor.click("Zoom in")
        assert visitor.page.locator("#zoom").inner_text() != before


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_axe_finds_no_violation(browser: Browser, server: LiveServer, scheme: str, axe: str) -> None:
    context = {"color_scheme": scheme, "bypass_csp": True}
    with visiting(browser, server, **context) as visitor:
        page = visitor.page
        page.evaluate(axe)

        def violations() -> list[str]:
            found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
            return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]

        assert violations() == []
        visitor.example()
        visitor.ask()
        visitor.answered()
        visitor.settled()
        assert violations() == []
        page.locator(".tag").first.click()
        assert violations() == []
        for name in ("Settings", "History"):
            visitor.click(name)
            assert violations() == []
            page.keyboard.press("Escape")


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which tests accessibility."""
    if not shutil.which("npm"):
        pytest.skip("there is no npm here")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), AXE]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip(f"npm cannot install {AXE}: {run.stderr.strip().splitlines()[-1:]}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


# Who may come in, and who answers.


@pytest.mark.long
def test_with_keys_the_browser_logs_in(browser: Browser) -> None:
    with LiveServer(both_roles(THOUGHT, kind=StreamingFakeModel), ui=True, api_keys=(KEY,)) as server:
        credentials = {"username": "me", "password": KEY}
        with visiting(browser, server, http_credentials=credentials) as visitor:
            visitor.give(encoded(smooth(90, 90), "JPEG"))
            visitor.ask("Which?", "red\nblue")
            expect(visitor.answered()).to_have_text("B. blue")


@pytest.mark.long
@pytest.mark.skipif("nano" not in bundled(), reason="the bundled model is not here")
def test_nano_answers_and_says_what_it_is(browser: Browser) -> None:
    with LiveServer("nano", ui=True, settings=None) as server, visiting(browser, server) as visitor:
        expect(visitor.page.locator("#note")).to_contain_text("nano answers here")
        visitor.example()
        visitor.ask()
        expect(visitor.answered()).to_have_text("A. 9")
        visitor.shot("nano")
