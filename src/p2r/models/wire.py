"""The chat-completions protocol as plain data: what is sent, and a strict reading of what comes back.

Nothing here touches a network or imports a client. Only fields that every server takes are written. Reasoning
that a server split off (`reasoning_content`, or `reasoning`) is put back between thinking tags, because the
text of a `Completion` is everything that the model wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from p2r.changes import merged
from p2r.models.base import Completion
from p2r.picture import encode_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Message, Sampling
    from p2r.models.options import ModelOptions

_REASONING_FIELDS = ("reasoning_content", "reasoning")


class InvalidReplyError(ValueError):
    """A reply that is not what the protocol promises; the text says what is wrong with it."""


class FilteredError(ValueError):
    """The server withheld the reply."""


def request_fields(
    model: str, messages: Sequence[Message], sampling: Sampling, options: ModelOptions
) -> dict[str, Any]:
    """The keyword arguments of `chat.completions.create`; pictures as data URIs."""
    encode_all(part for message in messages for part in message.content if not isinstance(part, str))
    fields: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
    }
    if sampling.top_p != 1:
        fields["top_p"] = sampling.top_p
    if sampling.seed is not None:
        fields["seed"] = sampling.seed
    extra: dict[str, Any] = {}
    if sampling.repetition_penalty != 1:
        extra["repetition_penalty"] = sampling.repetition_penalty
    if variables := options.template_kwargs():
        extra["chat_template_kwargs"] = variables
    if extra := merged(extra, options.extra_body):
        fields["extra_body"] = extra
    return fields


def _message(message: Message) -> dict[str, Any]:
    # Plain text travels as a string: not every server takes parts in a system message.
    if all(isinstance(part, str) for part in message.content):
        return {"role": message.role, "content": "".join(str(part) for part in message.content)}
    parts = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": part.data_uri()}}
        for part in message.content
    ]
    return {"role": message.role, "content": parts}


def read_completion(data: object) -> Completion:
    """Read a whole reply.

    Raises:
        InvalidReplyError: it is not a completion.
        FilteredError: the server's content filter withheld it.
    """
    choice = _first_choice(data)
    if choice is None:
        raise InvalidReplyError("the reply has no choices")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise InvalidReplyError("the reply has no message")
    content = _text(message, "content")
    reasoning = next(filter(None, (_text(message, field) for field in _REASONING_FIELDS)), "")
    finish = _finish(choice)
    if finish is None:
        raise InvalidReplyError("the reply has no finish_reason")
    return Completion(_joined(reasoning, content, finish), *_usage(data), finish)


def read_model_names(data: object) -> list[str]:
    """Read the list of models.

    Raises:
        InvalidReplyError: it is not one.
    """
    entries = data.get("data") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise InvalidReplyError("the server's list of models is not one")
    return [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


class StreamReader:
    """Reads a streamed reply chunk by chunk."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._thinking = False
        self._finish: Literal["stop", "length"] | None = None
        self._tokens = (0, 0)

    def feed(self, data: object) -> str:
        """Take one chunk; returns the new text, often empty.

        Raises:
            InvalidReplyError, FilteredError: as `read_completion`.
        """
        piece = ""
        if choice := _first_choice(data):
            delta = choice.get("delta")
            if not isinstance(delta, dict):
                raise InvalidReplyError("a chunk of the reply has no delta")
            reasoning = next(filter(None, (_text(delta, field) for field in _REASONING_FIELDS)), "")
            piece = self._tagged(reasoning, _text(delta, "content"))
            self._finish = _finish(choice) or self._finish
        if any(tokens := _usage(data)):
            self._tokens = tokens
        if piece:
            self._pieces.append(piece)
        return piece

    def _tagged(self, reasoning: str, content: str) -> str:
        piece = ""
        if reasoning:
            piece = reasoning if self._thinking else f"<think>{reasoning}"
            self._thinking = True
        if content:
            piece += f"</think>{content}" if self._thinking else content
            self._thinking = False
        return piece

    def end(self) -> tuple[str, Completion]:
        """Call after the last chunk: the text that is still owed, and the whole reply.

        Raises:
            InvalidReplyError: the stream ended before the reply did.
        """
        if self._finish is None:
            raise InvalidReplyError("the stream ended in the middle of the reply")
        owed = "</think>" if self._thinking and self._finish == "stop" else ""
        text = "".join(self._pieces) + owed
        return owed, Completion(text, *self._tokens, self._finish)


def _joined(reasoning: str, content: str, finish: str) -> str:
    if not reasoning:
        return content
    if not content and finish == "length":
        return f"<think>{reasoning}"  # cut in the middle of the thinking
    return f"<think>{reasoning}</think>{content}"


def _first_choice(data: object) -> dict[str, Any] | None:
    if not isinstance(data, dict):
        raise InvalidReplyError(f"the reply is no JSON object but {type(data).__name__}")
    choices = data.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    if "choices" in data and not choices:
        return None  # the last chunk of a stream carries the usage alone
    raise InvalidReplyError("the reply has no choices")


def _text(data: dict[str, Any], field: str) -> str:
    value = data.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidReplyError(f"the reply's {field} is no text but {type(value).__name__}")
    return value


def _finish(choice: dict[str, Any]) -> Literal["stop", "length"] | None:
    reason = choice.get("finish_reason")
    if reason is None:
        return None
    if reason == "content_filter":
        raise FilteredError("the server's content filter withheld the reply")
    return "length" if reason == "length" else "stop"


def _usage(data: object) -> tuple[int, int]:
    usage = data.get("usage") if isinstance(data, dict) else None
    if not isinstance(usage, dict):
        return 0, 0
    return _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")


def _count(usage: dict[str, Any], field: str) -> int:
    value = usage.get(field)
    return value if isinstance(value, int) and value >= 0 else 0
