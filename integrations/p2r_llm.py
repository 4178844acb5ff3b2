"""P2R as models of the command `llm`, in its process: `p2r`, `p2r/nano` and `p2r/nano-base`.

    uv pip install llm '.[local]' ./integrations        # in the environment of llm
    llm -m p2r/nano 'Which digit is on the pink tag? A. 6 B. 2' -a src/p2r/demo/images/1-read.jpg
    llm -m p2r -o spec hongxingli/P2R-4B 'What is the number of the bus?' -a street.jpg
    llm -c 'And of the second bus?'

`p2r` takes any model as `-o spec` (docs/models.md), or the one in P2R_MODEL. `-o mode think` and
`-o mode direct` make one pass; `-o type number` asks for a number. Attachments are images and PDF files; a
turn without any is about those of an earlier turn. Thinking and boxes are in `llm logs --json`. A question
that gets no answer is an error.

Tried with llm 0.36 on 2026-11-27: the accuracy of `p2r eval` (docs/clients.md).
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Literal

import llm
from llm.parts import AttachmentPart, Message

from p2r import P2R, P2RError, Question
from p2r.models import DEFAULT_MODEL
from p2r.parsing import split_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KINDS = ("jpeg", "png", "webp", "gif", "tiff", "bmp", "avif", "heic")
open_p2r = cache(P2R)


class P2RModel(llm.Model):
    """One model, loaded with the first question."""

    can_stream = False
    attachment_types = frozenset(["application/pdf", *(f"image/{kind}" for kind in KINDS)])

    class Options(llm.Options):
        """The options of a question."""

        mode: Literal["p2r", "think", "direct"] = "p2r"
        type: Literal["number", "free"] = "free"  # of an answer without options
        spec: str | None = None

    def __init__(self, model_id: str, spec: str) -> None:
        self.model_id, self.spec = model_id, spec

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[str]:
        """Answer the prompt about its attachments, or about those of an earlier turn."""
        del stream, conversation
        turns = [_attached(turn) for turn in prompt.messages]
        shown = next(filter(None, reversed(turns)), [])
        images = [attachment.path or attachment.content_bytes() for attachment in shown]
        text, choices = split_options(prompt.prompt)
        options = prompt.options
        kind = "choice" if choices else options.type
        try:
            p2r = open_p2r(options.spec or self.spec)
            prediction = p2r.answer(images, text, choices, kind, options.mode)
        except P2RError as error:
            raise llm.ModelError(str(error)) from error
        response.response_json = prediction.to_json()
        response.set_usage(input=prediction.usage.prompt_tokens, output=prediction.usage.completion_tokens)
        if prediction.answer is None:
            raise llm.ModelError("; ".join(["no answer", *prediction.notes]))
        yield Question(images, text, choices).option(prediction.answer) if choices else prediction.answer


def _attached(turn: Message) -> list[llm.Attachment]:
    return [part.attachment for part in turn.parts if isinstance(part, AttachmentPart) and part.attachment]


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """Called by llm."""
    register(P2RModel("p2r", os.environ.get("P2R_MODEL") or DEFAULT_MODEL))
    for name in ("nano", "nano-base"):
        register(P2RModel(f"p2r/{name}", name))
