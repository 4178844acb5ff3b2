"""Parsing of chat requests: fields without effect, and conversations of any shape."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from p2r.serving.config import ServingConfig
from p2r.serving.errors import APIError
from p2r.serving.request import parse_request
from p2r.serving.schema import ChatRequest
from tests.serving.live_server import CHOICES, IMAGE_URI, SETTINGS, LiveServer, body, user

if TYPE_CHECKING:
    from p2r.serving.request import ParsedRequest

OTHER_URI = "data:image/png;base64,OTHER"
NEWER_URI = "data:image/png;base64,NEWER"


def asked(*messages: dict[str, Any], **more: Any) -> ParsedRequest:
    data = body(**more) | ({"messages": list(messages)} if messages else {})
    request = ChatRequest.model_validate_json(json.dumps(data))
    return parse_request(request, SETTINGS, ServingConfig())


def refusal(*messages: dict[str, Any], **more: Any) -> APIError:
    with pytest.raises(APIError) as error:
        asked(*messages, **more)
    return error.value


def text(words: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": words}


# Fields.


@pytest.mark.parametrize(
    "field",
    [
        *({"stop": None}, {"stop": []}, {"stop": ""}, {"logprobs": False}, {"logprobs": None}, {"n": 1}),
        *({"n": None}, {"top_logprobs": 0}, {"top_logprobs": None}, {"tools": []}, {"tools": None}),
        *({"tool_choice": "none"}, {"tool_choice": "auto"}, {"tool_choice": None}, {"functions": []}),
        *(
            {"function_call": "none"},
            {"parallel_tool_calls": False},
            {"logit_bias": {}},
            {"logit_bias": None},
        ),
        *({"modalities": ["text"]}, {"modalities": None}, {"audio": None}, {"response_format": None}),
        *({"response_format": {"type": "text"}}, {"stream": None}, {"stream_options": None}, {"p2r": None}),
        *({"stream_options": {}}, {"stream_options": {"include_usage": False}}, {"metadata": {}}),
        *({"max_tokens": None}, {"max_tokens": 10**9}, {"max_completion_tokens": None}, {"store": False}),
        *({"p2r": {"mode": None, "include_images": None, "answer_type": None}}, {"prediction": None}),
    ],
)
def test_empty_values_are_ignored(field: dict[str, Any]) -> None:
    assert asked(**field).ignored == ()


@pytest.mark.parametrize(
    "field",
    [
        *({"temperature": 0}, {"temperature": 5}, {"top_p": 0.9}, {"seed": 1}, {"top_k": 40}, {"min_p": 0.1}),
        *({"repetition_penalty": 1.1}, {"chat_template_kwargs": {"enable_thinking": False}}, {"user": "me"}),
        *({"logit_bias": {"1": -100}}, {"parallel_tool_calls": True}, {"metadata": {"a": "b"}}, {"a.b": 1}),
        *(
            {"reasoning_effort": "low"},
            {"verbosity": "low"},
            {"web_search_options": {"x": 1}},
            {"tools": [{}]},
        ),
        *(
            {"service_tier": "flex"},
            {"stream_options": {"include_usage": True}},
            {"functions": [{"name": "f"}]},
        ),
        {"mm_processor_kwargs": {"max_pixels": 4}},
    ],
)
def test_what_has_no_effect_is_listed(field: dict[str, Any]) -> None:
    assert asked(**field).ignored == tuple(field)


def test_unknown_fields_are_listed_wherever_they_are() -> None:
    image = {
        "type": "image_url",
        "image_url": {"url": IMAGE_URI, "detail": "original"},
        "cache_control": {"a": 1},
    }
    words = {"type": "text", "text": CHOICES, "cache_control": {"type": "ephemeral"}, "empty": None}
    message = {"role": "user", "content": [image, words], "name": "me"}
    found = asked(
        message, stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}
    )
    assert found.fields.include_usage
    assert set(found.ignored) == {
        "messages.0.name",
        "messages.0.content.0.image_url.detail",
        "messages.0.content.0.cache_control",
        "messages.0.content.1.cache_control",
        "stream_options.continuous_usage_stats",
    }


def test_our_own_options_stay_strict() -> None:
    with LiveServer() as server:
        reply = server.ask(body(p2r={"max_evidense": 2}))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "p2r.max_evidense"
    assert "max_evidence" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("stop", "content"), [("red", "B. "), ([" r", "B"], ""), (["x", "ed"], "B. r"), (["blue"], "B. red")]
)
def test_stop_ends_the_answer(stop: Any, content: str) -> None:
    with LiveServer() as server:
        choice = server.ask(body(stop=stop)).json()["choices"][0]
    assert choice["message"]["content"] == content
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["p2r"]["ignored"] == []


def test_an_image_may_be_given_without_an_object() -> None:
    message = user()
    message["content"][0]["image_url"] = OTHER_URI
    found = asked(message)
    assert (found.images[0].data, found.images[0].path) == (OTHER_URI, "messages.0.content.0.image_url")


def test_parts_that_are_nothing_or_plain_texts() -> None:
    found = asked({"role": "user", "content": [None, "What is it?", user()["content"][0]]})
    assert (found.text, found.ignored) == ("What is it?", ())


# Conversations.


def test_earlier_turns_may_hold_anything() -> None:
    found = asked(
        {"role": "system", "content": None},
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}, {"type": "x"}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "annotations": [],
            "audio": {"id": "a"},
            "reasoning": "Hm.",
            "function_call": None,
            "tool_calls": [{"id": "1", "type": "function"}],
        },
        {"role": "tool", "tool_call_id": "1", "content": '{"a": 1}'},
        {"role": "function", "name": "f", "content": "2"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}, 5, None]},
        {"role": "critic", "content": {"any": "thing"}},
        user(),
    )
    assert (found.text, found.choices) == ("Which color is the bus?", ("blue", "red"))
    assert found.settings.prompts.system == "Be brief."
    assert found.ignored == (
        *("messages.0", "messages.1.content.1", "messages.2", "messages.3", "messages.4", "messages.5"),
        *("messages.6", "messages.7"),
    )


def test_all_images_of_the_newest_turn_with_any_are_those_of_the_question() -> None:
    images = [user("", uri)["content"][0] for uri in (OTHER_URI, IMAGE_URI)]
    pair = {"role": "user", "content": [*images, {"type": "text", "text": "Which is red?"}]}
    found = asked(user("Before?", NEWER_URI), text("It is.", "assistant"), pair, text("And now?"))
    assert [image.data for image in found.images] == [OTHER_URI, IMAGE_URI]
    assert [image.path[:21] for image in found.images] == ["messages.2.content.0.", "messages.2.content.1."]
    assert found.text == "And now?"


def test_a_second_turn_is_about_the_newest_image() -> None:
    answer = text("B. red", "assistant")
    found = asked(user("First?", OTHER_URI), answer, user("Then?", NEWER_URI), answer, text("How many?"))
    assert found.images[0].data == NEWER_URI
    assert found.images[0].path == "messages.2.content.0.image_url.url"
    assert (found.text, found.choices) == ("How many?", ())
    assert found.ignored == ("messages.0", "messages.1", "messages.2.content.1", "messages.3")


def test_a_newer_image_of_a_tool_is_the_newest() -> None:
    shown = {"type": "image_url", "image_url": {"url": NEWER_URI}}
    tool = {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "a screenshot"}, shown]}
    found = asked(user("First?", OTHER_URI), text("", "assistant"), tool, text("What is it?"))
    assert (found.images[0].data, found.text) == (NEWER_URI, "What is it?")


def test_a_follow_up_has_its_own_options() -> None:
    found = asked(user(), text("B. red", "assistant"), text("And the sign?\nA. green\nB. white"))
    assert (found.text, found.choices) == ("And the sign?", ("green", "white"))
    assert refusal(user(), text("B. red", "assistant"), text("A. x\nB. y")).param == "messages.2.content"


@pytest.mark.parametrize("first", ["image", "text"])
def test_image_and_text_may_be_two_messages(first: str) -> None:
    image = {"role": "user", "content": user()["content"][:1]}
    messages = [image, text("What is it?")] if first == "image" else [text("What is it?"), image]
    found = asked(user("Before?", OTHER_URI), text("It is.", "assistant"), *messages)
    assert (found.text, found.images[0].data) == ("What is it?", IMAGE_URI)


@pytest.mark.parametrize(
    "after",
    [
        [{"role": "system", "content": "Be brief."}],
        [
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "5"},
        ],
        [{"role": "assistant", "content": ""}],
        [{"role": "assistant", "content": "Let me see."}, {"role": "function", "name": "f", "content": "5"}],
    ],
)
def test_what_comes_behind_the_question_does_not_hide_it(after: list[dict[str, Any]]) -> None:
    assert asked(user(), *after).text == "Which color is the bus?"


def test_unsupported_conversations_are_refused_with_a_reason() -> None:
    answer = text("A bus", "assistant")
    assert "a reply is not continued" in refusal(user(), answer).message
    assert "no image in the conversation" in refusal(text("Hi"), answer, text("And now?")).message
    assert refusal(text("Hi"), answer, text("And now?")).param == "messages.2.content"
    nothing = {"role": "user", "content": user()["content"][:1]}
    assert refusal(user(), answer, nothing).param == "messages.2.content"
    video = {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}, {"type": "text"}]}
    assert "'video_url' is not read" in refusal(user(), video).message
    many = user("All?") | {"content": user("All?")["content"] * 9}
    assert refusal(many).param == "messages.0.content.16.image_url.url"
    assert "at most 8 images here, and this one has 9" in refusal(many).message


def test_a_dumped_reply_goes_back_as_a_turn() -> None:
    with LiveServer() as server, server.openai() as client:
        first = client.chat.completions.create(model="p2r", messages=[user()]).choices[0].message
        turns = [user(), first.model_dump(), text(CHOICES)]
        second = client.chat.completions.create(model="p2r", messages=turns).choices[0].message
    assert second.content == "B. red"
    assert second.p2r["ignored"] == ["messages.0.content.1", "messages.1"]


# The form of the letter.


@pytest.mark.parametrize("model", ["p2r", "p2r-letter"])
@pytest.mark.parametrize(
    ("demand", "content"),
    [
        (
            "The entire content of your response should be of the following format: 'ANSWER: $LETTER'",
            "ANSWER: B",
        ),
        ("Put your final answer within \\boxed{}.", "\\boxed{B}"),
    ],
)
def test_the_letter_is_written_as_the_text_demands(model: str, demand: str, content: str) -> None:
    with LiveServer() as server:
        message = server.ask(body(f"{demand}\n\n{CHOICES}", model=model)).json()["choices"][0]["message"]
        assert message["content"] == content
        assert f"Question: {CHOICES}" in server.model.calls[-1].text
        system = [{"role": "system", "content": demand}, user()]
        assert server.ask(body() | {"messages": system}).json()["choices"][0]["message"]["content"] == content
