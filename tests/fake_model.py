"""A scripted model, which satisfies `p2r.models.base.Model`.

FakeModel(["first reply", "second reply"])              # in order of the calls
FakeModel(lambda messages: "reply to " + said(messages))  # a function of the conversation
FakeModel(lambda messages: failure("timeout"))          # a reply may be a failure
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.errors import ModelError, ModelErrorKind
from p2r.models.base import Completion

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from p2r.images import EncodedImage
    from p2r.models.base import Message, Sampling

Reply = str | Completion | ModelError


def failure(kind: ModelErrorKind = "server", message: str = "scripted failure") -> ModelError:
    """A reply that makes the call raise."""
    return ModelError(message, kind=kind)


def said(messages: Sequence[Message]) -> str:
    """All texts of a conversation, one a line."""
    return "\n".join(part for message in messages for part in message.content if isinstance(part, str))


def shown(messages: Sequence[Message]) -> list[EncodedImage]:
    """All images of a conversation, in order."""
    return [part for message in messages for part in message.content if not isinstance(part, str)]


@dataclass(frozen=True)
class Call:
    """One recorded call."""

    messages: tuple[Message, ...]
    sampling: Sampling

    @property
    def text(self) -> str:
        return said(self.messages)

    @property
    def images(self) -> list[EncodedImage]:
        return shown(self.messages)


class FakeModel:
    """A model whose replies are scripted.

    A text counts as one token for each word and stops by itself; script a `Completion` for anything else.
    A list is used up in the order of the calls, and one call too many is an AssertionError.

    Attributes:
        calls: every call so far, failed and cancelled ones too.
        in_flight, most_in_flight: calls that wait right now, and the most that ever did.
        cancelled: how many calls were cancelled while they waited.
        closed: how many times `aclose` was called.
    """

    def __init__(
        self,
        replies: Callable[[Sequence[Message]], Reply] | Sequence[Reply],
        *,
        name: str = "fake",
        delay_s: float = 0.0,
    ) -> None:
        self._replies = replies
        self._name = name
        self._delay_s = delay_s
        self.calls: list[Call] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.cancelled = 0
        self.closed = 0

    @property
    def name(self) -> str:
        return self._name

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        call = Call(tuple(messages), sampling)
        self.calls.append(call)
        # Decided at once, so that a list is used up in the order of the calls whatever the delays do.
        reply = self._reply(call, len(self.calls) - 1)
        await self._wait()
        if isinstance(reply, ModelError):
            raise reply
        if isinstance(reply, Completion):
            return reply
        prompt_tokens = len(call.text.split()) + sum(p.width * p.height // 1024 for p in call.images)
        return Completion(reply, prompt_tokens, len(reply.split()), "stop")

    def _reply(self, call: Call, position: int) -> Reply:
        if callable(self._replies):
            return self._replies(call.messages)
        assert position < len(self._replies), (
            f"call {position + 1}, but {len(self._replies)} scripted replies"
        )
        return self._replies[position]

    async def _wait(self) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self._delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    async def aclose(self) -> None:
        self.closed += 1


class StreamingFakeModel(FakeModel):
    """The same, and it streams: a few characters at a time, then the `Completion`."""

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[str | Completion]:
        completion = await self.complete(messages, sampling)
        for start in range(0, len(completion.text), 5):
            await asyncio.sleep(0)
            yield completion.text[start : start + 5]
        yield completion
