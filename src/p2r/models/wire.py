"""The chat-completions protocol as plain data: what is sent, and how what comes back is read.

Nothing here touches a network or imports a client. Servers put the text of a reply in different places; all
of them are read by one function, so that the text of a `Completion` is everything that the model wrote, its
thinking between one pair of `<think>` tags in front:

- `content`: a text, or parts of it (`text`, `output_text`; `thinking` and `reasoning`, which are thinking);
- `reasoning_content`, `reasoning`, `thinking`, `reasoning_text`, `reasoning_details`, `thinking_blocks`: what
  a server split off as thinking. The same thinking may stand in several of them: the first is taken.
- A reply that is complete and has nothing but split-off thinking is the answer: a server with a parser of
  thinking takes the text of a model that does not think for thinking.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from p2r.images import encode_all
from p2r.models.base import Completion
from p2r.models.options import merged
from p2r.parsing.thinking import THINK_TAG
from p2r.text import encodable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Message, Sampling
    from p2r.models.options import ModelOptions

_REASONING_FIELDS = (
    *("reasoning_content", "reasoning", "thinking", "reasoning_text"),
    *("reasoning_details", "thinking_blocks"),
)
# vLLM and SGLang; OpenRouter and others; Groq; Mistral; llama.cpp, under `meta`.
_CONTEXT_FIELDS = (
    *("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx", "n_ctx_train"),
)
_CUT = {
    "length",
    "max_tokens",
    "max_length",
    "max_output_tokens",
    "model_length",
    "token_limit",
    "incomplete",
}
_WITHHELD = {
    "content_filter",
    "safety",
    "recitation",
    "refusal",
    "sensitive",
    "prohibited_content",
    "blocklist",
}
_FAILED = {"error", "abort", "aborted", "cancelled", "network_error", "insufficient_system_resource"}
_OPEN = "<think>"
_WORDS_IN = ("error", "message", "detail", "msg", "error_msg", "reason")
_MOST_WORDS = 2_000

Finish = Literal["stop", "length"]


class InvalidReplyError(ValueError):
    """A reply that is not what the protocol promises; the text says what is wrong with it."""


class NoTextError(ValueError):
    """There is no text on purpose: the server withheld it, or the model refused, or called a tool."""


class ReportedError(ValueError):
    """An error that a server reported inside a reply of status 200.

    Args:
        data: what it sent.
    """

    def __init__(self, data: object) -> None:
        super().__init__(server_words(data) or "no reason given")
        self.data = data
        self.code = _error_code(data)


def request_body(
    model: str, messages: Sequence[Message], sampling: Sampling, options: ModelOptions
) -> dict[str, Any]:
    """The JSON body of a request; images as data URIs. Not every server takes all of it: see `Dialect`."""
    encode_all(part for message in messages for part in message.content if not isinstance(part, str))
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in messages],
        "max_tokens": sampling.max_tokens,
    }
    if options.temperature != "omit":
        fixed = options.temperature != "auto"
        body["temperature"] = options.temperature if fixed else sampling.temperature
    if sampling.top_p != 1:
        body["top_p"] = sampling.top_p
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.repetition_penalty != 1:
        body["repetition_penalty"] = sampling.repetition_penalty
    if variables := options.template_kwargs():
        body["chat_template_kwargs"] = variables
    return merged(body, options.extra_body)


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
        NoTextError: it holds no text, on purpose.
        ReportedError: it holds an error.
    """
    choice = _first_choice(data)
    if choice is None:
        raise InvalidReplyError(f"the reply has no choices: {_beginning(data)}")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise InvalidReplyError("the reply has no message")
    reasoning, content = _texts(message)
    finish = _finish(choice)
    if not (reasoning or content):
        _check_for_text(message)
        if _only(data, "error"):
            raise ReportedError(data)
        if finish is None:
            raise InvalidReplyError("the reply has neither a text nor a finish_reason")
    # Some servers leave out the reason when the model ended by itself.
    finish = finish or "stop"
    return Completion(_joined(reasoning, content, finish), *_usage(data), finish)


def read_model_names(data: object) -> list[str]:
    """Read the list of models.

    Raises:
        InvalidReplyError: it is not one.
        ReportedError: it is an error.
    """
    entries = data.get("data") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        if isinstance(data, dict) and data.get("error"):
            raise ReportedError(data)
        raise InvalidReplyError("the server's list of models is not one")
    return [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def read_context_tokens(data: object, model: str) -> int | None:
    """The context window of a model in a list of models; None where the server does not say it."""
    entries = data.get("data") if isinstance(data, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("id") == model:
            meta = entry["meta"] if isinstance(entry.get("meta"), dict) else {}
            return _count(entry, *_CONTEXT_FIELDS) or _count(meta, *_CONTEXT_FIELDS) or None
    return None


class StreamReader:
    """Reads a streamed reply chunk by chunk."""

    def __init__(self) -> None:
        self._reasoning: list[str] = []
        self._content: list[str] = []
        self._message: dict[str, Any] = {}
        self._halves = ["", ""]  # of a character at the end of the thinking and of the content
        self._held: str | None = None  # the beginning of the content, while it may be an opening tag
        self._finish: Finish | None = None
        self._tokens = (0, 0)

    def feed(self, data: object) -> str:
        """Take one chunk; returns the new text, often empty.

        Raises:
            InvalidReplyError, NoTextError, ReportedError: as `read_completion`.
        """
        piece = ""
        if choice := _first_choice(data):
            # Some servers send a whole message in one event.
            delta = (choice.get("delta") if "delta" in choice else choice.get("message")) or {}
            if not isinstance(delta, dict):
                raise InvalidReplyError("a chunk of the reply has no delta")
            reasoning, content = map(self._whole, (0, 1), _texts(delta))
            self._finish = _finish(choice) or self._finish
            self._message.update((key, value) for key, value in delta.items() if value)
            piece = self._piece(reasoning, content)
        if any(tokens := _usage(data)):
            self._tokens = tokens
        return piece

    def _whole(self, place: int, piece: str) -> str:
        """A piece with the half of a character that the last one ended with, without the half at its end."""
        text, self._halves[place] = self._halves[place] + piece, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._halves[place] = text[:-1], text[-1]
        return encodable(text)

    def _piece(self, reasoning: str, content: str) -> str:
        piece = ""
        if reasoning:
            piece = reasoning if self._reasoning else f"{_OPEN}{reasoning}"
            self._reasoning.append(reasoning)
        if content:
            if self._reasoning and not self._content:
                self._held = ""
            self._content.append(content)
            piece += content if self._held is None else self._after_reasoning(content)
        return piece

    def _after_reasoning(self, content: str) -> str:
        """The beginning of the content after split-off thinking; thinking of its own continues that."""
        held = f"{self._held}{content}"
        start = held.lstrip().lower()
        if _OPEN.startswith(start):
            self._held = held
            return ""
        self._held = None
        if start.startswith(_OPEN):
            return "\n\n" + held.lstrip()[len(_OPEN) :]
        return f"</think>{held}"

    def end(self, *, done: bool) -> tuple[str, Completion]:
        """Call after the last chunk: the text that is still owed, and the whole reply.

        Args:
            done: the server said that the stream is complete.

        Raises:
            InvalidReplyError: the stream ended before the reply did.
            NoTextError: it held no text, on purpose.
        """
        last = self._piece(*map(encodable, self._halves))
        reasoning, content = "".join(self._reasoning), "".join(self._content)
        if self._finish is None and not (done and (reasoning or content)):
            raise InvalidReplyError("the stream ended in the middle of the reply")
        if not (reasoning or content):
            _check_for_text(self._message)
        finish = self._finish or "stop"
        owed = last + (f"</think>{self._held}" if self._held else "")
        return owed, Completion(_joined(reasoning, content, finish), *self._tokens, finish)


def _joined(reasoning: str, content: str, finish: Finish) -> str:
    """The text of a reply, its thinking between one pair of tags."""
    if not reasoning:
        return content
    if not content.strip():
        if finish == "stop" or THINK_TAG.search(reasoning):
            return reasoning  # a parser of thinking took the whole text
        return f"{_OPEN}{reasoning}"  # cut in the middle of the thinking
    tags = list(THINK_TAG.finditer(content))
    if not tags:
        return f"{_OPEN}{reasoning}</think>{content}"
    # The model wrote thinking of its own as well, or the server sent the same twice.
    first, last = tags[0], tags[-1]
    before = content[: first.start()].strip() if not first[1] else ""
    own = content[first.end() if not first[1] else 0 : last.start() if last[1] else len(content)]
    same = own.strip() in reasoning or reasoning.strip() in own
    thinking = max(reasoning, own, key=len) if same else f"{reasoning.rstrip()}\n\n{own.lstrip()}"
    return f"{_OPEN}{thinking}</think>{before}{content[last.end() :]}" if last[1] else f"{_OPEN}{thinking}"


def _texts(message: dict[str, Any]) -> tuple[str, str]:
    """Thinking and content of a message or a delta."""
    reasoning, content = _parts(message.get("content"), "content")
    if not reasoning:
        for field in _REASONING_FIELDS:
            thought, text = _parts(message.get(field), field)
            if reasoning := thought + text:
                break
    return reasoning, content


def _parts(value: object, field: str) -> tuple[str, str]:
    """Thinking and text of a text, a part, or a list of parts."""
    if value is None:
        return "", ""
    if isinstance(value, str):
        return "", value
    if isinstance(value, list):
        read = [_parts(part, field) for part in value]
        return "".join(thought for thought, _ in read), "".join(text for _, text in read)
    if not isinstance(value, dict):
        if field != "content":
            return "", ""
        raise InvalidReplyError(f"the reply's {field} is no text but {type(value).__name__}")
    kind = str(value.get("type", "text"))
    for key in ("text", "thinking", "reasoning", "summary", "content", "value"):
        thought, text = _parts(value.get(key), field)
        if thought or text:
            is_thought = "thinking" in kind or "reasoning" in kind or value.get("thought") is True
            return (thought + text, "") if is_thought else (thought, text)
    return "", ""  # an image, a citation, encrypted thinking


def _check_for_text(message: dict[str, Any]) -> None:
    """Raise what explains a message without a text."""
    refusal = message.get("refusal") or _refused_part(message.get("content"))
    if refusal:
        raise NoTextError(f"the model refused: {refusal}")
    call = message.get("tool_calls") or message.get("function_call")
    if call:
        first = call[0] if isinstance(call, list) else call
        function = first.get("function", first) if isinstance(first, dict) else {}
        name = function.get("name") if isinstance(function, dict) else None
        raise NoTextError(f"the reply is no text but a call of the tool {name or 'without a name'}")


def _refused_part(content: object) -> object:
    parts = content if isinstance(content, list) else []
    return next((part["refusal"] for part in parts if isinstance(part, dict) and part.get("refusal")), None)


def _first_choice(data: object) -> dict[str, Any] | None:
    if isinstance(data, list) and len(data) == 1:
        data = data[0]  # as Gemini wraps its errors
    if not isinstance(data, dict):
        raise InvalidReplyError(f"the reply is no JSON object but {type(data).__name__}")
    choices = data.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    if data.get("error"):
        raise ReportedError(data)
    if not choices and ("choices" in data or "usage" in data):
        return None  # the last chunk of a stream carries the usage alone
    if server_words(data):
        raise ReportedError(data)
    raise InvalidReplyError(f"the reply has no choices: {_beginning(data)}")


def _finish(choice: dict[str, Any]) -> Finish | None:
    reason = choice.get("finish_reason")
    if not isinstance(reason, str) or not reason:
        if choice.get("error"):
            raise ReportedError(choice)
        return None
    reason = reason.lower()
    if reason in _WITHHELD:
        raise NoTextError(f"the server's content filter withheld the reply ({reason})")
    if reason in _FAILED:
        if choice.get("error"):
            raise ReportedError(choice)
        raise InvalidReplyError(f"the server broke off the reply ({reason})")
    return "length" if reason in _CUT else "stop"


def _only(message: object, field: str) -> object:
    return message.get(field) if isinstance(message, dict) else None


def _usage(data: object) -> tuple[int, int]:
    usage = data.get("usage") if isinstance(data, dict) else None
    if not isinstance(usage, dict):
        return 0, 0
    return _count(usage, "prompt_tokens", "input_tokens"), _count(usage, "completion_tokens", "output_tokens")


def _count(usage: dict[str, Any], *names: str) -> int:
    values = [usage.get(name) for name in names]
    return next((value for value in values if isinstance(value, int) and value >= 0), 0)


def server_words(data: object, *, depth: int = 8) -> str:
    """What a server says in an error, at most `depth` levels down; empty when it says nothing."""
    if isinstance(data, str):
        return data.strip()[:_MOST_WORDS]
    if isinstance(data, list) and depth:
        return "\n".join(filter(None, (server_words(one, depth=depth - 1) for one in data[:20])))
    if not isinstance(data, dict) or not depth:
        return ""
    words = next(filter(None, (server_words(data.get(key), depth=depth - 1) for key in _WORDS_IN)), "")
    if isinstance(place := data.get("loc"), list | tuple) and words:  # an error of a field, as FastAPI has it
        words = f"{'.'.join(map(str, place))}: {words}"
    if raw := server_words(_only(data.get("metadata"), "raw")):  # of the server behind a router
        words = f"{words}: {raw}" if words else raw
    return words


def _error_code(data: object) -> int | None:
    """The HTTP status that an error names."""
    if isinstance(data, list):
        return _error_code(data[0]) if data else None
    if not isinstance(data, dict):
        return None
    for key in ("code", "status", "status_code"):
        value = data.get(key)
        if isinstance(value, int | str) and str(value).isdecimal() and 400 <= int(value) < 600:
            return int(value)
    return _error_code(data.get("error"))


def _beginning(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)[:200]
