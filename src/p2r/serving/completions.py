"""The chat endpoint's replies: whole, and as chunks.

In a stream, first the role; when perception is done, a chunk with `p2r` (outcome, boxes, rectangles); then
the thinking in `delta.reasoning_content`, piece by piece where the model streams; the answer, whole, because
only a finished text can be read; last `finish_reason` with the full `delta.p2r`, the usage if asked for, and
`[DONE]`. Clients join deltas, and can join a list only once: so the perception is beside the deltas.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from p2r.serving.schema import ChatCompletion, Choice, FunctionCall, Reply, ToolCall, ToolReply
from p2r.serving.streaming import event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from p2r.serving.errors import RequestFailed
    from p2r.serving.replies import Outcome
    from p2r.serving.request import Asked
    from p2r.serving.schema import FinishReason

PREFIX = "chatcmpl-"
DONE = b"data: [DONE]\n\n"


def chat_completion(outcome: Outcome) -> dict[str, Any]:
    """The whole reply."""
    answer, calls = outcome.answer, _tool_calls(outcome)
    reply: dict[str, Any] = {
        "content": None if calls or answer.refusal else answer.text,
        "reasoning_content": outcome.thinking,
        "refusal": answer.refusal or None,
        "p2r": outcome.looked,
    }
    completion = ChatCompletion(
        id=outcome.id,
        created=int(time.time()),
        model=outcome.asked.model,
        choices=[
            Choice(
                message=ToolReply(**reply, tool_calls=calls) if calls else Reply(**reply),
                finish_reason=_finish(outcome),
            )
        ],
        usage=outcome.usage,
    )
    return completion.model_dump(mode="json")


def _tool_calls(outcome: Outcome) -> list[ToolCall]:
    if not outcome.asked.tool or outcome.answer.refusal:
        return []
    function = FunctionCall(name=outcome.asked.tool, arguments=outcome.answer.text)
    return [ToolCall(id=f"call_{outcome.id.removeprefix(PREFIX)}", function=function)]


def _finish(outcome: Outcome) -> FinishReason:
    if outcome.answer.was_cut:
        return "length"
    return "tool_calls" if outcome.asked.tool and not outcome.answer.refusal else "stop"


class Chunks:
    """Makes the chunks of one reply."""

    def __init__(self, asked: Asked, name: str) -> None:
        self._head = {
            "id": name,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": asked.model,
        }

    def start(self) -> Iterator[bytes]:
        """See `Events`."""
        yield self._delta(role="assistant", content="")

    def perceived(self, seen: dict[str, Any]) -> bytes:
        """See `Events`."""
        choice = {"index": 0, "delta": {}, "finish_reason": None, "logprobs": None}
        return event({**self._head, "choices": [choice], "p2r": seen})

    def thinking(self, piece: str) -> Iterator[bytes]:
        """See `Events`."""
        yield self._delta(reasoning_content=piece)

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """See `Events`."""
        if outcome.answer.refusal:
            yield self._delta(refusal=outcome.answer.refusal)
        elif calls := _tool_calls(outcome):
            yield self._delta(tool_calls=[{"index": 0, **call.model_dump()} for call in calls])
        elif outcome.answer.text:
            yield self._delta(content=outcome.answer.text)
        # The images went out with the perception.
        everything = outcome.looked.model_dump(mode="json", exclude={"images"})
        yield self._delta(finish=_finish(outcome), p2r=everything)
        if outcome.asked.include_usage:
            yield event({**self._head, "choices": [], "usage": outcome.usage.model_dump()})
        yield DONE

    def failed(self, failure: RequestFailed) -> bytes:
        """See `Events`."""
        return event(failure.body())

    def _delta(self, *, finish: str | None = None, **delta: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return event({**self._head, "choices": [choice]})
