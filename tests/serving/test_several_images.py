"""Requests about several images: both protocols, through the real client of OpenAI."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import pytest

from tests.fake_model import FakeModel, shown
from tests.image_files import encoded
from tests.serving.live_server import LiveServer, body, data_uri, perceiving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.models.base import Message

GRAY = np.full((300, 400, 3), 128, np.uint8)
MARKED = GRAY.copy()
MARKED[100:140, 200:240] = (255, 0, 0)
IMAGES = [data_uri(encoded(pixels, "PNG"), "image/png") for pixels in (GRAY, MARKED, GRAY)]
TEXT = "Which image has a mark?\nA. first\nB. second\nC. third"


def by_sight(messages: Sequence[Message]) -> str:
    if not perceiving(messages):
        return "<think>The close-up is red.</think><answer>B</answer>"
    red = [(image.pixels[..., 0] > 200) & (image.pixels[..., 1] < 80) for image in shown(messages)]
    found = [number for number, mask in enumerate(red, start=1) if mask.any()]
    return json.dumps([{"bbox_2d": [480, 320, 620, 480], "label": "mark", "image": n} for n in found])


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(FakeModel(by_sight)) as running:
        yield running


def parts(kind: str = "image_url") -> list[dict[str, Any]]:
    urls = [{"url": uri} if kind == "image_url" else uri for uri in IMAGES]
    return [{"type": kind, "image_url": url} for url in urls]


def test_several_images_in_chat(server: LiveServer) -> None:
    with server.openai() as client:
        content = [*parts(), {"type": "text", "text": TEXT}]
        reply = client.chat.completions.create(
            model="p2r",
            messages=[{"role": "user", "content": content}],
            extra_body={"p2r": {"include_images": True}},
        )
    message = reply.choices[0].message
    assert message.content == "B. second"
    found = message.p2r
    assert found["boxes"] == [{"box": [480, 320, 620, 480], "label": "mark", "image": 1}]
    # The reasoner is shown the image with the box only.
    assert found["images"]["others"] == []
    perceive, reason = server.model.calls[-2:]
    assert (len(perceive.images), len(reason.images)) == (3, 2)
    assert "Image 2 of 3, with the evidence outlined:" in reason.text


@pytest.mark.parametrize("stream", [False, True])
def test_several_images_in_responses(server: LiveServer, *, stream: bool) -> None:
    content = [*parts("input_image"), {"type": "input_text", "text": TEXT}]
    asked: dict[str, Any] = {"model": "p2r", "input": [{"role": "user", "content": content}]}
    with server.openai() as client:
        if stream:
            events = list(client.responses.create(stream=True, **asked))
            reply = events[-1].response
        else:
            reply = client.responses.create(**asked)
    assert reply.output_text == "B. second"
    assert reply.p2r["boxes"][0]["image"] == 1


def test_given_boxes_name_their_image(server: LiveServer) -> None:
    content = [*parts(), {"type": "text", "text": TEXT}]
    boxes: list[dict[str, Any]] = [{"box": [100, 100, 300, 300], "image": 2}, {"box": [0, 0, 200, 200]}]
    with server.openai() as client:

        def ask(boxes: list[dict[str, Any]]) -> Any:
            return client.chat.completions.create(
                model="p2r",
                messages=[{"role": "user", "content": content}],
                extra_body={"p2r": {"boxes": boxes}},
            )

        found = ask(boxes).choices[0].message.p2r
        assert [box.get("image", 0) for box in found["boxes"]] == [2, 0]
        assert "Image 1 of 3" in server.model.calls[-1].text
        assert "Close-up from image 3, outlined in red:" in server.model.calls[-1].text
        with pytest.raises(openai.BadRequestError, match="numbered from 0 to 2"):
            ask([{"box": [0, 0, 200, 200], "image": 3}])


def test_a_broken_image_is_named_by_its_field(server: LiveServer) -> None:
    content = [*parts(), {"type": "text", "text": TEXT}]
    content[1] = {"type": "image_url", "image_url": {"url": data_uri(b"no image", "image/png")}}
    reply = server.ask(body() | {"messages": [{"role": "user", "content": content}]})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "messages.0.content.1.image_url.url"


def test_documents_are_not_read(server: LiveServer) -> None:
    image = {"type": "image_url", "image_url": {"url": data_uri(b"%PDF-1.4\n", "application/pdf")}}
    content = [image, {"type": "text", "text": TEXT}]
    reply = server.ask(body() | {"messages": [{"role": "user", "content": content}]})
    assert reply.status_code == 400
    assert "PDF documents are not read here" in reply.json()["error"]["message"]
