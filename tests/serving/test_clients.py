"""The official OpenAI clients of Python and Node: questions, streams, the list of models, and every error.

The model is scripted; `test_page.py` asks nano.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

import p2r
from tests.fake_model import FakeModel, StreamingFakeModel, failure
from tests.serving.live_server import BOXES, KEY, LiveServer, body, both_roles, data_uri, user, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from p2r.errors import ModelErrorKind

NODE_CLIENT = "openai@7.57.0"
SCENE = Path(p2r.__file__).parent / "demo" / "images" / "1-read.jpg"
SCENE_TEXT = "Which digit is on the purple tag?\nA. 9\nB. 3\nC. 5\nD. 4"
THOUGHT = "<think>The purple tag shows 9.</think><answer>A</answer>"


# Which server is asked what, by name.


def case(server: str, call: str = "chat", key: str = KEY, **body: Any) -> dict[str, Any]:
    asked = {"model": "p2r", "messages": [user(SCENE_TEXT, data_uri(SCENE.read_bytes()))]} | body
    return {"server": server, "call": call, "key": key, "body": asked}


ANSWERS = {
    "ask": case("open"),
    "stream": case("open", stream=True, stream_options={"include_usage": True}),
    "letter": case("open", model="p2r-letter"),
    "models": case("open", "models"),
    "model": case("open", "model", model="p2r-think"),
}
# Status, code and field of each error.
ERRORS: dict[str, tuple[dict[str, Any], int, str, str | None]] = {
    "a field": (case("open", n=2), 400, "invalid_value", "n"),
    "an image": (
        case("open", messages=[user("What?", "data:image/png;base64,AAAA")]),
        *(400, "invalid_image", "messages.0.content.0.image_url.url"),
    ),
    "a wrong key": (case("locked", key="a-wrong-key-of-enough-length"), 401, "invalid_api_key", None),
    "no such model": (case("open", model="gpt"), 404, "model_not_found", "model"),
    "no such model to retrieve": (case("open", "model", model="gpt"), 404, "model_not_found", None),
    "a large body": (case("small"), 413, "body_too_large", None),
    "a full queue": (case("busy"), 429, "queue_full", None),
    "a broken engine": (case("internal"), 500, "model_internal", None),
    "a failing model": (case("server"), 502, "model_server", None),
    "a dead model": (case("unreachable"), 503, "model_unreachable", None),
    "a slow model": (case("timeout"), 504, "model_timeout", None),
    "a deadline": (case("hurried"), 504, "deadline", None),
    # Its status has gone out when the reasoner fails.
    "a late failure": (case("late", stream=True), 0, "model_server", None),
}
CLASSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "RateLimitError",
    500: "InternalServerError",
    502: "InternalServerError",
    503: "InternalServerError",
    504: "InternalServerError",
}


@pytest.fixture(scope="module")
def cases() -> Iterator[list[dict[str, Any]]]:
    """All cases, with the servers that they ask running."""
    scripted = both_roles(THOUGHT, kind=StreamingFakeModel)
    servers = {
        "open": LiveServer(scripted),
        "locked": LiveServer(api_keys=(KEY,)),
        "small": LiveServer(max_body_bytes=1_000),
        "busy": LiveServer(
            FakeModel(lambda _: BOXES, delay_s=3_600), concurrency=1, queue=0, timeout_s=3_600, drain_s=0.1
        ),
        "hurried": LiveServer(FakeModel(lambda _: BOXES, delay_s=600), timeout_s=0.5),
        "late": LiveServer(both_roles(failure("server"))),
    }
    kinds: tuple[ModelErrorKind, ...] = ("internal", "server", "unreachable", "timeout")
    for kind in kinds:
        servers[kind] = LiveServer(both_roles(failure(kind), failure(kind)))
    with ExitStack() as running:
        for server in servers.values():
            running.enter_context(server)
        busy = servers["busy"]
        holding = threading.Thread(target=hold, args=(busy,))
        holding.start()
        wait_until(lambda: busy.app.state.limiter.running == 1)
        named = ANSWERS | {name: error[0] for name, error in ERRORS.items()}
        yield [
            {"name": name, "url": f"{servers[each['server']].url}/v1", **each} for name, each in named.items()
        ]
    holding.join()


def hold(server: LiveServer) -> None:
    """Send a question, which is refused when the server ends."""
    httpx.post(f"{server.url}/v1/chat/completions", json=body(), timeout=3_600, trust_env=False)


def ask_from_python(case: dict[str, Any]) -> Any:
    with openai.OpenAI(
        base_url=case["url"],
        api_key=case["key"],
        max_retries=0,
        timeout=60,
    ) as client:
        if case["call"] == "models":
            return [model.id for model in client.models.list()]
        if case["call"] == "model":
            return client.models.retrieve(case["body"]["model"]).id
        reply = client.chat.completions.create(**case["body"])
        if not case["body"].get("stream"):
            message = reply.choices[0].message
            return {
                "content": message.content,
                "thinking": message.reasoning_content,
                "answer": message.p2r["answer"],
                "boxes": len(message.p2r["boxes"]),
                "tokens": reply.usage.total_tokens,
            }
        seen: dict[str, Any] = {"content": "", "thinking": "", "boxes": None, "answer": None, "tokens": None}
        for chunk in reply:
            if looked := getattr(chunk, "p2r", None):
                seen["boxes"] = len(looked["boxes"])
            if chunk.usage:
                seen["tokens"] = chunk.usage.total_tokens
            for choice in chunk.choices:
                seen["content"] += choice.delta.content or ""
                seen["thinking"] += getattr(choice.delta, "reasoning_content", None) or ""
                if looked := getattr(choice.delta, "p2r", None):
                    seen["answer"] = looked["answer"]
        return seen


@pytest.fixture(scope="module")
def said_in_python(cases: list[dict[str, Any]]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for each in cases:
        try:
            said[each["name"]] = {"ok": ask_from_python(each)}
        except openai.APIError as error:
            status = getattr(error, "status_code", None)
            told = {"kind": type(error).__name__, "status": status, "code": error.code, "param": error.param}
            said[each["name"]] = {"error": told}
    return said


@pytest.fixture(scope="module")
def said_in_node(cases: list[dict[str, Any]]) -> dict[str, Any]:
    folder = node_client()
    script = Path(__file__).parent / "node_client.mjs"
    run = subprocess.run(
        ["node", str(script), str(folder)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def node_client() -> Path:
    """The folder with the pinned client, installed once into the temporary folder."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("there is no node and npm here")
    folder = Path(tempfile.gettempdir()) / f"p2r-tests-{NODE_CLIENT.replace('@', '-')}"
    if not (folder / "node_modules" / "openai").is_dir():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), NODE_CLIENT]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if run.returncode:
            pytest.skip(f"npm cannot install {NODE_CLIENT}: {run.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.fixture(params=["python", "node"])
def said(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.getfixturevalue(f"said_in_{request.param}")


def test_they_ask(said: dict[str, Any]) -> None:
    whole = said["ask"]["ok"]
    assert whole["content"] == "A. 9"
    assert whole["answer"] == "A"
    assert whole["boxes"] >= 1
    assert "9" in whole["thinking"]
    assert whole["tokens"] > 0
    assert said["letter"]["ok"]["content"] == "A"


def test_they_stream(said: dict[str, Any]) -> None:
    assert said["stream"]["ok"] == said["ask"]["ok"]


def test_they_list_models(said: dict[str, Any]) -> None:
    assert said["models"]["ok"] == ["p2r", "p2r-think", "p2r-direct", "p2r-letter"]
    assert said["model"]["ok"] == "p2r-think"


@pytest.mark.parametrize("name", ERRORS)
def test_they_raise_the_right_error(said: dict[str, Any], name: str) -> None:
    _, status, code, param = ERRORS[name]
    error = said[name]["error"]
    assert error["code"] == code
    assert error["param"] == param
    if status:
        assert error["status"] == status
    if kind := CLASSES.get(status):
        assert error["kind"] == kind


def test_a_server_that_is_not_there(said_in_python: dict[str, Any]) -> None:
    assert said_in_python
    with pytest.raises(openai.APIConnectionError):
        ask_from_python(case("open") | {"url": "http://127.0.0.1:9/v1"})
