"""The endpoint model on real sockets: requests, failures, closing."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import numpy as np
import pytest

from p2r.errors import InputError, ModelError
from p2r.images import EncodedImage
from p2r.models import retries as failures
from p2r.models.base import Completion, Message, Model, Sampling, StreamingModel
from p2r.models.endpoint import EndpointModel
from p2r.models.options import ModelOptions
from tests.servers import (
    Exchange,
    Server,
    body,
    chunk,
    completion,
    dead_url,
    garbage,
    half,
    reply,
    reset,
    silence,
    slow,
    status,
    stream,
)

IMAGE = EncodedImage(np.full((32, 64, 3), 200, dtype=np.uint8))
ASK = (Message("system", ("Be brief.",)), Message("user", (IMAGE, "What is it?")))
SAMPLING = Sampling(max_tokens=20)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("P2R_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask(url: str, sampling: Sampling = SAMPLING, **options: Any) -> Completion:
    async def run() -> Completion:
        model = EndpointModel(url, **{"model_name": "served", "backoff_s": 0.01, **options})
        try:
            return await model.complete(ASK, sampling)
        finally:
            await model.aclose()

    return asyncio.run(run())


def ask_stream(url: str, **options: Any) -> list[str | Completion]:
    async def run() -> list[str | Completion]:
        model = EndpointModel(url, "served", **options)
        return [piece async for piece in model.stream(ASK, SAMPLING)]

    return asyncio.run(run())


def error_of(url: str, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(url, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def test_it_is_a_streaming_model() -> None:
    model = EndpointModel("http://localhost:1/v1", "served")
    assert isinstance(model, Model)
    assert isinstance(model, StreamingModel)


def test_a_request_carries_only_the_fields_that_every_server_takes() -> None:
    with Server() as server:
        got = ask(server.url)
    assert got == Completion("fine", 7, 1, "stop")
    sent = server.requests[0].body
    assert sent == {
        "model": "served",
        "max_tokens": 20,
        "temperature": 0.0,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": IMAGE.data_uri()}},
                    {"type": "text", "text": "What is it?"},
                ],
            },
        ],
    }


def test_sampling_is_sent_where_it_differs_from_the_default() -> None:
    with Server() as server:
        ask(server.url, Sampling(5, temperature=0.7, top_p=0.9, repetition_penalty=1.05, seed=3))
    sent = server.requests[0].body
    assert {
        key: sent[key] for key in ("max_tokens", "temperature", "top_p", "repetition_penalty", "seed")
    } == {
        "max_tokens": 5,
        "temperature": 0.7,
        "top_p": 0.9,
        "repetition_penalty": 1.05,
        "seed": 3,
    }


def test_the_key_comes_from_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(**options: Any) -> str:
        with Server() as server:
            ask(server.url, **options)
        return server.requests[0].headers["authorization"].removeprefix("Bearer ")

    assert key() == "none"
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    assert key() == "theirs"
    monkeypatch.setenv("P2R_API_KEY", "ours")
    assert key() == "ours"
    assert key(api_key="given") == "given"


@pytest.mark.parametrize(
    "bad", [status(500), status(429), status(503), garbage(), half(), reset(), body("[]")]
)
def test_a_server_failure_is_retried(bad: Any) -> None:
    with Server([bad, bad, reply("at last")]) as server:
        assert ask(server.url).text == "at last"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("words", "hinted"),
    [
        ("At most 2 image(s) may be provided in one prompt.", True),  # vLLM 0.32
        ("Too many images in request: 150. Maximum 100 images.", True),
        ("The image is too large: at most 20 MB.", False),
    ],
)
def test_a_refusal_of_many_images_names_what_to_do(words: str, *, hinted: bool) -> None:
    with Server([status(400, message=words)]) as server:
        said = str(error_of(server.url))
    assert words in said
    assert ("perceive_images=apart" in said) == hinted


@pytest.mark.parametrize("code", [400, 401, 403, 404, 408, 409, 413, 422])
def test_a_refusal_is_not_retried(code: int) -> None:
    with Server([status(code, message="no such thing")]) as server:
        error = error_of(server.url)
    assert error.kind == "rejected"
    assert "no such thing" in str(error)
    assert str(code) in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("bad", "kind", "says"),
    [
        (status(500, message="CUDA error"), "server", "CUDA error"),
        (status(502), "server", "502"),
        (status(429), "overloaded", "429"),
        (status(503), "overloaded", "503"),
        (garbage(), "invalid_reply", "unreadable"),
        (body(""), "invalid_reply", "unreadable"),
        (body("[" * 100_000), "invalid_reply", "unreadable"),
        (body('{"choices": []}'), "invalid_reply", "no choices"),
        (body('{"error": "no such model", "choices": null}'), "server", "no such model"),
        (reply(None, refusal="I cannot."), "rejected", "the model refused: I cannot."),
        (
            reply(None, finish="tool_calls", tool_calls=[{"function": {"name": "f"}}]),
            "rejected",
            "the tool f",
        ),
        (status(502), "server", "is it running?"),
        (
            lambda exchange: exchange.send(
                503,
                '<html><head><meta content="initial-scale=1"><style>p {x: loading}</style></head>'
                "<body><h1>503 Service Unavailable</h1></body></html>",
                content_type="text/html",
            ),
            "overloaded",
            "(503): 503 Service Unavailable",
        ),
        (lambda exchange: exchange.send(503, '{"error":' * 400 + "1" + "}" * 400), "overloaded", "503"),
        (
            body('{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}'),
            "invalid_reply",
            "no text",
        ),
        (body('{"choices": [{"message": null}]}'), "invalid_reply", "no message"),
        (body(json.dumps(completion("x"))[:-40]), "invalid_reply", "unreadable"),
        (half(), "invalid_reply", "middle of its reply"),
        (reset(), "unreachable", "broke"),
        (reply(None, finish="content_filter"), "rejected", "filter"),
    ],
)
def test_each_failure_becomes_one_line_of_its_kind(bad: Any, kind: str, says: str) -> None:
    with Server([bad]) as server:
        error = error_of(server.url, max_retries=1)
    assert error.kind == kind
    assert says in str(error)
    assert str(error).startswith("served: ")


def test_the_error_of_an_unreachable_endpoint_names_its_url() -> None:
    url = dead_url()
    error = error_of(url, max_retries=0)
    assert error.kind == "unreachable"
    assert url in str(error)
    assert "is the server running?" in str(error)


def test_silence_ends_in_a_timeout() -> None:
    with Server([silence()]) as server:
        error = error_of(server.url, timeout_s=0.1, max_retries=1)
    assert error.kind == "timeout"
    assert "0.1 s" in str(error)
    assert len(server.requests) == 2


def test_the_deadline_bounds_all_tries_together() -> None:
    with Server([slow(0.15, status(500))]) as server:
        error = error_of(server.url, deadline_s=0.4, max_retries=100)
    assert error.kind in ("timeout", "server")
    assert 2 <= len(server.requests) <= 4


def test_retry_after_is_respected() -> None:
    async def run(url: str) -> float:
        model = EndpointModel(url, "served")
        loop = asyncio.get_running_loop()
        start = loop.time()
        await model.complete(ASK, SAMPLING)
        return loop.time() - start

    with Server([status(429, retry_after=0.4), reply("fine")]) as server:
        assert asyncio.run(run(server.url)) >= 0.4


def test_a_retry_after_beyond_the_deadline_fails_at_once() -> None:
    with Server([status(429, retry_after=3600)]) as server:
        assert error_of(server.url).kind == "overloaded"
    assert len(server.requests) == 1


def test_retry_after_holds_seconds_or_a_date() -> None:
    assert failures.read_retry_after("2.5") == 2.5
    assert failures.read_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for nonsense in (None, "soon", "nan", "inf", ""):
        assert failures.read_retry_after(nonsense) is None


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_that_the_server_split_off_is_put_back(field: str) -> None:
    with Server([reply("<answer>B</answer>", **{field: "It is red."})]) as server:
        assert ask(server.url).text == "<think>It is red.</think><answer>B</answer>"


def test_reasoning_that_ran_into_the_limit_stays_open() -> None:
    with Server([reply(None, finish="length", reasoning_content="It is")]) as server:
        assert ask(server.url) == Completion("<think>It is", 7, 0, "length")


def test_the_only_model_of_a_server_needs_no_name() -> None:
    async def run(url: str) -> tuple[str, str]:
        model = EndpointModel(url)
        before = model.name
        await asyncio.gather(*(model.complete(ASK, SAMPLING) for _ in range(4)))
        return before, model.name

    with Server(models=["lone"]) as server:
        assert asyncio.run(run(server.url)) == (server.url, "lone")
    assert {request.body["model"] for request in server.requests} == {"lone"}
    assert server.models_asked == 1


@pytest.mark.parametrize(
    ("entry", "tokens"),
    [
        ({"max_model_len": 8192}, 8192),  # vLLM, SGLang
        ({"context_length": 8192, "top_provider": {"context_length": 4096}}, 8192),  # OpenRouter
        ({"context_window": 8192, "max_model_len": None}, 8192),
        ({"max_context_length": 8192}, 8192),
        ({"meta": {"n_ctx": 8192, "n_ctx_train": 262_144}}, 8192),  # llama.cpp
        ({"meta": {"n_ctx_train": 8192}}, 8192),
        ({"max_model_len": "8192"}, None),
        ({"max_model_len": 0}, None),
        ({"meta": []}, None),
        ({}, None),
    ],
)
def test_the_context_window_is_read_from_the_list_of_models(
    entry: dict[str, Any], tokens: int | None
) -> None:
    with Server(models=[{"id": "other", "max_model_len": 7}, {"id": "served", **entry}]) as server:
        assert asyncio.run(EndpointModel(server.url, "served").context_tokens()) == tokens


def test_the_context_window_may_be_unknown() -> None:
    for models in (None, [], ["other"], ["one", "two"]):
        with Server(models=models) as server:
            assert asyncio.run(EndpointModel(server.url, "served", max_retries=0).context_tokens()) is None
            assert asyncio.run(EndpointModel(server.url, max_retries=0).context_tokens()) is None


def test_several_models_are_listed_as_the_choices() -> None:
    with Server(models=["first", "second"]) as server:
        error = error_of(server.url, model_name=None)
    assert error.kind == "rejected"
    assert "#first, #second" in str(error)


def test_a_server_without_models_is_an_error() -> None:
    with Server(models=[]) as server:
        assert "no model" in str(error_of(server.url, model_name=None))


def test_a_server_that_cannot_list_its_models_needs_a_name() -> None:
    with Server(models=None) as server:
        error = error_of(server.url, model_name=None, max_retries=1)
        assert ask(server.url, model_name="served").text == "fine"
    assert error.kind == "server"
    assert "500" in str(error)
    assert f"{server.url}#NAME" in str(error)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://", "nonsense", ""])
def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(InputError, match="is no server"):
        EndpointModel(url)


def test_impossible_limits_are_refused_at_once() -> None:
    with pytest.raises(InputError, match="must be positive"):
        EndpointModel("http://localhost/v1", max_concurrency=0)


def test_requests_share_a_bounded_pool() -> None:
    async def run(url: str) -> None:
        model = EndpointModel(url, "served", max_concurrency=3)
        await asyncio.gather(*(model.complete(ASK, SAMPLING) for _ in range(12)))
        await model.aclose()

    with Server([slow(0.02, reply("fine"))]) as server:
        asyncio.run(run(server.url))
    assert len(server.requests) == 12
    assert server.connections <= 3


@pytest.mark.parametrize("dropped", [False, True])
def test_event_loops_that_follow_each_other_leave_nothing_open(dropped: bool) -> None:
    with Server() as server:
        kept = EndpointModel(server.url, "served")

        async def run() -> str:
            model = EndpointModel(server.url, "served") if dropped else kept
            replies = await asyncio.gather(*(model.complete(ASK, SAMPLING) for _ in range(3)))
            return replies[0].text  # without aclose: the loop's end must close the connections

        for _ in range(3):
            assert asyncio.run(run()) == "fine"
            gc.collect()  # a socket left open would be a ResourceWarning, which is an error here


def test_it_can_be_closed_twice_and_used_again() -> None:
    with Server() as server:
        model = EndpointModel(server.url, "served")

        async def run() -> None:
            await model.complete(ASK, SAMPLING)
            await model.aclose()
            await model.aclose()
            await model.complete(ASK, SAMPLING)
            await model.aclose()

        asyncio.run(run())


def test_a_cancelled_call_frees_its_place() -> None:
    async def run(url: str) -> str:
        model = EndpointModel(url, "served", max_concurrency=1)
        call = asyncio.create_task(model.complete(ASK, SAMPLING))
        await asyncio.to_thread(server.asked.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return (await model.complete(ASK, SAMPLING)).text

    with Server([silence(), reply("next")]) as server:
        assert asyncio.run(run(server.url)) == "next"


def test_a_stream_yields_its_pieces_and_then_the_whole() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
    pieces = [chunk(role="assistant"), chunk("It "), chunk("is"), chunk(" red", finish="stop"), usage]
    with Server([stream(*pieces)]) as server:
        got = ask_stream(server.url)
    assert got == ["It ", "is", " red", Completion("It is red", 9, 4, "stop")]
    assert server.requests[0].body["stream"] is True


def test_streamed_reasoning_is_put_between_tags() -> None:
    pieces = [
        chunk(reasoning_content="Look"),
        chunk(reasoning_content=" closer"),
        chunk("A"),
        chunk(finish="stop"),
    ]
    with Server([stream(*pieces)]) as server:
        got = ask_stream(server.url)
    assert got[:-1] == ["<think>Look", " closer", "</think>A"]
    assert isinstance(got[-1], Completion)
    assert got[-1].text == "<think>Look closer</think>A"


def test_a_stream_with_nothing_but_reasoning_ends_in_the_answer() -> None:
    with Server([stream(chunk(reasoning="It is"), chunk(reasoning=" B"), chunk(finish="stop"))]) as server:
        got = ask_stream(server.url)
    assert got == ["<think>It is", " B", Completion("It is B", 0, 0, "stop")]


@pytest.mark.parametrize(
    "refusal",
    [
        status(422, message="Unsupported field: stream_options"),
        stream({"error": {"message": "Unsupported field: stream_options", "code": 400}}),
        body('{"error": "Unsupported field: stream_options"}'),
    ],
)
def test_a_server_that_refuses_stream_options_is_asked_without(refusal: Any) -> None:
    with Server([refusal, stream(chunk("fine", finish="stop"))]) as server:
        assert ask_stream(server.url)[0] == "fine"
    assert ["stream_options" in request.body for request in server.requests] == [True, False]


def test_a_server_that_does_not_stream_gives_one_piece() -> None:
    fine = Completion("fine", 7, 1, "stop")
    with Server([reply("fine")]) as server:
        assert ask_stream(server.url) == ["fine", fine]
    refusal = status(400, message="Your organization must be verified to stream this model.")
    with Server([refusal, reply("fine")]) as server:
        assert ask_stream(server.url) == ["fine", fine]
    assert ["stream" in request.body for request in server.requests] == [True, False]


def test_a_server_that_only_streams_is_read_piece_by_piece() -> None:
    with Server([stream(chunk("fi"), chunk("ne", finish="stop"))]) as server:
        assert ask(server.url).text == "fine", "it streams although the request does not say so"
    refusal = status(400, message="This model only support stream mode, please enable the stream parameter.")
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}
    with Server([refusal, stream(chunk("fi"), chunk("ne", finish="stop"), usage)]) as server:
        assert ask(server.url) == Completion("fine", 7, 1, "stop")


def picky(exchange: Exchange) -> None:
    """A server like those of OpenAI's reasoning models, which name one refused field at a time."""
    if "max_tokens" in exchange.body:
        text = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        status(400, message=text)(exchange)
    elif exchange.body.get("temperature", 1) != 1:
        text = "Unsupported value: 'temperature' does not support 0.0 with this model."
        status(400, message=text)(exchange)
    else:
        reply("fine")(exchange)


def test_what_a_server_refuses_is_learned_once_by_all_requests() -> None:
    note = "the server refuses temperature 0, so this was sampled and may differ the next time"

    async def run(url: str) -> list[Completion]:
        model = EndpointModel(url, "served", max_retries=0)
        together = await asyncio.gather(*(model.complete(ASK, SAMPLING) for _ in range(8)))
        refused.append(len(server.requests) - 8)
        return [*together, *[await model.complete(ASK, SAMPLING) for _ in range(4)]]

    refused: list[int] = []
    with Server([picky]) as server:
        got = asyncio.run(run(server.url))
    assert got == [Completion("fine", 7, 1, "stop", (note,))] * 12
    assert 2 <= refused[0] <= 16
    assert len(server.requests) == 12 + refused[0], "later requests are accepted at once"
    last = server.requests[-1].body
    assert last["max_completion_tokens"] == 20
    assert not {"max_tokens", "temperature"} & last.keys()


def test_a_refusal_that_nothing_can_be_learned_from_is_the_error() -> None:
    text = "max_tokens is too large: 20. This model supports at most 16 completion tokens."
    with Server([status(400, message=text)]) as server:
        assert text in str(error_of(server.url))
    assert len(server.requests) == 1


def test_options_are_sent_with_every_request() -> None:
    options = ModelOptions(
        thinking=False,
        thinking_tokens=100,
        chat_template_kwargs={"lang": "en"},
        extra_body={"top_k": 5, "chat_template_kwargs": {"x": 1}},
        max_tokens_field="max_completion_tokens",
        temperature="omit",
    )
    with Server() as server:
        assert ask(server.url, options=options) == Completion("fine", 7, 1, "stop")
    sent = server.requests[0].body
    del sent["messages"]
    assert sent == {
        "model": "served",
        "max_completion_tokens": 20,
        "top_k": 5,
        "chat_template_kwargs": {"enable_thinking": False, "lang": "en", "x": 1},
    }


@pytest.mark.parametrize(
    "loading",
    [
        status(503, message="Loading model"),
        lambda exchange: exchange.send(503, '{"error":"Model m is currently loading","estimated_time":20.0}'),
        lambda exchange: exchange.send(503, "no healthy upstream", content_type="text/plain"),
    ],
)
def test_a_server_that_loads_its_model_is_waited_for(loading: Any, caplog: pytest.LogCaptureFixture) -> None:
    script = [*[loading] * 6, reply("at last")]
    with Server(script) as server:
        assert ask(server.url, max_retries=0, timeout_s=10).text == "at last"
    assert len(server.requests) == 7
    assert len(caplog.messages) == 1
    assert "no model yet (503)" in caplog.messages[0]
    assert "waiting for up to 10 s" in caplog.messages[0]


def test_the_wait_for_a_model_ends_with_the_timeout() -> None:
    with Server([status(503, message="Loading model")]) as server:
        error = error_of(server.url, timeout_s=0.5)
    assert error.kind == "overloaded"
    assert "Loading model" in str(error)


def test_an_error_within_a_reply_is_read_like_the_status_that_it_names() -> None:
    def error(code: int) -> Any:
        return body(json.dumps({"error": {"message": "in its own words", "code": code}}))

    for code, kind, requests in ((400, "rejected", 1), (429, "overloaded", 2), (500, "server", 2)):
        with Server([error(code)]) as server:
            got = error_of(server.url, max_retries=1)
        assert (got.kind, len(server.requests)) == (kind, requests)
        assert "in its own words" in str(got)


def test_a_limit_that_the_thinking_used_up_says_what_to_set() -> None:
    text = "Could not finish the message because max_tokens or model output limit was reached."
    with Server([status(400, message=text)]) as server:
        assert "set thinking_tokens" in str(error_of(server.url))


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (stream(chunk("It "), done=False), "invalid_reply"),
        (stream(chunk("It "), {"error": {"message": "engine died"}}), "server"),
        (stream({"error": "engine died"}), "server"),
        (stream(chunk("It "), {"choices": "none"}), "invalid_reply"),
        (status(400), "rejected"),
    ],
)
def test_a_stream_that_breaks_is_an_error_of_its_kind(bad: Any, kind: str) -> None:
    with Server([bad]) as server, pytest.raises(ModelError) as caught:
        ask_stream(server.url, max_retries=0)
    assert caught.value.kind == kind


def test_a_stream_that_stalls_is_a_timeout() -> None:
    with (
        Server([stream(chunk("It "), chunk("is"), pause_s=5)]) as server,
        pytest.raises(ModelError) as caught,
    ):
        ask_stream(server.url, timeout_s=0.1)
    assert caught.value.kind == "timeout"


def test_a_stream_closed_early_frees_its_place() -> None:
    async def run(url: str) -> str:
        model = EndpointModel(url, "served", max_concurrency=1)
        pieces = model.stream(ASK, SAMPLING)
        assert await anext(pieces) == "It "
        await pieces.aclose()
        return (await model.complete(ASK, SAMPLING)).text

    with Server([stream(chunk("It "), chunk("is"), pause_s=5), reply("next")]) as server:
        assert asyncio.run(run(server.url)) == "next"
