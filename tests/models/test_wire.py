"""The text of a reply in every field that servers use, and the server's message where there is no text."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2r.models.wire import (
    InvalidReplyError,
    NoTextError,
    ReportedError,
    StreamReader,
    read_completion,
    server_words,
)
from tests.servers import chunk, completion

BOXES = '[{"bbox_2d": [1, 2, 3, 4], "label": "bus"}]'


def whole(content: object, *, finish: str | None = "stop", **message: Any) -> str:
    return read_completion(completion(content, finish=finish, **message)).text


def streamed(*deltas: dict[str, Any], finish: str | None = "stop", done: bool = True) -> tuple[str, str]:
    """The pieces joined, and the text of the whole."""
    reader = StreamReader()
    pieces = [reader.feed(chunk(**delta)) for delta in deltas]
    pieces.append(reader.feed(chunk(finish=finish)))
    owed, read = reader.end(done=done)
    return "".join(pieces) + owed, read.text


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


# Each with the thinking "It is red." and the answer "B", as a server of that name sends it.
THOUGHT = [
    pytest.param("B", {"reasoning_content": "It is red."}, id="DeepSeek, older vLLM"),
    pytest.param("B", {"reasoning": "It is red."}, id="vLLM"),
    pytest.param("B", {"thinking": "It is red."}, id="Ollama"),
    pytest.param(
        "B",
        {"reasoning": "It is red.", "reasoning_details": [{"type": "reasoning.text", "text": "It is red."}]},
        id="OpenRouter",
    ),
    pytest.param(
        "B",
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "It is red."}]},
        id="summary only",
    ),
    pytest.param(
        [
            {"type": "thinking", "thinking": [text_part("It is "), text_part("red.")]},
            text_part("B"),
        ],
        {},
        id="Mistral",
    ),
    pytest.param(
        [{"type": "thinking", "thinking": "It is red.", "signature": "x"}, {"type": "text", "text": "B"}],
        {
            "reasoning_content": "It is red.",
            "thinking_blocks": [{"type": "thinking", "thinking": "It is red."}],
        },
        id="Anthropic through LiteLLM",
    ),
    pytest.param([{"text": "It is red.", "thought": True}, {"text": "B"}], {}, id="Gemini's parts"),
    pytest.param(
        [
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "It is red."}]},
            {"type": "output_text", "text": "B"},
        ],
        {},
        id="parts of the responses API",
    ),
    pytest.param("<think>It is red.</think>B", {}, id="the model's own tags"),
    pytest.param("<think>It is red.</think>B", {"reasoning": "It is red."}, id="the same twice"),
    pytest.param(
        "<think>red.</think>B", {"reasoning_content": "It is red."}, id="own tags and a longer split"
    ),
]


@pytest.mark.parametrize(("content", "fields"), THOUGHT)
def test_thinking_is_put_between_tags_once(content: object, fields: dict[str, Any]) -> None:
    assert whole(content, **fields) == "<think>It is red.</think>B"
    assert streamed({"role": "assistant"}, {"content": content, **fields})[1] == "<think>It is red.</think>B"


def test_own_thinking_after_split_off_thinking_continues_it() -> None:
    right = "<think>First.\n\nThen.</think>\nB"
    assert whole("<think>Then.</think>\nB", reasoning="First.") == right
    deltas = (
        {"reasoning": "First."},
        *({"content": piece} for piece in ("\n<th", "ink>Th", "en.</think>\nB")),
    )
    assert streamed(*deltas) == (right, right)
    assert whole("Then.</think>\nB", reasoning="First.") == right
    assert whole("<think>Then", reasoning="First.", finish="length") == "<think>First.\n\nThen"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_whole_reply_in_the_place_of_thinking_is_the_answer(field: str, content: str | None) -> None:
    assert whole(content, **{field: BOXES}) == BOXES
    tagged = "<think>It is red.</think><answer>B</answer>"
    assert whole(content, **{field: tagged}) == tagged
    assert streamed({field: BOXES[:9]}, {field: BOXES[9:]})[1] == BOXES


def test_thinking_that_was_cut_stays_open() -> None:
    assert whole(None, reasoning="It is", finish="length") == "<think>It is"
    assert streamed({"reasoning": "It is"}, finish="length") == ("<think>It is", "<think>It is")


@pytest.mark.parametrize(
    "content",
    [
        "It is red",
        ["It is ", "red"],
        [text_part("It is "), text_part("red")],
        [{"type": "output_text", "text": "It is red", "annotations": []}],
        [{"type": "text", "text": {"value": "It is red"}}],
        [text_part("It is red"), {"type": "image_url", "image_url": {"url": "data:,"}}],
        text_part("It is red"),
    ],
)
def test_content_may_be_parts(content: object) -> None:
    assert whole(content) == "It is red"
    assert streamed({"content": content}) == ("It is red", "It is red")


@pytest.mark.parametrize(
    ("reason", "means"),
    [
        *((reason, "stop") for reason in ("stop", "eos", "eos_token", "end_turn", "STOP", "stop_sequence")),
        *((reason, "length") for reason in ("length", "max_tokens", "MAX_TOKENS", "model_length")),
        (None, "stop"),
        ("", "stop"),
    ],
)
def test_the_reasons_to_finish(reason: str | None, means: str) -> None:
    assert read_completion(completion("fine", finish=reason)).finish_reason == means
    reader = StreamReader()
    reader.feed(chunk("fine", finish=reason))
    assert reader.end(done=True)[1].finish_reason == means


def test_a_stream_is_complete_when_it_says_so_or_gives_its_reason() -> None:
    assert streamed({"content": "fine"}, finish=None, done=True)[1] == "fine"
    assert streamed({"content": "fine"}, finish="stop", done=False)[1] == "fine"
    with pytest.raises(InvalidReplyError, match="middle of the reply"):
        streamed({"content": "fine"}, finish=None, done=False)
    with pytest.raises(InvalidReplyError, match="middle of the reply"):
        streamed({"content": ""}, finish=None, done=True)


@pytest.mark.parametrize(
    ("message", "finish", "says"),
    [
        ({"refusal": "I cannot help with that."}, "stop", "the model refused: I cannot help with that."),
        (
            {"tool_calls": [{"type": "function", "function": {"name": "look", "arguments": "{}"}}]},
            "tool_calls",
            "a call of the tool look",
        ),
        ({"function_call": {"name": "look", "arguments": "{}"}}, "function_call", "a call of the tool look"),
        ({}, "content_filter", "content filter"),
        ({}, "SAFETY", "content filter"),
        ({}, "content_filter: RECITATION", r"content filter withheld the reply \(content_filter: RECITATION"),
        ({}, "function_call_filter: UNEXPECTED_TOOL_CALL", "withheld"),
    ],
)
def test_a_message_without_text_says_why(message: dict[str, Any], finish: str, says: str) -> None:
    with pytest.raises(NoTextError, match=says):
        whole(None, finish=finish, **message)
    with pytest.raises(NoTextError, match=says):
        streamed(message, finish=finish)
    with pytest.raises(NoTextError, match="the model refused: No"):
        whole([{"type": "refusal", "refusal": "No."}])


def test_gemini_leaves_the_message_out_where_it_has_no_text() -> None:
    def choice(**fields: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, **fields}], "usage": {"prompt_tokens": 7, "total_tokens": 71}}

    read = read_completion(choice(finish_reason="length"))
    assert (read.text, read.finish_reason, read.prompt_tokens) == ("", "length", 7)
    with pytest.raises(NoTextError, match="content_filter: PROHIBITED_CONTENT"):
        read_completion(choice(finish_reason="content_filter: PROHIBITED_CONTENT"))
    for nothing in (choice(), choice(finish_reason=None), choice(message="?", finish_reason="stop")):
        with pytest.raises(InvalidReplyError, match="no message"):
            read_completion(nothing)


ERRORS = [
    ({"error": {"message": "CUDA error", "code": 500}}, "CUDA error", 500),
    ({"error": {"message": "slow down", "code": "429"}, "choices": None}, "slow down", 429),
    ({"error": "model not found", "choices": []}, "model not found", None),
    ({"error": {"type": "overloaded_error", "message": "Overloaded"}}, "Overloaded", None),
    (
        [{"error": {"code": 400, "message": "Unknown name", "status": "INVALID_ARGUMENT"}}],
        "Unknown name",
        400,
    ),
    ({"detail": "Not Found"}, "Not Found", None),
    ({"code": 500, "msg": "404 NOT_FOUND", "success": False}, "404 NOT_FOUND", 500),
    ({"object": "error", "message": "too long", "code": 400}, "too long", 400),
    (
        {"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": "upstream died"}}},
        "Provider returned error: upstream died",
        502,
    ),
    (
        {"choices": [{"finish_reason": "error", "error": {"message": "died", "code": 502}, "message": {}}]},
        "died",
        502,
    ),
]


@pytest.mark.parametrize(("data", "says", "code"), ERRORS)
def test_an_error_inside_a_reply_keeps_the_servers_words(data: object, says: str, code: int | None) -> None:
    for read in (read_completion, StreamReader().feed):
        with pytest.raises(ReportedError) as caught:
            read(data)
        assert (str(caught.value), caught.value.code) == (says, code)


def test_an_error_counts_where_there_is_no_text() -> None:
    with pytest.raises(ReportedError, match="died"):
        read_completion({**completion(""), "error": {"message": "died"}})
    assert read_completion({**completion("fine"), "error": {"message": "logged"}}).text == "fine"
    assert read_completion({**completion("fine"), "error": None}).text == "fine"


def test_a_reply_without_choices_is_shown() -> None:
    with pytest.raises(InvalidReplyError, match=r"no choices: .*prompt_feedback"):
        read_completion({"choices": [], "prompt_feedback": {"block_reason": "OTHER"}})


def test_the_words_of_field_errors_name_the_fields() -> None:
    detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
    assert server_words({"detail": detail}) == "body.seed: Extra inputs are not permitted"
    assert server_words({"message": {"detail": detail}}) == "body.seed: Extra inputs are not permitted"


def test_usage_is_read_under_both_names() -> None:
    for usage in ({"prompt_tokens": 3, "completion_tokens": 4}, {"input_tokens": 3, "output_tokens": 4}):
        read = read_completion({**completion("fine"), "usage": usage})
        assert (read.prompt_tokens, read.completion_tokens) == (3, 4)


# Any JSON made of the names that the reader looks for.
NAMES = (
    *("choices", "message", "delta", "content", "reasoning", "reasoning_details", "type", "text", "thinking"),
    *("finish_reason", "error", "code", "detail", "loc", "metadata", "raw", "refusal", "tool_calls", "usage"),
    *("function_call", "function", "name", "prompt_tokens", "summary", "thought", "value", "data", "id"),
)
VALUES = (
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    "stop",
    "length",
    "thinking",
    "<think>",
    "</think>",
    "400",
    "\ud83d",
)
ANY = st.recursive(
    st.sampled_from(VALUES),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(NAMES), below, max_size=5),
    max_leaves=12,
)


@given(ANY, ANY, st.booleans())
def test_any_reply_is_read_or_refused(message: Any, other: Any, bare: bool) -> None:
    choice = {"message": message, "delta": message, "finish_reason": other}
    data = other if bare else {"choices": [choice], "error": other if isinstance(other, str) else None}
    with contextlib.suppress(ValueError):
        assert isinstance(read_completion(data).text, str)
    with contextlib.suppress(ValueError):
        reader = StreamReader()
        reader.feed(data)
        assert isinstance(reader.end(done=True)[1].text, str)
    assert isinstance(server_words(data), str)
