"""One question being answered, as those who wait for it see it: perception, text piece by piece, the end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from p2r.parsing.thinking import THINK_TAG

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from p2r.pipeline import P2R, Event
    from p2r.serving.limiter import Slot
    from p2r.types import Box, Mode, Question

_LONGEST_TAG = len("</think") + 8  # without its end


async def watched(
    p2r: P2R,
    question: Question,
    mode: Mode,
    boxes: Sequence[Box] | None = None,
    *,
    reads_text: bool = True,
    beat_s: float | None = None,
    slot: Slot | None = None,
) -> AsyncGenerator[Event | None]:
    """The events of `P2R.stream`, with a beat and a slot.

    To close the generator cancels the work.

    Args:
        p2r, question, mode, boxes: see `P2R.stream`.
        reads_text: ask the model to stream its text.
        beat_s: yield None after so many seconds of silence.
        slot: released as soon as the work ends, however slowly its events are taken.

    Raises:
        InputError, ModelError: as `P2R.stream`; something may have been yielded before.
    """
    heard: asyncio.Queue[Event | None] = asyncio.Queue()

    async def listen() -> None:
        async with aclosing(p2r.stream(question, mode, boxes=boxes, deltas=reads_text)) as events:
            async for event in events:
                heard.put_nowait(event)
                del event  # the evidence holds megabytes

    work = asyncio.create_task(listen())
    work.add_done_callback(lambda _: heard.put_nowait(None))
    if slot:
        work.add_done_callback(lambda _: slot.release())
    try:
        while True:
            try:
                # Not `wait_for`: on Python 3.11 it returns an event that comes together with a cancellation,
                # and the cancellation is lost.
                async with asyncio.timeout(beat_s):
                    event = await heard.get()
            except TimeoutError:
                yield None
                continue
            if event is None:
                break
            yield event
            del event  # the evidence holds megabytes
        await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


class Thinking:
    """Finds what of the thinking can be shown while the text grows, each piece in time of its own length."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._held: list[str] = []  # the text behind what was shown
        self._recent = ""  # the end of the text, where a tag may have begun
        self._thinks: bool | None = None  # None before the first tag

    def more(self, piece: str) -> str:
        """What can be shown after this piece: no half tag, and no blank that may turn out to be the last."""
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
            start = max(new.rfind(">"), len(new) - _LONGEST_TAG)
            half = new.find("<", max(start, 0))
            new = new[:half].rstrip() if half >= 0 else new
        self._held = [held[len(new) :]]
        if new:
            self._shown.append(new)
        return new

    def rest(self, thinking: str) -> str:
        """What of the whole thinking was not shown; nothing where something else was shown."""
        shown = "".join(self._shown)
        return thinking[len(shown) :] if thinking.startswith(shown) else ""
