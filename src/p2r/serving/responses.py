"""The responses endpoint: its requests read as conversations, and its replies, whole and as events.

One image and one question, as in chat; the thinking is a reasoning item with a summary. Nothing is stored,
so what refers to an earlier response is refused. Our own part, `p2r`, is a field of the response; in a
stream, the event `response.in_progress` is sent once more with it when perception is done.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from p2r.serving.schema import NO_PROBABILITIES, AskRequest, Message, OpenModel, Turn
from p2r.serving.streaming import event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from p2r.serving.errors import RequestFailed
    from p2r.serving.replies import Outcome
    from p2r.serving.request import Asked
    from p2r.serving.schema import TokenUsage

PREFIX = "resp_"
_NOTHING_STORED = "responses are not stored here: send the earlier turns in input"


class InputMessage(Message):
    """One turn of the input."""

    type: Literal["message"] | None = None


Item = Annotated[InputMessage | Any, Field(union_mode="left_to_right")]


class TextOptions(OpenModel):
    """The format of the answer."""

    format: Any = None


class ResponsesRequest(AskRequest):
    """A question about an image."""

    UNSERVED = {  # noqa: RUF012
        "previous_response_id": (_NOTHING_STORED, ()),
        "conversation": (_NOTHING_STORED, ()),
        "prompt": ("prompts are not stored here: send the text in input", ()),
        "background": ("responses are not stored here, so none can be fetched later: leave it out", ()),
        "top_logprobs": (NO_PROBABILITIES, (0,)),
    }

    input: str | Annotated[list[Item], Field(min_length=1, max_length=1_000)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(
        None, ge=1, description="Bounds the answer, not the stages before it."
    )
    text: TextOptions | None = None

    @property
    def turns(self) -> list[Turn]:
        """See `AskRequest`."""
        turns = []
        if self.instructions:
            turns.append(Turn("instructions", "instructions", _message("system", self.instructions)))
        if isinstance(self.input, str):
            return [*turns, Turn("input", "input", _message("user", self.input))]
        for index, item in enumerate(self.input):
            path = f"input.{index}"
            if isinstance(item, InputMessage):
                turns.append(Turn(path, f"{path}.content", item))
            else:
                # The output of a function may hold an image; calls and reasoning are not read.
                output = item.get("output") if isinstance(item, dict) else None
                turns.append(Turn(path, f"{path}.output", _message("tool", output)))
        return turns

    @property
    def answer_tokens(self) -> int | None:
        """See `AskRequest`."""
        return self.max_output_tokens

    @property
    def answer_format(self) -> tuple[str, Any]:
        """See `AskRequest`."""
        return "text.format.schema", self.text.format if self.text else None


def _message(role: str, content: Any) -> Message:
    return Message.model_validate({"role": role, "content": content})


def response(outcome: Outcome) -> dict[str, Any]:
    """The whole reply."""
    return {
        **_head(outcome.asked, outcome.id),
        "status": "incomplete" if outcome.answer.was_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if outcome.answer.was_cut else None,
        "output": [*_reasoning(outcome.id, outcome.thinking), _answer(outcome)],
        "usage": _usage(outcome.usage),
        "p2r": outcome.looked.model_dump(mode="json"),
    }


def _head(asked: Asked, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": asked.max_tokens,
        "metadata": {},
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "store": False,
        "temperature": 0.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def _reasoning(name: str, thinking: str) -> list[dict[str, Any]]:
    if not thinking:
        return []
    return [{**_reasoning_item(name), "summary": [_summary(thinking)], "status": "completed"}]


def _reasoning_item(name: str) -> dict[str, Any]:
    return {
        "id": f"rs_{name.removeprefix(PREFIX)}",
        "type": "reasoning",
        "summary": [],
        "status": "in_progress",
    }


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}


def _answer(outcome: Outcome) -> dict[str, Any]:
    """The item with the answer: a message, or the call of the function that was to be called."""
    bare, status = outcome.id.removeprefix(PREFIX), "incomplete" if outcome.answer.was_cut else "completed"
    if outcome.asked.tool and not outcome.answer.refusal:
        return {
            "id": f"fc_{bare}",
            "type": "function_call",
            "call_id": f"call_{bare}",
            "name": outcome.asked.tool,
            "arguments": outcome.answer.text,
            "status": status,
        }
    part: dict[str, Any]
    if outcome.answer.refusal:
        part = {"type": "refusal", "refusal": outcome.answer.refusal}
    else:
        part = {"type": "output_text", "text": outcome.answer.text, "annotations": [], "logprobs": []}
    return {"id": f"msg_{bare}", "type": "message", "role": "assistant", "content": [part], "status": status}


def _usage(usage: TokenUsage) -> dict[str, Any]:
    # Which tokens were thinking is not counted apart.
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }


class ResponseEvents:
    """Makes the events of one reply."""

    def __init__(self, asked: Asked, name: str) -> None:
        self._head = _head(asked, name)
        self._name = name
        self._thought: list[str] = []
        self._count = 0

    def start(self) -> Iterator[bytes]:
        """See `Events`."""
        yield self._event("response.created", response=self._head)
        yield self._event("response.in_progress", response=self._head)

    def perceived(self, seen: dict[str, Any]) -> bytes:
        """See `Events`."""
        return self._event("response.in_progress", response={**self._head, "p2r": seen})

    def thinking(self, piece: str) -> Iterator[bytes]:
        """See `Events`."""
        at = self._at_summary()
        if not self._thought:
            item = _reasoning_item(self._name)
            yield self._event("response.output_item.added", output_index=0, item=item)
            yield self._event("response.reasoning_summary_part.added", **at, part=_summary(""))
        self._thought.append(piece)
        yield self._event("response.reasoning_summary_text.delta", **at, delta=piece)

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """See `Events`."""
        index, thought = 0, "".join(self._thought)
        for item in _reasoning(self._name, thought):
            at, part = self._at_summary(), _summary(thought)
            yield self._event("response.reasoning_summary_text.done", **at, text=thought)
            yield self._event("response.reasoning_summary_part.done", **at, part=part)
            yield self._event("response.output_item.done", output_index=0, item=item)
            index = 1
        yield from self._answered(_answer(outcome), index)
        whole = response(outcome)
        # As it was streamed, and the images went out with the perception.
        whole["output"] = [*_reasoning(self._name, thought), _answer(outcome)]
        whole["p2r"].pop("images")
        yield self._event(f"response.{whole['status']}", response=whole)

    def _answered(self, item: dict[str, Any], index: int) -> Iterator[bytes]:
        """The answer, which is sent whole."""
        at = {"item_id": item["id"], "output_index": index}
        call = item["type"] == "function_call"
        begun: dict[str, Any] = {
            **item,
            **({"arguments": ""} if call else {"content": []}),
            "status": "in_progress",
        }
        yield self._event("response.output_item.added", output_index=index, item=begun)
        if call:
            arguments = item["arguments"]
            yield self._event("response.function_call_arguments.delta", **at, delta=arguments)
            name = item["name"]
            yield self._event("response.function_call_arguments.done", **at, name=name, arguments=arguments)
        else:
            (part,) = item["content"]
            field = "text" if part["type"] == "output_text" else "refusal"
            more: dict[str, Any] = {"logprobs": []} if field == "text" else {}
            at["content_index"] = 0
            yield self._event("response.content_part.added", **at, part={**part, field: ""})
            yield self._event(f"response.{part['type']}.delta", **at, delta=part[field], **more)
            yield self._event(f"response.{part['type']}.done", **at, **{field: part[field]}, **more)
            yield self._event("response.content_part.done", **at, part=part)
        yield self._event("response.output_item.done", output_index=index, item=item)

    def failed(self, failure: RequestFailed) -> bytes:
        """See `Events`."""
        # Clients look for the error in one of two places.
        error = failure.body()["error"]
        flat = {name: error[name] for name in ("code", "message", "param")}
        return self._event("error", error=error, **flat)

    def _at_summary(self) -> dict[str, Any]:
        return {"item_id": _reasoning_item(self._name)["id"], "output_index": 0, "summary_index": 0}

    def _event(self, kind: str, **data: Any) -> bytes:
        number, self._count = self._count, self._count + 1
        return event({"type": kind, "sequence_number": number, **data}, kind)
