"""The reply as it comes to be: server-sent events, in the shapes of either endpoint."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from p2r.pipeline import Perceived, TextDelta
from p2r.serving.events import Thinking, watched
from p2r.serving.memory import in_json_thread
from p2r.serving.replies import images, outcome_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from p2r.pipeline import P2R
    from p2r.serving.errors import RequestFailed
    from p2r.serving.limiter import Slot
    from p2r.serving.memory import HeldMemory
    from p2r.serving.replies import Outcome
    from p2r.serving.request import Asked
    from p2r.types import Prediction, Question

HEARTBEAT_S = 15.0
HEARTBEAT = b": still working\n\n"


class Events(Protocol):
    """Makes the events of one reply."""

    def start(self) -> Iterator[bytes]:
        """The question was let in."""
        ...

    def perceived(self, seen: dict[str, Any]) -> bytes:
        """Perception is done: outcome, boxes, rectangles."""
        ...

    def thinking(self, piece: str) -> Iterator[bytes]:
        """More of the thinking."""
        ...

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """The answer, and the last event."""
        ...

    def failed(self, failure: RequestFailed) -> bytes:
        """It failed after the first event."""
        ...


def event(data: dict[str, Any], name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


async def stream_reply(
    p2r: P2R, asked: Asked, question: Question, events: Events, held: HeldMemory, slot: Slot
) -> AsyncGenerator[bytes | Prediction]:
    """Answer a question and yield the events of the reply, and the prediction once it is known.

    Args:
        p2r, asked, question: what is asked, and who answers.
        events: makes the events.
        held: what the images of an event count against until it was taken.
        slot: see `watched`.

    Raises:
        InputError, ModelError: as `P2R.predict`; events may have been yielded before.
        RequestFailed: there is no memory for the images.
    """
    thinking = Thinking()
    happens = watched(p2r, question, asked.mode, asked.boxes, beat_s=HEARTBEAT_S, slot=slot)
    async with aclosing(happens) as happening:
        for made in events.start():
            yield made
        async for heard in happening:
            if heard is None:
                yield HEARTBEAT
            elif isinstance(heard, TextDelta):
                if new := thinking.more(heard.text):
                    for made in events.thinking(new):
                        yield made
            elif isinstance(heard, Perceived):
                made = await in_json_thread(events.perceived, await _perceived(asked, heard))
                del heard
                before = held.nbytes
                held.resize(before + len(made))
                yield made
                del made
                held.resize(before)
            else:
                prediction = heard.prediction
    yield prediction
    # The whole text decides, where the pieces said something else.
    if rest := thinking.rest(prediction.thinking):
        for made in events.thinking(rest):
            yield made
    for made in events.end(await outcome_of(asked, question, prediction, None)):
        yield made


async def _perceived(asked: Asked, happened: Perceived) -> dict[str, Any]:
    perception, evidence = happened.perception, happened.evidence
    seen: dict[str, Any] = {
        "outcome": perception.outcome,
        "boxes": [box.to_json() for box in perception.boxes],
        "crops_px": [list(crop.region_px) for crop in evidence.crops],
    }
    if asked.options.include_images:
        seen["images"] = (await images(evidence)).model_dump()
    return seen
