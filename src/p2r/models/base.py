"""The interface of models: messages in, text out. It does not depend on questions, roles or boxes.

The one method is `complete`. Concurrency (batching, pooling, retries) is inside the model, so that callers
are written for a single request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from p2r.errors import InputError
from p2r.text import encodable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from p2r.images import EncodedImage

Role = Literal["system", "user", "assistant"]

_LONGEST_LINE = 300


def one_line(text: object) -> str:
    """The text of an error on one line of at most 300 characters; its type where it has no text."""
    line = " ".join(str(text).split()) or type(text).__name__
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: `system`, `user` or `assistant`.
        content: texts and images in the order in which the model reads them.
    """

    role: Role
    content: tuple[str | EncodedImage, ...]

    def __post_init__(self) -> None:
        content = tuple(encodable(part) if isinstance(part, str) else part for part in self.content)
        object.__setattr__(self, "content", content)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode.

    Attributes:
        max_tokens: the most new tokens.
        temperature: 0 is greedy.
        top_p: nucleus mass, (0, 1].
        repetition_penalty: 1 is none (the paper's evaluation used 1.05); sent to servers only when not 1.
        seed: for sampled decoding; None leaves it to the engine.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError(f"max_tokens is {self.max_tokens}: it must be at least 1")
        if not 0 <= self.temperature <= 2:
            raise InputError(f"temperature is {self.temperature}: it must be within 0–2")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}: it must be within (0, 1]")


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's reply.

    Attributes:
        text: the new text, without the prompt and special tokens.
        prompt_tokens, completion_tokens: as counted by the model.
        finish_reason: `stop` or `length`.
        notes: what the caller should know about this reply: a field that the server refused, for example.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: Literal["stop", "length"]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", encodable(self.text))


@runtime_checkable
class Model(Protocol):
    """A vision-language model that completes a conversation."""

    @property
    def name(self) -> str:
        """The name shown to people and written into results."""
        ...

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Complete one conversation.

        Raises:
            ModelError: the call failed, after the model's own retries.
        """
        ...

    async def aclose(self) -> None:
        """Free what the model holds (threads, connections, a server it started). Safe to call twice."""
        ...


@runtime_checkable
class StreamingModel(Model, Protocol):
    """A model that can also hand out its text while it writes."""

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str | Completion]:
        """Complete one conversation piece by piece.

        Yields the pieces of the text in order, then, as the last item, the whole `Completion`. Its text is
        what counts: it differs from the pieces joined where only the end of a reply shows what was thinking
        and what was the answer. Closing the iterator early cancels the request.

        Raises:
            ModelError: the call failed; pieces may have been yielded before.
        """
        ...
