"""Replies to a question: what both protocols have in common, and the chat protocol, whole and as events.

A chat stream begins with the role; when perception is done, a chunk with `p2r` (outcome, boxes, rectangles)
follows, then the thinking in pieces as `delta.reasoning_content`, the answer in one piece, because only a
finished text can be read, `finish_reason` with the full `delta.p2r`, the usage if requested, and `[DONE]`.
Clients join deltas, and lists only once: so `p2r` after perception is beside the deltas.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2r.parsing.thinking import THINK_TAG
from p2r.serving.schema import (
    ChatCompletion,
    ChatRequest,
    FunctionCall,
    Images,
    P2RExtension,
    TokenUsage,
    ToolCall,
)
from p2r.serving.structured import Unfit

if TYPE_CHECKING:
    from p2r.pipeline import Perceived
    from p2r.serving.errors import APIError
    from p2r.serving.request import ParsedRequest
    from p2r.serving.schema import FinishReason
    from p2r.types import Evidence, Prediction, Question

# An estimate: the tokenizer of the model is not known here.
_TOKEN = re.compile(r"\s*(?:\w{1,4}|[^\w\s])")
_LONGEST_TAG = len("</think") + 8  # without its end


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answered question: everything that a reply contains.

    Attributes:
        id, request: of the question.
        text: the answer, plain or as JSON; empty without one.
        refusal: why there is no answer in the requested form; empty if there is one, or no form.
        was_cut: the answer, or the text of the model, was longer than allowed.
        thinking, extension, usage: of the prediction.
    """

    id: str
    request: ParsedRequest
    text: str
    refusal: str
    was_cut: bool
    thinking: str
    extension: P2RExtension
    usage: TokenUsage

    @property
    def tool(self) -> str:
        """The function that is called with the answer; empty for none."""
        return "" if self.refusal else self.request.tool


def outcome_of(
    request: ParsedRequest, question: Question, prediction: Prediction, images: Images | None = None
) -> Outcome:
    """The outcome of a question; it is kept if the image is an upload."""
    text, refusal, was_cut = _answer(request, question, prediction)
    extension = P2RExtension.model_validate(
        {
            **prediction.to_json(),
            "choices": list(question.choices),
            "ignored": list(request.ignored),
            "images": images,
            "result": request.upload.keep(question, prediction, request.model) if request.upload else None,
        }
    )
    prompt, completion = prediction.usage.prompt_tokens, prediction.usage.completion_tokens
    usage = TokenUsage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
    was_cut = was_cut or prediction.truncated
    return Outcome(question.id, request, text, refusal, was_cut, prediction.thinking, extension, usage)


def _answer(request: ParsedRequest, question: Question, prediction: Prediction) -> tuple[str, str, bool]:
    """The text of the answer, the refusal, and whether the text was cut."""
    answer = prediction.answer
    text = answer or ""
    if answer and question.choices:
        if request.letter_format:
            text = request.letter_format.replace("$LETTER", answer)
        elif request.model != "p2r-letter":
            text = question.option(answer)
    if request.form:
        try:
            text = request.form.write(answer, text, prediction.thinking)
        except Unfit as unfit:
            why = prediction.notes[-1] if answer is None and prediction.notes else unfit
            return "", f"There is no answer in the requested form: {why}", False
    ends = [text.index(stop) for stop in request.fields.stop if stop in text]
    text, was_cut = _cut(text[: min(ends, default=len(text))], request.fields.max_tokens)
    return text, "", was_cut


def _cut(text: str, max_tokens: int | None) -> tuple[str, bool]:
    """The first tokens of a text, and whether there were more."""
    for count, token in enumerate(_TOKEN.finditer(text)):
        if count == max_tokens:
            return text[: token.start()], True
    return text, False


def images_of(evidence: Evidence) -> Images:
    """The images of the reasoner, encoded."""
    crops = [crop.image.data_uri() for crop in evidence.crops]
    overview, *others = (image.data_uri() for image in evidence.overviews)
    return Images(overview=overview, crops=crops, others=others)


def perception_of(event: Perceived, images: Images | None) -> dict[str, Any]:
    """The part of `p2r` that is known after perception."""
    perception, evidence = event.perception, event.evidence
    return {
        "outcome": perception.outcome,
        "boxes": [box.to_json() for box in perception.boxes],
        "crops_px": [list(crop.region_px) for crop in evidence.crops],
        **({"images": images.model_dump()} if images else {}),
    }


def sse_event(data: dict[str, Any], name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class ThinkingFilter:
    """Finds the thinking in a text that arrives in pieces, in time proportional to its length."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._held: list[str] = []  # the text behind the shown part
        self._recent = ""  # the end of the text, where a tag may begin
        self._thinks: bool | None = None  # None before the first tag

    def push(self, piece: str) -> str:
        """The thinking that can be shown after this piece: no half tag, and no blanks at its end."""
        window = self._recent + piece
        tags = list(THINK_TAG.finditer(window))
        self._held.append(piece)
        self._recent = (window[tags[-1].end() :] if tags else window)[-_LONGEST_TAG:]
        if not (tags or self._thinks):
            return ""
        held = "".join(self._held)
        after = 0
        if tags:
            if self._thinks is None and not tags[0][1]:
                held = held[len(held) - len(window) + tags[0].end() :]
            self._thinks = not tags[-1][1]
            after = 0 if self._thinks else len(window) - tags[-1].start()
        if not self._shown:
            held = held.lstrip()
        new = held[: len(held) - after].rstrip()
        if self._thinks:
            start = max(new.rfind(">"), len(new) - _LONGEST_TAG, 0)
            half = new.find("<", start)
            new = new[:half].rstrip() if half >= 0 else new
        self._held = [held[len(new) :]]
        if new:
            self._shown.append(new)
        return new

    def rest(self, thinking: str) -> str:
        """The part of the whole thinking that was not shown; empty if something else was shown."""
        shown = "".join(self._shown)
        return thinking[len(shown) :] if thinking.startswith(shown) else ""


class ChatWriter:
    """Writes the reply to one request of `/v1/chat/completions`: whole, or as server-sent events.

    Attributes:
        request_type: the requests of the protocol.
        prefix: of the ids of its replies.
    """

    request_type = ChatRequest
    prefix = "chatcmpl-"

    def __init__(self, request: ParsedRequest, reply_id: str) -> None:
        self._head = {"id": reply_id, "created": int(time.time()), "model": request.model}

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        """The whole reply, as JSON data."""
        calls = _tool_calls(outcome)
        message = {
            "content": None if calls or outcome.refusal else outcome.text,
            "reasoning_content": outcome.thinking,
            "refusal": outcome.refusal or None,
            "p2r": outcome.extension,
            **({"tool_calls": calls} if calls else {}),
        }
        choice = {"message": message, "finish_reason": _finish_reason(outcome)}
        completion = {**self._head, "choices": [choice], "usage": outcome.usage}
        return ChatCompletion.model_validate(completion).model_dump(mode="json")

    def start(self) -> bytes:
        """The first events."""
        return self._chunk({"role": "assistant", "content": ""})

    def perceived(self, extension: dict[str, Any]) -> bytes:
        """The event after perception."""
        return self._chunk({}, p2r=extension)

    def thinking(self, piece: str) -> bytes:
        """More of the thinking; no event for an empty piece."""
        return self._chunk({"reasoning_content": piece}) if piece else b""

    def end(self, outcome: Outcome) -> bytes:
        """The answer, and the last events."""
        delta: dict[str, Any] = {"content": outcome.text}
        if outcome.refusal:
            delta = {"refusal": outcome.refusal}
        elif calls := _tool_calls(outcome):
            delta = {"tool_calls": [{"index": 0, **call.model_dump()} for call in calls]}
        # The images were sent after perception.
        extension = outcome.extension.model_dump(mode="json", exclude={"images"})
        events = [
            self._chunk(delta) if any(delta.values()) else b"",
            self._chunk({"p2r": extension}, _finish_reason(outcome)),
        ]
        if outcome.request.fields.include_usage:
            events.append(self._event(choices=[], usage=outcome.usage.model_dump()))
        return b"".join((*events, b"data: [DONE]\n\n"))

    def failed(self, error: APIError) -> bytes:
        """The event of a failure after the first event."""
        return sse_event(error.body())

    def _chunk(
        self, delta: dict[str, Any], finish_reason: FinishReason | None = None, **beside: Any
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return self._event(choices=[choice], **beside)

    def _event(self, **data: Any) -> bytes:
        return sse_event({**self._head, "object": "chat.completion.chunk", **data})


def _tool_calls(outcome: Outcome) -> list[ToolCall]:
    if not outcome.tool:
        return []
    function = FunctionCall(name=outcome.tool, arguments=outcome.text)
    return [ToolCall(id=f"call_{outcome.id.removeprefix(ChatWriter.prefix)}", function=function)]


def _finish_reason(outcome: Outcome) -> FinishReason:
    return "length" if outcome.was_cut else "tool_calls" if outcome.tool else "stop"
