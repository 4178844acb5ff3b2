"""The chat-completions protocol as plain data: what is sent, and how replies are read.

Servers put the text of a reply in different places. All of them are read here, so that the text of a
`Completion` is everything that the model wrote, its thinking between one pair of `<think>` tags in front:

- `content`: a text, or parts of it (`text`, `output_text`; `thinking` and `reasoning`, which are thinking);
- `reasoning_content`, `reasoning`, `thinking`, `reasoning_text`, `reasoning_details`, `thinking_blocks`: what
  a server split off as thinking. Several may hold the same thinking: the first is taken.
- A complete reply with nothing but split-off thinking is the answer: a server with a parser of thinking takes
  the text of a model that does not think for thinking.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal

from p2r.images import encode_all
from p2r.models.base import Completion
from p2r.models.options import merged
from p2r.parsing.thinking import THINK_TAG, split_thinking
from p2r.text import encodable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Message, Sampling
    from p2r.models.options import ModelOptions

_OPEN, _CLOSE = "<think>", "</think>"
_REASONING_FIELDS = (
    *("reasoning_content", "reasoning", "thinking", "reasoning_text"),
    *("reasoning_details", "thinking_blocks"),
)
# vLLM and SGLang; OpenRouter and others; Groq; Mistral; llama.cpp, under `meta`.
_CONTEXT_FIELDS = (
    *("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx", "n_ctx_train"),
)
# Reasons to finish; any other is a stop.
_CUT = re.compile(r"(model_|max_)?length|max_(output_)?tokens|token_limit|incomplete", re.IGNORECASE)
_WITHHELD = re.compile(  # Gemini: `content_filter: RECITATION`, `function_call_filter: UNEXPECTED_TOOL_CALL`
    r"(content|function_call)_filter(: ?\w+)?|(image_)?(safety|recitation|prohibited_content)"
    r"|refusal|sensitive|blocklist|spii",
    re.IGNORECASE,
)
_FAILED = re.compile(r"error|abort(ed)?|cancelled|network_error|insufficient_system_resource", re.IGNORECASE)
_MESSAGE_FIELDS = ("error", "message", "detail", "msg", "error_msg", "reason")
_LONGEST_MESSAGE = 2_000

Finish = Literal["stop", "length"]


class InvalidReplyError(ValueError):
    """A reply that violates the protocol; the text says how."""


class NoTextError(ValueError):
    """There is no text on purpose: the server withheld it, or the model refused, or called a tool."""


class ReportedError(ValueError):
    """An error inside a reply of status 200: what the server sent, and the HTTP status that it names."""

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
    # Plain text is sent as a string: not every server takes parts in a system message.
    if all(isinstance(part, str) for part in message.content):
        return {"role": message.role, "content": "".join(str(part) for part in message.content)}
    parts = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": part.data_uri()}}
        for part in message.content
    ]
    return {"role": message.role, "content": parts}


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
    """The context window of a model in a list of models; None where the server does not name it."""
    entries = data.get("data") if isinstance(data, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("id") == model:
            return _count(entry, *_CONTEXT_FIELDS) or _count(entry.get("meta"), *_CONTEXT_FIELDS) or None
    return None


def read_completion(data: object) -> Completion:
    """Read a whole reply.

    Raises:
        InvalidReplyError: it is not a completion.
        NoTextError: it holds no text, on purpose.
        ReportedError: it holds an error.
    """
    reader = StreamReader()
    reader.feed(data, whole=True)
    return reader.end(done=True)[1]


class StreamReader:
    """Reads a streamed reply chunk by chunk; a whole reply is a stream of one chunk."""

    def __init__(self) -> None:
        self._reasoning = ""
        self._content = ""
        self._message: dict[str, Any] = {}
        self._error: object = None
        self._halves = ["", ""]  # of a character at the end of the thinking and of the content
        self._held: str | None = None  # the beginning of the content, while it may be an opening tag
        self._finish: Finish | None = None
        self._tokens = (0, 0)

    def feed(self, data: object, *, whole: bool = False) -> str:
        """Take one chunk, or the whole reply; returns the new text, often empty.

        Raises:
            InvalidReplyError, NoTextError, ReportedError: as `read_completion`.
        """
        choice = _first_choice(data)
        if choice is None:
            if whole:
                raise InvalidReplyError(f"the reply has no choices: {_beginning(data)}")
            choice = {"delta": {}}
        finish = _finish(choice)
        # Some servers send a whole message in one event of a stream.
        delta = choice.get("message") if whole or "delta" not in choice else choice["delta"]
        if delta is None and (finish or not whole):
            delta = {}  # Gemini leaves the message out where it has no text
        if not isinstance(delta, dict):
            raise InvalidReplyError("the reply has no message")
        self._message.update((key, value) for key, value in delta.items() if value)
        self._finish = finish or self._finish
        if isinstance(data, dict):
            self._error = data if data.get("error") else self._error
            tokens = _usage(data.get("usage"))
            self._tokens = tokens if any(tokens) else self._tokens
        return self._piece(*map(self._complete_characters, (0, 1), _texts(delta)))

    def end(self, *, done: bool) -> tuple[str, Completion]:
        """Call after the last chunk: the text that is still owed, and the whole reply.

        Args:
            done: the server said that the stream is complete.

        Raises:
            InvalidReplyError, NoTextError, ReportedError: as `read_completion`, or the stream broke off.
        """
        owed = self._piece(*map(encodable, self._halves))
        if self._held:
            owed += f"{_CLOSE}{self._held}"
        text = self._reasoning or self._content
        if not text:
            _check_for_text(self._message)
            if self._error:
                raise ReportedError(self._error)
        # Some servers leave out the reason when the model ended by itself.
        if self._finish is None and not (done and text):
            raise InvalidReplyError("the server stopped in the middle of the reply")
        finish = self._finish or "stop"
        return owed, Completion(_joined(self._reasoning, self._content, finish), *self._tokens, finish)

    def _complete_characters(self, place: int, piece: str) -> str:
        """A piece after the half of a character that ended the last one, without such a half at its end."""
        text, self._halves[place] = self._halves[place] + piece, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._halves[place] = text[:-1], text[-1]
        return encodable(text)

    def _piece(self, reasoning: str, content: str) -> str:
        piece = reasoning if self._reasoning or not reasoning else f"{_OPEN}{reasoning}"
        self._reasoning += reasoning
        if content:
            if self._reasoning and not self._content:
                self._held = ""
            self._content += content
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
        return f"\n\n{held.lstrip()[len(_OPEN) :]}" if start.startswith(_OPEN) else f"{_CLOSE}{held}"


def _joined(reasoning: str, content: str, finish: Finish) -> str:
    """The text of a reply, its thinking between one pair of tags."""
    if not reasoning:
        return content
    if not content.strip():
        if finish == "stop" or THINK_TAG.search(reasoning):
            return reasoning  # a parser of thinking took the whole text
        return f"{_OPEN}{reasoning}"  # cut in the middle of the thinking
    # The model may have written thinking of its own as well, or the server sent the same twice.
    before, own, after = split_thinking(content)
    same = own in reasoning or reasoning.strip() in own
    thinking = max(reasoning, own, key=len) if same else f"{reasoning.rstrip()}\n\n{own}"
    return f"{_OPEN}{thinking}" if after is None else f"{_OPEN}{thinking}{_CLOSE}{before.strip()}{after}"


def _texts(message: dict[str, Any]) -> tuple[str, str]:
    """Thinking and content of a message or a delta."""
    reasoning, content = _parts(message.get("content"), "content")
    split_off = ("".join(_parts(message.get(field), field)) for field in _REASONING_FIELDS)
    return reasoning or next(filter(None, split_off), ""), content


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
    content = message.get("content")
    parts = [message, *(content if isinstance(content, list) else [])]
    refusals = (part["refusal"] for part in parts if isinstance(part, dict) and part.get("refusal"))
    if refusal := next(refusals, None):
        raise NoTextError(f"the model refused: {refusal}")
    if call := message.get("tool_calls") or message.get("function_call"):
        first = call[0] if isinstance(call, list) else call
        function = first.get("function", first) if isinstance(first, dict) else {}
        name = function.get("name") if isinstance(function, dict) else None
        raise NoTextError(f"the reply is no text but a call of the tool {name or 'without a name'}")


def _first_choice(data: object) -> dict[str, Any] | None:
    """The first choice; None in a chunk that carries the usage alone."""
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
        return None
    if server_words(data):
        raise ReportedError(data)
    raise InvalidReplyError(f"the reply has no choices: {_beginning(data)}")


def _finish(choice: dict[str, Any]) -> Finish | None:
    reason = choice.get("finish_reason")
    reason = reason if isinstance(reason, str) else ""
    failed = _FAILED.fullmatch(reason)
    if _WITHHELD.fullmatch(reason):
        raise NoTextError(f"the server's content filter withheld the reply ({reason})")
    if (failed or not reason) and choice.get("error"):
        raise ReportedError(choice)
    if failed:
        raise InvalidReplyError(f"the server broke off the reply ({reason})")
    if not reason:
        return None
    return "length" if _CUT.fullmatch(reason) else "stop"


def _usage(usage: object) -> tuple[int, int]:
    return _count(usage, "prompt_tokens", "input_tokens"), _count(usage, "completion_tokens", "output_tokens")


def _count(data: object, *names: str) -> int:
    """The first whole number of these names; 0 where there is none."""
    values = [data.get(name) for name in names] if isinstance(data, dict) else []
    return next((value for value in values if isinstance(value, int) and value >= 0), 0)


def server_words(data: object, *, depth: int = 8) -> str:
    """What a server says in an error, at most `depth` levels down; empty when it says nothing."""
    if isinstance(data, str):
        return data.strip()[:_LONGEST_MESSAGE]
    if isinstance(data, list) and depth:
        return "\n".join(filter(None, (server_words(one, depth=depth - 1) for one in data[:20])))
    if not isinstance(data, dict) or not depth:
        return ""
    found = (server_words(data.get(key), depth=depth - 1) for key in _MESSAGE_FIELDS)
    words = next(filter(None, found), "")
    if isinstance(place := data.get("loc"), list | tuple) and words:  # an error of a field, as FastAPI has it
        words = f"{'.'.join(map(str, place))}: {words}"
    metadata = data.get("metadata")
    if isinstance(metadata, dict) and (raw := server_words(metadata.get("raw"))):  # behind a router
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
