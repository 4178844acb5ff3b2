"""Servers that accept and refuse requests as two clouds do, in their own words.

The fields that they accept, the refusals and the replies without a text are those that users of these clouds
report in public issues. What the model behind such a server writes is a function of the request.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import PIL.Image

from tests.servers import Server, completion

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Exchange


@dataclass(frozen=True)
class Asked:
    """What a request asks: all of its text, its images as they came, and the whole body."""

    text: str
    images: tuple[PIL.Image.Image, ...]
    body: dict[str, Any]

    @classmethod
    def read(cls, body: dict[str, Any]) -> Asked:
        texts: list[str] = []
        images: list[PIL.Image.Image] = []
        parts: list[Any]
        for message in body["messages"]:
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for part in parts:
                if part["type"] == "text":
                    texts.append(part["text"])
                else:
                    data = part["image_url"]["url"].partition("base64,")[2]
                    images.append(PIL.Image.open(BytesIO(base64.b64decode(data))).convert("RGB"))
        return cls("\n".join(texts), tuple(images), body)


_SENT_ALWAYS = {"model", "messages", "stream", "stream_options"}
_GEMINI_TAKES = _SENT_ALWAYS | {
    *("max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stop", "response_format"),
    *("tools", "tool_choice", "reasoning_effort", "extra_body"),
}
_GEMINI_UNKNOWN = 'Invalid JSON payload received. Unknown name "{}": Cannot find field.'
_GPT_TAKES = _SENT_ALWAYS | {
    *("max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stop", "response_format", "seed"),
    *("tools", "tool_choice", "reasoning_effort", "verbosity", "logit_bias", "user", "store", "metadata"),
}


def gemini(write: Callable[[Asked], str], *, thinks: int = 0) -> Server:
    """Gemini's endpoint for OpenAI's protocol.

    Args:
        write: the reply; "RECITATION" and the like are withheld.
        thinks: tokens of hidden thinking, which count towards the limit unless `reasoning_effort` is none.
    """

    def behave(exchange: Exchange) -> None:
        body = exchange.body
        if unknown := sorted(body.keys() - _GEMINI_TAKES):
            said = [_GEMINI_UNKNOWN.format(name) for name in unknown]
            error = {
                "code": 400,
                "message": "\n".join(said),
                "status": "INVALID_ARGUMENT",
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.BadRequest",
                        "fieldViolations": [{"description": one} for one in said],
                    }
                ],
            }
            exchange.send(400, json.dumps([{"error": error}]))
            return
        hidden = 0 if body.get("reasoning_effort") == "none" else thinks
        limit = body.get("max_tokens") or body.get("max_completion_tokens", 65_536)
        text = "" if hidden >= limit else write(Asked.read(body))
        reply = completion(text)
        (choice,) = reply["choices"]
        if hidden >= limit:
            choice["finish_reason"] = "length"
        elif text.isupper():
            choice["finish_reason"] = f"content_filter: {text}"
        if choice["finish_reason"] != "stop":
            del choice["message"]
        used = len(text.split())
        reply["usage"] = {"prompt_tokens": 7, "completion_tokens": used, "total_tokens": 7 + used + hidden}
        exchange.send(200, json.dumps(reply))

    return Server([behave], models=["models/gemini-flash", "models/gemini-pro"])


def gpt(write: Callable[[Asked], str], *, reasons: int = 0) -> Server:
    """OpenAI's endpoint for a model that reasons: one refusal at a time, hidden reasoning.

    Args:
        write: the reply; one that begins with "I'm sorry" is a refusal.
        reasons: tokens of hidden reasoning, which count towards the limit.
    """

    def behave(exchange: Exchange) -> None:
        body = exchange.body
        if refused := _gpt_refusal(body):
            exchange.send(400, json.dumps({"error": refused}))
            return
        limit = body.get("max_completion_tokens", 10**6)
        text = "" if reasons >= limit else write(Asked.read(body))
        refusal = text if text.startswith("I'm sorry") else None
        reply = completion(None if refusal else text, refusal=refusal, annotations=[])
        reply["choices"][0]["finish_reason"] = "length" if reasons >= limit else "stop"
        used = min(reasons, limit) + len(text.split())
        details = {"reasoning_tokens": min(reasons, limit), "accepted_prediction_tokens": 0}
        reply["usage"] |= {"completion_tokens": used, "completion_tokens_details": details}
        exchange.send(200, json.dumps(reply))

    return Server([behave], models=["gpt-5", "gpt-5-mini"])


def _gpt_refusal(body: dict[str, Any]) -> dict[str, Any] | None:
    def error(message: str, param: str | None, code: str | None) -> dict[str, Any]:
        return {"message": message, "type": "invalid_request_error", "param": param, "code": code}

    if unknown := sorted(body.keys() - _GPT_TAKES):
        return error(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    if "max_tokens" in body:
        text = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead."
        )
        return error(text, "max_tokens", "unsupported_parameter")
    if body.get("temperature", 1) != 1:
        text = (
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this model. "
            "Only the default (1) value is supported."
        )
        return error(text, "temperature", "unsupported_value")
    if "top_p" in body:
        text = "Unsupported parameter: 'top_p' is not supported with this model."
        return error(text, "top_p", "unsupported_parameter")
    return None
