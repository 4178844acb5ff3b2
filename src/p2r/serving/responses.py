"""The responses protocol: its requests, and its replies, whole and as events.

Like chat it has one question; the thinking is a reasoning item with a summary. Nothing is stored, so
references to earlier responses are refused. `p2r` is a field of the response; in a stream, the event
`response.in_progress` is sent a second time with it when perception is done.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from p2r.serving.response import sse_event
from p2r.serving.schema import NO_LOGPROBS, AskRequest, Fields, Message, OpenModel, Turn

if TYPE_CHECKING:
    from p2r.serving.errors import APIError
    from p2r.serving.request import ParsedRequest
    from p2r.serving.response import Outcome

_NOT_STORED = "responses are not stored: send the earlier turns in input"


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
        "previous_response_id": (_NOT_STORED, ()),
        "conversation": (_NOT_STORED, ()),
        "prompt": ("prompts are not stored: send the text in input", ()),
        "background": ("responses are not stored, so none can be fetched later: leave it out", ()),
        "top_logprobs": (NO_LOGPROBS, (0,)),
    }

    input: str | Annotated[list[Item], Field(min_length=1, max_length=1_000)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(
        None, ge=1, description="Limits the answer, not the stages before it."
    )
    text: TextOptions | None = None

    def fields(self) -> Fields:
        """See `AskRequest`."""
        turns = []
        if self.instructions:
            turns.append(Turn("instructions", "instructions", _message("system", self.instructions)))
        if isinstance(self.input, str):
            turns.append(Turn("input", "input", _message("user", self.input)))
        for index, item in enumerate(self.input if isinstance(self.input, list) else ()):
            path = f"input.{index}"
            if isinstance(item, InputMessage):
                turns.append(Turn(path, f"{path}.content", item))
            else:
                # The output of a function may hold an image; other items are not read.
                output = item.get("output") if isinstance(item, dict) else None
                turns.append(Turn(path, f"{path}.output", _message("tool", output)))
        answer_format = self.text.format if self.text else None
        return Fields(turns, self.max_output_tokens, "text.format.schema", answer_format)


def _message(role: str, content: Any) -> Message:
    return Message.model_validate({"role": role, "content": content})


class ResponsesWriter:
    """Replies of `/v1/responses`; see `ChatWriter`."""

    request_type = ResponsesRequest
    prefix = "resp_"

    def __init__(self, request: ParsedRequest, reply_id: str) -> None:
        self._id = reply_id.removeprefix(self.prefix)
        self._thought: list[str] = []  # what was streamed
        self._count = 0
        self._head = {
            "id": reply_id,
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": request.fields.max_tokens,
            "metadata": {},
            "model": request.model,
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

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        """See `ChatWriter`."""
        return self._response(outcome, outcome.thinking)

    def start(self) -> bytes:
        """See `ChatWriter`."""
        return b"".join(
            self._event(f"response.{kind}", response=self._head) for kind in ("created", "in_progress")
        )

    def perceived(self, extension: dict[str, Any]) -> bytes:
        """See `ChatWriter`."""
        return self._event("response.in_progress", response={**self._head, "p2r": extension})

    def thinking(self, piece: str) -> bytes:
        """See `ChatWriter`."""
        if not piece:
            return b""
        at, begin = self._at_summary(), b""
        if not self._thought:
            begin = self._event(
                "response.output_item.added", output_index=0, item=self._reasoning("", "in_progress")
            ) + self._event("response.reasoning_summary_part.added", **at, part=_summary(""))
        self._thought.append(piece)
        return begin + self._event("response.reasoning_summary_text.delta", **at, delta=piece)

    def end(self, outcome: Outcome) -> bytes:
        """See `ChatWriter`."""
        thought, events = "".join(self._thought), []
        if thought:
            at, item = self._at_summary(), self._reasoning(thought, "completed")
            events = [
                self._event("response.reasoning_summary_text.done", **at, text=thought),
                self._event("response.reasoning_summary_part.done", **at, part=_summary(thought)),
                self._event("response.output_item.done", output_index=0, item=item),
            ]
        events += self._answer_events(self._answer(outcome), len(events) // 3)
        response = self._response(outcome, thought)
        del response["p2r"]["images"]  # they were sent after perception
        events.append(self._event(f"response.{response['status']}", response=response))
        return b"".join(events)

    def failed(self, error: APIError) -> bytes:
        """See `ChatWriter`."""
        # Clients look for the error in one of two places.
        detail = error.body()["error"]
        flat = {name: detail[name] for name in ("code", "message", "param")}
        return self._event("error", error=detail, **flat)

    def _response(self, outcome: Outcome, thinking: str) -> dict[str, Any]:
        usage = outcome.usage
        return {
            **self._head,
            "status": "incomplete" if outcome.was_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if outcome.was_cut else None,
            "output": [
                *([self._reasoning(thinking, "completed")] if thinking else []),
                self._answer(outcome),
            ],
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},  # they are not counted separately
                "total_tokens": usage.total_tokens,
            },
            "p2r": outcome.extension.model_dump(mode="json"),
        }

    def _reasoning(self, thinking: str, status: str) -> dict[str, Any]:
        summary = [_summary(thinking)] if thinking else []
        return {"id": f"rs_{self._id}", "type": "reasoning", "summary": summary, "status": status}

    def _answer(self, outcome: Outcome) -> dict[str, Any]:
        """The item with the answer: a message, or the call of the forced function."""
        status = "incomplete" if outcome.was_cut else "completed"
        if outcome.tool:
            call = {"call_id": f"call_{self._id}", "name": outcome.tool, "arguments": outcome.text}
            return {"id": f"fc_{self._id}", "type": "function_call", **call, "status": status}
        part: dict[str, Any] = {"type": "refusal", "refusal": outcome.refusal}
        if not outcome.refusal:
            part = {"type": "output_text", "text": outcome.text, "annotations": [], "logprobs": []}
        message = {"type": "message", "role": "assistant", "content": [part], "status": status}
        return {"id": f"msg_{self._id}", **message}

    def _answer_events(self, item: dict[str, Any], index: int) -> list[bytes]:
        """The events of the answer, which is sent in one piece."""
        at = {"item_id": item["id"], "output_index": index}
        empty: dict[str, Any] = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
        started = {**item, **empty, "status": "in_progress"}
        events = [self._event("response.output_item.added", output_index=index, item=started)]
        if item["type"] == "function_call":
            arguments, kind = item["arguments"], "response.function_call_arguments"
            events += [
                self._event(f"{kind}.delta", **at, delta=arguments),
                self._event(f"{kind}.done", **at, name=item["name"], arguments=arguments),
            ]
        else:
            (part,) = item["content"]
            field = "text" if "text" in part else "refusal"
            more: dict[str, Any] = {"logprobs": []} if field == "text" else {}
            at["content_index"] = 0
            kind = f"response.{part['type']}"
            events += [
                self._event("response.content_part.added", **at, part={**part, field: ""}),
                self._event(f"{kind}.delta", **at, delta=part[field], **more),
                self._event(f"{kind}.done", **at, **{field: part[field]}, **more),
                self._event("response.content_part.done", **at, part=part),
            ]
        return [*events, self._event("response.output_item.done", output_index=index, item=item)]

    def _at_summary(self) -> dict[str, Any]:
        return {"item_id": f"rs_{self._id}", "output_index": 0, "summary_index": 0}

    def _event(self, kind: str, **data: Any) -> bytes:
        number, self._count = self._count, self._count + 1
        return sse_event({"type": kind, "sequence_number": number, **data}, kind)


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}
