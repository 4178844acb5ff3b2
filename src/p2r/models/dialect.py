"""What one server accepts of the protocol, learned from its refusals.

Servers differ in the name of the token limit, in the temperatures that they accept, and in the fields that
they support. A refusal names the field, so the request is changed and sent again, and every later request of
the same model is sent in the new form.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Any

from p2r.models.wire import server_words

if TYPE_CHECKING:
    from p2r.models.options import ModelOptions

_LOG = logging.getLogger("p2r.models")

STREAMED = {"stream": True, "stream_options": {"include_usage": True}}  # in the body of a streamed request
# What may be left out of a request, and how servers spell it.
_OPTIONAL = {
    name: re.compile(rf"(?<![\w]){name.replace('_', '_?')}(?![\w])")
    for name in (
        *("temperature", "top_p", "seed", "repetition_penalty"),
        *("chat_template_kwargs", "stream_options", "stream"),
    )
}
_LIMIT = re.compile(r"(?<![\w])max_?tokens(?![\w])")
_UNKNOWN = (
    r"(?:un(?:supported|known|recogni[sz]ed|expected)"
    r"|n(?:o|ot|['’]t) (?:\w+ )?(?:support|recogni[sz]e|accept|permit|allow|take|implement|available|valid)"
    r"|forbidden|extra (?:inputs|fields)|cannot find|deprecated|instead|verified to"
    r"|only (?:the default|\S{1,20} is (?:allowed|supported))"
    r"|invalid (?:argument|field|key|parameter|property))"
)
# A value that is refused, for the fields whose value is a choice of ours.
_WRONG = r"(?:invalid|must|should|range|at least|at most|greater|less|between|strictly|only)"
_TOO_LARGE = re.compile(
    r"too (?:large|long|many|high|big)|exceed|maximum|at most|less than|greater|context|limit of"
)
_STREAMS_ONLY = re.compile(
    r"only supports? (?:the )?stream|(?:enable|use|set) (?:the )?stream(?!_)"
    r"|stream(?:ing)? (?:mode |parameter )?(?:is required|must be (?:true|set|enabled))"
)
_NEAR = 120  # characters between a field and what is wrong with it


class Dialect:
    """What one server accepts. Safe to use from several event loops and threads.

    Args:
        options: what they set is not learned: a refusal of it is an error.
    """

    def __init__(self, options: ModelOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._left_out: set[str] = set()
        self._streams_only = False
        self._limit_field = "max_tokens"
        if options.max_tokens_field != "auto":
            self._limit_field = options.max_tokens_field

    def body(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of a request as this server takes it."""
        if self._streams_only:
            body = body | STREAMED
        result = {name: value for name, value in body.items() if name not in self._left_out}
        if "max_tokens" in result:
            result[self._limit_field] = result.pop("max_tokens")
        return result

    def learn(self, data: object, body: dict[str, Any], sent: dict[str, Any]) -> bool:
        """Read a refusal of `body` that was sent as `sent`; whether the same body is sent differently now."""
        sentences = _sentences(data)
        refused = {name for name in sent.keys() & _OPTIONAL.keys() if _is_refused(name, sentences)}
        refused -= self._options.extra_body.keys()
        if self._options.temperature != "auto":
            refused.discard("temperature")
        limit = "max_tokens" in sent and self._options.max_tokens_field == "auto"
        with self._lock:
            self._streams_only |= "stream" not in sent and any(map(_STREAMS_ONLY.search, sentences))
            new = refused - self._left_out
            self._left_out |= refused
            if limit and any(
                _names(_LIMIT, _UNKNOWN, sentence) and not _TOO_LARGE.search(sentence)
                for sentence in sentences
            ):
                self._limit_field = "max_completion_tokens"
                new.add("max_tokens")
        if new:
            _LOG.info("the server does not take %s: left out or renamed from now on", ", ".join(sorted(new)))
        # Another request may have learned the same in the meantime.
        return self.body(body) != sent


def left_out(body: dict[str, Any], sent: dict[str, Any]) -> tuple[str, ...]:
    """A note for each field of a request that was not sent and may change the reply."""
    missing = sorted((body.keys() - sent.keys()) & _OPTIONAL.keys() - STREAMED.keys())
    return tuple(
        "the server refuses temperature 0, so this was sampled and may differ the next time"
        if name == "temperature" and body[name] == 0
        else f"the server refuses {name}, so it was left out"
        for name in missing
    )


def _sentences(data: object) -> list[str]:
    """The sentences of a refusal, in lower case; last what its own fields say about the parameter."""
    error = data[0] if isinstance(data, list) and data else data
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    words = server_words(data)
    sentences = re.split(r"(?<=[.;])\s+|\n(?!\s)", words)
    if isinstance(error, dict) and isinstance(error.get("param"), str):
        sentences.append(f"{error['param']} {error.get('code', '')} {words}")
    return [sentence.lower() for sentence in sentences]


def _is_refused(name: str, sentences: list[str]) -> bool:
    wrong = rf"{_UNKNOWN}|{_WRONG}" if name in ("temperature", "top_p") else _UNKNOWN
    return any(_names(_OPTIONAL[name], wrong, sentence) for sentence in sentences)


def _names(field: re.Pattern[str], wrong: str, sentence: str) -> bool:
    """Whether a sentence names a field, and says near it what is wrong."""
    return any(
        re.search(wrong, sentence[max(0, found.start() - _NEAR) : found.end() + _NEAR])
        for found in field.finditer(sentence)
    )
