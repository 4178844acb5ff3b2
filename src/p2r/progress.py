"""One question on its way: what is known so far, how long each stage took, and who is told."""

from __future__ import annotations

import logging
import time
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from p2r.errors import InputError, ModelError
from p2r.models.base import Completion, StreamingModel
from p2r.types import MODES, Prediction, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from p2r.models.base import Message, Model, Sampling
    from p2r.types import Box, Evidence, Mode, Perception, Question


_LOG = logging.getLogger("p2r.pipeline")


class Observer(Protocol):
    """Sees one question being answered, as it happens. Called on the event loop: return at once."""

    def on_perception(self, perception: Perception, evidence: Evidence) -> None:
        """The perceiver has spoken and its evidence is cut. Mode `p2r` without given boxes only."""
        ...

    @property
    def on_text(self) -> Callable[[str], None] | None:
        """Called with more text of the stage that answers; one piece where the model cannot stream.

        None where nobody reads along: the model is not asked to stream then.
        """
        ...


class Progress:
    """One question, and what is known about it so far, so that a failure loses nothing before it.

    Args:
        question: what is asked.
        mode: how it is answered.
        boxes: evidence that is known already; None asks the perceiver.
        observer: who is told, if anybody is.
        digest: of the settings.

    Attributes:
        known: the prediction so far.

    Raises:
        InputError: an unknown mode, or boxes in a mode that has no use for them.
    """

    def __init__(
        self,
        question: Question,
        mode: Mode,
        boxes: Sequence[Box] | None,
        observer: Observer | None,
        digest: str,
    ) -> None:
        if mode not in MODES:
            raise InputError(f"unknown mode {mode!r}: {', '.join(MODES)}")
        if boxes is not None and mode != "p2r":
            raise InputError(f"mode {mode} looks at the plain image: boxes go with mode p2r only")
        self.question = question
        self.boxes = boxes
        self.observer = observer
        self.known = Prediction(question.id, mode, "no_answer", digest=digest)
        self._start_s = time.perf_counter()

    def learn(self, **facts: Any) -> None:
        """Set fields of the prediction."""
        self.known = replace(self.known, **facts)

    def note(self, *notes: str) -> None:
        """Add notes; each is kept once."""
        self.learn(notes=tuple(dict.fromkeys((*self.known.notes, *notes))))

    def spent(self, completion: Completion) -> None:
        """Add the tokens and the notes of one call."""
        _LOG.debug(
            "%s: reply of %d tokens to %d (%s): %s",
            *(self.question.id or "question", completion.completion_tokens, completion.prompt_tokens),
            *(completion.finish_reason, completion.text),
        )
        usage = Usage(completion.prompt_tokens, completion.completion_tokens, calls=1)
        self.learn(usage=self.known.usage + usage)
        self.note(*completion.notes)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure a stage, one that fails too."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            now_s = time.perf_counter()
            seconds = {**self.known.seconds, stage: now_s - start_s, "total": now_s - self._start_s}
            self.learn(seconds=seconds)
            _LOG.debug("%s: %s in %.2f s", self.question.id or "question", stage, seconds[stage])


async def complete(
    model: Model, messages: Sequence[Message], sampling: Sampling, on_text: Callable[[str], None] | None
) -> Completion:
    """Complete a conversation, piece by piece if somebody listens and the model can.

    Raises:
        ModelError: the call failed.
    """
    if on_text is None or not isinstance(model, StreamingModel):
        completion = await model.complete(messages, sampling)
        if on_text is not None:
            on_text(completion.text)
        return completion
    async with aclosing(model.stream(messages, sampling)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Completion):
                return piece
            on_text(piece)
    raise ModelError("the stream ended without a completion", kind="invalid_reply", model=model.name)
