"""The responses endpoint: parsing, whole replies, and events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from tests.fake_model import StreamingFakeModel, failure
from tests.serving.live_server import CHOICES, IMAGE_URI, LiveServer, body, both_roles, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

THOUGHT = "The bus is red, the sign says so."


class Color(BaseModel):
    color: Literal["blue", "red"]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(both_roles(kind=StreamingFakeModel)) as running:
        yield running


def question(text: str = CHOICES, url: str = IMAGE_URI) -> dict[str, Any]:
    image = {"type": "input_image", "image_url": url, "detail": "auto"}
    return {"role": "user", "content": [image, {"type": "input_text", "text": text}]}


def asked(*items: Any, **more: Any) -> dict[str, Any]:
    return {"model": "p2r", "input": list(items) or [question()], **more}


def ask(server: LiveServer, *items: Any, **more: Any) -> Any:
    return server.http.post("/v1/responses", json=asked(*items, **more))


def events(server: LiveServer, *items: Any, **more: Any) -> list[dict[str, Any]]:
    lines = ask(server, *items, stream=True, **more).text.splitlines()
    named = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    found = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [event["type"] for event in found] == named
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def test_a_question_is_answered(server: LiveServer) -> None:
    reply = ask(server).json()
    Response.model_validate(reply, strict=True)
    assert (reply["object"], reply["status"], reply["model"]) == ("response", "completed", "p2r")
    thinking, message = reply["output"]
    assert thinking["summary"] == [{"type": "summary_text", "text": THOUGHT}]
    assert message["content"] == [
        {"type": "output_text", "text": "B. red", "annotations": [], "logprobs": []}
    ]
    chat = server.ask().json()
    usage = chat["usage"]
    assert (reply["usage"]["input_tokens"], reply["usage"]["output_tokens"]) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    looked = chat["choices"][0]["message"]["p2r"]
    assert {**reply["p2r"], "seconds": 0} == {**looked, "seconds": 0}


def test_it_asks_the_same_as_chat(server: LiveServer) -> None:
    ask(server, instructions="Speak of buses.", p2r={"max_evidence": 1})
    one = server.model.calls[-2:]
    messages = [{"role": "system", "content": "Speak of buses."}, *body()["messages"]]
    server.ask(body(p2r={"max_evidence": 1}) | {"messages": messages})
    for left, right in zip(one, server.model.calls[-2:], strict=True):
        assert (left.messages[0], left.text) == (right.messages[0], right.text)
        assert [image.data_uri() for image in left.images] == [image.data_uri() for image in right.images]


def test_earlier_items_may_be_anything(server: LiveServer) -> None:
    first = ask(server).json()["output"]
    shown = [{"type": "input_image", "image_url": IMAGE_URI}]
    found = ask(
        server,
        {"type": "item_reference", "id": "x"},
        {"type": "message", **question("Before?", "data:image/png;base64,AAAA")},
        *first,
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": shown},
        {"role": "user", "content": "How many?"},
    ).json()
    assert found["p2r"]["ignored"] == [f"input.{index}" for index in range(5)]
    assert "Question: How many?" in server.model.calls[-1].text


def test_fields_without_effect_are_listed(server: LiveServer) -> None:
    nothing: dict[str, Any] = {
        "text": None,
        "tools": [],
        "store": False,
        "truncation": "auto",
        "previous_response_id": None,
    }
    assert ask(server, **nothing).json()["p2r"]["ignored"] == []
    more = {"store": True, "include": ["x"], "reasoning": {"effort": "low"}, "text": {"verbosity": "low"}}
    assert ask(server, **more).json()["p2r"]["ignored"] == ["store", "include", "reasoning", "text.verbosity"]


def test_a_length_makes_it_incomplete(server: LiveServer) -> None:
    reply = ask(server, max_output_tokens=1).json()
    assert (reply["status"], reply["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert reply["output"][-1]["content"][0]["text"] == "B"
    assert events(server, max_output_tokens=1)[-1]["type"] == "response.incomplete"


def test_a_stream_adds_up_to_the_whole_reply(server: LiveServer) -> None:
    found = events(server, p2r={"include_images": True})
    kinds = [event["type"] for event in found]
    assert kinds[:3] == ["response.created", "response.in_progress", "response.in_progress"]
    assert found[2]["response"]["p2r"]["boxes"][0]["label"] == "bus"
    assert found[2]["response"]["p2r"]["images"]["overview"].startswith("data:")
    pieces = [event["delta"] for event in found if event["type"] == "response.reasoning_summary_text.delta"]
    assert "".join(pieces) == THOUGHT
    assert len(pieces) > 3
    assert kinds[-1] == "response.completed"
    streamed, whole = found[-1]["response"], ask(server).json()
    for reply in (streamed, whole):
        for item in reply["output"]:
            item.pop("id")
    assert streamed["output"] == whole["output"]
    assert streamed["usage"] == whole["usage"]


def test_the_official_client(server: LiveServer) -> None:
    with server.openai() as client:
        reply = client.responses.create(**asked())
        assert (reply.output_text, reply.output[0].summary[0].text) == ("B. red", THOUGHT)
        parsed = client.responses.parse(**asked(question("Which color?")), text_format=Color)
        assert parsed.output_parsed == Color(color="red")
        with client.responses.stream(**asked(question("Which color?")), text_format=Color) as stream:
            done = [event for event in stream if event.type == "response.output_text.done"]
            assert stream.get_final_response().output_parsed == Color(color="red")
        assert done[0].text == '{"color": "red"}'


@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_function(server: LiveServer, stream: bool) -> None:
    tool = {"type": "function", "name": "pick", "parameters": Color.model_json_schema()}
    choice = {"type": "function", "name": "pick"}
    if stream:
        found = events(server, question("Which?"), tools=[tool], tool_choice=choice)
        assert found[-3]["type"] == "response.function_call_arguments.done"
        reply = found[-1]["response"]
    else:
        reply = ask(server, question("Which?"), tools=[tool], tool_choice=choice).json()
    call = reply["output"][-1]
    assert (call["type"], call["name"]) == ("function_call", "pick")
    assert json.loads(call["arguments"]) == {"color": "red"}


def test_no_answer_in_the_form_is_a_refusal() -> None:
    text = {"format": {"type": "json_schema", "name": "x", "schema": Color.model_json_schema()}}
    with LiveServer(both_roles("<think>Hm.</think><answer>A or B</answer>")) as server:
        reply = ask(server, question("Which?"), text=text).json()
        refusal = reply["output"][-1]["content"][0]
        assert refusal["type"] == "refusal"
        assert "more than one option" in refusal["refusal"]
        found = events(server, question("Which?"), text=text)
        assert [event["refusal"] for event in found if event["type"] == "response.refusal.done"]
        plain = ask(server).json()["output"][-1]["content"][0]
        assert (plain["type"], plain["text"]) == ("output_text", "")


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (asked(previous_response_id="resp_1"), "previous_response_id"),
        (asked(conversation="conv_1"), "conversation"),
        (asked(background=True), "background"),
        (asked(prompt={"id": "p"}), "prompt"),
        (asked(top_logprobs=2), "top_logprobs"),
        (asked(max_output_tokens=0), "max_output_tokens"),
        (asked(text={"format": {"type": "grammar"}}), "text"),
        (asked() | {"input": "What is it?"}, "input"),
        (asked() | {"input": []}, "input"),
        (asked() | {"input": 5}, "input"),
        ({"model": "p2r"}, "input"),
        (asked(question(url="data:image/png;base64,AAAA")), "input.0.content.0.image_url"),
        (
            asked(question() | {"content": [{"type": "input_image", "file_id": "f"}]}),
            "input.0.content.0.image_url",
        ),
        (asked(question() | {"content": [{"type": "input_file", "file_id": "f"}]}), "input.0.content.0"),
        (asked(question(), {"role": "assistant", "content": "It"}), "input.1.role"),
        (asked(question(), p2r={"zoom": 1}), "p2r.zoom"),
        (asked(question(" ")), "input.0.content"),
    ],
)
def test_what_is_not_served_is_refused_by_name(server: LiveServer, sent: dict[str, Any], param: str) -> None:
    assert refused(server.http.post("/v1/responses", json=sent), 400, param)


def test_failures_are_those_of_chat() -> None:
    with LiveServer(both_roles(failure("server"))) as server:
        refused(ask(server), 502, code="model_server")
        error = events(server)[-1]
        assert (error["type"], error["code"], error["error"]["code"]) == (
            "error",
            "model_server",
            "model_server",
        )
        with server.openai() as client, pytest.raises(openai.APIError, match="the model failed"):
            list(client.responses.create(**asked(), stream=True))
