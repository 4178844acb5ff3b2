"""One question being answered, as those who wait for it see it: perception, text piece by piece, the end."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from p2r.parsing.thinking import split_thinking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from p2r.pipeline import P2R
    from p2r.types import Box, Evidence, Mode, Perception, Prediction, Question

    Perceived = tuple[Perception, Evidence]

_HALF_TAG = re.compile(r"\s*(?:<[^>]{0,12})?\Z")


class Watcher:
    """Hears what happens to a question and keeps it for whoever sends it on.

    Attributes:
        evidence: what the reasoner saw, once it is cut.
        heard: what happened, in order.
    """

    def __init__(self) -> None:
        self.evidence: Evidence | None = None
        self.heard: asyncio.Queue[Perceived | str | None] = asyncio.Queue()

    def on_perception(self, perception: Perception, evidence: Evidence) -> None:
        """See `p2r.progress.Observer`."""
        self.evidence = evidence
        self.heard.put_nowait((perception, evidence))

    def on_text(self, piece: str) -> None:
        """See `p2r.progress.Observer`."""
        self.heard.put_nowait(piece)


async def watched(
    p2r: P2R,
    question: Question,
    mode: Mode,
    boxes: Sequence[Box] | None = None,
    beat_s: float | None = None,
) -> AsyncGenerator[Perceived | str | Prediction | None]:
    """Answer a question and yield what happens: perception with evidence, pieces of text, the prediction.

    None after every `beat_s` seconds of silence. To close the generator cancels the work.

    Raises:
        InputError, ModelError: as `P2R.predict`; something may have been yielded before.
    """
    watcher = Watcher()
    work = asyncio.create_task(p2r.predict(question, mode, boxes, watcher))
    work.add_done_callback(lambda _: watcher.heard.put_nowait(None))
    try:
        while True:
            try:
                heard = await asyncio.wait_for(watcher.heard.get(), beat_s)
            except TimeoutError:
                yield None
                continue
            if heard is None:
                break
            yield heard
        yield await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


class Thinking:
    """What of the thinking was shown, while the text grows."""

    def __init__(self) -> None:
        self._text = ""
        self._shown = ""

    def more(self, piece: str) -> str:
        """What can be shown after this piece: no half tag, and no blank that may turn out to be the last."""
        self._text += piece
        split = split_thinking(self._text)
        if split.after is not None:
            return self.rest(split.thinking)
        return self.rest(_HALF_TAG.sub("", split.thinking))

    def rest(self, thinking: str) -> str:
        """What of the thinking was not shown yet."""
        if not thinking.startswith(self._shown):
            return ""
        new, self._shown = thinking[len(self._shown) :], thinking
        return new
