"""The page's own routes: files, uploads, regions, results, and access."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest
import pyvips

from p2r.errors import InputError
from p2r.images.limits import Limits
from p2r.serving.page.store import RESULTS_BYTES, Store
from tests.fake_model import FakeModel, StreamingFakeModel
from tests.image_files import difference, encoded, smooth
from tests.serving.live_server import BOXES, IMAGE, KEY, SETTINGS, LiveServer, both_roles, refused, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

BYTES = {"Content-Type": "application/octet-stream"}
ASK = "Which color is the bus?\nA. blue\nB. red"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    limits = Limits(max_pixels=4_000_000, max_bytes=200_000)
    with LiveServer(
        both_roles(kind=StreamingFakeModel), ui=True, upload=limits, body_timeout_s=0.5
    ) as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[LiveServer]:
    with LiveServer(ui=True, api_keys=(KEY,)) as running:
        yield running


def basic(password: str, name: str = "me") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def give(
    server: LiveServer, data: bytes | Iterator[bytes] = IMAGE, name: str = "street.jpg", **more: Any
) -> httpx.Response:
    return server.http.post("/page/images", params={"name": name}, content=data, **{"headers": BYTES, **more})


def question(image: str, text: str = ASK, **more: Any) -> dict[str, Any]:
    content = [
        {"type": "image_url", "image_url": {"url": f"p2r-image:{image}"}},
        {"type": "text", "text": text},
    ]
    return {"model": "p2r", "messages": [{"role": "user", "content": content}], **more}


def asked(server: LiveServer, image: str, **more: Any) -> dict[str, Any]:
    """The `p2r` field of the reply to a question about an upload."""
    reply = server.ask(question(image, **more))
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["p2r"]


# Uploads and their regions.


def test_an_upload_is_cut_to_the_pixel(server: LiveServer) -> None:
    pixels = smooth(400, 300)
    told = give(server, encoded(pixels, "PNG"), "a\nb.png").json()
    assert (told["width"], told["height"], told["name"]) == (400, 300, "ab.png")
    region = server.http.get(f"/page/images/{told['id']}/region?rect=100,50,180,90&size=80,40")
    assert region.headers["Content-Type"] == "image/jpeg"
    assert "immutable" in region.headers["Cache-Control"]
    with PIL.Image.open(io.BytesIO(region.content)) as image:
        assert difference(np.asarray(image), pixels[50:90, 100:180]) <= 6
    whole = server.http.get(f"/page/images/{told['id']}/region?rect=0,0,400,300&size=100,75")
    with PIL.Image.open(io.BytesIO(whole.content)) as image:
        assert image.size == (100, 75)
    held = server.http.get(f"/page/images?ids={told['id']},unknown,1-read").json()
    assert [each["name"] for each in held] == ["ab.png", "1-read.jpg"]


@pytest.mark.parametrize(
    "query",
    [
        *("", "rect=0,0,10,10", "rect=0,0,10&size=5,5", "rect=0,0,a,10&size=5,5", "rect=0,0,10,10&size=5,0"),
        *("rect=0,0,10,10&size=20,10", "rect=5,5,5,9&size=1,1", "rect=-1,0,10,10&size=5,5"),
        *("rect=0,0,401,300&size=5,5", "rect=0,0,99999,99999&size=9999,9999"),
        "rect=0,0,10,10&size=5,5&rect=",
    ],
)
def test_invalid_regions(server: LiveServer, query: str) -> None:
    name = give(server).json()["id"]
    refused(server.http.get(f"/page/images/{name}/region?{query}"), 400)


def test_unknown_ids_and_files(server: LiveServer) -> None:
    for path in (
        "images/unknown/region?rect=0,0,1,1&size=1,1",
        "results/unknown.json",
        "results/1-read~x.png",
    ):
        refused(server.http.get(f"/page/{path}"), 404)
    for path in ("static/unknown.js", "static/..%2F..%2Fstore.py", "static/", "unknown"):
        refused(server.http.get(f"/page/{path}"), 404)
    reply = server.ask(question("unknown"))
    assert "upload it again" in refused(reply, 400, "messages.0.content.0.image_url.url", "invalid_image")


def test_uploads_are_within_the_servers_limits(server: LiveServer) -> None:
    refused(give(server, b"no image"), 400, code="invalid_image")
    refused(give(server, b""), 400, code="invalid_image")
    refused(give(server, bytes(300_000)), 413, code="body_too_large")
    refused(give(server, encoded(smooth(2100, 2000), "JPEG", quality=5)), 400, code="invalid_image")
    refused(give(server, headers={"Content-Type": "text/plain"}), 415)

    def slowly() -> Iterator[bytes]:
        yield IMAGE[:100]
        threading.Event().wait(1.5)
        yield IMAGE[100:]

    refused(give(server, slowly()), 415)
    long = BYTES | {"Content-Length": str(len(IMAGE))}
    refused(give(server, slowly(), headers=long), 408, code="body_timeout")
    # An address is fetched from allowed hosts only.
    fetched = server.http.post(
        "/page/images", params={"url": "http://127.0.0.1/x.png"}, content=b"", headers=BYTES
    )
    assert "--allow-image-host" in refused(fetched, 400, code="invalid_image")


def test_a_large_upload_may_take_longer_than_a_small_body() -> None:
    data = encoded(np.random.default_rng(0).integers(0, 255, (2000, 2000, 3), np.uint8), "PNG")
    assert len(data) > 10_000_000

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(data), 1_000_000):
            threading.Event().wait(0.1)
            yield data[start : start + 1_000_000]

    with LiveServer(ui=True, body_timeout_s=1.0) as server:
        begin_s = time.monotonic()
        reply = give(server, slowly(), headers=BYTES | {"Content-Length": str(len(data))})
        assert time.monotonic() - begin_s > 1.0
        assert reply.json()["width"] == 2000


# Large images without levels.


def large(size: int = 4200, **options: Any) -> tuple[np.ndarray, bytes]:
    """An image and its file of strips."""
    pixels = smooth(size, size)
    image = pyvips.Image.new_from_array(pixels)
    return pixels, image.tiffsave_buffer(compression="deflate", predictor="horizontal", **options)


def test_regions_of_a_large_image_come_from_one_copy() -> None:
    pixels, data = large()
    with LiveServer(ui=True) as server:
        store: Store = server.app.state.uploads
        told = give(server, data).json()
        assert told["preparing"] is True
        assert store.held == RESULTS_BYTES + len(data)

        def region(rect: tuple[int, int, int, int], width: int, height: int) -> np.ndarray:
            rect_text = ",".join(map(str, rect))
            query = f"rect={rect_text}&size={width},{height}"
            with PIL.Image.open(
                io.BytesIO(server.http.get(f"/page/images/{told['id']}/region?{query}").content)
            ) as image:
                return np.asarray(image)

        with ThreadPoolExecutor(4) as pool:
            first = [pool.submit(region, (0, 0, 4200, 4200), 420, 420) for _ in range(4)]
            most = 0
            while not all(each.done() for each in first):
                most = max(most, store.held)
        for each in first:
            assert difference(each.result(), smooth(420, 420)) <= 8
        # While it is made, a copy takes a byte of each pixel.
        assert 0 < most - RESULTS_BYTES - len(data) <= 4200**2
        held = store.held
        assert RESULTS_BYTES + len(data) < held < RESULTS_BYTES + len(data) + 4_000_000
        assert server.http.get(f"/page/images?ids={told['id']}").json() == [{**told, "preparing": False}]
        assert difference(region((4000, 3900, 4200, 4100), 200, 200), pixels[3900:4100, 4000:4200]) <= 8
        assert store.held == held
        # A question is about the file itself.
        reply = server.ask(question(told["id"]))
        assert reply.status_code == 200
        # The image goes with its copy.
        reservation = store.try_reserve(store.most)
        assert reservation
        assert reservation.nbytes == store.most


def test_a_large_image_is_shown_without_a_copy_where_there_is_no_room() -> None:
    data = large()[1]
    for most in (RESULTS_BYTES + len(data) + 5000, 2 * len(data) + RESULTS_BYTES):
        store = Store(most, Limits())
        image = store.add(data, "large")
        store.make_view(image)
        assert image.view is image.source
        assert store.image(image.id) is image
        assert store.held == RESULTS_BYTES + len(data)


def test_making_a_copy_of_a_damaged_image_is_tried_once() -> None:
    store = Store(2**30, Limits())
    image = store.add(encoded(smooth(4200, 4200), "JPEG")[:-3000], "large")
    with pytest.raises(InputError, match="truncated"):
        store.make_view(image)
    assert image.view is image.source


def test_the_copy_of_an_image_that_goes_is_abandoned() -> None:
    data = large(9000)[1]
    store = Store(2**28, Limits())
    image = store.add(data, "large")
    thread = threading.Thread(target=store.make_view, args=(image,))
    thread.start()
    wait_until(lambda: store.held > len(data) + RESULTS_BYTES)
    assert store.try_reserve(store.most) is None  # all images go, and what the copy needs is not free yet
    assert store.image(image.id) is None
    thread.join(60)
    assert store.held == 0
    assert image.view is image.source


# What is held, and for how long.


def test_the_store_is_bounded_and_forgets_the_oldest() -> None:
    data = encoded(smooth(), "PNG")
    store = Store(2 * (RESULTS_BYTES + len(data)), Limits())
    first, second = store.add(data, "first"), store.add(data, "second")
    assert store.image(first.id) is first
    third = store.add(data, "third")
    assert [store.image(each.id) for each in (first, second, third)] == [first, None, third]
    reservation = store.try_reserve(2 * RESULTS_BYTES)
    assert reservation
    with reservation:
        assert reservation.nbytes == 2 * RESULTS_BYTES
        assert store.image(first.id) is store.image(third.id) is None
        with pytest.raises(InputError, match="no memory for another image"):
            store.add(data, "fourth")
    assert store.try_reserve(3 * RESULTS_BYTES) is None
    fifth = store.add(data, "fifth")
    assert store.image(fifth.id) is fifth
    assert len({first.id, second.id, third.id, fifth.id}) == 4
    assert len(first.id) >= 20


def test_a_result_says_its_question_image_and_model(server: LiveServer) -> None:
    image = give(server).json()
    assert image["preparing"] is False
    beside = asked(server, image["id"])
    record = server.http.get(f"/page/results/{beside['result']}.json").json()
    assert record["image"] == image
    assert (record["question"], record["choices"]) == ("Which color is the bus?", ["blue", "red"])
    assert record["model"] == "p2r"
    told = record["prediction"]
    assert (told["answer"], told["model"], told["reasoner"]) == ("B", "fake", "fake")
    assert [box["label"] for box in told["boxes"]] == ["bus", "sign"]
    assert told["crops_px"] == beside["crops_px"]
    with PIL.Image.open(
        io.BytesIO(server.http.get(f"/page/results/{beside['result']}.png").content)
    ) as figure:
        assert figure.width == 1600
    # Each is about the image that it was asked about.
    other = give(server, encoded(smooth(90, 80), "PNG"), "other.png").json()
    again = asked(server, other["id"])["result"]
    assert server.http.get(f"/page/results/{again}.json").json()["image"] == other
    assert server.http.get(f"/page/results/{beside['result']}.json").json()["image"] == image


def test_images_that_were_not_uploaded_leave_nothing(server: LiveServer) -> None:
    assert server.ask().json()["choices"][0]["message"]["p2r"]["result"] is None


def test_a_stream_ends_with_the_result(server: LiveServer) -> None:
    image = give(server).json()["id"]
    with server.http.stream("POST", "/v1/chat/completions", json=question(image, stream=True)) as reply:
        events = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: {")]
    name = events[-1]["choices"][0]["delta"]["p2r"]["result"]
    assert server.http.get(f"/page/results/{name}.json").json()["prediction"]["answer"] == "B"


# Evidence that is given.


def test_given_boxes_take_the_place_of_the_perceiver() -> None:
    model = both_roles()
    with LiveServer(model, ui=True) as server:
        boxes: list[dict[str, Any]] = [
            {"box": [500, 500, 600, 600], "label": "bus"},
            {"box": [0, 0, 10.5, 10]},
        ]
        told = server.ask(question("1-read", p2r={"boxes": boxes})).json()["choices"][0]["message"]["p2r"]
        assert told["boxes"] == [boxes[0], {**boxes[1], "label": ""}]
        assert len(told["crops_px"]) == 2
        assert told["outcome"] is None
        assert len(model.calls) == 1
        assert asked(server, "1-read", p2r={"boxes": []})["boxes"] == []


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"boxes": [{"box": [5, 5, 5, 9]}]}, "p2r.boxes"),
        ({"boxes": [{"box": [0, 0, 1001, 9]}]}, "p2r.boxes"),
        ({"boxes": [{"box": [0, 0, 9]}]}, "p2r.boxes.0.box.3"),
        ({"boxes": [{"box": [0, 0, 9, 9], "name": "x"}]}, "p2r.boxes.0.name"),
        ({"boxes": [{"box": [0, 0, 9, 9]}] * 33}, "p2r.boxes"),
        ({"boxes": [], "mode": "think"}, "p2r.boxes"),
    ],
)
def test_boxes_that_cannot_be_given(server: LiveServer, options: dict[str, Any], param: str) -> None:
    refused(server.ask(question("1-read", p2r=options)), 400, param)


# Who may come in.


@pytest.mark.parametrize("path", ["/", "/page/config", "/page/static/app.js", "/page/results/x.json"])
def test_a_key_is_needed_for_the_page_too(locked: LiveServer, path: str) -> None:
    wrong: tuple[dict[str, str], ...] = (
        {},
        basic("a-wrong-key-of-enough-length"),
        basic("", KEY),
        {"Authorization": f"Basic {KEY}"},
    )
    for headers in wrong:
        reply = locked.http.get(path, headers=headers)
        refused(reply, 401, code="invalid_api_key")
        assert reply.headers["WWW-Authenticate"].startswith("Basic")
    for headers in (basic(KEY), basic(KEY, "ü"), {"Authorization": f"Bearer {KEY}"}):
        assert locked.http.get(path, headers=headers).status_code in (200, 404)


def test_a_password_opens_the_page_and_what_the_page_asks(locked: LiveServer) -> None:
    own, evil = {"Origin": locked.url}, {"Origin": "http://evil.example"}
    assert locked.ask(headers=basic(KEY) | own).status_code == 200
    for headers in (basic(KEY), basic(KEY) | evil, basic(KEY) | {"Origin": "null"}, own):
        refused(locked.ask(headers=headers), 401, code="invalid_api_key")
    for path in ("/v1/models", "/metrics"):
        reply = locked.http.get(path, headers=basic(KEY))
        refused(reply, 401, code="invalid_api_key")
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    refused(give(locked), 401)
    assert give(locked, headers=BYTES | basic(KEY) | own).status_code == 200


def test_other_names_and_other_sites_are_refused(server: LiveServer) -> None:
    refused(server.http.get("/", headers={"Host": "evil.example"}), 403, code="unknown_host")
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        refused(give(server, headers=BYTES | {"Origin": origin}), 403, code="cross_site")
    assert give(server, headers=BYTES | {"Origin": server.url}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/page/config", "/page/static/app.js", "/page/unknown"])
def test_the_page_is_isolated_by_its_headers(server: LiveServer, path: str) -> None:
    headers = server.http.get(path).headers
    policy = headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= {*policy}
    assert any(each.startswith("style-src 'sha256-") for each in policy)
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


def test_files_are_revalidated(server: LiveServer) -> None:
    first = server.http.get("/")
    assert first.headers["Cache-Control"] == "no-cache"
    again = server.http.get("/", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "no-store" not in server.http.get("/page/static/app.js").headers["Cache-Control"]
    for method in ("POST", "PUT", "DELETE"):
        refused(server.http.request(method, "/"), 405)


def test_no_ui_turns_the_page_off() -> None:
    with LiveServer() as server:
        for path in ("/", "/page/config", "/page/static/app.js"):
            refused(server.http.get(path), 404)


def test_the_queue_is_the_servers() -> None:
    waiting = FakeModel(lambda _: BOXES, delay_s=600)
    with LiveServer(waiting, ui=True, concurrency=1, queue=0, settings=SETTINGS) as server:
        with server.http.stream(
            "POST", "/v1/chat/completions", json=question("1-read", stream=True)
        ) as running:
            lines = running.iter_lines()
            next(lines)
            wait_until(lambda: waiting.in_flight == 1)
            refused(server.ask(question("1-read")), 429, code="queue_full")
            refused(give(server), 429, code="queue_full")
        wait_until(lambda: waiting.cancelled == 1, 30)
