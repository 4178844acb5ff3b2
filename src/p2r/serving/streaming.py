"""The reply as it comes to be: server-sent events in the protocol's chunks.

First the role; when perception is done, a chunk with `p2r` (outcome, boxes, rectangles); then the thinking
in `delta.reasoning_content`, piece by piece where the model streams; the answer in `delta.content`, whole,
because only a finished text can be read; last `finish_reason` with the full `delta.p2r`, the usage if asked
for, and `[DONE]`. Clients join deltas, and can join a list only once: so the perception is beside the deltas.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, Any

from p2r.parse import split_thinking
from p2r.record import box_record
from p2r.serving.replies import answer_text, images, looked, token_usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from p2r.pipeline import P2R
    from p2r.serving.asked import Asked
    from p2r.types import Evidence, Perception, Prediction, Question

HEARTBEAT_S = 15.0
HEARTBEAT = b": still working\n\n"
DONE = b"data: [DONE]\n\n"

_HALF_TAG = re.compile(r"\s*(?:<[^>]{0,12})?\Z")


class Watcher:
    """Hears what happens to a question and keeps it for whoever sends it on.

    Attributes:
        evidence: what the reasoner saw, once it is cut.
    """

    def __init__(self) -> None:
        self.evidence: Evidence | None = None
        self.heard: asyncio.Queue[tuple[Perception, Evidence] | str | None] = asyncio.Queue()

    def on_perception(self, perception: Perception, evidence: Evidence) -> None:
        """See `p2r.progress.Observer`."""
        self.evidence = evidence
        self.heard.put_nowait((perception, evidence))

    def on_text(self, piece: str) -> None:
        """See `p2r.progress.Observer`."""
        self.heard.put_nowait(piece)


class _Thinking:
    """What of the thinking was sent, while the text grows."""

    def __init__(self) -> None:
        self._text = ""
        self._sent = ""

    def more(self, piece: str) -> str:
        """What can be sent after this piece: no half tag, and no blank that may turn out to be the last."""
        self._text += piece
        split = split_thinking(self._text)
        if split.after is not None:
            return self.rest(split.thinking)
        return self.rest(_HALF_TAG.sub("", split.thinking))

    def rest(self, thinking: str) -> str:
        """What of the thinking was not sent yet."""
        if not thinking.startswith(self._sent):
            return ""
        new, self._sent = thinking[len(self._sent) :], thinking
        return new


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


async def stream_reply(
    p2r: P2R, asked: Asked, question: Question, watcher: Watcher
) -> AsyncGenerator[bytes | Prediction]:
    """Answer a question and yield the events of the reply, and the prediction once it is known.

    Raises:
        InputError, ModelError: as `P2R.predict`; events may have been yielded before.
    """
    chunks, thinking = Chunks(asked, question.id), _Thinking()
    work = asyncio.create_task(p2r.predict(question, asked.mode, observer=watcher))
    work.add_done_callback(lambda _: watcher.heard.put_nowait(None))
    try:
        yield chunks.delta(role="assistant", content="")
        while True:
            try:
                heard = await asyncio.wait_for(watcher.heard.get(), HEARTBEAT_S)
            except TimeoutError:
                yield HEARTBEAT
                continue
            if heard is None:
                break
            if isinstance(heard, str):
                if new := thinking.more(heard):
                    yield chunks.delta(reasoning_content=new)
            else:
                yield chunks.perceived(await _perceived(asked, *heard))
        prediction = await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    yield prediction
    if rest := thinking.rest(prediction.thinking):
        yield chunks.delta(reasoning_content=rest)
    content, was_cut = answer_text(asked, question, prediction)
    if content:
        yield chunks.delta(content=content)
    finish = "length" if was_cut or prediction.truncated else "stop"
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
