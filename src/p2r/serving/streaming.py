"""The reply as it comes to be: server-sent events in the protocol's chunks.

First the role; when perception is done, a chunk with `p2r` (outcome, boxes, rectangles); then the thinking
in `delta.reasoning_content`, piece by piece where the model streams; the answer in `delta.content`, whole,
because only a finished text can be read; last `finish_reason` with the full `delta.p2r`, the usage if asked
for, and `[DONE]`. Clients join deltas, and can join a list only once: so the perception is beside the deltas.
"""

from __future__ import annotations

import json
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from p2r.record import box_record
from p2r.serving.replies import answer_text, images, looked, token_usage
from p2r.serving.watching import Thinking, watched

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from p2r.pipeline import P2R
    from p2r.serving.asked import Asked
    from p2r.types import Evidence, Perception, Prediction, Question

HEARTBEAT_S = 15.0
HEARTBEAT = b": still working\n\n"
DONE = b"data: [DONE]\n\n"


class Chunks:
    """Makes the chunks of one reply."""

    def __init__(self, asked: Asked, name: str) -> None:
        self._head = {
            "id": name,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": asked.model,
        }

    def delta(self, *, finish: str | None = None, **delta: Any) -> bytes:
        """A chunk with something new."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return event({**self._head, "choices": [choice]})

    def perceived(self, seen: dict[str, Any]) -> bytes:
        """A chunk that says what perception found."""
        choice = {"index": 0, "delta": {}, "finish_reason": None, "logprobs": None}
        return event({**self._head, "choices": [choice], "p2r": seen})

    def usage(self, usage: dict[str, Any]) -> bytes:
        """The chunk after the last one, for clients that asked for it."""
        return event({**self._head, "choices": [], "usage": usage})


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


async def stream_reply(p2r: P2R, asked: Asked, question: Question) -> AsyncGenerator[bytes | Prediction]:
    """Answer a question and yield the events of the reply, and the prediction once it is known.

    Raises:
        InputError, ModelError: as `P2R.predict`; events may have been yielded before.
    """
    chunks, thinking = Chunks(asked, question.id), Thinking()
    async with aclosing(watched(p2r, question, asked.mode, HEARTBEAT_S)) as happening:
        yield chunks.delta(role="assistant", content="")
        async for heard in happening:
            if heard is None:
                yield HEARTBEAT
            elif isinstance(heard, str):
                if new := thinking.more(heard):
                    yield chunks.delta(reasoning_content=new)
            elif isinstance(heard, tuple):
                yield chunks.perceived(await _perceived(asked, *heard))
            else:
                prediction = heard
    yield prediction
    if rest := thinking.rest(prediction.thinking):
        yield chunks.delta(reasoning_content=rest)
    content, finish = answer_text(asked, question, prediction)
    if content:
        yield chunks.delta(content=content)
    # The pictures went out with the perception.
    everything = await looked(asked, question, prediction, None)
    yield chunks.delta(finish=finish, p2r=everything.model_dump(mode="json", exclude={"images"}))
    options = asked.request.stream_options
    if options and options.include_usage:
        yield chunks.usage(token_usage(prediction).model_dump())
    yield DONE


async def _perceived(asked: Asked, perception: Perception, evidence: Evidence) -> dict[str, Any]:
    seen: dict[str, Any] = {
        "outcome": perception.outcome,
        "boxes": [box_record(box) for box in perception.boxes],
        "crops_px": [list(crop.region_px) for crop in evidence.crops],
    }
    if asked.request.p2r.include_images:
        seen["images"] = (await images(evidence)).model_dump()
    return seen
