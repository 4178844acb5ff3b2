"""Streams: the order of events, for the official client and on the wire, and early ends."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2r.parsing.thinking import split_thinking
from p2r.serving.response import ThinkingFilter
from tests.fake_model import FakeModel, StreamingFakeModel, failure
from tests.serving.live_server import LiveServer, body, both_roles, perceiving, refused, user, wait_until


def events(server: LiveServer, **more: Any) -> list[Any]:
    found = []
    with server.http.stream("POST", "/v1/chat/completions", json=body(stream=True, **more)) as reply:
        assert reply.status_code == 200
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        for line in reply.iter_lines():
            if line.startswith("data: "):
                data = line.removeprefix("data: ")
                found.append(data if data == "[DONE]" else json.loads(data))
    return found


def joined(found: list[Any], field: str) -> str:
    deltas = [chunk["choices"][0]["delta"] for chunk in found[:-1] if chunk["choices"]]
    return "".join(delta.get(field, "") for delta in deltas)


@pytest.mark.parametrize("kind", [FakeModel, StreamingFakeModel])
def test_a_stream_adds_up_to_the_whole_reply(kind: type[FakeModel]) -> None:
    thought = "<think> The bus <b> is\n\nred, a < b. </think>\n<answer>B</answer>"
    with LiveServer(both_roles(thought, kind=kind)) as server:
        found = events(server, p2r={"include_images": True}, stream_options={"include_usage": True})
        whole = server.ask(body(p2r={"include_images": True})).json()
    message = whole["choices"][0]["message"]
    assert found[-1] == "[DONE]"
    assert joined(found, "content") == message["content"] == "B. red"
    assert joined(found, "reasoning_content") == message["reasoning_content"]
    assert found[-2]["usage"] == whole["usage"]
    perceived = next(chunk["p2r"] for chunk in found[:-1] if "p2r" in chunk)
    assert perceived["images"] == message["p2r"]["images"]
    assert perceived["boxes"] == message["p2r"]["boxes"]
    final = found[-3]["choices"][0]
    assert final["finish_reason"] == "stop"
    for field in set(message["p2r"]) - {"seconds", "images"}:
        assert final["delta"]["p2r"][field] == message["p2r"][field], field


def test_boxes_come_before_the_thinking_and_the_thinking_in_pieces() -> None:
    with LiveServer(both_roles(kind=StreamingFakeModel)) as server:
        found = events(server)
    kinds = []
    for chunk in found[:-1]:
        delta = chunk["choices"][0]["delta"]
        kinds.append("boxes" if "p2r" in chunk else next(iter(delta)))
    assert kinds[:2] == ["role", "boxes"]
    assert kinds.count("reasoning_content") > 3
    assert kinds[-2:] == ["content", "p2r"]


class SaidAsThinking(StreamingFakeModel):
    """All of its pieces look like thinking; only the end shows that they were the reply."""

    async def stream(self, messages: Any, sampling: Any) -> Any:
        completion = await self.complete(messages, sampling)
        yield "<think>"
        for piece in completion.text.partition(" "):
            yield piece
        yield completion


def test_the_final_text_overrides_the_pieces() -> None:
    reply = "It is red. <answer>B</answer>"
    with LiveServer(both_roles(reply, kind=SaidAsThinking)) as server, server.openai() as client:
        found = events(server)
        final = client.responses.create(model="p2r", input=[user()], stream=True)
        last = [event.response for event in final if event.type == "response.completed"]
    assert joined(found, "content") == "B. red"
    assert joined(found, "reasoning_content").startswith("It is red.")
    assert found[-2]["choices"][0]["delta"]["p2r"]["answer"] == "B"
    assert last[0].output_text == "B. red"


def test_the_official_client_streams() -> None:
    with LiveServer(both_roles(kind=StreamingFakeModel)) as server, server.openai() as client:
        with client.chat.completions.stream(model="p2r", messages=[user()]) as stream:
            final = stream.get_final_completion()
        assert final.choices[0].message.content == "B. red"
        assert final.choices[0].message.p2r["answer"] == "B"
        assert final.choices[0].message.reasoning_content == "The bus is red, the sign says so."


def test_a_model_that_fails_late_ends_the_stream_with_an_error() -> None:
    with LiveServer(both_roles(failure("server"))) as server:
        found = events(server)
        assert found[-1]["error"]["code"] == "model_server"
        with server.openai() as client, pytest.raises(openai.APIError, match="the model failed"):
            list(client.chat.completions.create(model="p2r", messages=[user()], stream=True))


def test_what_is_refused_is_refused_before_the_stream_begins() -> None:
    with LiveServer() as server:
        refused(server.ask(body(stream=True, n=3)), 400, "n")
        refused(server.ask(body(stream=True, url="data:image/png;base64,AAAA")), 400, code="invalid_image")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_ends_the_work(stream: bool) -> None:
    model = FakeModel(lambda messages: "[]" if perceiving(messages) else "<answer>B</answer>", delay_s=20)
    with LiveServer(model) as server:
        with (
            pytest.raises((TimeoutError, Exception), match="timed out"),
            server.http.stream(
                "POST", "/v1/chat/completions", json=body(stream=stream), timeout=0.3
            ) as reply,
        ):
            reply.read()
        wait_until(lambda: model.cancelled == 1)
        wait_until(lambda: server.app.state.limiter.accepted == 0)
        assert 'p2r_requests_total{status="499"} 1.0' in server.http.get("/metrics").text


PIECES = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "</thi", "nk", ">", "<", "a", "word ", " ", "\n", "<b>", "< think>", "x<"]
    ),
    min_size=1,
)


@given(PIECES)
def test_streamed_thinking_is_always_a_prefix_of_the_final_one(pieces: list[str]) -> None:
    thinking, shown, text = ThinkingFilter(), "", ""
    for piece in pieces:
        shown += thinking.push(piece)
        text += piece
        found = split_thinking(text)
        if found.after is None:
            # All but a blank at the end, and what may be the beginning of a tag.
            assert shown == re.sub(r"\s*(?:<[^>]{0,14})?\Z", "", found.thinking)
        else:
            assert shown == found.thinking
    assert shown + thinking.rest(found.thinking) == found.thinking


def thinking_s(count: int) -> float:
    """CPU seconds for a number of pieces; the best of three."""
    seconds = []
    for _ in range(3):
        thinking, begin_s = ThinkingFilter(), time.thread_time()
        thinking.push("<think>")
        for _ in range(count):
            thinking.push("a word or two ")
        seconds.append(time.thread_time() - begin_s)
    return min(seconds)


def test_long_thinking_takes_time_in_proportion_to_its_length() -> None:
    few, many = thinking_s(4_000), thinking_s(32_000)
    # In proportion it is 8 times, quadratic it is 64 times.
    assert many < 24 * few
