"""Refusals of real servers that change later requests, and others that must not."""

from __future__ import annotations

from typing import Any

import pytest

from p2r.models.base import Message, Sampling
from p2r.models.dialect import Dialect, left_out
from p2r.models.options import ModelOptions
from p2r.models.wire import request_body

SAMPLING = Sampling(20, top_p=0.9, repetition_penalty=1.05, seed=3)
AUTO = ModelOptions(thinking=False)


def request(options: ModelOptions = AUTO) -> dict[str, Any]:
    body = request_body("m", [Message("user", ("Hi",))], SAMPLING, options)
    return body | {"stream": True, "stream_options": {"include_usage": True}}


def changes(refusal: object, options: ModelOptions = AUTO) -> set[str]:
    """The names of what is sent differently after a refusal: `-name` without it, `+name` newly with it."""
    dialect, body = Dialect(options), request(options)
    before = dialect.body(body)
    learned = dialect.learn(refusal, body, before)
    after = dialect.body(body)
    assert learned == (before != after)
    gone = {f"-{name}" for name in before.keys() - after.keys()}
    return gone | {f"+{name}" for name in after.keys() - before.keys()}


def openai(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


RENAMED = {"-max_tokens", "+max_completion_tokens"}
TEACHES = [
    (
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        ),
        RENAMED,
    ),
    (openai("max_tokens is deprecated in favor of max_completion_tokens"), RENAMED),
    (openai("`max_tokens` is no longer supported. Please use `max_completion_tokens`."), RENAMED),
    (openai("litellm.UnsupportedParamsError: o1 does not support parameters: ['max_tokens']"), RENAMED),
    (
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "max_tokens"], "msg": "Extra inputs"}]},
        RENAMED,
    ),
    (
        openai(
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value "
            "is supported.",
            "temperature",
            "unsupported_value",
        ),
        {"-temperature"},
    ),
    (openai("Unsupported parameter: 'temperature' is not supported with this model."), {"-temperature"}),
    (openai("invalid temperature: only 1 is allowed for this model"), {"-temperature"}),
    (
        openai(
            "litellm.UnsupportedParamsError: gpt-5 models don't support temperature=0.0. Only temperature=1 "
            "is supported. To drop unsupported params set `litellm.drop_params = True`"
        ),
        {"-temperature"},
    ),
    ({"error": "Input validation error: `temperature` must be strictly positive"}, {"-temperature"}),
    ({"code": "Client specified an invalid argument", "error": "Argument not supported: topP"}, {"-top_p"}),
    (
        openai("litellm.UnsupportedParamsError: watsonx does not support parameters: ['seed', 'top_p']"),
        {"-seed", "-top_p"},
    ),
    (openai("property 'repetition_penalty' is unsupported"), {"-repetition_penalty"}),
    (openai("Unrecognized request argument supplied: chat_template_kwargs"), {"-chat_template_kwargs"}),
    (openai("Unknown parameter: 'chat_template_kwargs'.", "chat_template_kwargs"), {"-chat_template_kwargs"}),
    (
        [
            {
                "error": {
                    "code": 400,
                    "message": 'Invalid JSON payload received. Unknown name "repetition_penalty": Cannot '
                    'find field.\nInvalid JSON payload received. Unknown name "seed": Cannot find field.',
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
        {"-repetition_penalty", "-seed"},
    ),
    (
        {
            "object": "error",
            "message": {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "seed"],
                        "msg": "Extra inputs are not permitted",
                        "input": 3,
                    }
                ]
            },
        },
        {"-seed"},
    ),
    (
        {
            "detail": "body -> seed\n  Extra inputs are not permitted (type=extra_forbidden)\n"
            "body -> stream_options\n  Extra inputs are not permitted (type=extra_forbidden)"
        },
        {"-seed", "-stream_options"},
    ),
    ({"detail": "Unexpected fields in the request: {'repetition_penalty'}"}, {"-repetition_penalty"}),
    (openai("temperature is deprecated for this model."), {"-temperature"}),
    ("Failed to deserialize the JSON body: unknown field `stream_options`", {"-stream_options"}),
    (
        openai("Your organization must be verified to stream this model.", "stream", "unsupported_value"),
        {"-stream"},
    ),
    ({"message": "Invalid request", "param": "temperature", "code": "unsupported_value"}, {"-temperature"}),
]


def test_a_server_that_can_only_stream_gets_streamed_requests() -> None:
    text = "This model only support stream mode, please enable the stream parameter to access the model. "
    dialect, body = Dialect(AUTO), {"model": "m", "max_tokens": 20}
    assert dialect.learn(openai(text, code="invalid_parameter_error"), body, body)
    assert dialect.body(body) == body | {"stream": True, "stream_options": {"include_usage": True}}
    assert not dialect.learn(openai(text), body, dialect.body(body)), "the request is streamed already"
    refused = openai("Unsupported parameter: 'stream'")
    assert dialect.learn(refused, body, dialect.body(body))
    assert not dialect.learn(openai(text), body, dialect.body(body)), "neither way is accepted"


@pytest.mark.parametrize(("refusal", "means"), TEACHES)
def test_a_refusal_that_names_a_field_changes_the_request(refusal: object, means: set[str]) -> None:
    assert changes(refusal) == means


@pytest.mark.parametrize(
    "refusal",
    [
        openai(
            "'max_tokens' or 'max_completion_tokens' is too large: 20. This model's maximum context length "
            "is 16 tokens and your request has 8 input tokens (20 > 16 - 8). (parameter=max_tokens, "
            "value=20)",
            "max_tokens",
        ),
        openai(
            "max_tokens is too large: 20. This model supports at most 16 completion tokens, whereas you "
            "provided 20.",
            "max_tokens",
            "invalid_value",
        ),
        openai("Invalid max_tokens value, the valid range of max_tokens is [1, 16]"),
        openai("`max_tokens` must be less than or equal to `16`, the maximum value for `max_tokens`"),
        {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 16. Given: 20"},
        openai("This model's maximum context length is 16 tokens. However, you requested 20 output tokens."),
        openai("Could not finish the message because max_tokens or model output limit was reached."),
        openai("image input is not supported"),
        openai("The model `m` does not exist", "model", "model_not_found"),
        {
            "detail": [
                {
                    "type": "string_type",
                    "loc": ["body", "messages", 0, "content"],
                    "msg": "Input should be a valid string",
                    "input": {"temperature": 0.0, "max_tokens": 20, "unknown": True},
                }
            ]
        },
        "",
        {},
        None,
    ],
)
def test_any_other_refusal_changes_nothing(refusal: object) -> None:
    assert changes(refusal) == set()


def test_what_the_options_say_is_not_changed() -> None:
    fixed = ModelOptions(max_tokens_field="max_tokens", temperature=0.5, extra_body={"seed": 1})
    for field in ("max_tokens", "temperature", "seed"):
        assert changes(openai(f"Unsupported parameter: '{field}'"), fixed) == set()


def test_the_options_decide_the_field_and_the_temperature() -> None:
    options = ModelOptions(max_tokens_field="max_completion_tokens", temperature="omit")
    body = Dialect(options).body(request(options))
    assert body["max_completion_tokens"] == 20
    assert not {"max_tokens", "temperature"} & body.keys()
    assert request(ModelOptions(temperature=1))["temperature"] == 1


def test_a_note_says_what_may_change_the_reply() -> None:
    body = request()
    sent = {name: value for name, value in body.items() if name not in ("temperature", "stream_options")}
    assert left_out(body, sent) == (
        "the server refuses temperature 0, so this was sampled and may differ the next time",
    )
    assert left_out(body | {"temperature": 0.7}, sent) == (
        "the server refuses temperature, so it was left out",
    )
    assert left_out(body, body) == ()
